"""Times as a log counts them: from numbers, dates and the clock."""

import math
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np

from sasrec.data.log import TimeUnit
from sasrec.errors import ConfigError

When = int | float | np.integer | np.floating | str | date | datetime | np.datetime64
"""A number in the unit of a log's times, or a date and time, as an object or as ISO text; UTC unless it says else."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST = 2**62
"""Times lie between it and its negative, so that the difference of two is a 64-bit integer too."""


def in_unit(when: When, unit: TimeUnit, *, name: str) -> int:
    """A time in a log's own unit, what is below one unit cut off.

    Args:
        name: What the time is called, for messages.

    Raises:
        ConfigError: It is no time, out of range, or a date where the log counts something else.
    """
    wanted = f"a number ({unit})" + (" or a date such as 2024-05-31T18:00" if unit in PER_SECOND else "")
    refused = ConfigError(f"{name}: expected {wanted}, found {when!r}")
    if isinstance(when, str):
        try:
            when = _parsed(when)
        except ValueError:
            raise refused from None
    if isinstance(when, bool | np.timedelta64) or not isinstance(when, When) or when != when:  # noqa: PLR0124  # NaN, NaT
        raise refused
    if isinstance(when, date | np.datetime64):
        if unit not in PER_SECOND:
            raise refused
        when = _since_epoch(when) * PER_SECOND[unit] // 10**9
    if not -MOST < when < MOST:
        raise refused
    return math.floor(when)


def in_order(times: Sequence[When] | None, unit: TimeUnit, *, events: int) -> np.ndarray:
    """The times of a history in a log's own unit, int64 of shape (events,).

    Raises:
        ConfigError: There are none, or not as many as events, one is no time, or one is before the one before it.
    """
    if times is None:
        raise ConfigError(f"times: this model looks at when events happened; give the times ({unit}) too")
    if len(times) != events:
        raise ConfigError(f"times: expected one for each of {events:,} items, found {len(times):,}")
    clock = np.array([in_unit(one, unit, name="times") for one in times], dtype=np.int64)
    if (np.diff(clock) < 0).any():
        raise ConfigError("times: expected the oldest event first, found one that is before the event before it")
    return clock


def now(unit: TimeUnit, *, name: str) -> int:
    """The time now in a log's own unit; ConfigError where it counts something else than time since 1970."""
    if unit not in PER_SECOND:
        raise ConfigError(f"{name}: the log's times count {unit}, so nobody knows what is now; give a number of them")
    return time.time_ns() * PER_SECOND[unit] // 10**9


def _since_epoch(when: date | np.datetime64) -> int:
    """Nanoseconds since 1970; pandas' dates, which are dates of Python's too, count some beyond their microseconds."""
    if isinstance(when, np.datetime64):
        whole = when.astype("M8[us]")
        return int(whole.astype(np.int64)) * 1000 + int((when - whole) // np.timedelta64(1, "ns"))
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day, tzinfo=UTC)
    since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH
    return since // timedelta(microseconds=1) * 1000 + int(getattr(when, "nanosecond", 0))


def _parsed(text: str) -> float | datetime:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return datetime.fromisoformat(text)
