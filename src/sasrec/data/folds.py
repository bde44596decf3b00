"""Several splits of one log, each of a later time, for cross-validation."""

import numpy as np

from sasrec.data.log import Log
from sasrec.data.splits import Split, between, start_of_last, times_of
from sasrec.errors import ConfigError, DataError, check_kind, check_share, check_whole


def folds(log: Log, count: int = 3, *, share: float = 0.1) -> list[Split]:
    """Splits by time whose test periods follow one another up to the end of the log, for cross-validation.

    Each is a "time" split of what happened up to the end of its test period: it trains on what came before alone, and
    later ones train on more. The catalogue is that of the whole log in all of them.

    Args:
        count: Number of splits, at least 2.
        share: Share of all events in each test period; `count` periods take less than the whole log.

    Raises:
        ConfigError: `count` or `share` is out of range.
        DataError: The log has no times, or nobody can be tested in one of the periods.
    """
    check_kind("log", log, Log, advice="read one with sasrec.read_log(path)")
    check_whole("count", count, least=2)
    check_share("share", share)
    if count * share >= 1.0:
        raise ConfigError(f"share: {count} test periods of it must fit into the log, found {share!r}")
    ordered = np.sort(times_of(log))
    starts = [start_of_last(share * back, ordered) for back in range(count, 0, -1)]
    result = []
    for place, (start, stop) in enumerate(zip(starts, [*starts[1:], None], strict=True), start=1):
        made = between(log, share, start, stop)
        if (made.test_at < 0).all():
            raise DataError(
                f"{log.source.name}: nobody can be tested in period {place} of {count}, from {log.when(start)} on; "
                "take fewer, or a larger share"
            )
        result.append(made)
    return result
