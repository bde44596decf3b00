"""Item vectors in eight bits: the exact best k of a large catalogue at a quarter of the memory traffic.

Axes: V catalogue, D width of vectors, S slots of the index, B states, K best, R item rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from sasrec.errors import ScoreError
from sasrec.words import counted

BLOCK = 64  # slots of which the highest product is kept, and which are looked at one by one if that is high enough
_FIRST = 65_536  # slots whose best tell how far to go on, a multiple of `BLOCK`
_GRAIN = 16_384  # slots that it goes on by: torch's product of whole numbers compiles a kernel for every number of rows
CHUNK = 65_536  # vectors taken into memory at a time
_TOGETHER = 64  # states that go through the catalogue together
_BOUNDS = 131_072  # products that stay in the cache until the highest of each block is found
_LIKELY = 16  # blocks at least, and items of them, that tell what the best score
_MANY = 128  # with more blocks to look at it pays to ask once more what the best score
_FEW = 8  # states whose products are faster made one by one
_PART = 16_384  # slots whose codes become floats at a time, to be multiplied while the caches hold them
_PRODUCTS = 262_144  # products of floats that stay in the cache
LARGEST = 127
LOWEST = -(2**30)  # below every product of codes, and so is half of it
_EXACT = 1024  # the widest products of whole numbers that float32 holds without rounding
TINY = torch.finfo(torch.float32).tiny
_LEAST = 2.0**-149  # the least float32 above 0


@final
class Index:
    """Finds the items with the highest products of a state and their vectors, without reading most vectors.

    A vector t is kept as whole numbers a from -127 to 127 and a scale s, which the slots of a block share; a state q
    as m and b. The product of whole numbers c = <a, b> is exact, and

        |<t, q> - s m c|  <=  s (|a| |q - m b| + |t - s a| / s * |q|)

    so that each item has an upper bound of its score, and a block that of its highest product. A few likely items are
    scored with their own vectors: the k-th best of these is at most the k-th best of all, and only an item whose upper
    bound reaches it can be among the best. Those too are scored with their own vectors, in float64. The answer is
    exact, not nearly so.

    Long vectors come first, since <t, q> <= |t| |q|: once the k-th best of those before is higher than that, none that
    follows can be among the best, and nothing of them is read. Of trained vectors the longest third is often enough.

    Many states take one pass over the whole numbers together. Of their products only the highest of each block of
    slots is kept: those of the few blocks that matter are computed once more.

    Attributes:
        table: The vectors; only those of the likely items are read.
        rows: The item row of every slot, that of the longest vector first; whatever in an empty one.
        slots: The slot of every item.
        codes: a, int8; zeros in an empty slot.
        scales: s of every block.
    """

    @torch.inference_mode()
    def __init__(self, table: Float[Tensor, "V D"]) -> None:
        """Round the vectors.

        Raises:
            ScoreError: A vector is not finite.
        """
        items, width = table.shape
        lengths = torch.cat([_lengths(part) for part in table.split(CHUNK)])
        lengths, order = lengths.sort(descending=True, stable=True)
        self.table, self.rows = table, pad(order, (0, -items % BLOCK))
        self._lengths = lengths[::BLOCK]  # the largest of each block
        # Two numbers at least: torch's product of whole numbers is wrong where each vector is a single one.
        self.codes = torch.zeros(len(self.rows), max(width, 2), dtype=torch.int8)
        self.scales = torch.empty(len(self.rows) // BLOCK)
        self.slots = torch.empty_like(order).index_copy_(0, order, torch.arange(items))
        self._error = self._length = 0.0  # the largest |t - s a| / s and the largest |a|
        for slots, scales in zip(torch.arange(items).split(CHUNK), self.scales.split(CHUNK // BLOCK), strict=True):
            part = table[order[slots]]
            largest = pad(part.abs().amax(dim=1), (0, -len(part) % BLOCK)).view(-1, BLOCK).amax(dim=1)
            scales.copy_(largest.div_(LARGEST).clamp_min_(TINY))
            if not bool(scales.isfinite().all()):
                raise ScoreError("the model's item vectors are not finite numbers; train it again")
            scale = scales.repeat_interleave(BLOCK)[: len(part)]
            whole = (part / scale.unsqueeze(1)).round_()
            self.codes[slots, :width] = whole.to(torch.int8)
            self._length = max(self._length, float(whole.norm(dim=1).max()))
            error = _lengths(part - whole * scale.unsqueeze(1)) / scale
            self._error = max(self._error, float(error.max()))

    @torch.inference_mode()
    def best(
        self, states: Float[Tensor, "B D"], k: Sequence[int], *, hidden: Sequence[Int[Tensor, "R"]]
    ) -> list[tuple[Float[Tensor, "K"], Int[Tensor, "K"]]]:
        """For each state its k highest scores, best first, and their items; of equal ones the lower row first.

        Args:
            k: Items wanted for each state.
            hidden: The item rows to leave out for each state; where fewer than k are left, there are fewer.

        Raises:
            ScoreError: A state is not finite.
        """
        found = []
        for start in range(0, len(states), _TOGETHER):
            asked = self._asked(states[start : start + _TOGETHER])
            slots = [self.slots[rows] for rows in hidden[start : start + _TOGETHER]]
            wanted = k[start : start + _TOGETHER]
            ones = [asked.one(number) for number in range(len(slots))]
            denied = _Denied.of(slots)
            tops = self._tops(asked, denied, 0, min(_FIRST, len(self.rows)))
            least = [self._least(*each) for each in zip(ones, wanted, tops, slots, strict=True)]
            if (stop := self._stop(asked, least)) > _FIRST:
                tops = torch.cat([tops, self._tops(asked, denied, _FIRST, stop)], dim=1)
            found += [self._found(*each) for each in zip(ones, wanted, tops, slots, least, strict=True)]
        return found

    def words(self) -> str:
        """What it finds, as people are told."""
        return f"exact, of {counted(len(self.table), 'item')}"

    def _asked(self, states: Float[Tensor, "B D"]) -> "_Asked":
        check_states(states)
        unit = states.abs().amax(dim=1).div_(LARGEST).clamp_min_(TINY)
        whole = (states / unit.unsqueeze(1)).round()
        lost = self._length * _lengths(states - unit.unsqueeze(1) * whole) + self._error * _lengths(states)
        # Half a thousandth and the last two terms are more than float32 loses: in both errors, and in what follows.
        slack = (lost / unit * 1.0005 + 1 + states.shape[1] / 128).float()
        missing = self.codes.shape[1] - states.shape[1]
        return _Asked(states, unit, pad(whole.to(torch.int8), (0, missing)), slack)

    def _tops(self, asked: "_Asked", denied: "_Denied", start: int, stop: int) -> Float[Tensor, "B blocks"]:
        """The highest upper bound of each block of some slots, for each state, without the denied slots."""
        whole, tops = asked.filled(), []
        parts = [*range(start, stop, _BOUNDS >> (len(whole) - 1).bit_length()), stop]
        places = torch.searchsorted(denied.slots, torch.tensor(parts)).tolist()
        for first, last, inside in zip(parts, parts[1:], map(slice, places, places[1:]), strict=False):
            made = products(whole, self.codes[first:last])
            made[denied.owners[inside], denied.slots[inside] - first] = LOWEST
            tops.append(made.view(len(made), -1, BLOCK).amax(dim=2)[: len(asked.whole)])
        return asked.upper_bounds(torch.cat(tops, dim=1), self.scales[start // BLOCK : stop // BLOCK])

    def _least(self, asked: "_Asked", k: int, tops: Float[Tensor, "blocks"], hidden: Int[Tensor, "R"]) -> float:
        """What the best k of one state score at least, by a few likely items; -inf where there are fewer."""
        some = tops.topk(min(max(k, _LIKELY), len(tops))).indices.sort().values
        slots, upper = self._bounded(asked, some, hidden)
        upper, some = upper.topk(min(max(2 * k, _LIKELY), len(upper)))
        values, _ = self.scored(asked.states[0], self.rows[slots[some[upper > float("-inf")]]], k)
        least = float(values[-1]) if len(values) == k else float("-inf")
        # A little below, for what float32 loses in the bounds and for a tie in float32 with the k-th.
        return least - 1e-6 * abs(least) - _LEAST

    def _stop(self, asked: "_Asked", least: list[float]) -> int:
        """Where the slots end that may hold one of the best items of any state."""
        # A little longer, for what float32 loses in lengths and scores.
        lengths = _lengths(asked.states) * (1 + 1e-5)
        blocks = max(int((self._lengths * length >= low).sum()) for length, low in zip(lengths, least, strict=True))
        return min(-(-blocks * BLOCK // _GRAIN) * _GRAIN, len(self.rows))

    def _found(
        self, asked: "_Asked", k: int, tops: Float[Tensor, "blocks"], hidden: Int[Tensor, "R"], least: float
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """The best k for one state, which score at least so much, by the highest upper bound of each block."""
        unit = float(asked.unit)
        blocks = (tops >= least / unit).nonzero().squeeze(1)
        if len(blocks) > max(_MANY, 2 * k):
            least = max(least, self._least(asked, k, tops, hidden))
            blocks = (tops >= least / unit).nonzero().squeeze(1)
        slots, upper = self._bounded(asked, blocks, hidden)
        floor = max(least / unit, torch.finfo(upper.dtype).min)  # above what is hidden
        return self.scored(asked.states[0], self.rows[slots[upper >= floor]], k)

    def _bounded(
        self, asked: "_Asked", blocks: Int[Tensor, "some"], hidden: Int[Tensor, "R"]
    ) -> tuple[Int[Tensor, "members"], Float[Tensor, "members"]]:
        """The slots of ascending blocks and their upper bounds for one state; -inf where they are empty or hidden."""
        numbers = torch.float32 if self.codes.shape[1] <= _EXACT else torch.float64
        whole, codes = asked.whole[0].to(numbers), self.codes.view(-1, BLOCK, self.codes.shape[1])
        made = torch.cat([codes[part].to(numbers) @ whole for part in blocks.split(CHUNK // BLOCK)]).float()
        upper = asked.upper_bounds(made, self.scales[blocks].unsqueeze(1))
        places = torch.searchsorted(blocks, hidden // BLOCK).clamp_(max=len(blocks) - 1)
        inside = blocks[places] == hidden // BLOCK
        upper[places[inside], hidden[inside] % BLOCK] = float("-inf")
        slots = (blocks.unsqueeze(1) * BLOCK + torch.arange(BLOCK)).view(-1)
        if int(blocks[-1]) == len(self.scales) - 1:
            upper[-1, BLOCK - (len(self.rows) - len(self.table)) :] = float("-inf")
        return slots, upper.view(-1)

    @torch.inference_mode()
    def scored(
        self, state: Float[Tensor, "D"], rows: Int[Tensor, "R"], k: int
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """The best k of the given rows by their own vectors; of equal ones the lower row first."""
        rows = rows.sort().values
        parts = [self.table[part].double() @ state.double() for part in rows.split(CHUNK)]
        values, order = torch.cat(parts).float().sort(descending=True, stable=True)
        return values[:k], rows[order[:k]]


@dataclass(frozen=True, eq=False, slots=True)
class _Asked:
    """States as whole numbers.

    Attributes:
        states: The states themselves.
        unit: m.
        whole: b, int8.
        slack: What rounding can add at most to a product of whole numbers.
    """

    states: Float[Tensor, "B D"]
    unit: Float[Tensor, "B"]
    whole: Int[Tensor, "B D"]
    slack: Float[Tensor, "B"]

    def one(self, number: int) -> "_Asked":
        """One of the states."""
        part = slice(number, number + 1)
        return _Asked(self.states[part], self.unit[part], self.whole[part], self.slack[part])

    def filled(self) -> Int[Tensor, "some D"]:
        """`whole` with zeros after it, up to a power of two where there are more than a few."""
        # Torch's product of whole numbers compiles a kernel for every number of rows: let there be few.
        count = len(self.whole)
        return self.whole if count <= _FEW else pad(self.whole, (0, 0, 0, (1 << (count - 1).bit_length()) - count))

    def upper_bounds(self, made: Shaped[Tensor, "B some"], scales: Float[Tensor, "..."]) -> Float[Tensor, "B some"]:
        """At least the score of an item, divided by `unit`, by its product of whole numbers."""
        return made.float().add_(self.slack.unsqueeze(1)).mul_(scales)


@dataclass(frozen=True, eq=False, slots=True)
class _Denied:
    """Slots that are hidden from a state.

    Attributes:
        slots: In ascending order.
        owners: From which state each is hidden.
    """

    slots: Int[Tensor, "R"]
    owners: Int[Tensor, "R"]

    @classmethod
    def of(cls, hidden: list[Tensor]) -> Self:
        """The slots that are hidden from each state, of all states together."""
        slots, order = torch.cat(hidden).sort()
        counts = torch.tensor([len(one) for one in hidden])
        return cls(slots, torch.arange(len(hidden)).repeat_interleave(counts)[order])


def _lengths(vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
    """In float64, as float32 loses the squares of small numbers."""
    return torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)


def check_states(states: Float[Tensor, "B D"]) -> None:
    """Raises a `ScoreError` where a state is not finite."""
    if not bool(states.isfinite().all()):
        raise ScoreError("the model gave a state that is not finite; train it again, perhaps at a lower rate")


def products(whole: Int[Tensor, "B D"], codes: Int[Tensor, "S D"]) -> Shaped[Tensor, "B S"]:
    """Exact products of whole numbers in eight bits, as int32 or float32: whichever the CPU makes sooner."""
    if not _MULTIPLIES_BYTES and codes.shape[1] <= _EXACT:
        size = min(_PART, max(_PRODUCTS // len(whole), BLOCK))
        made, states, floats = torch.empty(len(whole), len(codes)), whole.float(), torch.empty(size, codes.shape[1])
        for some, part in zip(codes.split(size), made.split(size, dim=1), strict=True):
            torch.mm(states, floats[: len(some)].copy_(some).t(), out=part)
        return made
    if len(whole) > _FEW:
        return torch._int_mm(whole, codes.t())
    made = torch.empty(len(whole), len(codes), dtype=torch.int32)
    for one, out in zip(whole, made, strict=True):
        torch._int_mm(codes, one.unsqueeze(1), out=out.unsqueeze(1))
    return made


def _multiplies_bytes() -> bool:
    """Whether the CPU has instructions for products of bytes; else torch takes ten times as long as for floats."""
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("amx_int8", "avx512_vnni", "avx_vnni"))


_MULTIPLIES_BYTES = _multiplies_bytes()
