"""Self-attention over histories of different lengths, with nothing computed on padding.

Axes: B sequences, P real positions of all sequences one after the other, Q positions that ask (P or B), S slots of all
bins, D width, H heads, L slots of a bin.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

Drop = Callable[[Tensor], Tensor]
"""Dropout as a function: seeded noise in training, the identity elsewhere."""

BUCKETS = 128  # of time; the times of a signed integer of 64 bits need no more

_SHORT = 64  # sequences up to this length share bins, whatever their lengths
_FACTOR = 8  # beyond it, sequences share bins whose lengths differ by less than this


def keep_all(states: Tensor) -> Tensor:
    """The `Drop` that drops nothing."""
    return states


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each real position of a batch is, and how positions are regrouped for attention.

    Norms, projections, feed-forward layers and the loss run on flat states of shape (P, D). Attention alone needs
    whole sequences side by side: they are packed into bins, as many into each as find room, and a mask keeps a
    position to its own sequence. So few slots stay empty and nearly always one batched product does for all.

    Attributes:
        ages: For every position that asks, its distance from the end of its sequence; 0 is the last.
        lasts: Flat index of the last position of every sequence.
        shapes: (bins, slots of each) of bins of one size; their products add up to S.
        sources: For every slot, the flat position that fills it; an empty slot repeats the first position, which is
            harmless because no real position attends to it.
        slots: For every real position, its slot.
        owners: For every slot, its sequence; an empty slot is its own, by a negative number that no other has. Seeing
            itself alone, whatever dropout does to it, it has no say in the gradients of what is added to scores.
        lasts_ask: Only the last position of every sequence asks what it should take from its sequence.
        times: For every real position when its event happened, and when what follows it is asked for, in whole units
            of one clock; None where times play no part.
    """

    ages: Int[Tensor, "Q"]
    lasts: Int[Tensor, "B"]
    shapes: tuple[tuple[int, int], ...]
    sources: Int[Tensor, "S"]
    slots: Int[Tensor, "P"]
    owners: Int[Tensor, "S"]
    lasts_ask: bool = False
    times: tuple[Int[Tensor, "P"], Int[Tensor, "P"]] | None = None

    @classmethod
    def of(
        cls,
        lengths: np.ndarray,
        device: torch.device | None = None,
        *,
        times: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> "Layout":
        """The layout of sequences of these lengths, each at least 1; int array of shape (B,). `times` as below.

        Raises:
            ValueError: There is no sequence, or one of them is empty.
        """
        if not len(lengths) or lengths.min() < 1:
            raise ValueError("a layout needs at least one sequence, and every sequence at least one position")
        lengths = lengths.astype(np.int64, copy=False)
        stops = np.cumsum(lengths)
        shapes, firsts = _packed(lengths)
        size = sum(bins * longest for bins, longest in shapes)
        positions, sequences = np.arange(stops[-1]), np.repeat(np.arange(len(lengths)), lengths)
        slots = positions + np.repeat(firsts - (stops - lengths), lengths)
        sources, owners = np.zeros(size, dtype=np.int64), np.arange(-1, -1 - size, -1)
        sources[slots], owners[slots] = positions, sequences
        ages = np.repeat(stops - 1, lengths) - positions
        arrays = (ages, stops - 1, sources, slots, owners)
        ages_, lasts, sources_, slots_, owners_ = (torch.from_numpy(one).to(device) for one in arrays)
        clock = [torch.from_numpy(one.astype(np.int64)).to(device) for one in times or ()]
        return cls(ages_, lasts, shapes, sources_, slots_, owners_, times=(clock[0], clock[1]) if clock else None)

    @cached_property
    def ends(self) -> "Layout":
        """The same batch where only the last position of every sequence asks."""
        return replace(self, ages=self.ages[self.lasts], lasts_ask=True)

    def asking(self, states: Shaped[Tensor, "P *rest"]) -> Shaped[Tensor, "Q *rest"]:
        """The states of the positions that ask."""
        return states.index_select(0, self.lasts) if self.lasts_ask else states

    def spread(self, values: Shaped[Tensor, "B *rest"]) -> Shaped[Tensor, "P *rest"]:
        """For every real position, the value of its sequence."""
        return values.index_select(0, self.sequences)

    @cached_property
    def apart(self) -> bool:
        """True where all bins are of one size, and no two sequences share one."""
        return self.shapes[0][0] == len(self.lasts)

    @cached_property
    def even(self) -> bool:
        """True where sequences of one length lie side by side: each is a bin already, and nothing has to be moved."""
        return self.apart and len(self.sources) == len(self.slots)

    @cached_property
    def lengths(self) -> Int[Tensor, "B"]:
        """Positions of every sequence."""
        return torch.diff(self.lasts, prepend=self.lasts.new_full((1,), -1))

    @cached_property
    def sequences(self) -> Int[Tensor, "P"]:
        """For every real position, its sequence."""
        return self.owners.index_select(0, self.slots)

    @cached_property
    def earlier(self) -> tuple[Float[Tensor, "bins 1 L L"], ...]:
        """For each size of bins 0 where a slot may look, at its own sequence up to itself, and -inf elsewhere."""
        return tuple(one.masked_fill(one.new_ones(one.shape[2:]).triu(1).bool(), float("-inf")) for one in self.own)

    @cached_property
    def own(self) -> tuple[Float[Tensor, "bins 1 L L"], ...]:
        """For each size of bins 0 where two slots are of one sequence, and -inf elsewhere."""
        grouped = [one.view(shape) for one, shape in zip(self.owners.split(self.sizes), self.shapes, strict=True)]
        apart = [one.unsqueeze(2) != one.unsqueeze(1) for one in grouped]
        return tuple(
            torch.zeros_like(one, dtype=torch.float32).masked_fill_(one, float("-inf")).unsqueeze(1) for one in apart
        )

    @cached_property
    def elapsed(self) -> tuple[Int[Tensor, "bins L L"], ...]:
        """For each size of bins the time from the event in a slot (the last axis) to the request after another.

        The time is a bucket of `in_buckets`, and found once for all layers; ValueError where there are no times.
        """
        happened, asked = (one.index_select(0, self.sources).split(self.sizes) for one in self.clock)
        return tuple(
            in_buckets(request.view(shape).unsqueeze(2) - event.view(shape).unsqueeze(1))
            for event, request, shape in zip(happened, asked, self.shapes, strict=True)
        )

    @property
    def clock(self) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
        """The times; ValueError where there are none."""
        if self.times is None:
            raise ValueError("attention looks at times, and this layout was made without them")
        return self.times

    @property
    def sizes(self) -> list[int]:
        """Slots of the bins of each size."""
        return [bins * longest for bins, longest in self.shapes]

    def pad(self, states: Float[Tensor, "P width"]) -> Float[Tensor, "S width"]:
        """Flat states moved to their slots, bin after bin."""
        padded: Tensor = states if self.even else _Pad.apply(states, self.sources, self.slots)
        return padded

    def unpad(self, padded: Float[Tensor, "S width"]) -> Float[Tensor, "P width"]:
        """The real positions of slots, flat again."""
        # The same gather with the roles exchanged: what its gradient gives empty slots never leaves them, as their
        # softmax is over one score and `pad` drops the rest.
        unpadded: Tensor = padded if self.even else _Pad.apply(padded, self.slots, self.sources)
        return unpadded


def in_buckets(elapsed: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Times below 2^63 - 1 as numbers below `BUCKETS`, by their logarithm: two buckets for every doubling.

    They are 0 for no time or a negative one, 2, 3, 4 and 4 for 1 to 4 units, and go on at 5, 7, 11, 15, 23, ... units.
    """
    # What a float32 begins with is its exponent and the first bit after it: half an octave of a logarithm at no cost.
    return (elapsed + 1).float().clamp_(min=1.0).view(torch.int32).bitwise_right_shift_(22).sub_(254)


@runtime_checkable
class Bias(Protocol):
    """What attention adds to its scores before the softmax; see `sasrec.model.biases`."""

    def added(
        self, masks: tuple[Float[Tensor, "_bins 1 _L _L"], ...], layout: Layout
    ) -> tuple[Float[Tensor, "_bins H _L _L"], ...]:
        """For each size of bins the mask and what is added between any two of its slots."""
        ...

    def of_lasts(self, layout: Layout) -> Float[Tensor, "P H"]:
        """What is added between the last position of each sequence, which asks, and every position of it."""
        ...


@final
class Attention(nn.Module):
    """Multi-head attention in which a position sees itself and the positions before it, or all of its sequence.

    Where it is causal there is no key padding mask: `Layout` pads on the right, so padding lies in every real
    position's future. Source: Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """

    def __init__(
        self, width: int, *, inner: int, heads: int, project: bool, causal: bool, bias: Bias | None = None
    ) -> None:
        """A layer without memory for its weights.

        Args:
            width: Size of the states (D).
            inner: Size of queries, keys and values, over all heads.
            project: Bring the mixed values back to `width`, which the SASRec paper's code leaves out; needed where
                `inner` differs.
            causal: Hide what comes later.
            bias: Added to the scores of all heads; None adds nothing.
        """
        super().__init__()
        self.heads, self.causal, self.bias = heads, causal, bias
        self.query = nn.Linear(width, inner)
        self.key_value = nn.Linear(width, 2 * inner)
        self.project = nn.Linear(inner, width) if project or inner != width else None

    def forward(
        self,
        queries: Float[Tensor, "Q D"],
        memory: Float[Tensor, "P D"],
        layout: Layout,
        drop: Drop,
        *,
        keys: Float[Tensor, "P D"] | None = None,
    ) -> Float[Tensor, "Q D"]:
        """What each position that asks takes from its sequence.

        Args:
            queries: What asks; `memory` gives keys and values, so a block may normalise the two differently.
            keys: What keys are made from where it is not `memory`.
        """
        query = self.query(queries)
        if layout.lasts_ask and layout.apart and drop is keep_all and self.bias is None:
            states = self._taken_by_lasts(query, memory if keys is None else keys, memory, layout)
        else:
            both = self.keys_and_values(memory, keys)
            states = (self._mixed_at_lasts if layout.lasts_ask else self._mixed)(query, both, layout, drop)
        return states if self.project is None else self.project(states)

    def _mixed(self, query: Tensor, both: Tensor, layout: Layout, drop: Drop) -> Tensor:
        """For every position, the values that it attends to, bin by bin."""
        query, both = layout.pad(query), layout.pad(both)
        # Without a mask an empty slot looks at its bin's sequence: its own answer goes nowhere, but its gradient would.
        learns = query.requires_grad or both.requires_grad
        if layout.apart and self.causal and self.bias is None and drop is keep_all and not learns:
            return layout.unpad(self._mixed_in(layout.shapes[0], query, both, None, drop))
        parts = zip(layout.shapes, query.split(layout.sizes), both.split(layout.sizes), self.masks(layout), strict=True)
        mixed = [self._mixed_in(*part, drop) for part in parts]
        return layout.unpad(mixed[0] if len(mixed) == 1 else torch.cat(mixed))

    def _mixed_in(self, shape: tuple[int, int], query: Tensor, both: Tensor, mask: Tensor | None, drop: Drop) -> Tensor:
        """The same in bins of one shape; `mask` is added to the scores, and None hides what comes later."""
        asked = query.view(*shape, self.heads, -1).transpose(1, 2)  # (bins H L d), as keys and values
        key, value = both.view(*shape, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if mask is None else mask.to(query.dtype)
        if mask is None or drop is keep_all:
            mixed = nn.functional.scaled_dot_product_attention(asked, key, value, mask, is_causal=mask is None)
        else:  # torch's fused kernel on the CPU knows no dropout on the weights, so in training these are formed here
            bins, heads, longest, size = asked.shape
            hidden = mask.expand(bins, heads, longest, longest).flatten(0, 1)
            scores = torch.baddbmm(hidden, asked.flatten(0, 1), key.flatten(0, 1).mT, alpha=size**-0.5)
            mixed = drop(scores.softmax(dim=2).unflatten(0, (bins, heads))) @ value
        return mixed.transpose(1, 2).reshape(query.shape)

    def _mixed_at_lasts(self, query: Tensor, both: Tensor, layout: Layout, drop: Drop) -> Tensor:
        """For the last position of each sequence, the values that it attends to: flat sums, nothing is padded."""
        asked = layout.spread(query).unflatten(1, (self.heads, -1))
        key, value = both.unflatten(1, (2, self.heads, -1)).unbind(1)
        scores = (asked * key).sum(dim=2) * key.shape[2] ** -0.5  # (P H)
        if self.bias is not None:
            scores = scores + self.bias.of_lasts(layout)
        lengths = layout.lengths
        highest = torch.segment_reduce(scores.detach(), "max", lengths=lengths, axis=0)
        odds = (scores - layout.spread(highest)).exp()
        weights = odds / layout.spread(torch.segment_reduce(odds, "sum", lengths=lengths, axis=0))
        return torch.segment_reduce((drop(weights).unsqueeze(2) * value).flatten(1), "sum", lengths=lengths, axis=0)

    def _taken_by_lasts(self, query: Tensor, keys: Tensor, memory: Tensor, layout: Layout) -> Tensor:
        """What `_mixed_at_lasts` gives where no two sequences share a bin, without making keys and values.

        A query meets what keys would be made from; what their bias adds to all scores alike goes out in the softmax.
        """
        bins, longest = layout.shapes[0]
        key, value = self.key_value.weight.view(2, self.heads, -1, memory.shape[1]).unbind()  # (H d D)
        bias, scale = self.key_value.bias.view(2, self.heads, 1, -1)[1], key.shape[1] ** -0.5
        asked = torch.bmm(query.view(bins, self.heads, -1).transpose(0, 1), key).transpose(0, 1).unsqueeze(1)
        filled = None
        if not layout.even:  # bins have an order of their own, and empty slots at their ends
            owners = layout.owners.view(bins, longest)
            asked, filled = asked[owners[:, 0]], (owners >= 0)[:, None, None]
            keys, memory = layout.pad(keys), layout.pad(memory)
        keys, memory = keys.view(bins, 1, longest, -1), memory.view(bins, 1, longest, -1)
        mixed = nn.functional.scaled_dot_product_attention(asked, keys, memory, filled, scale=scale)[:, 0]  # (B H D)
        mixed = mixed if layout.even else mixed[owners[:, 0].argsort()]
        return torch.baddbmm(bias, mixed.transpose(0, 1), value.mT).transpose(0, 1).reshape(query.shape)

    def masks(self, layout: Layout) -> tuple[Float[Tensor, "_bins _H _L _L"], ...]:
        """For each size of bins what is added to the scores between any two slots; -inf hides."""
        masks = layout.earlier if self.causal else layout.own
        return masks if self.bias is None else self.bias.added(masks, layout)

    def keys_and_values(self, memory: Float[Tensor, "P D"], keys: Float[Tensor, "P D"] | None) -> Tensor:
        """Keys, made from `keys` where it is given, beside the values."""
        both: Tensor = self.key_value(memory)
        if keys is None:
            return both
        (key, _), (bias, _) = self.key_value.weight.chunk(2), self.key_value.bias.chunk(2)
        return torch.cat([nn.functional.linear(keys, key, bias), both.chunk(2, dim=1)[1]], dim=1)


def _packed(lengths: np.ndarray) -> tuple[tuple[tuple[int, int], ...], np.ndarray]:
    """Bins for sequences: how many of which size, and the first slot of every sequence.

    Sequences of about the same length share bins as large as the longest of them: the longest goes into a new bin,
    and the shortest that are left fill it up.
    """
    if (lengths == lengths[0]).all():
        return ((len(lengths), int(lengths[0])),), np.arange(len(lengths)) * lengths[0]
    group = np.ceil(np.log(np.maximum(lengths / _SHORT, 1)) / np.log(_FACTOR))
    shapes, firsts, laid = [], np.empty_like(lengths), 0
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        sizes, places = lengths[rows].tolist(), [0] * len(rows)
        longest, short, long, bins = sizes[-1], 0, len(rows) - 1, 0
        while short <= long:
            places[long], used = bins * longest, sizes[long]
            long -= 1
            while short <= long and used + sizes[short] <= longest:
                places[short] = bins * longest + used
                used += sizes[short]
                short += 1
            bins += 1
        firsts[rows] = laid + np.array(places)
        shapes.append((bins, longest))
        laid += bins * longest
    return tuple(shapes), firsts


class _Pad(torch.autograd.Function):
    """Gather whose gradient is a gather too: empty slots never carry a gradient to a real position."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, states: Tensor, sources: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return states.index_select(0, sources)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient.index_select(0, slots), None, None
