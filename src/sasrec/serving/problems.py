"""What goes wrong, as RFC 9457 has it: one document for every error that a server answers."""

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import msgspec

from sasrec.errors import ServingError

MEDIA_TYPE = "application/problem+json"
ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}  # headers of every answer but the page's
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        name: The last part of its `type`.
        status: HTTP status.
        title: The same for all problems of the kind.
    """

    name: str
    status: int
    title: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a document of it comes with."""
        found = {"content-type": MEDIA_TYPE, **ALWAYS}
        if self.status == BUSY.status:
            found["retry-after"] = "1"
        if self in (SLOW, TOO_LARGE):
            found["connection"] = "close"  # the rest of the body is not read
        return found


MALFORMED = Kind("malformed", 400, "The request cannot be read")
UNKNOWN_ITEM = Kind("unknown-item", 404, "The model does not know the item")
NOT_FOUND = Kind("not-found", 404, "There is nothing here")
METHOD = Kind("method-not-allowed", 405, "Another method is needed here")
SLOW = Kind("too-slow", 408, "The request came too slowly")
CONFLICT = Kind("conflict", 409, "The id of an event belongs to another event")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
NO_JSON = Kind("not-json", 415, "The body is not JSON")
MISDIRECTED = Kind("misdirected", 421, "The request is for another server")
INVALID = Kind("invalid", 422, "The request does not fit the schema")
HEADERS = Kind("headers-too-large", 431, "The headers are too large")
INTERNAL = Kind("internal", 500, "The server made a mistake")
BUSY = Kind("busy", 503, "The server has too much to do")
DRAINING = Kind("draining", 503, "The server is about to stop")
AWAY = Kind("events-away", 503, "Events cannot be used now")
LATE = Kind("too-late", 504, "The answer would have come after its deadline")
NO_ROOM = Kind("not-stored", 507, "The disk refuses to store events")

KINDS = (
    *(MALFORMED, UNKNOWN_ITEM, NOT_FOUND, METHOD, SLOW, CONFLICT, TOO_LARGE, NO_JSON, MISDIRECTED, INVALID),
    *(HEADERS, INTERNAL, BUSY, DRAINING, AWAY, LATE, NO_ROOM),
)


class Fault(msgspec.Struct, frozen=True):
    """One place of the request that is wrong.

    Attributes:
        pointer: Where, as a JSON pointer (RFC 6901).
        detail: What is wrong there.
    """

    pointer: str
    detail: str


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem, as RFC 9457 has it.

    Attributes:
        type: The kind, as a relative reference.
        title: The same for all problems of the kind.
        status: The HTTP status.
        detail: What is wrong this time.
        instance: The id of the request, as in the header x-request-id.
        errors: The places of the request that are wrong.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[Fault, ...] = ()


@final
class Problem(Exception):  # noqa: N818  # a problem is what RFC 9457 calls it
    """Raised where a request cannot be answered; the answer is its document."""

    def __init__(
        self, kind: Kind, detail: str, *, errors: tuple[Fault, ...] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """Args: headers: That come with the document, beside those of its kind."""
        super().__init__(detail)
        self.kind, self.detail, self.errors = kind, detail, errors
        self.headers = {**kind.headers, **(headers or {})}

    def within(self, place: str) -> "Problem":
        """The same problem of a part of a larger request. Args: place: The part, as a JSON pointer."""
        errors = tuple(Fault(place + one.pointer, one.detail) for one in self.errors)
        # The words begin with the first place that is wrong; a problem of none says the same of the whole.
        return Problem(self.kind, place + self.detail if errors else self.detail, errors=errors)

    def document(self, instance: str) -> bytes:
        """The body of the answer to a request with this id."""
        kind = self.kind
        plain = Document(f"/problems/{kind.name}", kind.title, kind.status, self.detail, instance, self.errors)
        return msgspec.json.encode(plain)


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id of the request with these headers, which its answer bears: its own, or one made up."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    # An id is no secret, so the system is not asked for its randomness.
    return given.decode() if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"


def unread(error: ServingError) -> Problem:
    """The problem of whoever asks for events that cannot be read."""
    if error.status == AWAY.status:
        return Problem(AWAY, "events cannot be read now; try again later")
    return Problem(INTERNAL, "the events of this user cannot be read; the log of the server has more")


def unwritten(error: ServingError, *, no_room: str, unsure: str) -> Problem:
    """The problem of whoever writes what cannot be stored, or perhaps is not.

    Args:
        no_room: What to say where there is no room.
        unsure: What to say where nobody knows whether it was stored.
    """
    if error.status == NO_ROOM.status:
        return Problem(NO_ROOM, no_room)
    if error.status == AWAY.status:
        return Problem(AWAY, error.told or unsure)
    return Problem(BUSY, "too many writes wait for the disk; send it again later")


def invalid(message: str) -> Problem:
    """The problem that a message of msgspec tells of: what is `Expected int >= 1 - at $.k` is wrong at `/k`."""
    detail, _, path = message.partition(" - at ")
    places = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", path)
    pointer = "".join(f"/{name or place}" for name, place in places)
    if field := re.search(r"(?:required|unknown) field `([^`~/]*)`", detail):
        pointer += f"/{field[1]}"
    # The one pattern of the schema, in words.
    detail = re.sub(r"Expected `str` matching regex .*", "Expected a text without NUL", detail).replace("`", "")
    if re.search(r"/times?(/|$)", pointer) and detail.startswith("Expected float"):
        detail += "; times are numbers, in seconds since 1970"
    return Problem(INVALID, f"{pointer or 'the request'}: {detail}", errors=(Fault(pointer, detail),))
