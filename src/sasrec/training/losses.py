"""Exact cross-entropy over the whole catalogue; the losses that draw negatives are in `negatives`.

Axes: P real positions, C positions of a chunk, D width, V catalogue.
"""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.retrieval.topk import in_lines
from sasrec.training.batches import Batch, Negatives

CHUNK = 256  # positions scored together; measured, see docs/decisions
# For bfloat16 torch calls oneDNN, which compiles and keeps a kernel for every number of rows: let there be few.
_GRAIN = {torch.bfloat16: 64}
_ROWS = 16  # positions a thread, whose odds stay in its innermost caches until they are added up
TINY = 1e-30
# What odds are powers of, and its logarithm. In torch's kernels for AVX2 those of 2 take half the time of those of e.
_raised, _LN = (torch.exp2, np.log(2)) if torch.backends.cpu.get_cpu_capability() == "AVX2" else (torch.exp, 1.0)


@final
class ExactCrossEntropy:
    """Cross-entropy over the whole catalogue, without ever holding all scores.

    A chunk of positions is scored against every item, turned into odds in place, and used at once for the loss and
    both gradients, so memory is one chunk of scores however many positions there are. The chunk's buffers
    are kept from step to step, since fresh memory of this size costs more than the arithmetic.

    The buffers are reused, so a loss must be differentiated before the next one is computed; torch sees to that.

    Args:
        precision: Number format of the matrix products and of what they add up; the loss and the gradients that come
            out are in the format of the states and the table. States in float64 are computed in float64.
        smoothing: Share of a target's probability that is spread evenly over all items, in [0, 1). What it adds needs
            no scores: the mean of a state's scores is its score of the mean item vector.
    """

    def __init__(self, precision: torch.dtype = torch.float32, *, smoothing: float = 0.0) -> None:
        self.precision, self.smoothing = precision, smoothing
        self._buffers: dict[str, Tensor] = {}

    def __call__(
        self,
        states: Float[Tensor, "P D"],
        table: Float[Tensor, "V D"],
        targets: Int[Tensor, "P"],
        weights: Float[Tensor, "P"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean loss per position, in nats, weighted where weights are given; differentiable in `states` and `table`."""
        loss: Tensor = _Exact.apply(states, table, targets, weights, self)
        return loss

    def draw(self, batch: Batch, rng: np.random.Generator) -> Negatives:  # noqa: ARG002  # as `Objective` has it
        """Nothing: every item is scored."""
        return Negatives(torch.empty(0, dtype=torch.int64))

    def loss(self, states: Tensor, table: Tensor, batch: Batch, negatives: Negatives) -> Tensor:  # noqa: ARG002
        """Mean loss of the batch's targets, in nats."""
        return self(states, table, batch.targets, batch.weights)

    def buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory kept under this name, of the kind of another tensor, at least of this size, viewed in this shape."""
        size = torch.Size(shape).numel()
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < size or kept.dtype != like.dtype:
            kept = self._buffers[name] = like.new_empty(size)
        return kept[:size].view(shape)


class _Exact(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None, loss: ExactCrossEntropy
    ) -> Tensor:
        dtype = loss.precision if states.dtype == torch.float32 else states.dtype
        positions, items, smoothing = len(states), len(table), loss.smoothing
        grain = _GRAIN.get(dtype, 1)
        rounded = -(-positions // grain) * grain
        low_table = table.to(dtype)
        # Rows of zeros fill the last chunk up; they add nothing to either gradient.
        low_states = nn.functional.pad((states / _LN).to(dtype), (0, 0, 0, rounded - positions))
        shares = (
            states.new_full((positions,), 1.0 / positions)
            if weights is None
            else weights.to(states.dtype) / weights.sum().clamp_min(TINY)
        )
        total = states.new_zeros(())
        d_states = torch.empty_like(low_states)
        d_table = loss.buffer("d_table", tuple(table.shape), low_table)
        factors = nn.functional.pad(shares, (0, rounded - positions))
        for start in range(0, rounded, CHUNK):
            some = low_states[start : start + CHUNK]
            scores = loss.buffer("scores", (len(some), in_lines(items)), low_table)[:, :items]
            torch.mm(some, low_table.t(), out=scores)
            here = slice(start, min(start + CHUNK, positions))
            real = here.stop - start
            own = scores[:real].gather(1, targets[here].unsqueeze(1)).squeeze(1)
            shifts, sums = _odds(scores, some, low_table)
            total += torch.sub((sums.log() + shifts * _LN)[:real], own, alpha=(1 - smoothing) * _LN).dot(shares[here])
            factors[start : start + len(some)] /= sums
            torch.mm(scores, low_table, out=d_states[start : start + CHUNK])
            some = some * (factors[start : start + len(some)] * _LN).to(dtype).unsqueeze(1)
            torch.addmm(d_table, scores.t(), some, beta=float(start > 0), out=d_table)
        own_items, d_every_item = nn.functional.embedding(targets, table), None
        d_own_items = states * -shares.unsqueeze(1)
        if smoothing:
            # What is spread evenly meets the mean item: in the loss, in the states' gradients and in all items'.
            mean, d_mean = table.mean(dim=0), d_own_items.sum(dim=0) * smoothing
            total += d_mean.dot(mean)
            own_items, d_own_items = own_items.lerp(mean, smoothing), d_own_items * (1 - smoothing)
            d_every_item = d_mean / items
        d_states = d_states[:positions] * factors[:positions].unsqueeze(1) - own_items * shares.unsqueeze(1)
        ctx.save_for_backward(d_states, d_table, targets, d_own_items, d_every_item)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        d_states, low_d_table, targets, d_own_items, d_every_item = ctx.saved_tensors
        # A copy: torch may keep what it is given as the table's .grad, and the buffer is overwritten by the next loss.
        d_table = low_d_table.to(d_states.dtype, copy=True).index_add_(0, targets, d_own_items)
        if d_every_item is not None:
            d_table += d_every_item
        if gradients[0] != 1:
            d_table *= gradients[0]
        return d_states * gradients[0], d_table, None, None, None


def _odds(scores: Tensor, states: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Turn scores into odds, powers with score - shift, in place; return the shift and the sum of each row.

    A row's probabilities are its odds over their sum. To divide by it is left to what is made of them, which is far
    smaller; the pass that finds each row's largest score is made only where scores leave the number range.
    """
    wide = torch.promote_types(scores.dtype, torch.float32)
    sums = torch.empty(len(scores), dtype=wide, device=scores.device)
    rows = _ROWS * torch.get_num_threads()
    for some, total in zip(scores.split(rows), sums.split(rows), strict=True):
        total.copy_(_raised(some, out=some).sum(dim=1))
    if bool(((sums > TINY) & (sums < 1 / TINY)).all()):
        return torch.zeros_like(sums), sums
    torch.mm(states, table.t(), out=scores)
    highest = scores.amax(dim=1, keepdim=True)
    _raised(scores.sub_(highest), out=scores)
    return highest.squeeze(1).to(wide), scores.sum(dim=1).to(wide)
