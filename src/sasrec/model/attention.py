"""Self-attention over histories of different lengths, with nothing computed on padding.

Axes: B sequences, L positions of a length group, P real positions of all sequences one after the other,
S padded slots of all length groups, D width, H heads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
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
        lengths: Length of every sequence, group after group.
        sources: For every padded slot, the flat position that fills it; a slot beyond a sequence's end repeats its
            last position, which is harmless because no real position attends to it.
        slots: For every real position, its padded slot.
    """

    ages: Int[Tensor, "P"]
    lasts: Int[Tensor, "B"]
    shapes: tuple[tuple[int, int], ...]
    lengths: Int[Tensor, "B"]
    sources: Int[Tensor, "S"]
    slots: Int[Tensor, "P"]

    @classmethod
    def of(cls, lengths: np.ndarray, device: torch.device | None = None) -> "Layout":
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
        groups = _rows_by_length(lengths)
        for rows in groups:
            longest = int(lengths[rows].max())
            source = starts[rows, None] + np.arange(longest)
            real = source < stops[rows, None]
            slots[source[real]] = laid + np.flatnonzero(real)
            shapes.append((len(rows), longest))
            sources.append(np.minimum(source, stops[rows, None] - 1).ravel())
            laid += source.size
        ages, grouped = np.repeat(stops - 1, lengths) - positions, lengths[np.concatenate(groups)]
        arrays = (ages, stops - 1, grouped, np.concatenate(sources), slots)
        ages_, lasts, lengths_, sources_, slots_ = (torch.from_numpy(one).to(device) for one in arrays)
        return cls(ages_, lasts, tuple(shapes), lengths_, sources_, slots_)

    def spread(self, values: Shaped[Tensor, "B *rest"]) -> Shaped[Tensor, "P *rest"]:
        """For every real position, the value of its sequence."""
        lengths = torch.diff(self.lasts, prepend=self.lasts.new_full((1,), -1))
        return values.repeat_interleave(lengths, dim=0)

    def pad(self, states: Float[Tensor, "P width"]) -> Float[Tensor, "S width"]:
        """Flat states moved to their padded slots, group after group."""
        padded: Tensor = _Pad.apply(states, self.sources, self.slots)
        return padded

    def unpad(self, padded: Float[Tensor, "S width"]) -> Float[Tensor, "P width"]:
        """The real positions of padded slots, flat again."""
        return padded.index_select(0, self.slots)


@final
class Attention(nn.Module):
    """Multi-head attention in which a position sees itself and the positions before it, or all of its sequence.

    Where it is causal there is no key padding mask: `Layout` pads on the right, so padding lies in every real
    position's future. Source: Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """

    def __init__(self, width: int, *, inner: int, heads: int, project: bool, causal: bool) -> None:
        """A layer without memory for its weights.

        Args:
            width: Size of the states (D).
            inner: Size of queries, keys and values, over all heads.
            project: Bring the mixed values back to `width`, which the SASRec paper's code leaves out; needed where
                `inner` differs.
            causal: Hide what comes later.
        """
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, inner)
        self.key_value = nn.Linear(width, 2 * inner)
        self.project = nn.Linear(inner, width) if project or inner != width else None

    def forward(
        self,
        queries: Float[Tensor, "P D"],
        memory: Float[Tensor, "P D"],
        layout: Layout,
        drop: Drop,
        *,
        keys: Float[Tensor, "P D"] | None = None,
    ) -> Float[Tensor, "P D"]:
        """What each position takes from its sequence.

        Args:
            queries: What asks; `memory` gives keys and values, so a block may normalise the two differently.
            keys: What keys are made from where it is not `memory`.
        """
        padded = layout.pad(torch.cat([self.query(queries), self.keys_and_values(memory, keys)], dim=1))
        inner = padded.shape[1] // 3
        mixed = []
        sizes = [rows * longest for rows, longest in layout.shapes]
        lengths = layout.lengths.split([rows for rows, _ in layout.shapes])
        for group, (rows, longest), real in zip(padded.split(sizes), layout.shapes, lengths, strict=True):
            # (B L 3D) -> three of (B H L D/H)
            split = group.view(rows, longest, 3, self.heads, inner // self.heads).permute(2, 0, 3, 1, 4)
            query, key, value = split.unbind(0)
            there = torch.arange(longest, device=real.device) < real.unsqueeze(1)
            mask = None if self.causal else there.view(rows, 1, 1, longest)
            mixed.append(_attend(query, key, value, mask, drop).transpose(1, 2).reshape(-1, inner))
        states = layout.unpad(torch.cat(mixed))
        return states if self.project is None else self.project(states)

    def keys_and_values(self, memory: Tensor, keys: Tensor | None) -> Tensor:
        """Keys, made from `keys` where it is given, beside the values."""
        both: Tensor = self.key_value(memory)
        if keys is None:
            return both
        (key, _), (bias, _) = self.key_value.weight.chunk(2), self.key_value.bias.chunk(2)
        return torch.cat([nn.functional.linear(keys, key, bias), both.chunk(2, dim=1)[1]], dim=1)


def _attend(
    query: Float[Tensor, "B H L d"],
    key: Float[Tensor, "B H L d"],
    value: Float[Tensor, "B H L d"],
    mask: Bool[Tensor, "B 1 1 L"] | None,
    drop: Drop,
) -> Float[Tensor, "B H L d"]:
    """Values mixed by attention; without a mask of the real keys, causally."""
    if drop is keep_all:
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
    # Torch's fused kernel on the CPU knows no dropout on the weights, so in training the weights are formed here.
    scores = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)
    if mask is None:
        longest = query.shape[2]
        scores = scores + scores.new_full((longest, longest), float("-inf")).triu(1)
    else:
        scores = scores.masked_fill(~mask, float("-inf"))
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
