"""Item vectors in eight bits: the exact best k of a large catalogue at a quarter of the memory traffic.

Axes: V catalogue, D width of vectors, S slots of the index, K best, R item rows.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sasrec.errors import ScoreError

BLOCK = 64  # slots whose upper bounds are looked at one by one only if the highest of them is high enough
_GRAIN = 16_384  # slots that searched parts are a multiple of
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
        rows: The item row of every slot; whatever in an empty one.
        codes: a, int8.
        scales: s; -inf in an empty slot, which so comes out below everything.
    """

    @torch.inference_mode()
    def __init__(self, table: Float[Tensor, "V D"], *, rows: Int[Tensor, "S"] | None = None) -> None:
        """Round the vectors.

        Args:
            rows: The item row of every slot, -1 for an empty one; a multiple of `BLOCK`. None keeps their order.

        Raises:
            ScoreError: A vector is not finite.
        """
        items, width = table.shape
        if rows is None:
            rows = torch.full((-(-items // BLOCK) * BLOCK,), -1)
            rows[:items] = torch.arange(items)
        self.table, self.rows = table, rows.clamp(min=0)
        self.codes = torch.zeros(len(rows), width, dtype=torch.int8)
        self.scales = torch.full((len(rows),), float("-inf"))
        self._slots = torch.empty(items, dtype=torch.int64)
        self._error = self._length = 0.0  # the largest |t - s a| / s and the largest |a|
        for slots in (rows >= 0).nonzero().squeeze(1).split(_CHUNK):
            self._slots[rows[slots]] = slots
            part = table[rows[slots]]
            scale = part.abs().amax(dim=1).div_(_LARGEST).clamp_min_(_TINY)
            if not bool(scale.isfinite().all()):
                raise ScoreError("the model's item vectors are not finite numbers; train it again")
            whole = (part / scale.unsqueeze(1)).round_()
            self.codes[slots], self.scales[slots] = whole.to(torch.int8), scale
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
        return self.best_in([(0, len(self.rows))], state, k, hidden=hidden)

    @torch.inference_mode()
    def best_in(
        self, parts: list[tuple[int, int]], state: Float[Tensor, "D"], k: int, *, hidden: Int[Tensor, "R"]
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """As `best`, of the items in some slots alone.

        Args:
            parts: Where the slots begin and end, multiples of `BLOCK`.
        """
        if not bool(state.isfinite().all()):
            raise ScoreError("the model gave a state that is not finite; train it again, perhaps at a lower rate")
        unit = float(state.abs().amax().div(_LARGEST).clamp_min(_TINY))
        codes, rows = _picked(self.codes, parts, 0), _picked(self.rows, parts, 0)
        scales = _picked(self.scales, parts, float("-inf"))
        upper = self._upper_bounds(codes, scales, state, unit)
        upper[_places(self._slots[hidden], parts)] = float("-inf")
        tops = upper.view(-1, BLOCK).amax(dim=1)
        likely = _members(tops.topk(min(k, len(tops))).indices)
        likely = likely[upper[likely].topk(min(2 * k, len(likely))).indices]
        values, _ = self._exact(state, rows[likely[upper[likely] > float("-inf")]], k)
        # A little below, for what float32 loses in the bounds and for a tie in float32 with the k-th.
        least = float(values[-1]) if len(values) == k else float("-inf")
        floor = max((least - 1e-6 * abs(least)) / unit, torch.finfo(upper.dtype).min)
        within = _members((tops >= floor).nonzero().squeeze(1))
        return self._exact(state, rows[within[upper[within] >= floor]], k)

    def _upper_bounds(
        self, codes: Int[Tensor, "S D"], scales: Float[Tensor, "S"], state: Float[Tensor, "D"], unit: float
    ) -> Float[Tensor, "S"]:
        """At least the score of each slot's item, divided by `unit`, which is m."""
        whole = (state / unit).round()
        lost = self._length * (state - unit * whole).norm() + self._error * state.norm()
        # Half a thousandth and the last two terms are more than float32 loses: in both errors, and in what follows.
        slack = float(lost) / unit * 1.0005 + 1 + len(state) / 128
        products = torch._int_mm(codes, whole.to(torch.int8).unsqueeze(1)).squeeze(1)
        return products.float().add_(slack).mul_(scales)

    def _exact(
        self, state: Float[Tensor, "D"], rows: Int[Tensor, "R"], k: int
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """The best k of the given rows by their own vectors; of equal ones the lower row first."""
        rows = rows.sort().values
        parts = [self.table[part].double() @ state.double() for part in rows.split(_CHUNK)]
        values, order = torch.cat(parts).float().sort(descending=True, stable=True)
        return values[:k], rows[order[:k]]


def _picked(values: Tensor, parts: list[tuple[int, int]], filler: float) -> Tensor:
    """The parts one after the other, and what fills them up to a round number; a single one as it is."""
    slices = [values[start:stop] for start, stop in parts]
    if len(slices) == 1:
        return slices[0]
    # Torch's product of whole numbers compiles a kernel for every number of rows: let there be few.
    missing = -sum(len(one) for one in slices) % _GRAIN
    return torch.cat([*slices, values.new_full((missing, *values.shape[1:]), filler)])


def _places(slots: Int[Tensor, "R"], parts: list[tuple[int, int]]) -> Int[Tensor, "found"]:
    """Where the given slots are among the parts that were picked; those that are in none are left out."""
    if len(parts) == 1:
        start, stop = parts[0]
        return slots[(slots >= start) & (slots < stop)] - start
    starts, stops = torch.tensor(parts).unbind(1)
    firsts = (stops - starts).cumsum(0) - (stops - starts)
    within = (slots.unsqueeze(1) >= starts) & (slots.unsqueeze(1) < stops)
    which, part = within.nonzero().unbind(1)
    return slots[which] - starts[part] + firsts[part]


def _members(blocks: Int[Tensor, "blocks"]) -> Int[Tensor, "members"]:
    """The slots of the given blocks, in their order."""
    return (blocks.unsqueeze(1) * BLOCK + torch.arange(BLOCK)).view(-1)
