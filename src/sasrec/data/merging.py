"""A log with the events that came after it, as if they had been further rows of its file."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import polars as pl

from sasrec.data.clock import PER_SECOND
from sasrec.data.filters import Filters, apply_filters
from sasrec.data.log import Log, TimeUnit
from sasrec.data.reading import assembled, encoded
from sasrec.data.vocab import Vocabulary, integers
from sasrec.errors import DataError

_LATEST = (2**62 - 1) // 1000  # microseconds whose nanoseconds, and the differences of these, are 64-bit integers
_WHO = ("user", "item", "time")


def merge(log: Log, events: pl.DataFrame, *, without: Collection[str] = (), filters: Filters = Filters()) -> Log:
    """Add events to a log.

    Where the log's times count from 1970, an event stands where its time puts it, after rows of the same time; where
    the log has no times or a clock of its own, all events come after all rows. An event with the user, item and time
    of a row is that row, and is not added. Where the log has weights, an event gets the median of those that count.

    Args:
        log: Read without filters, which see rows and events together here.
        events: Columns user and item (text) and time (microseconds since 1970, int64), those of one time in their
            order. Ids of an integer column stay integers as long as all of the events are their decimal text; else
            the ids of log and events are text, and a note says so.
        without: Users whose rows are left out, as text; events of theirs are not.
        filters: Which rows and events stay.

    Returns:
        A log whose source counts the events among the rows read, and says what was left out.

    Raises:
        DataError: Nothing is left.
    """
    rows = _rows(log)
    forgotten = rows["user"].cast(pl.String).is_in(list(without))
    rows, before = rows.filter(~forgotten), len(events)
    added = _timed(events, log)
    if log.source.time_unit in PER_SECOND:
        added = _not_in(added, rows)
    if "weight" in rows.columns:
        added = added.with_columns(weight=pl.lit(_usual_weight(rows["weight"].to_numpy(), filters), dtype=pl.Float32))
    ids = {name: _joined(rows[name], added[name]) for name in ("user", "item")}
    fields = pl.concat([rows.drop(*ids), added.drop(*ids)]).with_columns(**ids)
    kept, users, items = encoded(fields)
    kept, filtered = apply_filters(kept, filters, name=log.source.name)
    dropped = {"of users who were forgotten": int(forgotten.sum()), "events that are rows already": before - len(added)}
    source = replace(
        log.source,
        rows_read=log.source.rows_read + before,
        dropped={**log.source.dropped, **{reason: count for reason, count in dropped.items() if count}, **filtered},
        notes=(*log.source.notes, *(note for ids in (log.users, log.items) for note in _notes(ids, fields[ids.kind]))),
    )
    if not len(kept):
        raise DataError(f"{log.source.name}: no event is left; {source.left_out}; loosen the filters")
    return assembled(kept, users, items, source)


def _rows(log: Log) -> pl.DataFrame:
    """The log as rows again, each user's in their order."""
    histories = log.histories
    arrays = {"time": histories.times, "weight": histories.weights}
    return pl.DataFrame(
        {"user": log.users.raw(histories.owners()), "item": log.items.raw(histories.items)}
        | {name: array for name, array in arrays.items() if array is not None}
    )


def _timed(events: pl.DataFrame, log: Log) -> pl.DataFrame:
    """The events with times as the log counts them, or without times where it has none."""
    known, unit = log.histories.times, log.source.time_unit
    if known is None or unit is None:
        return events.select("user", "item")
    times = events["time"].to_numpy()
    if unit in PER_SECOND:
        times = from_microseconds(times, unit, whole=known.dtype == np.int64)
    else:  # a clock of the log's own, which they follow in their order
        times = np.floor(known.max()).astype(np.int64) + events["time"].rank("dense").to_numpy()
    return events.with_columns(pl.Series("time", times.astype(known.dtype))).select(_WHO)


def from_microseconds(times: np.ndarray, unit: TimeUnit, *, whole: bool) -> np.ndarray:
    """Times of stored events in the unit of a log that counts from 1970.

    Nanoseconds reach from 1823 to 2116; what lies beyond counts as the end of that.

    Args:
        times: Microseconds since 1970, int64.
        whole: Round down, as a log of whole numbers has its own.
    """
    if unit == "ns":
        return np.clip(times, -_LATEST, _LATEST) * 1000
    size = 10**6 // PER_SECOND[unit]
    return times // size if whole else times / size


def _not_in(events: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The events that no row has the user, item and time of."""
    near = rows.select(pl.col("user", "item").cast(pl.String), "time")
    near = near.filter(pl.col("user").is_in(events["user"].unique().implode()))
    return events.join(near, on=_WHO, how="anti", maintain_order="left")


def _usual_weight(weights: np.ndarray, filters: Filters) -> float:
    counting = weights if filters.min_weight is None else weights[weights >= filters.min_weight]
    return float(np.median(counting)) if len(counting) else 1.0


def _joined(ids: pl.Series, more: pl.Series) -> pl.Series:
    """Ids of the log, then those of events, as one column."""
    for whole in () if ids.dtype == pl.String else (pl.Int64, pl.UInt64):
        own, other = ids.cast(whole, strict=False), integers(more, whole)
        if not own.null_count() and other.null_count() == more.null_count():
            return pl.concat([own, other])
    return pl.concat([ids.cast(pl.String), more])


def _notes(ids: Vocabulary, found: pl.Series) -> list[str]:
    if not ids.integer or found.dtype != pl.String:
        return []
    odd = found.filter(integers(found, pl.Int64).is_null())
    return [f"{ids.kind} ids were integers and are text now, as an event has {odd[-1]!r}"]
