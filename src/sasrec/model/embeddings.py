"""What enters the network: vectors of items, of positions and of users.

Axes: P real positions, B sequences, D width, V catalogue, U users, F values of features.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@final
class ItemVectors(nn.Module):
    """A vector for every item: its own, plus those of its features' values where it has any.

    Args:
        items: Catalogue size V.
        width: Size of the vectors.
        features: For every item, the rows of its features' values, one item after the other, and where each item's
            begin; int64 of shape (values of all items,) and (V + 1,). None where items are told apart by id alone.
        values: Number of different values F.
    """

    def __init__(
        self, items: int, width: int, *, features: tuple[Tensor, Tensor] | None = None, values: int = 0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(items, width))
        self.values = nn.Parameter(torch.empty(values, width)) if features is not None else None
        self.feature_rows: Tensor | None
        self.feature_offsets: Tensor | None
        rows, offsets = features if features is not None else (None, None)
        self.register_buffer("feature_rows", rows)
        self.register_buffer("feature_offsets", offsets)

    def forward(self) -> Float[Tensor, "V D"]:
        """The vectors of the whole catalogue."""
        if self.values is None or self.feature_rows is None:
            return self.weight
        return self.weight + nn.functional.embedding_bag(
            self.feature_rows, self.values, self.feature_offsets, mode="sum", include_last_offset=True
        )


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
