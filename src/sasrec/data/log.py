"""The interaction log: who did what, in which order, and where it came from."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from narwhals.stable.v2.typing import IntoFrame

from sasrec.data.columns import Columns, TimeUnit, choose_columns, read_fields
from sasrec.data.filters import Events, Filters, apply_filters, pair_numbers, without_bad_rows
from sasrec.data.formats import FrameKind, Table, open_file
from sasrec.data.frames import frame_table
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError

__all__ = ["Filters", "Log", "LogSummary", "Source", "read_log"]

_ALL_EVENTS = Filters()


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
        notes: What a reader of the log should know about its ids.
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
        return f"left out of {self.rows_read:,} rows: {reasons or 'nothing'}"


@dataclass(frozen=True, eq=False)
class Log:
    """Everything that users did, as one history of item rows for each user row.

    Attributes:
        users: The users with at least one event.
        items: The items with at least one event.
        histories: One sequence for each user row, oldest event first; events of one time in the order of the rows.
        source: Where it came from.
    """

    users: Vocabulary
    items: Vocabulary
    histories: Sequences
    source: Source

    @cached_property
    def content_hash(self) -> str:
        """sha256 of ids, histories, times and weights: equal for equal logs of whatever format or row order."""
        digest = hashlib.sha256()
        for vocabulary in (self.users, self.items):
            digest.update(f"{vocabulary.kind} {vocabulary.ids.dtype} {len(vocabulary)}\n".encode())
            # No id holds a NUL, so it ends each without doubt.
            digest.update("".join(f"{one}\0" for one in vocabulary.ids).encode())
        histories = self.histories
        for name in ("offsets", "items", "times", "weights"):
            array = getattr(histories, name)
            if array is not None:
                digest.update(f"{name} {array.dtype.name}\n".encode())
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def when(self, time: float) -> str:
        """A time of this log in words: a date (UTC) where the unit is known, the plain number elsewhere."""
        unit = self.source.time_unit
        if unit in (None, "steps", "order"):
            return f"{time:,}"
        return str(np.int64(time).astype(f"M8[{unit}]")).replace("T", " ")

    def summary(self) -> "LogSummary":
        """The figures to look at before anything is trained."""
        histories, lengths = self.histories, self.histories.lengths
        times = histories.times
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
            span=None if times is None else (self.when(times.min()), self.when(times.max())),
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

    def __str__(self) -> str:
        source, unit = self.source, self.source.time_unit
        columns = ", ".join(f"{role} {name!r}" for role, name in source.columns.by_role().items())
        order = "time: none, rows are taken in their order"
        if self.span is not None:
            order = f"time: {self.span[0]} to {self.span[1]} (unit {unit}); {self.ties:.1%} of steps are ties"
        lines = [
            f"{source.name} ({source.format}): {columns}",
            f"{self.users:,} users, {self.items:,} items, {self.events:,} events",
            f"events a user: {self.shortest:,} to {self.longest:,}, median {self.median:,g}, mean {self.mean:,.1f}",
            order,
            f"repeats: {self.repeats:,} events ({self.repeats / self.events:.1%}) with an item the user had before",
            source.left_out,
            *(f"note: {note}" for note in source.notes),
            f"content: sha256 {self.content_hash}",
        ]
        return "\n".join(lines)


def read_log(
    source: str | os.PathLike[str] | IntoFrame,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    format: str | None = None,
    time_unit: TimeUnit | None = None,
    filters: Filters = _ALL_EVENTS,
) -> Log:
    """Read a log from a file or frame.

    Ids stay text unless their column is one of integers. Histories are sorted by time; events of one time keep the
    order of the rows.

    Args:
        source: A path, a polars DataFrame or LazyFrame, a pandas DataFrame or a pyarrow Table.
        user: Column of the user ids; None looks for a usual name (`user_id`, `userId`, `visitorid`, ...).
        item: Column of the item ids, as `user`.
        time: Column of the times, as `user`; "" takes none, and rows count as sorted.
        weight: Column of the weights, as `user`; "" takes none.
        format: One of `sasrec.data.formats.FORMATS`; None goes by the suffix.
        time_unit: What numbers in the time column count; None tells it from their size.
        filters: Which events stay.
    Raises:
        DataError: The source cannot be read, has bad rows (unless they are to be dropped), or no event is left.
    """
    with _opened(source, format) as table:
        columns = choose_columns(table, user=user, item=item, time=time, weight=weight)
        rows = table.read(list(columns.by_role().values()))
    if rows.is_empty():
        raise DataError(f"{table.name}: there are no rows, only column names")
    fields, unit = read_fields(rows, columns, table=table, time_unit=time_unit)
    # A reader of text gives an empty line, as at the end of many files, as a row without any value.
    blank = rows.select(pl.all_horizontal(pl.all().is_null() & (not table.typed))).to_series()
    usable, dropped = without_bad_rows(fields, blank=blank, filters=filters, name=table.name)
    events, users, items = _encoded(usable)
    events, filtered = apply_filters(events, filters, name=table.name)
    notes = (*_notes(users, rows[columns.user], "user"), *_notes(items, rows[columns.item], "item"))
    origin = Source(table.name, table.format, table.frame, columns, unit, len(rows), dropped | filtered, notes)
    if not len(events):
        raise DataError(f"{table.name}: no event is left; {origin.left_out}; loosen the filters")
    return _assembled(events, users, items, origin)


def _opened(source: str | os.PathLike[str] | IntoFrame, format: str | None) -> AbstractContextManager[Table]:
    if isinstance(source, str | os.PathLike):
        return open_file(source, format)
    if format is not None:
        raise DataError(f"format={format!r} is for files; leave it out for a frame")
    return nullcontext(frame_table(source))


def _encoded(fields: pl.DataFrame) -> tuple[Events, pl.Series, pl.Series]:
    """The events sorted by user and time, and the sorted distinct ids of users and items."""
    users, user_rows = _distinct(fields["user"])
    items, item_rows = _distinct(fields["item"])
    times = fields["time"].to_numpy() if "time" in fields.columns else None
    weights = fields["weight"].to_numpy() if "weight" in fields.columns else None
    # Both sorts are stable, so that events of one time stay in the order of the rows.
    order = np.argsort(user_rows, kind="stable") if times is None else np.lexsort((times, user_rows))
    return Events(user_rows, item_rows, times, weights).take(order), users, items


def _distinct(ids: pl.Series) -> tuple[pl.Series, np.ndarray]:
    distinct = ids.unique().sort()
    rows = ids.cast(pl.Enum(distinct)).to_physical() if ids.dtype == pl.String else distinct.search_sorted(ids)
    return distinct, rows.cast(pl.Int64).to_numpy()


def _assembled(events: Events, users: pl.Series, items: pl.Series, source: Source) -> Log:
    """The log of the events that are left; ids without an event leave too."""
    user_counts, item_counts = np.bincount(events.users), np.bincount(events.items, minlength=len(items))
    lengths = user_counts[user_counts > 0]
    item_row = np.cumsum(item_counts > 0, dtype=np.int32) - 1
    histories = Sequences(
        item_row[events.items],
        np.concatenate(([0], np.cumsum(lengths))),
        events.times,
        None if events.weights is None else events.weights.astype(np.float32),
    )
    return Log(
        Vocabulary(users.gather(np.flatnonzero(user_counts)), "user"),
        Vocabulary(items.gather(np.flatnonzero(item_counts)), "item"),
        histories,
        source,
    )


def _notes(ids: pl.Series, column: pl.Series, kind: str) -> Iterator[str]:
    if column.dtype.is_float():
        yield f"{kind} ids came as floating-point numbers without a fraction and are read as integers"
    if ids.dtype == pl.String:
        broken = int(ids.str.contains("\n", literal=True).sum())
        if broken:
            yield f"{kind} ids that hold a line break: {broken:,}; look for a quotation mark that swallowed other lines"
        alike = len(ids) - ids.str.strip_chars().str.normalize("NFC").n_unique()
        if alike:
            yield f"{kind} ids that differ from another one only in outer spaces or Unicode form: {alike:,}"
