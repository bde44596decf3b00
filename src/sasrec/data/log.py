"""The interaction log: who did what, in which order, and where it came from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from sasrec.data.sequences import Sequences, pair_numbers
from sasrec.data.vocab import Vocabulary
from sasrec.words import counted

FrameKind = Literal["polars", "pandas", "pyarrow"]
DateOrder = Literal["day-first", "month-first"]

TimeUnit = Literal["s", "ms", "us", "ns", "steps", "order"]
"""Seconds to nanoseconds since 1970, another clock that all users share, or a place in each user's own history."""


@dataclass(frozen=True)
class Columns:
    """The column that plays each part; None where the log has none."""

    user: str
    item: str
    time: str | None = None
    weight: str | None = None

    def by_role(self) -> dict[str, str]:
        """Role to column, for the roles that are filled."""
        filled = {"user": self.user, "item": self.item, "time": self.time, "weight": self.weight}
        return {role: name for role, name in filled.items() if name is not None}


@dataclass(frozen=True)
class Source:
    """Where a log came from and what was left of it.

    Attributes:
        name: The file's name, or the kind of frame.
        format: The file format that was read (see `sasrec.data.formats`), or "frame".
        frame: The library of the frame; None for a file.
        columns: The column that played each part.
        time_unit: What the times count; None where there are none and the order of rows is the order of events.
        rows_read: Rows found. The log's events are these less all of `dropped`.
        dropped: Rows left out, by reason.
        notes: What a reader of the log should know about its ids and times.
    """

    name: str
    format: str
    frame: FrameKind | None
    columns: Columns
    time_unit: TimeUnit | None
    rows_read: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> str:
        """The dropped rows in words."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        return f"left out of {counted(self.rows_read, 'row')}: {reasons or 'nothing'}"


@dataclass(frozen=True, eq=False)
class Log:
    """Everything that users did, as one history of item rows for each user row.

    Attributes:
        users: The users with at least one event.
        items: The items with at least one event; in a larger catalogue (`within`) others too.
        histories: One sequence for each user row, oldest event first; events of one time in the order of the rows.
        source: Where it came from.
    """

    users: Vocabulary
    items: Vocabulary
    histories: Sequences
    source: Source

    def __repr__(self) -> str:
        return f"Log({_size(len(self.users), len(self.items), len(self.histories.items))})"

    @cached_property
    def content_hash(self) -> str:
        """sha256 of ids, histories, times and weights: equal for equal logs of whatever format or row order."""
        digest = hashlib.sha256()
        used = np.unique(self.histories.items)
        if len(used) < len(self.items):  # items that nobody had are no content of a log
            rows = np.searchsorted(used, self.histories.items).astype(np.int32)
            items = Vocabulary(self.items.raw(used), "item")
            return replace(self, items=items, histories=replace(self.histories, items=rows)).content_hash
        for vocabulary in (self.users, self.items):
            digest.update(f"{vocabulary.kind} {vocabulary.ids.dtype} {len(vocabulary)}\n".encode())
            # No id holds a NUL, so it ends each without doubt.
            digest.update("".join(f"{one}\0" for one in vocabulary.ids).encode())
        for name in ("offsets", "items", "times", "weights"):
            if (array := getattr(self.histories, name)) is not None:
                digest.update(f"{name} {array.dtype.name}\n".encode())
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def within(self, items: Vocabulary) -> "Log":
        """The same log in a larger catalogue.

        Raises:
            UnknownIdError: An item of the log is not in it.
        """
        places = items.known_rows(self.items.ids).astype(np.int32)
        return replace(self, items=items, histories=replace(self.histories, items=places[self.histories.items]))

    def when(self, time: float) -> str:
        """A time of this log in words: a date (UTC) where the unit is known, the plain number elsewhere."""
        unit = self.source.time_unit
        if unit in (None, "steps", "order"):
            return f"{time:,}"
        return str(np.int64(time).astype(f"M8[{unit}]")).replace("T", " ")

    def summary(self) -> "LogSummary":
        """The figures to look at before anything is trained."""
        histories, lengths, times = self.histories, self.histories.lengths, self.histories.times
        same_user = np.diff(histories.owners()) == 0
        return LogSummary(
            source=self.source,
            users=len(self.users),
            items=len(self.items),
            events=len(histories.items),
            shortest=int(lengths.min()),
            median=float(np.median(lengths)),
            mean=float(lengths.mean()),
            longest=int(lengths.max()),
            ties=None if times is None else float((np.diff(times) == 0)[same_user].sum() / max(same_user.sum(), 1)),
            repeats=len(histories.items) - len(np.unique(pair_numbers(histories.owners(), histories.items))),
            span=None if times is None else (_short(self.when(times.min())), _short(self.when(times.max()))),
            content_hash=self.content_hash,
        )


@dataclass(frozen=True)
class LogSummary:
    """A log in figures; `print` shows them.

    Attributes:
        shortest, median, mean, longest: Events in a user's history.
        ties: Share of the steps from one event of a user to the next that take no time; None without times.
        repeats: Events with an item that the user had before.
        span: First and last time; None without times.
    """

    source: Source
    users: int
    items: int
    events: int
    shortest: int
    median: float
    mean: float
    longest: int
    ties: float | None
    repeats: int
    span: tuple[str, str] | None
    content_hash: str

    @property
    def size(self) -> str:
        """Users, items and events in words."""
        return _size(self.users, self.items, self.events)

    def __repr__(self) -> str:
        source = self.source
        columns = ", ".join(f"{role} {name!r}" for role, name in source.columns.by_role().items())
        order = "time: none, rows are taken in their order"
        if self.span is not None:
            order = (
                f"time: {self.span[0]} to {self.span[1]} (unit {source.time_unit}); {self.ties:.1%} of steps are ties"
            )
        repeats = counted(self.repeats, "event")
        lines = [
            f"{source.name} ({source.format}): {columns}",
            self.size,
            f"events a user: {self.shortest:,} to {self.longest:,}, median {self.median:,g}, mean {self.mean:,.1f}",
            order,
            f"repeats: {repeats} ({self.repeats / self.events:.1%}) with an item the user had before",
            source.left_out,
            *(f"note: {note}" for note in source.notes),
            f"content: sha256 {self.content_hash}",
        ]
        return "\n".join(lines)


def _short(time: str) -> str:
    return time.removesuffix(".000000")


def _size(users: int, items: int, events: int) -> str:
    return f"{counted(users, 'user')}, {counted(items, 'item')}, {counted(events, 'event')}"
