"""Reading a log: from a file or frame to histories of item rows."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
from narwhals.stable.v2.typing import IntoFrame

from sasrec.data.columns import choose_columns, read_fields, without_time
from sasrec.data.filters import Events, Filters, apply_filters, without_bad_rows
from sasrec.data.formats import BLANK, Table
from sasrec.data.frames import opened
from sasrec.data.log import Columns, DateOrder, Log, Source, TimeUnit
from sasrec.data.sequences import Sequences, offsets_of, pair_numbers
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError, check_kind

_ALL_EVENTS = Filters()


def read_log(
    source: str | os.PathLike[str] | IntoFrame,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    format: str | None = None,
    time_unit: TimeUnit | DateOrder | None = None,
    filters: Filters = _ALL_EVENTS,
) -> Log:
    """Read a log from a file or frame.

    Ids stay text unless their column is one of integers. Histories are sorted by time; events of one time keep the
    order of the rows.

    Args:
        source: A path, a polars DataFrame or LazyFrame, a pandas DataFrame or a pyarrow Table.
        user: Column of the user ids; None looks for a usual name (`user_id`, `userId`, `visitorid`, ...).
        item: Column of the item ids, as `user`.
        time: Column of the times, as `user`; "" takes none, and rows count as sorted. Where none is found and other
            columns are left over, a warning says so.
        weight: Column of the weights, as `user`; "" takes none. Where an event has none, a column that was not named
            is left unread, with a note in the summary, unless `filters` have a `min_weight`.
        format: One of `sasrec.data.formats.FORMATS`; None goes by the suffix.
        time_unit: What numbers in the time column count; None tells it from their size. Of dates such as 03/04/2024
            "day-first" or "month-first"; None tells it from numbers above 12.
        filters: Which events stay.
    Raises:
        DataError: The source cannot be read, has bad rows (unless they are to be dropped), or no event is left.
    """
    check_kind("filters", filters, Filters, advice="give sasrec.Filters(...)")
    with opened(source, format) as table:
        columns = choose_columns(table, user=user, item=item, time=time, weight=weight)
        rows, blank = _rows_and_blanks(table, columns)
    if rows.is_empty():
        raise DataError(f"{table.name}: there are no rows, only column names")
    fields, unit = read_fields(rows, columns, table=table, time_unit=time_unit)
    gaps = "" if weight is not None or filters.min_weight is not None else _gaps_in_weights(fields, blank, columns)
    if gaps:
        fields, columns = fields.drop("weight"), replace(columns, weight=None)
    usable, dropped = without_bad_rows(fields, blank=blank, filters=filters, name=table.name)
    events, users, items = encoded(usable)
    events, filtered = apply_filters(events, filters, name=table.name)
    untimed = without_time(table, columns) if time is None and columns.time is None else ""
    notes = (
        *table.notes,
        *([gaps] if gaps else []),
        *_notes(users, rows[columns.user], "user"),
        *_notes(items, rows[columns.item], "item"),
        *([untimed] if untimed else _repeated(events)),
        *_notes_on_dates(events.times, unit),
    )
    origin = Source(table.name, table.format, table.frame, columns, unit, len(rows), dropped | filtered, notes)
    if not len(events):
        raise DataError(f"{table.name}: no event is left; {origin.left_out}; loosen the filters")
    if untimed:
        warnings.warn(f"{table.name}: {untimed}", stacklevel=2)
    return assembled(events, users, items, origin)


def _rows_and_blanks(table: Table, columns: Columns) -> tuple[pl.DataFrame, pl.Series]:
    """The columns that play a part, and which rows hold nothing at all."""
    rows = table.read(list(columns.by_role().values()))
    blank = rows.select(BLANK if table.blank else pl.repeat(value=False, n=pl.len())).to_series()
    # The file is read once more only where that can matter: columns that play no part may hold something.
    return rows, table.blank() if table.blank and blank.any() else blank


def encoded(fields: pl.DataFrame) -> tuple[Events, pl.Series, pl.Series]:
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


def assembled(events: Events, users: pl.Series, items: pl.Series, source: Source) -> Log:
    """The log of the events that are left; ids without an event leave too."""
    user_counts, item_counts = np.bincount(events.users), np.bincount(events.items, minlength=len(items))
    lengths = user_counts[user_counts > 0]
    item_row = np.cumsum(item_counts > 0, dtype=np.int32) - 1
    histories = Sequences(
        item_row[events.items],
        offsets_of(lengths),
        events.times,
        None if events.weights is None else events.weights.astype(np.float32),
    )
    return Log(
        Vocabulary(users.gather(np.flatnonzero(user_counts)), "user"),
        Vocabulary(items.gather(np.flatnonzero(item_counts)), "item"),
        histories,
        source,
    )


def _gaps_in_weights(fields: pl.DataFrame, blank: pl.Series, columns: Columns) -> str:
    """Why weights that nobody asked for are left unread; "" where every event that can be used has one."""
    if columns.weight is None:
        return ""
    others = fields.drop("weight").select(pl.all_horizontal(pl.all().is_not_null())).to_series()
    gaps = int((fields["weight"].is_null() & others & ~blank).sum())
    if not gaps:
        return ""
    return (
        f"weights in column {columns.weight!r} are left unread, as {gaps:,} of {len(fields):,} rows have no readable, "
        "finite one; name the column to have such rows refused or dropped"
    )


def _notes(ids: pl.Series, column: pl.Series, kind: str) -> Iterator[str]:
    if column.dtype.is_float():
        yield f"{kind} ids came as floating-point numbers without a fraction and are read as integers"
    if ids.dtype == pl.String and len(ids):
        if ids.str.contains(r"^-?\d+\.0$").all():
            yield f"{kind} ids end in .0, as pandas writes integers of a column with gaps, and stay so: {ids[0]!r}"
        broken = int(ids.str.contains("\n", literal=True).sum())
        if broken:
            yield f"{kind} ids that hold a line break: {broken:,}; look for a quotation mark that swallowed other lines"
        alike = len(ids) - ids.str.strip_chars().str.normalize("NFC").n_unique()
        if alike:
            yield f"{kind} ids that differ from another one only in outer spaces or Unicode form: {alike:,}"


def _repeated(events: Events) -> Iterator[str]:
    if events.times is None:
        return
    # Events are sorted by user and time, so those that a second row tells of are among neighbours of one time.
    tied = (np.diff(events.users) == 0) & (np.diff(events.times) == 0)
    moments = np.append(0, np.cumsum(~tied))[: len(events)]
    again = len(events) - pl.Series(pair_numbers(moments, events.items)).n_unique()
    if again:
        yield f"events with the user, item and time of an earlier row: {again:,}; exported twice, or are times coarse?"


def _notes_on_dates(times: np.ndarray | None, unit: TimeUnit | None) -> Iterator[str]:
    if times is None or not len(times) or unit == "order":
        return
    if times.dtype.kind != "i":
        if unit == "steps" and times.min() >= 20_000 and times.max() < 60_000:  # 1954 to 2064
            yield (
                f"times such as {times[0]} look like dates as spreadsheets count them, in days, and are read as steps: "
                "their order is right, but no date is known; save them as 2024-12-31T23:59:59"
            )
        return
    digits = len(str(times.max()))
    days = times // 10 ** max(digits - 8, 0)
    years, months = days // 10_000, days // 100 % 100
    dated = (years >= 1900) & (years < 2100) & (months >= 1) & (months <= 12) & (days % 100 >= 1) & (days % 100 <= 31)
    if digits in (8, 10, 12, 14) and dated.all():
        yield (
            f"times such as {times[0]} look like dates written as numbers, and are read as {unit}: their order is "
            "right, the time between them is not; write them as 2024-12-31 or 2024-12-31T23:59:59"
        )
