"""Models that only count: what a network has to beat before it is worth its cost.

They are arrays, and torch is only imported to save and to load them. A table of items by item, such as the steps of a
Markov chain or links, is a `Sequences`: row i names the items that belong to i, and `weights` how strongly.

Axes: B histories, V catalogue.
"""

from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from jaxtyping import Float

from sasrec.data.sequences import Sequences, offsets_of
from sasrec.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@final
class Popularity:
    """Scores every item by its share of all events, whoever asks."""

    kind = "popularity"
    reads_times = False

    def __init__(self, counts: Float[np.ndarray, "V"]) -> None:
        """Args: counts: Events of each item, float32."""
        self.counts = counts
        self.items = len(counts)

    @classmethod
    def of(cls, train: Sequences, *, items: int) -> Self:
        """Count the items of training histories."""
        return cls(np.bincount(train.items, minlength=items).astype(np.float32))

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The same shares for every history."""
        return np.tile(self.counts / max(self.counts.sum(), np.float32(1)), (len(histories), 1))

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:  # noqa: ARG002  # as `Scorer` has it
        """Refused with a ConfigError."""
        raise ConfigError("popularity does not tell which items are alike; ask a model or a scorer that knows more")

    def to_parts(self) -> "tuple[dict[str, Any], dict[str, Tensor]]":
        """The counts."""
        return {}, tensors_of({"counts": self.counts})

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: "dict[str, Tensor]") -> Self:
        """From saved counts; BundleError where they do not fit."""
        return cls(_arrays(config, tensors, {"counts": ((items,), "float32")})["counts"])


@final
class Markov:
    """Scores by what followed the history's last item in training: a first-order Markov chain.

    The chance of j after i is (n_ij + p_j) / (n_i + 1), where n_ij counts how often j directly followed i, n_i all
    steps from i, and p_j is the share of j among all events: one imagined step, spread like popularity. So an item
    never seen as a predecessor falls back to popularity, and equal counts are ordered by it as far as float32 goes:
    shares of a count below 6e-8 are lost, so that in logs of millions of events some stay equal.
    """

    kind = "markov"
    reads_times = False

    def __init__(self, steps: Sequences, popularity: Float[np.ndarray, "V"]) -> None:
        """From counts.

        Args:
            steps: For each item i a row of the items j that followed it, with n_ij as weights.
            popularity: p_j, float32; sums to 1.
        """
        self.steps, self.popularity = steps, popularity
        self.items = len(popularity)

    @classmethod
    def of(cls, train: Sequences, *, items: int) -> Self:
        """Count the direct steps of training histories."""
        owners = train.owners()
        same = owners[1:] == owners[:-1]
        pairs, counts = np.unique(
            train.items[:-1][same].astype(np.int64) * items + train.items[1:][same], return_counts=True
        )
        offsets = offsets_of(np.bincount(pairs // items, minlength=items))
        popularity = np.bincount(train.items, minlength=items) / max(len(train.items), 1)
        return cls(Sequences(pairs % items, offsets, weights=counts.astype(np.float32)), popularity.astype(np.float32))

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The chance of every item after each history's last one."""
        steps = self.steps.take(histories.items[histories.offsets[1:] - 1])
        rows, counts = steps.owners(), strengths(steps)
        scores = np.tile(self.popularity, (len(histories), 1))
        scores[rows, steps.items] += counts
        scores /= (np.bincount(rows, counts, minlength=len(histories)) + 1).astype(np.float32)[:, np.newaxis]
        return scores

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine of what follows each item."""
        return cosines(self.steps, item)

    def to_parts(self) -> "tuple[dict[str, Any], dict[str, Tensor]]":
        """The counts."""
        steps = {"offsets": self.steps.offsets, "followers": self.steps.items, "steps": strengths(self.steps)}
        return {}, tensors_of({**steps, "popularity": self.popularity})

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
        steps = Sequences(found["followers"], found["offsets"], weights=found["steps"])
        if not steps.fit(items):
            raise BundleError("the steps of the Markov chain point beyond the catalogue")
        return cls(steps, found["popularity"])


def cosines(table: Sequences, item: int) -> Float[np.ndarray, "V"]:
    """Cosine of an item's row of weighted items with the row of every item."""
    owners, weights, row = table.owners(), strengths(table).astype(np.float64), np.zeros(len(table))
    own = slice(table.offsets[item], table.offsets[item + 1])
    row[table.items[own]] = weights[own]
    dots = np.bincount(owners, weights * row[table.items], minlength=len(table))
    norms = np.sqrt(np.bincount(owners, weights**2, minlength=len(table)))
    return (dots / np.maximum(norms * norms[item], 1e-12)).astype(np.float32)


def strengths(table: Sequences) -> Float[np.ndarray, "pairs"]:
    """The weights of a table of items by item, 1 where it has none."""
    return np.ones(len(table.items), dtype=np.float32) if table.weights is None else table.weights


def tensors_of(arrays: dict[str, np.ndarray]) -> "dict[str, Tensor]":
    """The arrays to save."""
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


_Expected = dict[str, tuple[tuple[int, ...], str]]


def _arrays(config: dict[str, Any], tensors: "dict[str, Tensor]", expected: _Expected) -> dict[str, np.ndarray]:
    found = {name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for name, tensor in tensors.items()}
    if config or found != expected or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise BundleError(f"counts do not fit the catalogue: found {found}")
    return {name: tensor.numpy() for name, tensor in tensors.items()}
