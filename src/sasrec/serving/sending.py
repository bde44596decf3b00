"""What a client is about to send, checked here, so that no id and no list means something else at the server."""

from collections.abc import Iterable, Mapping
from math import isfinite
from urllib.parse import quote

import msgspec

from sasrec.errors import ConfigError, is_number, is_whole
from sasrec.serving.api import Id

Past = Iterable[Id] | Iterable[tuple[Id, float]]
"""Items that somebody had, the oldest first; or each with its time in seconds since 1970, as a model may need it."""

_MANY = ("history", "allow", "deny", "candidates")


def checked(name: str, value: object) -> Id:
    """An id, of NumPy's kinds of text and integers too; ConfigError where it is none."""
    if isinstance(value, str):
        _check_text(name, value)
        return str(value)  # of a kind of text, such as NumPy's, the text
    if is_whole(value, least=-(2**63)):
        return int(value)
    # Not its text: whoever is forgotten or stored under that may be somebody else, or nobody.
    raise ConfigError(f"{name}: expected an id, text or an integer as in the log, found {value!r}; pass one of these")


def plain(value: object) -> Id | float:
    """A number or text of NumPy's kinds as JSON has it; TypeError for what is neither."""
    if isinstance(value, str):
        return str(value)
    if is_whole(value, least=-(2**63)):
        return int(value)
    if is_number(value):
        return float(value)
    raise TypeError(f"objects of type {type(value).__name__} are not supported")


def quoted(user: Id) -> str:
    """An id as part of an address; ConfigError where it is none, as empty text is."""
    if user == "":
        raise ConfigError("user: expected an id, found ''; nobody is called so")
    return quote(str(checked("user", user)), safe="")


def ids(name: str, given: Iterable[Id]) -> list[Id]:
    """A list of ids; ConfigError where it is one text, or one of them is no id."""
    return [checked(name, one) for one in _several(name, given)]


def parted(history: Past) -> tuple[list[Id], list[float] | None]:
    """Items and times as a request has them; ConfigError where only some items have one, or a tuple is no pair."""
    events = _several("history", history)
    pairs = [one for one in events if isinstance(one, tuple)]
    items = [one for one in events if not isinstance(one, tuple)]
    if pairs and items:
        raise ConfigError(
            f"history: {items[0]!r} has no time, and others have; give the time of every item, or of none"
        )
    if odd := [one for one in pairs if len(one) != 2]:
        raise ConfigError(f"history: expected items, or pairs of an item and its time, found {odd[0]!r}")
    names = [checked("history", one) for one in items or [item for item, _ in pairs]]
    return names, [when for _, when in pairs] if pairs else None


def check_sent(name: str, value: object) -> None:
    """Refuse what would arrive as something else: ids of another type, numbers that are not finite, no Unicode.

    Raises:
        ConfigError: With the name of the field.
    """
    if isinstance(value, msgspec.Struct):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
    if isinstance(value, Mapping):
        for key, one in value.items():
            check_sent(str(key), one)
    elif name == "item" or (name == "user" and value is not None):
        checked(name, value)
    elif name in _MANY and value is not None:
        for one in _several(name, value):
            checked(name, one)
    elif isinstance(value, float):
        if not isfinite(value):
            raise ConfigError(f"{name}: expected a finite number, found {value!r}")
    elif isinstance(value, str):
        _check_text(name, value)
    elif isinstance(value, list | tuple):
        for one in value:
            check_sent(name, one)


def _several(name: str, given: object) -> list[object]:
    """The members of a list of ids."""
    if isinstance(given, str | bytes):
        raise ConfigError(f"{name}: expected a list of ids, found the single text {given!r}; pass [{given!r}]")
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        advice = f"; pass [{given!r}]" if isinstance(given, int) else ""
        raise ConfigError(f"{name}: expected a list of ids, found {given!r}{advice}")
    return list(given)


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name}: expected text, found {value!r}, half a character; decode it as what it was written in"
        ) from None
