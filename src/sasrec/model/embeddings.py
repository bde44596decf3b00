"""What enters the network: vectors of items, of positions and of users.

Axes: P real positions, B sequences, D width, V catalogue, U users, F values of features, M numbers given of an item.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@final
class ItemVectors(nn.Module):
    """A vector for every item: its own, plus what its features say where it has any.

    Features are categories, each value of which has a vector that is learned, and vectors that were given, which a
    learned matrix projects. So an item that nobody has had yet, whose own vector is 0, is what its features say.

    Args:
        items: Catalogue size V.
        width: Size of the vectors.
        features: For every item, the rows of its features' values, one item after the other, and where each item's
            begin; int64 of shape (values of all items,) and (V + 1,). None where items are told apart by id alone.
        values: Number of different values F.
        vectors: What was given of every item, 0 where nothing was; None where no vectors were given.
    """

    def __init__(
        self,
        items: int,
        width: int,
        *,
        features: tuple[Tensor, Tensor] | None = None,
        values: int = 0,
        vectors: Float[Tensor, "V M"] | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(items, width))
        self.values = nn.Parameter(torch.empty(values, width)) if features is not None else None
        self.projection = nn.Parameter(torch.empty(vectors.shape[1], width)) if vectors is not None else None
        self.feature_rows: Tensor | None
        self.feature_offsets: Tensor | None
        rows, offsets = features if features is not None else (None, None)
        self.register_buffer("feature_rows", rows)
        self.register_buffer("feature_offsets", offsets)
        self.vectors: Tensor | None
        self.register_buffer("vectors", vectors)
        self._settled: Tensor | None = None

    @property
    def described(self) -> bool:
        """Whether items have features."""
        return self.values is not None or self.projection is not None

    def forward(self) -> Float[Tensor, "V D"]:
        """The vectors of the whole catalogue."""
        if self._settled is not None:
            return self._settled
        found: Tensor = self.weight
        if self.values is not None and self.feature_rows is not None:
            found = found + nn.functional.embedding_bag(
                self.feature_rows, self.values, self.feature_offsets, mode="sum", include_last_offset=True
            )
        if self.projection is not None and self.vectors is not None:
            found = found + self.vectors @ self.projection
        return found

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute the vectors once and for all: the weights must not change any more."""
        if self.described:
            self._settled = self()


@final
class LearnedPositions(nn.Module):
    """A learned vector for every distance from the end of the history."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))

    def forward(self, states: Float[Tensor, "P D"], ages: Int[Tensor, "P"]) -> Float[Tensor, "P D"]:
        """The states with their positions added."""
        return states + nn.functional.embedding(ages, self.weight)


@final
class UserVectors(nn.Module):
    """A vector for every user, and one more, the last, for whoever is not known."""

    def __init__(self, users: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(users + 1, width))

    @property
    def unknown(self) -> int:
        """Row of the unknown user."""
        return len(self.weight) - 1

    def forward(self, users: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """Their vectors; a row outside the table is the unknown user."""
        known = (users >= 0) & (users < self.unknown)
        return nn.functional.embedding(torch.where(known, users, self.unknown), self.weight)

    @torch.no_grad()
    def forget(self, users: Int[Tensor, "B"]) -> None:
        """Give users of whom nothing is learned the vector of whoever is not known."""
        self.weight[users] = self.weight[self.unknown].clone()
