"""Histories and training parts changed on purpose, to see what the change costs."""

from dataclasses import replace

import numpy as np

from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout, Split

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
    ages = histories.ages()
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
    table[recent.owners(), recent.ages()] = recent.items
    return len(np.unique(table, axis=0)) / len(table)


def without_older(data: Split, steps: int) -> Split:
    """The same users, validated and tested on the same events, without what lies before the last steps of training.

    A network that learns from a window at the end of each history never learns from what is older. One that is
    compared with it, and learns from shorter windows all over the history, must not either.

    Args:
        steps: Steps (from one event to the next) of each user that stay in the training part.
    """
    older = np.maximum(data.train_lengths - steps - 1, 0)
    histories = data.log.histories
    recent = histories.slices(np.arange(len(older)), older, histories.lengths)
    valid_at, test_at = (np.where(places < 0, places, places - older) for places in (data.valid_at, data.test_at))
    return replace(
        data,
        log=replace(data.log, histories=recent),
        train_lengths=data.train_lengths - older,
        valid_at=valid_at,
        test_at=test_at,
        before_test=data.before_test - older,
    )
