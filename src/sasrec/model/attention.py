"""Causal self-attention over histories of different lengths, with nothing computed on padding.

Axes: B sequences, L positions of a length group, P real positions of all sequences one after the other,
S padded slots of all length groups, D width, H heads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Drop = Callable[[Tensor], Tensor]
"""Dropout as a function: seeded noise in training, the identity elsewhere."""

_SHORTEST_GROUP = 8


def keep_all(states: Tensor) -> Tensor:
    """The `Drop` that drops nothing."""
    return states


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each real position of a batch is, and how positions are regrouped by sequence for attention.

    Norms, projections, feed-forward layers and the loss run on flat states of shape (P, D). Attention alone needs
    whole sequences: they are put into a few groups of similar length, padded on the right, so that a causal mask
    already hides the padding from every real position and no row is ever fully masked.

    Attributes:
        ages: For every real position, its distance from the end of its sequence; 0 is the last.
        lasts: Flat index of the last position of every sequence.
        shapes: (sequences, longest) of every length group; their products add up to S.
        sources: For every padded slot, the flat position that fills it; a slot beyond a sequence's end repeats its
            last position, which is harmless because no real position attends to it.
        slots: For every real position, its padded slot.
    """

    ages: Int[Tensor, "P"]
    lasts: Int[Tensor, "B"]
    shapes: tuple[tuple[int, int], ...]
    sources: Int[Tensor, "S"]
    slots: Int[Tensor, "P"]

    @classmethod
    def of(cls, lengths: np.ndarray) -> "Layout":
        """The layout of sequences of these lengths, each at least 1; int array of shape (B,).

        Raises:
            ValueError: There is no sequence, or one of them is empty.
        """
        if not len(lengths) or lengths.min() < 1:
            raise ValueError("a layout needs at least one sequence, and every sequence at least one position")
        lengths = lengths.astype(np.int64, copy=False)
        stops = np.cumsum(lengths)
        starts = stops - lengths
        positions = np.arange(stops[-1])
        slots = np.empty_like(positions)
        shapes, sources, laid = [], [], 0
        for rows in _rows_by_length(lengths):
            longest = int(lengths[rows].max())
            source = starts[rows, None] + np.arange(longest)
            real = source < stops[rows, None]
            slots[source[real]] = laid + np.flatnonzero(real)
            shapes.append((len(rows), longest))
            sources.append(np.minimum(source, stops[rows, None] - 1).ravel())
            laid += source.size
        ages = np.repeat(stops - 1, lengths) - positions
        as_tensor = torch.from_numpy
        return cls(
            as_tensor(ages), as_tensor(stops - 1), tuple(shapes), as_tensor(np.concatenate(sources)), as_tensor(slots)
        )

    def pad(self, states: Float[Tensor, "P width"]) -> Float[Tensor, "S width"]:
        """Flat states moved to their padded slots, group after group."""
        padded: Tensor = _Pad.apply(states, self.sources, self.slots)
        return padded

    def unpad(self, padded: Float[Tensor, "S width"]) -> Float[Tensor, "P width"]:
        """The real positions of padded slots, flat again."""
        return padded.index_select(0, self.slots)


@final
class CausalAttention(nn.Module):
    """Multi-head attention in which a position sees itself and the positions before it.

    There is no key padding mask: `Layout` pads on the right, so padding lies in every real position's future.
    Source: Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """

    def __init__(self, width: int, *, heads: int, project: bool) -> None:
        """Args: project: Mix the heads with an output projection, which the SASRec paper's code leaves out."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width) if project else None

    def forward(
        self, queries: Float[Tensor, "P D"], memory: Float[Tensor, "P D"], layout: Layout, drop: Drop
    ) -> Float[Tensor, "P D"]:
        """What each position takes from its own past.

        Args:
            queries: What asks; `memory` gives keys and values, so a block may normalise the two differently.
        """
        width = queries.shape[1]
        padded = layout.pad(torch.cat([self.query(queries), self.key_value(memory)], dim=1))
        mixed = []
        for group, (sequences, longest) in zip(
            padded.split([rows * columns for rows, columns in layout.shapes]), layout.shapes, strict=True
        ):
            # (B L 3D) -> three of (B H L D/H)
            split = group.view(sequences, longest, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            query, key, value = split.unbind(0)
            mixed.append(_attend(query, key, value, drop).transpose(1, 2).reshape(-1, width))
        states = layout.unpad(torch.cat(mixed))
        return states if self.project is None else self.project(states)


def _attend(
    query: Float[Tensor, "B H L d"], key: Float[Tensor, "B H L d"], value: Float[Tensor, "B H L d"], drop: Drop
) -> Float[Tensor, "B H L d"]:
    if drop is keep_all:
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    # Torch's fused kernel on the CPU knows no dropout on the weights, so in training the weights are formed here.
    longest = query.shape[2]
    future = torch.full((longest, longest), float("-inf")).triu(1)
    scores = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3) + future
    return drop(scores.softmax(dim=3)) @ value


def _rows_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Sequences in groups whose lengths lie within a factor of two: little padding, few groups."""
    group = np.ceil(np.log2(np.maximum(lengths, _SHORTEST_GROUP)))
    return [np.flatnonzero(group == one) for one in np.unique(group)]


class _Pad(torch.autograd.Function):
    """Gather whose gradient is a gather too: slots beyond a sequence's end never carry a gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, states: Tensor, sources: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return states.index_select(0, sources)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient.index_select(0, slots), None, None
