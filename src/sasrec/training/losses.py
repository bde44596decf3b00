"""What a state is trained to say about its target.

Axes: P real positions, C positions of a chunk, D width, V catalogue, N negatives.
"""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_CHUNK = {torch.float32: 64, torch.bfloat16: 256}  # positions whose scores fit the cache; measured, see docs/decisions
# For bfloat16 torch calls oneDNN, which compiles and keeps a kernel for every number of rows: let there be few.
_GRAIN = {torch.bfloat16: 64}
_TINY = 1e-30


@final
class ExactCrossEntropy:
    """Cross-entropy over the whole catalogue, without ever holding all scores.

    A chunk of positions is scored against every item, turned into probabilities in place, and used at once for the
    loss and both gradients, so memory is one chunk of scores however many positions there are. The chunk's buffers
    are kept from step to step, since fresh memory of this size costs more than the arithmetic.

    As the buffers are reused, a loss must be differentiated before the next one is computed; torch refuses the other
    order.

    Args:
        precision: Number format of the matrix products and of what they add up; the loss and the gradients that come
            out are in the format of the states and the table. States in float64 are computed in float64.
    """

    def __init__(self, precision: torch.dtype = torch.float32) -> None:
        self.precision = precision
        self._buffers: dict[str, Tensor] = {}

    def __call__(
        self, states: Float[Tensor, "P D"], table: Float[Tensor, "V D"], targets: Int[Tensor, "P"]
    ) -> Float[Tensor, ""]:
        """Mean loss per position, in nats; differentiable in `states` and `table`."""
        loss: Tensor = _Exact.apply(states, table, targets, self)
        return loss

    def buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory kept under this name, at least of this size, viewed in this shape."""
        size = 1
        for side in shape:
            size *= side
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < size or kept.dtype != dtype:
            kept = self._buffers[name] = torch.empty(size, dtype=dtype)
        return kept[:size].view(shape)


class _Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, targets: Tensor, loss: ExactCrossEntropy) -> Tensor:
        dtype = loss.precision if states.dtype == torch.float32 else states.dtype
        positions, items = len(states), len(table)
        chunk = _CHUNK.get(dtype, 64)
        grain = _GRAIN.get(dtype, 1)
        rounded = -(-positions // grain) * grain
        low_table = table.to(dtype)
        # Rows of zeros fill the last chunk up; they add nothing to either gradient.
        low_states = nn.functional.pad(states.to(dtype), (0, 0, 0, rounded - positions))
        total = states.new_zeros(())
        d_states = torch.empty_like(low_states)
        d_table = loss.buffer("d_table", tuple(table.shape), dtype)
        for start in range(0, rounded, chunk):
            some = low_states[start : start + chunk]
            scores = loss.buffer("scores", (len(some), items), dtype)
            torch.mm(some, low_table.t(), out=scores)
            real = min(positions - start, len(some))
            total += _probabilities(scores[:real], targets[start : start + real], some[:real], low_table)
            torch.mm(scores, low_table, out=d_states[start : start + chunk])
            torch.addmm(d_table, scores.t(), some, beta=float(start > 0), out=d_table)
        ctx.save_for_backward(d_states[:positions], d_table)
        ctx.dtypes = states.dtype, table.dtype
        return total / positions

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_states, d_table = ctx.saved_tensors
        scale = gradients[0] / len(d_states)
        # A copy: torch may keep what it is given as the table's .grad, and the buffer is overwritten by the next loss.
        return d_states.to(ctx.dtypes[0]) * scale, d_table.to(ctx.dtypes[1], copy=True).mul_(scale), None, None


def _probabilities(scores: Tensor, targets: Tensor, states: Tensor, table: Tensor) -> Tensor:
    """Turn scores into probabilities minus one at the target, in place; return the summed loss.

    The gradient of the loss by the scores is just that difference, so nothing else is kept.
    """
    torch.softmax(scores, dim=1, out=scores)
    rows = torch.arange(len(targets))
    hit = scores[rows, targets]
    scores[rows, targets] = hit - 1
    likelihood = hit.to(torch.promote_types(hit.dtype, torch.float32))
    lost = likelihood < _TINY
    loss = -likelihood.clamp_min(_TINY).log()
    if lost.any():  # the probability left the number range; the exact loss is formed again from the scores
        again = (states[lost] @ table.t()).to(loss.dtype)
        loss[lost] = nn.functional.cross_entropy(again, targets[lost], reduction="none")
    return loss.sum()


def binary_cross_entropy(
    states: Float[Tensor, "P D"], table: Float[Tensor, "V D"], targets: Int[Tensor, "P"], negatives: Int[Tensor, "P N"]
) -> Float[Tensor, ""]:
    """The paper's loss: the target should score above zero, items that the user never had below.

    Written with softplus, whose gradient stays 1 for a confident mistake; `log(1 - sigmoid(s) + 1e-24)` of the
    paper's code has gradient 0 from a score of about 17 on, and `log(1 - sigmoid(s))` is infinite there.

    Args:
        negatives: Item rows drawn against each target; -1 where none exists (the user has every item).

    Returns:
        Mean over positions of the target's loss plus the mean loss of its negatives, in nats. With one negative it
        is the paper's sum of both.

    Source:
        Kang & McAuley, ICDM 2018, arXiv:1808.09781, equation 6.
    """
    real = negatives >= 0
    drawn = torch.cat([targets.unsqueeze(1), negatives.clamp_min(0)], dim=1)
    scores = (nn.functional.embedding(drawn, table) * states.unsqueeze(1)).sum(dim=2)
    positive = nn.functional.softplus(-scores[:, 0])
    negative = (nn.functional.softplus(scores[:, 1:]) * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)
    return (positive + negative).mean()
