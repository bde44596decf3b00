"""Models that only count: what a network has to beat before it is worth its cost.

They are arrays, and torch is only imported to save and to load them.

Axes: B histories, V catalogue.
"""

from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from jaxtyping import Float, Int

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor


@final
class Popularity:
    """Scores every item by its share of all events, whoever asks."""

    kind = "popularity"

    def __init__(self, counts: Float[np.ndarray, "V"]) -> None:
        """Args: counts: Events of each item, float32."""
        self.counts = counts
        self.items = len(counts)

    @classmethod
    def of(cls, train: Sequences, *, items: int, recent: float = 1.0) -> Self:
        """Count the items of training histories.

        Args:
            recent: Share of the events to count, in (0, 1]: the latest of all, or where the histories have no times
                the last ones of each history.
        """
        counted = train.items
        if recent < 1 and train.times is not None:
            counted = counted[train.times >= np.quantile(train.times, 1 - recent)]
        elif recent < 1:
            lengths = train.lengths
            kept = np.ceil(lengths * recent).astype(np.int64)
            counted = train.slices(np.arange(len(train)), lengths - kept, lengths).items
        return cls(np.bincount(counted, minlength=items).astype(np.float32))

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The same shares for every history."""
        return np.tile(self.counts / max(self.counts.sum(), np.float32(1)), (len(histories), 1))

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Popularity knows nothing that tells items apart: 0 for all but the item itself."""
        similar = np.zeros(self.items, dtype=np.float32)
        similar[item] = 1.0
        return similar

    def to_parts(self) -> "tuple[dict[str, Any], dict[str, Tensor]]":
        """The counts."""
        return {}, _tensors({"counts": self.counts})

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: "dict[str, Tensor]") -> Self:
        """From saved counts; BundleError where they do not fit."""
        return cls(_arrays(config, tensors, {"counts": ((items,), "float32")})["counts"])


@final
class Markov:
    """Scores by what followed the history's last item in training: a first-order Markov chain.

    The chance of j after i is (n_ij + p_j) / (n_i + 1), where n_ij counts how often j directly followed i, n_i all
    steps from i, and p_j is the share of j among all events: one imagined step, spread like popularity. So an item
    never seen as a predecessor falls back to popularity, and equal counts are ordered by it.
    """

    kind = "markov"

    def __init__(
        self,
        offsets: Int[np.ndarray, "rows"],
        followers: Int[np.ndarray, "pairs"],
        steps: Float[np.ndarray, "pairs"],
        popularity: Float[np.ndarray, "V"],
    ) -> None:
        """The counts n_ij row by row.

        Args:
            offsets: The followers of item i lie from `offsets[i]` to `offsets[i + 1]`; int64 of shape (V + 1,).
            followers: Item rows j, int64.
            steps: n_ij for each of them, float32.
            popularity: p_j, float32; sums to 1.
        """
        self.offsets, self.followers, self.steps, self.popularity = offsets, followers, steps, popularity
        self.items = len(popularity)

    @classmethod
    def of(cls, train: Sequences, *, items: int) -> Self:
        """Count the direct steps of training histories."""
        owners = train.owners()
        same = owners[1:] == owners[:-1]
        pairs, counts = np.unique(
            train.items[:-1][same].astype(np.int64) * items + train.items[1:][same], return_counts=True
        )
        offsets = np.zeros(items + 1, dtype=np.int64)
        np.cumsum(np.bincount(pairs // items, minlength=items), out=offsets[1:])
        popularity = np.bincount(train.items, minlength=items) / max(len(train.items), 1)
        return cls(offsets, pairs % items, counts.astype(np.float32), popularity.astype(np.float32))

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The chance of every item after each history's last one."""
        lasts = histories.items[histories.offsets[1:] - 1]
        counts = self.offsets[lasts + 1] - self.offsets[lasts]
        rows = np.repeat(np.arange(len(lasts)), counts)
        within = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
        places = np.repeat(self.offsets[lasts], counts) + within
        scores = np.tile(self.popularity, (len(lasts), 1))
        scores[rows, self.followers[places]] += self.steps[places]
        totals = np.bincount(rows, self.steps[places], minlength=len(lasts))
        scores /= (totals + 1).astype(np.float32)[:, np.newaxis]
        return scores

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine of what follows each item."""
        owners = np.repeat(np.arange(self.items), np.diff(self.offsets))
        row = np.zeros(self.items)
        own = slice(self.offsets[item], self.offsets[item + 1])
        row[self.followers[own]] = self.steps[own]
        dots = np.bincount(owners, self.steps * row[self.followers], minlength=self.items)
        norms = np.sqrt(np.bincount(owners, self.steps.astype(np.float64) ** 2, minlength=self.items))
        return (dots / np.maximum(norms * norms[item], 1e-12)).astype(np.float32)

    def to_parts(self) -> "tuple[dict[str, Any], dict[str, Tensor]]":
        """The counts."""
        names = ("offsets", "followers", "steps", "popularity")
        arrays = (self.offsets, self.followers, self.steps, self.popularity)
        return {}, _tensors(dict(zip(names, arrays, strict=True)))

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: "dict[str, Tensor]") -> Self:
        """From saved counts; BundleError where they do not fit."""
        pairs = len(tensors.get("steps", ()))
        expected: _Expected = {
            "offsets": ((items + 1,), "int64"),
            "followers": ((pairs,), "int64"),
            "steps": ((pairs,), "float32"),
            "popularity": ((items,), "float32"),
        }
        found = _arrays(config, tensors, expected)
        offsets, followers = found["offsets"], found["followers"]
        ordered = offsets[0] == 0 and offsets[-1] == pairs and (offsets[1:] >= offsets[:-1]).all()
        if not ordered or (pairs and (followers.min() < 0 or followers.max() >= items)):
            raise BundleError("the steps of the Markov chain point beyond the catalogue")
        return cls(offsets, followers, found["steps"], found["popularity"])


_Expected = dict[str, tuple[tuple[int, ...], str]]


def _tensors(arrays: dict[str, np.ndarray]) -> "dict[str, Tensor]":
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _arrays(config: dict[str, Any], tensors: "dict[str, Tensor]", expected: _Expected) -> dict[str, np.ndarray]:
    found = {name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for name, tensor in tensors.items()}
    if config or found != expected or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise BundleError(f"counts do not fit the catalogue: found {found}")
    return {name: tensor.numpy() for name, tensor in tensors.items()}
