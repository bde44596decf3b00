"""Item vectors in eight bits: the exact best k of a large catalogue at a quarter of the memory traffic.

Axes: V catalogue, D width of vectors, K best, R item rows.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sasrec.errors import ScoreError

_BLOCK = 64  # items whose upper bounds are looked at one by one only if the highest of them is high enough
_CHUNK = 65_536  # vectors taken into memory at a time
_LARGEST = 127
_TINY = torch.finfo(torch.float32).tiny


@final
class Index:
    """Finds the items with the highest products of a state and their vectors, without reading most vectors.

    A vector t is kept as a scale s and whole numbers a from -127 to 127, a state q as m and b. The product of whole
    numbers c = <a, b> is exact, and

        |<t, q> - s m c|  <=  s (|a| |q - m b| + |t - s a| / s * |q|)

    so that each item has an upper bound of its score. A few likely items are scored with their own vectors: the k-th
    best of these is at most the k-th best of all, and only an item whose upper bound reaches it can be among the best.
    Those too are scored with their own vectors, in float64. The answer is exact, not nearly so.

    Attributes:
        table: The vectors; only those of the likely items are read.
        codes: a, int8, a row for each item and some of zeros.
        scales: s.
    """

    @torch.inference_mode()
    def __init__(self, table: Float[Tensor, "V D"]) -> None:
        """Round the vectors.

        Raises:
            ScoreError: A vector is not finite.
        """
        items, width = table.shape
        rows = -(-items // _BLOCK) * _BLOCK
        self.table = table
        self.codes = torch.zeros(rows, width, dtype=torch.int8)
        self.scales = torch.zeros(rows)
        self._error = self._length = 0.0  # the largest |t - s a| / s and the largest |a|
        for start in range(0, items, _CHUNK):
            part = table[start : start + _CHUNK]
            scale = part.abs().amax(dim=1).div_(_LARGEST).clamp_min_(_TINY)
            if not bool(scale.isfinite().all()):
                raise ScoreError("the model's item vectors are not finite numbers; train it again")
            whole = (part / scale.unsqueeze(1)).round_()
            self.codes[start : start + len(part)] = whole
            self.scales[start : start + len(part)] = scale
            self._length = max(self._length, float(whole.norm(dim=1).max()))
            error = (part - whole * scale.unsqueeze(1)).norm(dim=1) / scale
            self._error = max(self._error, float(error.max()))

    @torch.inference_mode()
    def best(
        self, state: Float[Tensor, "D"], k: int, *, hidden: Int[Tensor, "R"]
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """The k highest scores, best first, and their items; of equal ones the lower row first.

        Args:
            hidden: Item rows to leave out; where fewer than k are left, there are fewer.

        Raises:
            ScoreError: The state is not finite.
        """
        if not bool(state.isfinite().all()):
            raise ScoreError("the model gave a state that is not finite; train it again, perhaps at a lower rate")
        unit = float(state.abs().amax().div(_LARGEST).clamp_min(_TINY))
        upper = self._upper_bounds(state, unit)
        upper[hidden] = float("-inf")
        tops = upper.view(-1, _BLOCK).amax(dim=1)
        likely = _members(tops.topk(min(k, len(tops))).indices)
        likely = likely[upper[likely].topk(min(2 * k, len(likely))).indices]
        values, _ = self._exact(state, likely[upper[likely] > float("-inf")], k)
        # A little below, for what float32 loses in the bounds and for a tie in float32 with the k-th.
        least = float(values[-1]) if len(values) == k else float("-inf")
        floor = max((least - 1e-6 * abs(least)) / unit, torch.finfo(upper.dtype).min)
        within = _members((tops >= floor).nonzero().squeeze(1))
        return self._exact(state, within[upper[within] >= floor], k)

    def _upper_bounds(self, state: Float[Tensor, "D"], unit: float) -> Float[Tensor, "rows"]:
        """At least the score of each item, divided by `unit`, which is m; -inf for the rows that are none."""
        whole = (state / unit).round()
        lost = self._length * (state - unit * whole).norm() + self._error * state.norm()
        # Half a thousandth and the last two terms are more than float32 loses: in both errors, and in what follows.
        slack = float(lost) / unit * 1.0005 + 1 + len(state) / 128
        products = torch._int_mm(self.codes, whole.to(torch.int8).unsqueeze(1)).squeeze(1)
        upper = products.float().add_(slack).mul_(self.scales)
        upper[len(self.table) :] = float("-inf")
        return upper

    def _exact(
        self, state: Float[Tensor, "D"], rows: Int[Tensor, "R"], k: int
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """The best k of the given rows by their own vectors; of equal ones the first."""
        parts = [self.table[part].double() @ state.double() for part in rows.split(_CHUNK)]
        values, order = torch.cat(parts).float().sort(descending=True, stable=True)
        return values[:k], rows[order[:k]]


def _members(blocks: Int[Tensor, "blocks"]) -> Int[Tensor, "R"]:
    """The rows of the given blocks, in their order."""
    return (blocks.unsqueeze(1) * _BLOCK + torch.arange(_BLOCK)).view(-1)
