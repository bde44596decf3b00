"""SASRec: from the items of a history to a state that scores the catalogue.

Axes: B sequences, P real positions of all sequences, D width, V catalogue.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.config import Config
from sasrec.model.attention import Drop, Layout, keep_all
from sasrec.model.blocks import PaperBlock, PreNormBlock

_INITIAL_STD = 0.02


@final
class SASRec(nn.Module):
    """Self-Attentive Sequential Recommendation.

    A position's state is made from the item at it and the items before it, and scores the catalogue by its dot
    product with the same item vectors that it was made from. There is no padding item: histories come without
    padding, so nothing else can be scored or recommended than real items.

    Source: Kang & McAuley, ICDM 2018, arXiv:1808.09781. We differ in three ways, each so that a score depends on
    the history alone: positions are counted from the end of the history (the paper's left padding does the same for
    a fixed length), padding is never computed, and the item vectors start with a fixed spread instead of one that
    shrinks with the catalogue.
    """

    def __init__(self, items: int, config: Config, *, generator: torch.Generator | None) -> None:
        """A network with drawn weights, or with none.

        Args:
            items: Catalogue size V.
            generator: Draws the initial weights; None leaves them without memory, to be loaded.
        """
        super().__init__()
        block = {"paper": PaperBlock, "pre": PreNormBlock}[config.norm]
        self.length = config.length
        # Torch's layers would draw weights of their own, from a generator that belongs to the caller.
        with torch.device("meta"):
            self.items = nn.Embedding(items, config.width)
            self.positions = nn.Embedding(config.length, config.width)
            self.blocks = nn.ModuleList(block(config.width, heads=config.heads) for _ in range(config.blocks))
            self.norm = nn.LayerNorm(config.width, eps=1e-8)
        if generator is not None:
            self.to_empty(device=generator.device)
            self._initialise(generator)

    def forward(self, items: Int[Tensor, "P"], layout: Layout, drop: Drop = keep_all) -> Float[Tensor, "P D"]:
        """The state of every position.

        Args:
            items: Item rows of all histories, oldest first, one history after the other; none longer than `length`.
            drop: Dropout; the default drops nothing.
        """
        width = self.items.embedding_dim
        states = drop(self.items(items) * width**0.5 + self.positions(layout.ages))
        for block in self.blocks:
            states = block(states, layout, drop)
        return self.norm(states)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and "items" not in name and "positions" not in name:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=_INITIAL_STD, generator=generator)
            elif "norm" in name and name.endswith("weight"):
                nn.init.ones_(parameter)
            else:
                nn.init.zeros_(parameter)
