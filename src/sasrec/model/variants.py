"""Parts that other systems build SASRec from; see `sasrec.presets` for which system has which.

Axes: P real positions, Q those of them that ask, B sequences, D width.
"""

import math
from collections.abc import Callable
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.model.attention import Attention, Drop, Layout, keep_all
from sasrec.model.blocks import FeedForward, Shape

Branch = Literal["identity", "mean", "convolution"]

_EARLIER = 3  # states before its own that a convolution reads in each block


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


@final
class BesideAttention(nn.Module):
    """Attention and a branch that treats all histories alike: ``share * branch + (1 - share) * attention``.

    The branch is given what keys and values are made from. It starts as the identity, sees no later position even
    where attention does, and has no dropout of its own.

    Source: Shin et al., AAAI 2024 (BSARec), arXiv:2312.10325. We differ: its filter is a Fourier
    transform of the padded window, in which a position sees those after it, so that nothing but the last one can be
    learned from; ours only look back. Residual and norm, which it has once for each of the two, follow their sum.
    """

    def __init__(self, attention: Attention, *, branch: Branch, width: int, share: float) -> None:
        """Args: width: Size of the states (D). share: What the branch counts, in [0, 1]."""
        super().__init__()
        self.attention, self.share = attention, share
        branches: dict[Branch, Callable[[], nn.Module]] = {
            "identity": Identity,
            "mean": lambda: Mean(width),
            "convolution": lambda: Convolution(width),
        }
        self.branch = branches[branch]()

    def forward(
        self,
        queries: Float[Tensor, "Q D"],
        memory: Float[Tensor, "P D"],
        layout: Layout,
        drop: Drop,
        *,
        keys: Float[Tensor, "P D"] | None = None,
    ) -> Float[Tensor, "Q D"]:
        """What each position that asks takes from its sequence; arguments as those of `Attention.forward`."""
        taken: Tensor = self.attention(queries, memory, layout, drop, keys=keys)
        return taken.lerp(self.branch(memory, layout), self.share)


@final
class Identity(nn.Module):
    """A branch that gives each position its own state."""

    def forward(self, states: Float[Tensor, "P D"], layout: Layout) -> Float[Tensor, "Q D"]:
        """The states of the positions that ask."""
        return layout.asking(states)


@final
class Mean(nn.Module):
    """A branch between each state and the mean of all up to it, at a place that is learned for every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, states: Float[Tensor, "P D"], layout: Layout) -> Float[Tensor, "Q D"]:
        """The smoothed states of the positions that ask."""
        if layout.lasts_ask:
            mean = torch.segment_reduce(states, "mean", lengths=layout.lengths, axis=0)
        else:
            # Sums in bins, as in attention: a running sum over the batch takes twice as long, and carries the
            # rounding of one history into the next.
            padded = layout.pad(states).split([bins * longest for bins, longest in layout.shapes])
            seen = [mask.squeeze(1).exp().to(states.dtype) for mask in layout.earlier]
            sums = [one @ part.view(*one.shape[:2], -1) for one, part in zip(seen, padded, strict=True)]
            mean = layout.unpad(torch.cat([one.flatten(0, 1) for one in sums])) / (_places(layout) + 1).unsqueeze(1)
        return layout.asking(states).lerp(mean, self.weight)


@final
class Convolution(nn.Module):
    """A branch that adds the few states before each one to it, with weights that are learned for every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(_EARLIER, width))

    def forward(self, states: Float[Tensor, "P D"], layout: Layout) -> Float[Tensor, "Q D"]:
        """The filtered states of the positions that ask."""
        places, made = layout.asking(_places(layout)), layout.asking(states)
        for back, weight in enumerate(self.weight, start=1):
            # What comes around, or from the history before, is struck out.
            earlier = layout.asking(states.roll(back, 0))
            made = made.addcmul(earlier * (places >= back).unsqueeze(1), weight)
        return made


def _places(layout: Layout) -> Int[Tensor, "P"]:
    """For every real position, its distance from the start of its sequence."""
    positions = torch.arange(len(layout.slots), device=layout.slots.device)
    return positions - layout.spread(layout.lasts - layout.lengths + 1)
