"""The names that a server answers to.

A page in a browser of this machine reaches what listens on the loopback alone, and reads it, where the name that the
page came from leads to 127.0.0.1 when it is looked up again (DNS rebinding). Its requests bear that name.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from sasrec.serving.problems import MALFORMED, MISDIRECTED, Problem

Names = frozenset[str]


def names_of(address: str, host: str, known_as: Iterable[str]) -> Names | None:
    """The names that requests may bear; None where any will do.

    Args:
        address: What is listened on.
        host: How that was given.
        known_as: Further names.
    """
    if not (known_as or is_loopback(address)):
        return None
    return frozenset(_name(one.encode()) for one in ("", "localhost", host, *known_as))


def is_loopback(address: str) -> bool:
    """Whether an IP address is reached from this machine alone."""
    return ip_address(address.removeprefix("::ffff:")).is_loopback


def check_host(headers: Iterable[tuple[bytes, bytes]], version: str, names: Names | None) -> None:
    """Refuse a request for another host, or one of which nobody can tell (RFC 9112, 3.2).

    An IP address is no name, as nobody can make it lead elsewhere.

    Args:
        version: Of HTTP; before 1.1 a request need not say.
        names: Those that requests may bear; None where any will do.

    Raises:
        Problem: MALFORMED or MISDIRECTED.
    """
    hosts = [value for header, value in headers if header == b"host"]
    if len(hosts) > 1 or (not hosts and version != "1.0"):
        raise Problem(MALFORMED, f"a request has one Host header, found {len(hosts) or 'none'}")
    if names is not None and hosts and (name := _name(hosts[0])) not in names:
        raise Problem(MISDIRECTED, f"{name!r} is no name of this server; --known-as {name} would make it one")


@lru_cache(maxsize=256)
def _name(host: bytes) -> str:
    """The name in a Host header, without the port; empty for an IP address."""
    text = host.decode("latin-1").lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0].removesuffix(".")
    try:
        ip_address(name)
    except ValueError:
        return name
    return ""
