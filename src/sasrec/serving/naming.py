"""The names that a server answers to.

A page in a browser of this machine reaches what listens on the loopback alone, and reads it, where the name that the
page came from leads to 127.0.0.1 when it is looked up again (DNS rebinding). Its requests bear that name.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from sasrec.serving.problems import MISDIRECTED, Problem

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


def check_name(headers: Iterable[tuple[bytes, bytes]], names: Names) -> None:
    """Refuse a request that bears another name; an IP address is none, as nobody can make it lead elsewhere.

    Raises:
        Problem: MISDIRECTED.
    """
    for header, value in headers:
        if header == b"host" and (name := _name(value)) not in names:
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
