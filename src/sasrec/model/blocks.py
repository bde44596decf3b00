"""What SASRec is stacked from: attention and feed-forward, with norms and residuals around them.

Axes: P real positions, Q those of them that ask, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sasrec.model.attention import Attention, Bias, Drop, Layout

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "swiglu": nn.functional.silu,
}


@dataclass(frozen=True)
class Shape:
    """What all blocks have in common; see the settings of these names. `beside` says what goes with attention.

    `bias` makes what a layer adds to its scores.
    """

    width: int
    length: int
    heads: int
    attention_width: int
    feed_forward: int
    activation: str
    causal: bool
    projected: bool
    epsilon: float
    bias: Callable[[], Bias | None]
    beside: Callable[[Attention], nn.Module]

    def attention(self, *, project: bool) -> nn.Module:
        """An attention half."""
        made = Attention(
            self.width,
            inner=self.attention_width,
            heads=self.heads,
            project=project,
            causal=self.causal,
            bias=self.bias(),
        )
        return self.beside(made)

    def norm(self) -> nn.LayerNorm:
        """A norm of a block."""
        return nn.LayerNorm(self.width, eps=self.epsilon)


@final
class FeedForward(nn.Module):
    """Two point-wise layers with an activation between; the paper's code writes them as convolutions of width 1.

    With "swiglu" a second inner layer gates the first, and none has a bias. Source: Shazeer, arXiv:2002.05202.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        gated = shape.activation == "swiglu"
        self.inner = nn.Linear(shape.width, shape.feed_forward, bias=not gated)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False) if gated else None
        self.outer = nn.Linear(shape.feed_forward, shape.width, bias=not gated)
        self.activation = _ACTIVATIONS[shape.activation]

    def forward(self, states: Float[Tensor, "P D"], drop: Drop) -> Float[Tensor, "P D"]:
        """The states after both layers; `drop` follows the first."""
        inner = self.activation(self.inner(states))
        if self.gate is not None:
            inner = inner * self.gate(states)
        outer: Tensor = self.outer(drop(inner))
        return outer


@final
class PaperBlock(nn.Module):
    """The block of the paper's code: only queries are normalised, and the residual adds the normalised states.

    Source: Kang & McAuley, ICDM 2018, arXiv:1808.09781: the published figures are of its code, its text describes the
    pre-norm block below. With `raw_residual` the residual adds the states as they came, as FreeRec does.
    """

    def __init__(self, shape: Shape, *, raw_residual: bool = False) -> None:
        super().__init__()
        self.attention_norm = shape.norm()
        self.attention = shape.attention(project=raw_residual or shape.projected)
        self.feed_forward_norm = shape.norm()
        self.feed_forward = FeedForward(shape)
        self.raw_residual = raw_residual

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "Q D"]:
        """The states after attention and feed-forward, of the positions that ask."""
        asking = layout.asking(states)
        queries = self.attention_norm(asking)
        taken = self.attention(queries, states, layout, drop)
        states = self.feed_forward_norm((asking if self.raw_residual else queries) + taken)
        return states + drop(self.feed_forward(states, drop))


@final
class PreNormBlock(nn.Module):
    """The block of the paper's text, as later transformers have it: x + drop(f(norm(x))) twice.

    If `gated`, what a half adds is multiplied by a gate of its input (LiGR; Borisyuk et al., arXiv:2502.03417).
    """

    def __init__(self, shape: Shape, *, gated: bool = False) -> None:
        super().__init__()
        self.attention_norm = shape.norm()
        self.attention = shape.attention(project=True)
        self.feed_forward_norm = shape.norm()
        self.feed_forward = FeedForward(shape)
        self.attention_gate = nn.Linear(shape.width, shape.width) if gated else None
        self.feed_forward_gate = nn.Linear(shape.width, shape.width) if gated else None

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "Q D"]:
        """The states after attention and feed-forward, of the positions that ask."""
        normed = self.attention_norm(states)
        taken = self.attention(layout.asking(normed), normed, layout, drop)
        states = layout.asking(states)
        states = states + drop(_gated(taken, states, self.attention_gate))
        made = self.feed_forward(self.feed_forward_norm(states), drop)
        return states + drop(_gated(made, states, self.feed_forward_gate))


def _gated(made: Tensor, states: Tensor, gate: nn.Module | None) -> Tensor:
    return made if gate is None else made * gate(states).sigmoid()
