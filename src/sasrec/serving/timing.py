"""Times over HTTP are seconds since 1970; a model that looks at times knows them in the unit of its log."""

from collections.abc import Iterable
from itertools import pairwise
from typing import final

import numpy as np

from sasrec.data.clock import PER_SECOND, now
from sasrec.data.log import TimeUnit
from sasrec.data.merging import from_microseconds
from sasrec.errors import BundleError
from sasrec.serving.api import Recommend
from sasrec.serving.problems import Problem, invalid


@final
class Clock:
    """Times in the unit of a log, whole ones as it has them: int64, rounded down."""

    def __init__(self, unit: TimeUnit) -> None:
        """Raises: BundleError: The unit is none that counts from 1970."""
        if unit not in PER_SECOND:
            raise BundleError(
                f"the model looks at times, and those of its log count {unit}, so no clock tells what is now; use it "
                "from Python or with `sasrec recommend --at`, or serve one that was trained on times since 1970"
            )
        self._unit, self._per_second = unit, PER_SECOND[unit]

    def of_microseconds(self, times: Iterable[int]) -> np.ndarray:
        """From microseconds since 1970, as events are stored."""
        return from_microseconds(np.array(list(times), dtype=np.int64), self._unit, whole=True)

    def of_seconds(self, times: Iterable[float]) -> np.ndarray:
        """From seconds since 1970, as requests have them; read as those of events are."""
        return self.of_microseconds(microseconds(one) for one in times)

    def in_seconds(self, times: np.ndarray) -> list[float]:
        """As answers have them."""
        found: list[float] = (times / self._per_second).tolist()
        return found

    def asked(self, time: float | None, times: np.ndarray) -> int:
        """When what follows a history is asked for: now unless it is said, and never before the last event.

        Args:
            times: Of the history.
        """
        when = now(self._unit, name="time") if time is None else int(self.of_seconds([time])[0])
        return max([when, *times[-1:].tolist()])


def microseconds(seconds: float) -> int:
    """A time as events are stored with it."""
    return round(seconds * 1e6)


def untimely(request: Recommend, *, needed: bool) -> Problem | None:
    """Why the times of a history cannot be used; None where they can, or may be missing.

    Args:
        needed: The model looks at times.
    """
    times, events = request.times, len(request.history)
    if times is None and needed and events:
        return invalid("this model looks at when events happened; give the time of every item - at `$.times`")
    if times is None:
        return None
    if len(times) != events:
        return invalid(f"expected one for each of {events:,} items, found {len(times):,} - at `$.times`")
    for at, (one, after) in enumerate(pairwise(times), start=1):
        if after < one:
            return invalid(f"is before the time before it, and the oldest event comes first - at `$.times[{at}]`")
    return None
