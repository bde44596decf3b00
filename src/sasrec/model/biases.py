"""How far apart events are, in places and in time: what attention adds to its scores for it, and what enters for it.

Axes: P real positions of all sequences, Q those of them that ask, D width, H heads, L slots of a bin.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.model.attention import BUCKETS, Drop, Layout, in_buckets, keep_all


@final
class RelativePositions(nn.Module):
    """A number for every head and every distance between who asks and who is attended to.

    The positions of a sequence lie side by side in a bin, so a distance of slots is one of positions, and one matrix
    does for all bins of a size: its gradient is summed over bins before it is looked at by distance.

    Source: the positional half of the bias of HSTU (Zhai et al., ICML 2024, arXiv:2402.17152); Raffel et al., JMLR
    2020 (T5), put distances into buckets, which here would save neither time nor a line.
    """

    def __init__(self, length: int, heads: int, *, causal: bool) -> None:
        """No memory for its weights yet.

        Args:
            length: Most positions of a sequence.
            causal: Nobody attends to what comes later, so there are no negative distances.
        """
        super().__init__()
        self.distances = nn.Parameter(torch.empty(length if causal else 2 * length - 1, heads))

    def added(
        self, masks: tuple[Float[Tensor, "_bins 1 _L _L"], ...], layout: Layout
    ) -> tuple[Float[Tensor, "_bins H _L _L"], ...]:
        """For each size of bins the mask and what is added between any two of its slots."""
        return tuple(mask + self._between(longest) for mask, (_, longest) in zip(masks, layout.shapes, strict=True))

    def of_lasts(self, layout: Layout) -> Float[Tensor, "P H"]:
        """What is added between the last position of each sequence, which asks, and every position of it."""
        ages = layout.spread(layout.lasts) - torch.arange(len(layout.slots), device=layout.slots.device)
        return nn.functional.embedding(ages, self.distances)

    def _between(self, longest: int) -> Float[Tensor, "H L L"]:
        places = torch.arange(longest, device=self.distances.device)
        # Distances to what comes later are negative and count from the end of the table; a causal mask hides them.
        distances = (places.unsqueeze(1) - places) % len(self.distances)
        return nn.functional.embedding(distances, self.distances).permute(2, 0, 1)


@final
class RelativeTimes(nn.Module):
    """A number for every head and every logarithm of the time from an event to the request that it is looked at for.

    A position asks for what follows it, and does so at the time of that event: in training and evaluation the time of
    the event to predict, later that of the request. So the times that a network learns with are those that it answers
    with.

    Source: the temporal half of the bias of HSTU (Zhai et al., ICML 2024, arXiv:2402.17152), as RecTools has it. We
    differ in the buckets, which need no logarithm: two for each doubling, there 2.3.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.buckets = nn.Parameter(torch.empty(BUCKETS, heads))

    def added(
        self, masks: tuple[Float[Tensor, "_bins _H _L _L"], ...], layout: Layout
    ) -> tuple[Float[Tensor, "_bins H _L _L"], ...]:
        """For each size of bins the mask and what is added between any two of its slots."""
        return tuple(
            mask + _LookUp.apply(self.buckets, elapsed) for mask, elapsed in zip(masks, layout.elapsed, strict=True)
        )

    def of_lasts(self, layout: Layout) -> Float[Tensor, "P H"]:
        """What is added between the last position of each sequence, which asks, and every position of it."""
        happened, asked = layout.clock
        return nn.functional.embedding(in_buckets(layout.spread(asked[layout.lasts]) - happened), self.buckets)


@final
class PlacesAndTimes(nn.Module):
    """The sum of both."""

    def __init__(self, places: RelativePositions, times: RelativeTimes) -> None:
        super().__init__()
        self.places, self.times = places, times

    def added(
        self, masks: tuple[Float[Tensor, "_bins 1 _L _L"], ...], layout: Layout
    ) -> tuple[Float[Tensor, "_bins H _L _L"], ...]:
        """For each size of bins the mask and what is added between any two of its slots."""
        return self.times.added(self.places.added(masks, layout), layout)

    def of_lasts(self, layout: Layout) -> Float[Tensor, "P H"]:
        """What is added between the last position of each sequence, which asks, and every position of it."""
        return self.places.of_lasts(layout) + self.times.of_lasts(layout)


@final
class LearnedTimes(nn.Module):
    """A learned vector for the logarithm of the time from each event to the request for what follows it.

    The weights of attention sum to 1, so what is added to its scores tells which events are older than others, and
    not whether all of them are: this does. It stands before the first block.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(BUCKETS, width))

    def forward(self, states: Float[Tensor, "P D"], layout: Layout, drop: Drop = keep_all) -> Float[Tensor, "Q D"]:  # noqa: ARG002
        """The states that ask, with their times added."""
        happened, asked = layout.clock
        return layout.asking(states + nn.functional.embedding(in_buckets(asked - happened), self.weight))


class _LookUp(torch.autograd.Function):
    """Numbers of a small table for a large array of its rows; the gradient is a weighted count, not a scatter."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, table: Float[Tensor, "rows H"], rows: Int[Tensor, "bins L L"]
    ) -> Float[Tensor, "bins H L L"]:
        ctx.save_for_backward(rows)
        flat = rows.flatten()
        found = [column.index_select(0, flat).view(rows.shape) for column in table.unbind(1)]
        return found[0].unsqueeze(1) if len(found) == 1 else torch.stack(found, dim=1)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Float[Tensor, "bins H L L"]
    ) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors  # type: ignore[attr-defined]
        flat = rows.flatten()
        sums = [torch.bincount(flat, head.flatten(), BUCKETS) for head in gradient.unbind(1)]
        return torch.stack(sums, dim=1).to(gradient.dtype), None
