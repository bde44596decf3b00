"""SASRec: from the items of a history to a state that scores the catalogue.

Axes: B sequences, P real positions of all sequences, D width of item vectors, V catalogue.
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.model.attention import Drop, Layout, keep_all
from sasrec.model.embeddings import ItemVectors, UserVectors


@final
class SASRec(nn.Module):
    """Self-Attentive Sequential Recommendation.

    A position's state is made from the item at it and the items before it, and scores the catalogue by its dot
    product with the same item vectors that it was made from. There is no padding item: histories come without
    padding, so nothing else can be scored or recommended than real items.

    With user vectors it is SSE-PT: they are joined to the item vectors at every position, and a state's user half
    times the user's vector, as it entered, is part of each score. That part is one number for all items, and is
    carried as one more column of the states, which meets a column of ones in the table.

    Source: Kang & McAuley, ICDM 2018, arXiv:1808.09781; Wu et al., RecSys 2020 (SSE-PT). We differ so that a score
    depends on the history alone: positions are counted from the end of the history (the paper's left padding does the
    same for a fixed length), padding is never computed, and item vectors start with a spread that is fixed.
    """

    def __init__(
        self,
        items: ItemVectors,
        positions: nn.Module | None,
        users: UserVectors | None,
        blocks: Sequence[nn.Module],
        norm: nn.LayerNorm | None,
        *,
        scales: tuple[float, float] = (1.0, 1.0),
        cosine: bool = False,
        temperature: float = 1.0,
    ) -> None:
        """A network of these parts; `sasrec.model.building` makes them from settings.

        Args:
            positions: Adds what tells positions apart; see `sasrec.model.embeddings.LearnedPositions`.
            blocks: One after the other; see `sasrec.model.blocks`.
            norm: Normalises the states after the last block.
            scales: What vectors of items and of users are multiplied by where they enter.
            cosine: Score by the cosine instead of the dot product.
            temperature: What scores are divided by.
        """
        super().__init__()
        self.items, self.positions, self.users = items, positions, users
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.scales, self.cosine, self.temperature = scales, cosine, temperature

    def forward(
        self, items: Int[Tensor, "P"], layout: Layout, drop: Drop = keep_all, users: Int[Tensor, "B"] | None = None
    ) -> Float[Tensor, "P state"]:
        """The state of every position.

        Args:
            items: Item rows of all histories, oldest first, one history after the other; none longer than `length`.
            drop: Dropout; the default drops nothing.
            users: User row of every history, -1 for the unknown; None where nobody is known.
        """
        states, own = self._entered(items, layout, drop, users)
        for block in self.blocks:
            states = block(states, layout, drop)
        return self._finished(states, None if own is None else layout.spread(own))

    def last(
        self, items: Int[Tensor, "P"], layout: Layout, drop: Drop = keep_all, users: Int[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B state"]:
        """The state after the last position of every history; the last block computes no other."""
        states, own = self._entered(items, layout, drop, users)
        ends = layout.ends
        for number, block in enumerate(self.blocks, 1):
            states = block(states, ends if number == len(self.blocks) else layout, drop)
        if not self.blocks:
            states = ends.asking(states)
        return self._finished(states, own)

    def table(self) -> Float[Tensor, "V state"]:
        """What a state is multiplied by to score each item: item vectors, with what their kind of score needs."""
        vectors: Tensor = self.items()
        if self.cosine:
            return nn.functional.normalize(vectors, dim=1)
        return vectors if self.users is None else torch.cat([vectors, vectors.new_ones(len(vectors), 1)], dim=1)

    def _entered(self, items: Tensor, layout: Layout, drop: Drop, users: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What enters the first block, and the vector of every history's user."""
        states = nn.functional.embedding(items, self.items()) * self.scales[0]
        own = None
        if self.users is not None:
            known = users if users is not None else layout.lasts.new_full(layout.lasts.shape, -1)
            own = self.users(known) * self.scales[1]
            states = torch.cat([states, layout.spread(own)], dim=1)
        if self.positions is not None:
            states = self.positions(states, layout.ages)
        return drop(states), own

    def _finished(self, states: Tensor, own: Tensor | None) -> Tensor:
        """States normalised and turned into what meets the table."""
        if self.norm is not None:
            states = self.norm(states)
        if own is not None:
            width = self.items.weight.shape[1]
            states = torch.cat([states[:, :width], (states[:, width:] * own).sum(dim=1, keepdim=True)], dim=1)
        if self.cosine:
            states = nn.functional.normalize(states, dim=1)
        return states if self.temperature == 1.0 else states / self.temperature
