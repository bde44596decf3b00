"""The two kinds of block that SASRec is built from.

Axes: P real positions, D width.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from sasrec.model.attention import CausalAttention, Drop, Layout

_EPSILON = 1e-8  # as in the paper's code; the states of an untrained network are small


@final
class FeedForward(nn.Module):
    """Two point-wise layers with a ReLU between; the paper's code writes them as convolutions of width 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, states: Float[Tensor, "P D"], drop: Drop) -> Float[Tensor, "P D"]:
        """The states after both layers; `drop` follows each."""
        return drop(self.outer(drop(self.inner(states).relu())))


@final
class PaperBlock(nn.Module):
    """The block of the paper's code: only queries are normalised, and the residuals add the normalised states.

    Source: Kang & McAuley, ICDM 2018, arXiv:1808.09781, and its published code. The text of the paper describes the
    pre-norm block below; the published figures come from this one.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=_EPSILON)
        self.attention = CausalAttention(width, heads=heads, project=False)
        self.feed_forward_norm = nn.LayerNorm(width, eps=_EPSILON)
        self.feed_forward = FeedForward(width)

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "P D"]:
        """The states after attention and feed-forward."""
        queries = self.attention_norm(states)
        states = self.feed_forward_norm(queries + self.attention(queries, states, layout, drop))
        return states + self.feed_forward(states, drop)


@final
class PreNormBlock(nn.Module):
    """The block of the paper's text, as later transformers have it: x + drop(f(norm(x))) twice."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=_EPSILON)
        self.attention = CausalAttention(width, heads=heads, project=True)
        self.feed_forward_norm = nn.LayerNorm(width, eps=_EPSILON)
        self.feed_forward = FeedForward(width)

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "P D"]:
        """The states after attention and feed-forward."""
        normed = self.attention_norm(states)
        states = states + drop(self.attention(normed, normed, layout, drop))
        return states + self.feed_forward(self.feed_forward_norm(states), drop)
