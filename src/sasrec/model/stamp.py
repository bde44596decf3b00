"""STAMP: short-term attention and memory priority, a network without blocks.

Axes: B sequences, P real positions of all sequences, D width, V catalogue.
"""

from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.model.attention import Drop, Layout, keep_all
from sasrec.model.embeddings import ItemVectors
from sasrec.model.network import SASRec

View = Literal["both", "memory", "last"]


@final
class Stamp(nn.Module):
    """Two views of a history meet: what attention from the last item finds in it, and the last item alone.

    The score of an item x is <tanh(A m) * tanh(B t), x>, where t is the last item's vector and m is t plus the sum of
    all items' vectors, each weighed by w . sigmoid(C x + D t + E mean + b). Either of the two views can be left out.

    Source: Liu et al., KDD 2018 (STAMP), equations 8 to 12, as RecBoard has them: the paper does not add t to the
    memory, its code adds the mean. As in all three, weights are not normalised to sum to 1.
    """

    def __init__(self, items: ItemVectors, *, view: View = "both") -> None:
        """Args: view: Which of the two views to use."""
        super().__init__()
        width = items.weight.shape[1]
        self.items, self.view = items, view
        self.ask_item = nn.Linear(width, width)
        self.ask_last = nn.Linear(width, width, bias=False)
        self.ask_mean = nn.Linear(width, width, bias=False)
        self.weigh = nn.Linear(width, 1, bias=False)
        self.memory_view = nn.Linear(width, width)
        self.last_view = nn.Linear(width, width)

    def last(
        self,
        items: Int[Tensor, "P"],
        layout: Layout,
        drop: Drop = keep_all,
        users: Int[Tensor, "B"] | None = None,  # noqa: ARG002  # STAMP tells no users apart
    ) -> Float[Tensor, "B D"]:
        """The state after the last position of every history; arguments as those of `SASRec.forward`."""
        vectors = drop(nn.functional.embedding(items, self.items()))
        last = vectors[layout.lasts]
        views = []
        if self.view != "last":
            views.append(self.memory_view(self._memory(vectors, last, layout)).tanh())
        if self.view != "memory":
            views.append(self.last_view(last).tanh())
        return views[0] if len(views) == 1 else views[0] * views[1]

    def table(self) -> Float[Tensor, "V D"]:
        """The item vectors."""
        vectors: Tensor = self.items()
        return vectors

    def _memory(self, vectors: Tensor, last: Tensor, layout: Layout) -> Tensor:
        shares = vectors / layout.spread(layout.lengths).unsqueeze(1)
        mean = torch.zeros_like(last).index_add(0, layout.sequences, shares)
        asked = self.ask_item(vectors) + layout.spread(self.ask_last(last) + self.ask_mean(mean))
        return last.index_add(0, layout.sequences, self.weigh(asked.sigmoid()) * vectors)


Network = SASRec | Stamp
"""Whatever is trained: it makes states from histories, and the table that they score by dot products."""
