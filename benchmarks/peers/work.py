"""The work that every system is given, and the one evaluator that all are judged by.

Leave-one-out: a user's last item is the test, the one before it the validation, the rest is trained on. Python 3.7 and
the standard library, for this is imported in the environment of every system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.run import Run

K = 10


@dataclass(frozen=True)
class Work:
    """Histories with dense ids: user 1 is the first, items are counted from 1.

    Attributes:
        histories: Items of each user, in order.
        items: Catalogue size.
    """

    histories: Sequence[Sequence[int]]
    items: int

    @classmethod
    def read(cls, file: str) -> Work:
        """From lines of a user and all of their items."""
        with open(file, encoding="utf-8") as lines:
            histories = [tuple(map(int, line.split()[1:])) for line in lines]
        return cls(histories, max(map(max, histories)))

    def events(self) -> Iterator[tuple[int, int, int]]:
        """User, item and place in the user's history, of every event."""
        for user, history in enumerate(self.histories, start=1):
            for place, item in enumerate(history):
                yield user, item, place

    def train(self) -> list[Sequence[int]]:
        """What is learned from, of every user."""
        return [history[:-2] for history in self.histories]

    def known(self) -> list[Sequence[int]]:
        """What every user had before the test item."""
        return [history[:-1] for history in self.histories]

    def padded(self, length: int) -> list[list[int]]:
        """The last `length` items before the test item, of every user, with zeros before shorter histories."""
        return [[0] * (length - len(known)) + list(known[-length:]) for known in self.known()]


def prepare(run: Run) -> dict[str, int]:
    """Write the run's log for everybody, as `Work.read` reads it; how large it is."""
    from benchmarks.inputs import read

    log = read(run).histories
    users = log.offsets.tolist()
    items = (log.items + 1).tolist()
    with open(run.histories, "w", encoding="utf-8") as file:
        for user, (start, stop) in enumerate(zip(users, users[1:]), start=1):
            print(user, *items[start:stop], file=file)
    return {"users": len(users) - 1, "items": max(items), "events": len(items)}


def last_windows(work: Work, length: int, *, first_too: bool = False) -> list[int]:
    """The real targets of each user's last window, as most systems learn from.

    Args:
        first_too: Whether the first item of a history is learned too, from padding alone.
    """
    return [min(len(train) - 1 + first_too, length) for train in work.train() if len(train) > 1 or first_too]


def rolling_windows(work: Work) -> list[int]:
    """One target for each window, and a window for every event but a user's first, as others learn from."""
    return [1] * sum(len(train) - 1 for train in work.train() if len(train) > 1)


def check_targets(counted: int, windows: int, expected: Sequence[int]) -> None:
    """Refuse a system that learns from another number of targets.

    A whole epoch must hold exactly what is expected; a part of one, or users that are drawn with replacement, must come
    within five standard errors of it.

    Args:
        counted: Real targets of the steps that were made.
        windows: Windows in these steps.
        expected: Real targets of each window of an epoch.

    Raises:
        ValueError: It does not.
    """
    usual, found = mean(expected), counted / windows
    margin = 0.0 if windows == len(expected) else 5 * pstdev(expected) / math.sqrt(windows)
    if abs(found - usual) > margin + 1e-9:
        raise ValueError(f"{found:.4f} real targets a window; expected {usual:.4f}, at most {margin:.4f} off")


def score(work: Work, lists: Sequence[Sequence[int]], *, held_out: int = 1) -> dict[str, float]:
    """NDCG@10 and HR@10 of what is recommended to each user, best first.

    Args:
        held_out: 1 for the test items, 2 for the validation items.

    Raises:
        ValueError: A list is short, names an item twice, or one that the user had.
    """
    if len(lists) != len(work.histories):
        raise ValueError(f"lists for {len(lists):,} users; there are {len(work.histories):,}")
    gain = hits = 0.0
    for user, (history, found) in enumerate(zip(work.histories, lists), start=1):
        if len(found) != K or len(set(found)) != K or set(found) & set(history[:-held_out]):
            raise ValueError(f"user {user}: not {K} different items that the user never had: {list(found)}")
        if history[-held_out] in found:
            hits += 1
            gain += 1 / math.log2(found.index(history[-held_out]) + 2)
    return {"ndcg10": gain / len(lists), "hr10": hits / len(lists)}


def best_unseen(scores: Any, known: Sequence[Sequence[int]]) -> list[list[int]]:
    """The best ten items of each row, for systems that score and have no top-N of their own.

    Args:
        scores: NumPy array of users and items, column j for item j + 1; changed in place.
        known: Items to leave out, for each row.
    """
    import numpy as np

    for row, items in enumerate(known):
        scores[row, np.asarray(items) - 1] = -np.inf
    some = np.argpartition(-scores, K, axis=1)[:, :K]
    order = np.argsort(-np.take_along_axis(scores, some, 1), axis=1)
    return (np.take_along_axis(some, order, 1) + 1).tolist()
