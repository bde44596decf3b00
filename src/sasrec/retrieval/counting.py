"""Models that only count: what a network has to beat before it is worth its cost.

Axes: B histories, V catalogue.
"""

from typing import Any, Self, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError


@final
class Popularity:
    """Scores every item by its share of all events, whoever asks."""

    kind = "popularity"

    def __init__(self, counts: Float[Tensor, "V"]) -> None:
        """Args: counts: Events of each item."""
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
        return cls(torch.from_numpy(np.bincount(counted, minlength=items).astype(np.float32)))

    def scores(self, histories: Sequences) -> Float[Tensor, "B V"]:
        """The same shares for every history."""
        return (self.counts / self.counts.sum().clamp_min(1)).repeat(len(histories), 1)

    def similarities(self, item: int) -> Float[Tensor, "V"]:
        """Popularity knows nothing that tells items apart: 0 for all but the item itself."""
        similar = torch.zeros(self.items)
        similar[item] = 1.0
        return similar

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The counts."""
        return {}, {"counts": self.counts}

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From saved counts; BundleError where they do not fit."""
        _check_parts(config, tensors, {"counts": ((items,), torch.float32)})
        return cls(tensors["counts"])


@final
class Markov:
    """Scores by what followed the history's last item in training: a first-order Markov chain.

    The chance of j after i is (n_ij + p_j) / (n_i + 1), where n_ij counts how often j directly followed i, n_i all
    steps from i, and p_j is the share of j among all events: one imagined step, spread like popularity. So an item
    never seen as a predecessor falls back to popularity, and equal counts are ordered by it.
    """

    kind = "markov"

    def __init__(self, offsets: Tensor, followers: Tensor, steps: Tensor, popularity: Float[Tensor, "V"]) -> None:
        """The counts n_ij row by row.

        Args:
            offsets: The followers of item i lie from `offsets[i]` to `offsets[i + 1]`; int64 of shape (V + 1,).
            followers: Item rows j, int64.
            steps: n_ij for each of them, float32.
            popularity: p_j; sums to 1.
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
        return cls(
            torch.from_numpy(offsets),
            torch.from_numpy(pairs % items),
            torch.from_numpy(counts.astype(np.float32)),
            torch.from_numpy(popularity.astype(np.float32)),
        )

    def scores(self, histories: Sequences) -> Float[Tensor, "B V"]:
        """The chance of every item after each history's last one."""
        lasts = torch.from_numpy(histories.items[histories.offsets[1:] - 1].astype(np.int64))
        counts = self.offsets[lasts + 1] - self.offsets[lasts]
        rows = torch.repeat_interleave(torch.arange(len(lasts)), counts)
        within = torch.arange(len(rows)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        places = torch.repeat_interleave(self.offsets[lasts], counts) + within
        scores = self.popularity.repeat(len(lasts), 1)
        scores[rows, self.followers[places]] += self.steps[places]
        totals = torch.zeros(len(lasts)).index_add_(0, rows, self.steps[places])
        return scores.div_((totals + 1).unsqueeze(1))

    def similarities(self, item: int) -> Float[Tensor, "V"]:
        """Cosine of what follows each item."""
        owners = torch.repeat_interleave(torch.arange(self.items), self.offsets.diff())
        row = torch.zeros(self.items)
        own = slice(int(self.offsets[item]), int(self.offsets[item + 1]))
        row[self.followers[own]] = self.steps[own]
        dots = torch.zeros(self.items).index_add_(0, owners, self.steps * row[self.followers])
        norms = torch.zeros(self.items).index_add_(0, owners, self.steps**2).sqrt()
        return dots / (norms * norms[item]).clamp_min(1e-12)

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The counts."""
        names = ("offsets", "followers", "steps", "popularity")
        return {}, dict(zip(names, (self.offsets, self.followers, self.steps, self.popularity), strict=True))

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From saved counts; BundleError where they do not fit."""
        steps = len(tensors.get("steps", ()))
        expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "offsets": ((items + 1,), torch.int64),
            "followers": ((steps,), torch.int64),
            "steps": ((steps,), torch.float32),
            "popularity": ((items,), torch.float32),
        }
        _check_parts(config, tensors, expected)
        offsets, followers = tensors["offsets"], tensors["followers"]
        ordered = offsets[0] == 0 and offsets[-1] == steps and (offsets[1:] >= offsets[:-1]).all()
        if not ordered or (steps and (followers.min() < 0 or followers.max() >= items)):
            raise BundleError("the steps of the Markov chain point beyond the catalogue")
        return cls(offsets, followers, tensors["steps"], tensors["popularity"])


def _check_parts(
    config: dict[str, Any], tensors: dict[str, Tensor], expected: dict[str, tuple[tuple[int, ...], torch.dtype]]
) -> None:
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    if config or found != expected or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise BundleError(f"counts do not fit the catalogue: found {found}")
