"""Histories and training parts changed on purpose, to see what the change costs."""

from dataclasses import replace

import numpy as np
import polars as pl

from sasrec.data.log import Log
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout, Split
from sasrec.data.vocab import Vocabulary

_OLDER, _SHUFFLED, _LAST = 0, 1, 2


def shuffled(holdout: Holdout, rng: np.random.Generator, *, length: int, keep_last: bool) -> Holdout:
    """The same users and targets, with the last `length` events of every history in random order.

    What is older stays where it is: a network that looks at `length` events is shown the same items as before. A
    history keeps all its items, so that the same ones count as seen. Times stay in order.

    Args:
        keep_last: Leave the very last event in its place.
    """
    histories = holdout.histories
    owners = histories.owners()
    ages = histories.offsets[owners + 1] - 1 - np.arange(len(owners))  # 0 is the last event
    parts = np.where(ages < length, _SHUFFLED, _OLDER)
    if keep_last:
        parts[ages == 0] = _LAST
    draws = np.where(parts == _SHUFFLED, rng.random(len(owners)), 0.0)
    order = np.lexsort((draws, parts, owners))  # stable: what draws nothing keeps its order
    weights = None if histories.weights is None else histories.weights[order]
    return replace(holdout, histories=replace(histories, items=histories.items[order], weights=weights))


def share_of_unique(histories: Sequences, length: int) -> float:
    """Different histories per history, when only the last `length` events are kept; 1 where no two are the same."""
    recent = histories.last(length)
    table = np.full((len(recent), length), -1, dtype=np.int32)
    table[recent.owners(), np.arange(len(recent.items)) - np.repeat(recent.offsets[:-1], recent.lengths)] = recent.items
    return len(np.unique(table, axis=0)) / len(table)


def in_windows(data: Split, length: int, *, steps: int) -> Split:
    """The same users to validate and to test, with a training part cut into windows.

    Each of the last `steps` steps of a user (from an event to the next) lies in exactly one window of at most
    `length` steps, and windows are cut from the end. So a network that looks at `length` events learns from each of
    these steps once, whatever `length` is; `Config.length` alone would leave all but the last `length` of them out.

    Every window trains as a user of its own. The log's own users train nothing.
    """
    users, lengths = len(data.train_lengths), data.train_lengths
    counts = -(-np.minimum(np.maximum(lengths - 1, 0), steps) // length)
    owners = np.repeat(np.arange(users), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the user, 0 is the last
    stops = lengths[owners] - numbers * length
    starts = np.maximum(stops - length - 1, np.maximum(lengths[owners] - steps - 1, 0))
    nobody = np.full(len(owners), -1)
    histories = data.log.histories
    log = Log(
        users=Vocabulary(pl.Series(np.arange(users + len(owners))), "user"),
        items=data.log.items,
        histories=histories.slices(
            np.concatenate([np.arange(users), owners]),
            np.concatenate([np.zeros(users, dtype=np.int64), starts]),
            np.concatenate([histories.lengths, stops]),
        ),
        source=data.log.source,
    )
    return replace(
        data,
        log=log,
        train_lengths=np.concatenate([np.zeros_like(lengths), stops - starts]),
        valid_at=np.concatenate([data.valid_at, nobody]),
        test_at=np.concatenate([data.test_at, nobody]),
    )
