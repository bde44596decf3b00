"""What people did since the model was trained: what is acknowledged is on the disk, and in every later answer."""

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from sasrec.errors import ServingError

Outcome = Literal["stored", "duplicate", "conflict"]
"""What became of an event: new; there already; or refused, as its id belongs to another event."""

HISTORY = 1_000  # events of one user that are read back at most, the latest
PAGE = 10_000  # events that are read at a time where all are: a read holds up whoever erases somebody


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody did something.

    Attributes:
        id: Names the event, so that it can be sent again without being stored again.
        user, item: Raw ids as text.
        time: Microseconds since 1970; None is when it arrives.
    """

    id: str
    user: str
    item: str
    time: int | None = None


class Stored(NamedTuple):
    """An event as it is kept.

    Attributes:
        place: Its place in the order of arrival, from 1; never used twice.
    """

    id: str
    user: str
    item: str
    time: int
    place: int


Known = tuple[int | None, list[Stored]]
"""The place at which a user was forgotten, if that has been, and events since some place."""


class EventStore(Protocol):
    """Where events are kept. What only reads may be called from any thread; what writes gives a future at once.

    A future ends with `ServingError` where nothing of that call was stored (status 507), or where it is not known
    whether it was (status 503). Either may be sent again: nothing is stored twice.

    Attributes:
        id: Tells this store from every other.
        name: Where it is, as messages say it, without a password.
        remote: Whether it is another process's, whose answers may have to be waited for.
    """

    id: str
    name: str
    remote: bool

    def add(self, events: Sequence[Event]) -> Future[list[Outcome]]:
        """Store events; the future ends when they are durable, with what became of each."""
        ...

    def forget(self, user: str) -> Future[int]:
        """Erase a user's events, and note that earlier knowledge of the user must not be used; gives their number.

        Where the future fails, that may have been noted, while the events are still on the disk; forget once more.
        """
        ...

    def history(self, user: str, *, after: int = 0) -> list[Stored]:
        """A user's latest `HISTORY` events that arrived after a place, by time, those of one time by arrival."""
        ...

    def forgotten(self, user: str) -> int | None:
        """The place at which the user was forgotten, after all earlier events; None for everybody else."""
        ...

    def known(self, asked: Sequence[tuple[str, int]]) -> list[Known | ServingError]:
        """For each user and place, `forgotten` and the `history` after it; an error for a user whose own is damaged."""
        ...

    def kept(self, ids: Collection[str]) -> set[str]:
        """Those ids whose events are there."""
        ...

    def events(self, *, through: int) -> Iterator[Stored]:
        """Everybody's events up to a place, user by user, each by time."""
        ...

    def last(self) -> int:
        """The latest place that is taken; 0 at the beginning."""
        ...

    def close(self) -> None:
        """Finish what waits, then let go of the files."""
        ...


class Row(NamedTuple):
    """An event as both databases have it.

    Attributes:
        given: 1 where the time came with the event, 0 where it is that of its arrival.
        checksum: Of everything else; each event is checked against it whenever it is read.
    """

    id: str
    user: str
    item: str
    time: int
    place: int
    given: int
    checksum: int

    def checked(self, name: str) -> Stored:
        """The event.

        Args:
            name: The store's, for the message.

        Raises:
            ServingError: It is not what was stored.
        """
        if checksum(*self[:-1]) != self.checksum:
            raise ServingError(f"{name}: is damaged: an event does not match its checksum; restore it from a copy")
        return Stored(*self[:5])


class Gone(NamedTuple):
    """That somebody was forgotten, as both databases have it.

    Attributes:
        person: What the store calls the user, in hex digits.
        place: The place at which it was.
        checksum: Of both.
    """

    person: str
    place: int
    checksum: int

    def checked(self, name: str) -> int:
        """The place; otherwise as `Row.checked`."""
        if checksum(self.person, self.place) != self.checksum:
            raise ServingError(f"{name}: is damaged: a place does not match its checksum; restore it from a copy")
        return self.place


def arrivals(
    events: Sequence[Event], last: int, now: int, *, known: Callable[[str], Row | None]
) -> tuple[list[Outcome], list[Row]]:
    """What becomes of events that arrive, and the rows of those that are new.

    Args:
        last: The latest place that is taken.
        now: Microseconds since 1970.
        known: The event that has an id already.
    """
    new: dict[str, Row] = {}
    outcomes: list[Outcome] = []
    for event in events:
        earlier = new.get(event.id) or known(event.id)
        if earlier is not None:
            # A time that was not given is not compared.
            same = (earlier.user, earlier.item, earlier.time if earlier.given else None)
            outcomes.append("duplicate" if same == (event.user, event.item, event.time) else "conflict")
            continue
        when = now if event.time is None else event.time
        row = (event.id, event.user, event.item, when, last + len(new) + 1, int(event.time is not None))
        new[event.id] = Row(*row, checksum(*row))
        outcomes.append("stored")
    return outcomes, list(new.values())


def paged(page: Callable[[Row | None, int], list[Row]], name: str) -> Iterator[Stored]:
    """All events, read a page at a time.

    Args:
        page: The rows after one, or the first, so many at most.
        name: The store's, for messages.

    Raises:
        ServingError: An event is not what was stored.
    """
    rows = page(None, PAGE)
    while rows:
        for row in rows:
            yield row.checked(name)
        rows = page(rows[-1], PAGE) if len(rows) == PAGE else []


def checksum(*row: str | int) -> int:
    """Tells a row from one of which a bit has flipped."""
    # No id holds a NUL, so it parts the values without doubt.
    return zlib.crc32("\0".join([str(one) for one in row]).encode())


def hashed(user: str, store: str) -> bytes:
    """What a store with this id may keep of a user who is forgotten: 64 bytes that are different in every store."""
    return hashlib.blake2b(user.encode(), key=bytes.fromhex(store)).digest()
