"""Parts that other systems build SASRec from; see `sasrec.presets` for which system has which.

Axes: P real positions, Q those of them that ask, D width.
"""

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.model.attention import Drop, Layout, keep_all
from sasrec.model.blocks import FeedForward, Shape


@final
class PositionNorm(nn.Module):
    """A layer norm with gains and shifts of its own for every position, counted from the end of the history."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape.length, shape.width))
        self.bias = nn.Parameter(torch.empty(shape.length, shape.width))
        self.epsilon = shape.epsilon

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop = keep_all) -> Float[Tensor, "Q D"]:  # noqa: ARG002
        """The normalised states that ask; the last of a network's blocks can be one of these."""
        normal = nn.functional.layer_norm(layout.asking(states), states.shape[1:], eps=self.epsilon)
        return normal * self.weight[layout.ages] + self.bias[layout.ages]


@final
class QueryOnlyBlock(nn.Module):
    """The block of Microsoft Recommenders: as the paper's, with one norm, whose gains belong to positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = PositionNorm(shape)
        self.attention = shape.attention(project=shape.projected)
        self.feed_forward = FeedForward(shape)

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "Q D"]:
        """The states after attention and feed-forward, of the positions that ask."""
        queries = self.attention_norm(states, layout)
        states = queries + self.attention(queries, states, layout, drop)
        return states + drop(self.feed_forward(states, drop))


@final
class PostNormBlock(nn.Module):
    """The block of the first transformer: norm(x + drop(f(x))) twice, and no other dropout."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = shape.attention(project=shape.projected)
        self.attention_norm = shape.norm()
        self.feed_forward = FeedForward(shape)
        self.feed_forward_norm = shape.norm()

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "Q D"]:
        """The states after attention and feed-forward, of the positions that ask."""
        asking = layout.asking(states)
        states = self.attention_norm(asking + drop(self.attention(asking, states, layout, keep_all)))
        return self.feed_forward_norm(states + drop(self.feed_forward(states, keep_all)))


@final
class KeyNormBlock(nn.Module):
    """The block of seanswyi's implementation: one norm for the keys and for what each half gives."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm = shape.norm()
        self.attention = shape.attention(project=True)
        self.feed_forward = FeedForward(shape)

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop) -> Float[Tensor, "Q D"]:
        """The states after attention and feed-forward, of the positions that ask."""
        asking = layout.asking(states)
        taken = self.attention(asking, states, layout, drop, keys=self.norm(states))
        states = asking + drop(self.norm(taken))
        return states + drop(self.norm(self.feed_forward(states, keep_all)))


@final
class SinusoidalPositions(nn.Module):
    """Sines and cosines of the distance from the end; nothing is learned. Source: Vaswani et al., NeurIPS 2017."""

    def forward(self, states: Float[Tensor, "P D"], ages: Int[Tensor, "P"]) -> Float[Tensor, "P D"]:
        """The states with their positions added."""
        width = states.shape[1]
        rates = torch.exp(
            torch.arange(0, width, 2, dtype=states.dtype, device=states.device) * (-math.log(10_000.0) / width)
        )
        angles = ages.to(states.dtype).unsqueeze(1) * rates
        return states + torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
