"""Ragged sequences as flat arrays: no padding, no lists of lists."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Sequences:
    """Many sequences of item rows, one after the other, oldest event first.

    Attributes:
        items: Item rows of all sequences, int32 of shape (events,); int64 in some tables of items by item.
        offsets: Sequence s is `items[offsets[s]:offsets[s + 1]]`; int64 of shape (sequences + 1,).
        times: Time of each event in the log's own unit, or None where the log has no time.
        weights: Weight of each event, float32, or None where all weigh the same.
        users: User row of each sequence, int64 of shape (sequences,), -1 for somebody unknown; None where nobody is
            known.
        asked: When what follows each sequence is asked for, as `times`, of shape (sequences,); None where that is not
            known.
    """

    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None
    weights: np.ndarray | None = None
    users: np.ndarray | None = None
    asked: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Item rows of one sequence, oldest first."""
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Events in each sequence, int64 of shape (sequences,)."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, histories: Sequence[Sequence[int] | np.ndarray]) -> "Sequences":
        """From a list of lists of item rows."""
        items = np.concatenate([np.asarray(h, dtype=np.int32) for h in histories] or [np.empty(0, np.int32)])
        return cls(items, offsets_of([len(history) for history in histories]))

    def fit(self, items: int) -> bool:
        """Whether offsets lead through all events in order, and these are rows below `items`, for what was read."""
        # Compared, not subtracted: a difference of hostile offsets could overflow to a harmless one.
        whole = self.offsets[0] == 0 and self.offsets[-1] == len(self.items)
        ordered = (self.offsets[1:] >= self.offsets[:-1]).all()
        return bool(whole and ordered and self.items.min(initial=0) >= 0 and self.items.max(initial=-1) < items)

    def slices(self, rows: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> "Sequences":
        """Events `starts[i]` to before `stops[i]` of sequence `rows[i]`, counted within it; all of shape (slices,)."""
        lengths = stops - starts
        offsets = offsets_of(lengths)
        # The events of one slice lie side by side, so a source index is the running index plus one shift a slice.
        shift = self.offsets[rows] + starts - offsets[:-1]
        source = np.arange(offsets[-1], dtype=np.int64) + np.repeat(shift, lengths)
        return Sequences(
            self.items[source],
            offsets,
            None if self.times is None else self.times[source],
            None if self.weights is None else self.weights[source],
            None if self.users is None else self.users[rows],
            None if self.asked is None else self.asked[rows],
        )

    def take(self, rows: np.ndarray) -> "Sequences":
        """The sequences of these rows, an int array of shape (taken,), in the given order."""
        # Not all lengths: a few rows of a large table are taken for every request.
        return self.slices(rows, np.zeros(len(rows), dtype=np.int64), self.offsets[rows + 1] - self.offsets[rows])

    def last(self, length: int) -> "Sequences":
        """The last `length` events of every sequence; shorter ones stay whole."""
        if len(self.items) <= length or not (starts := np.maximum(self.lengths - length, 0)).any():
            return self
        return self.slices(np.arange(len(self)), starts, self.lengths)

    def without(self, items: np.ndarray) -> "Sequences":
        """The same sequences without the events of some item rows; some sequences may be left empty."""
        if not len(items):
            return self
        kept = np.flatnonzero(~np.isin(self.items, items))
        counts = np.bincount(self.owners()[kept], minlength=len(self))
        return replace(
            self,
            items=self.items[kept],
            offsets=offsets_of(counts),
            times=None if self.times is None else self.times[kept],
            weights=None if self.weights is None else self.weights[kept],
        )

    def followed(self) -> np.ndarray | None:
        """For every event the time of what follows it in its sequence, of the last ones `asked`; None if unknown."""
        if self.times is None or self.asked is None:
            return None
        followed = np.append(self.times[1:], self.times[:1])
        followed[self.offsets[1:] - 1] = self.asked
        return followed

    def owners(self) -> np.ndarray:
        """For every event, the sequence that it belongs to; int64 of shape (events,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def ages(self) -> np.ndarray:
        """For every event, how many of its sequence follow it; int64 of shape (events,)."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.items))


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where sequences of these lengths begin, and where the last one ends; int64 of shape (sequences + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def places_of(lengths: np.ndarray) -> np.ndarray:
    """Places from 0 in sequences of these lengths, one sequence after the other; int64 of shape (events,)."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def pair_numbers(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """One number for each pair of user row and item row; all int64 of shape (pairs,)."""
    return users * (int(items.max(initial=0)) + 1) + items
