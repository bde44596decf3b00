"""A coarse pass before the exact scores: the longest vectors alone, in eight bits and without proof.

Axes: V catalogue, S slots: the longest vectors and what fills up the last block, D width of vectors, B states, K best,
R item rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from sasrec.errors import ConfigError
from sasrec.retrieval.index import BLOCK, CHUNK, LARGEST, LOWEST, TINY, Index, check_states, products
from sasrec.words import counted

_SPARED = 4  # such a part of what may be missed is granted to short vectors
_MARGIN = 2  # so many times the blocks that the measured states needed
_WORTH = 0.75  # with more of the vectors too little is gained
_SEVERAL = 8  # with more than this part of all blocks scoring takes as long as the products
_MANY = 16  # where more than this part of the catalogue is hidden, the measurement says nothing


@final
class Coarse:
    """Finds nearly always the items that `Index` finds, and reads fewer of their numbers.

    Short vectors are hardly ever among the best, and `Index` spends time on proof. Here the longest vectors are kept
    once more, and items whose products in eight bits are high are scored with their own vectors: what is found has its
    exact score, and an item is only ever missed because it did not look likely. How many vectors and how many likely
    items it takes is settled by states of real histories.

    Where it cannot know as much it searches everything: for more items than it was measured for, and where much of the
    catalogue is hidden. So it does where most vectors are equally long, and where other states than those which settled
    it find too little.

    Attributes:
        exact: The index of all items.
        vectors: How many are looked at, the longest; all where everything is searched.
        overlap: Share of the exact best k that was found for states which had no part in settling anything.
        states: How many these were.
        k: What this was measured for.
    """

    @torch.inference_mode()
    def __init__(self, table: Float[Tensor, "V D"], states: Float[Tensor, "B D"], *, overlap: float, k: int) -> None:
        """Settle how much is looked at, and measure.

        Args:
            states: After real histories; at least two. Half of them settle how much is looked at.
            overlap: Share of the exact best k to be found on average, in (0, 1].

        Raises:
            ConfigError: `overlap` is out of range, or there are fewer than two states.
            ScoreError: A vector or a state is not finite.
        """
        if not 0 < overlap <= 1:
            raise ConfigError(f"overlap: expected a share above 0 and at most 1, found {overlap!r}")
        if len(states) < 2:
            raise ConfigError("overlap: at least two users with a history are needed to measure it")
        self.exact, self.k = Index(table), min(k, len(table))
        nothing = [torch.empty(0, dtype=torch.int64)] * len(states)
        best = torch.stack([rows for _, rows in self.exact.best(states, [self.k] * len(states), hidden=nothing)])
        self.vectors, self.overlap, self.states, self._longest = len(table), 1.0, len(states[1::2]), None
        if longest := _settled(self.exact, states[::2], best[::2], overlap):
            told = float((longest.places(states[1::2], best[1::2]) <= longest.blocks).double().mean())
            if told >= overlap:
                self.vectors, self.overlap, self._longest = len(longest.rows), told, longest

    @torch.inference_mode()
    def best(
        self, states: Float[Tensor, "B D"], k: Sequence[int], *, hidden: Sequence[Int[Tensor, "R"]]
    ) -> list[tuple[Float[Tensor, "K"], Int[Tensor, "K"]]]:
        """For each state its k highest scores that were found, best first, and their items; see `Index.best`."""
        check_states(states)
        return [self._found(*asked) for asked in zip(states, k, hidden, strict=True)]

    def words(self) -> str:
        """What it finds, as people are told."""
        share = f"{100 * self.overlap:.2f} % of the best {self.k}, measured on {counted(self.states, 'user')}"
        return f"coarse, of {counted(len(self.exact.table), 'item')}: finds {share}"

    def _found(
        self, state: Float[Tensor, "D"], k: int, hidden: Int[Tensor, "R"]
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        if self._longest and k <= self.k and _MANY * len(hidden) <= len(self.exact.table):
            rows = self._longest.likely(state, hidden)
            if len(rows) >= k:
                return self.exact.scored(state, rows, k)
        return self.exact.best(state.unsqueeze(0), [k], hidden=[hidden])[0]


@dataclass(frozen=True, eq=False)
class _Longest:
    """The longest vectors in eight bits.

    Attributes:
        codes: Whole numbers, in each column by the largest number of any vector; zeros fill up the last block.
        units: What a column was divided by.
        rows: The item of each slot but the last ones that are empty; the longest vector first.
        slots: The slot of each item; one beyond all where it has none.
        blocks: Items are likely whose products are at least the highest one of so many blocks.
    """

    codes: Int[Tensor, "S D"]
    units: Float[Tensor, "D"]
    rows: Int[Tensor, "R"]
    slots: Int[Tensor, "V"]
    blocks: int

    @classmethod
    def of(cls, table: Float[Tensor, "V D"], rows: Int[Tensor, "R"]) -> Self:
        """Round the vectors of these items; for a block to be settled."""
        parts = rows.split(CHUNK)
        units = torch.stack([table[part].abs().amax(dim=0) for part in parts]).amax(dim=0).div_(LARGEST)
        units.clamp_min_(TINY)
        codes = torch.cat([(table[part] / units).round_().to(torch.int8) for part in parts])
        slots = torch.full((len(table),), len(rows)).index_copy_(0, rows, torch.arange(len(rows)))
        return cls(pad(codes, (0, 0, 0, -len(rows) % BLOCK)), units, rows, slots, 1)

    def likely(self, state: Float[Tensor, "D"], hidden: Int[Tensor, "R"]) -> Int[Tensor, "likely"]:
        """The items to be scored, without the hidden ones."""
        found = self._products(state)
        slots = self.slots[hidden]
        found[slots[slots < len(self.rows)]] = LOWEST
        found = found.view(-1, BLOCK)
        tops, blocks = found.amax(dim=1).topk(self.blocks)
        within, places = (found[blocks] >= tops[-1].clamp_min(LOWEST // 2)).nonzero().unbind(1)
        return self.rows[blocks[within] * BLOCK + places]

    def places(self, states: Float[Tensor, "B D"], rows: Int[Tensor, "B K"]) -> Int[Tensor, "B K"]:
        """How many blocks it takes for each of the given items to be likely; more than there are without a slot."""
        found = []
        for state, slots in zip(states, self.slots[rows], strict=True):
            made = self._products(state)
            tops = made.view(-1, BLOCK).amax(dim=1)
            higher = (tops > made[slots.clamp(max=len(self.rows) - 1)].unsqueeze(1)).sum(dim=1)
            found.append(torch.where(slots < len(self.rows), higher, len(tops)) + 1)
        return torch.stack(found)

    def _products(self, state: Float[Tensor, "D"]) -> Tensor:
        """With each vector, but for a factor that is the same for all."""
        turned = state * self.units
        whole = (turned / turned.abs().amax().div_(LARGEST).clamp_min_(TINY)).round_().to(torch.int8)
        made = products(whole.unsqueeze(0), self.codes)[0]
        made[len(self.rows) :] = LOWEST
        return made


def _settled(exact: Index, states: Float[Tensor, "B D"], best: Int[Tensor, "B K"], overlap: float) -> _Longest | None:
    """What finds enough of the best items of these states; None where that is most of the catalogue."""
    items = len(exact.table)
    vectors = _enough(exact.slots[best], 1 - (1 - overlap) / _SPARED) + 1
    if vectors > _WORTH * items or exact.table.shape[1] < 2:
        return None
    longest = _Longest.of(exact.table, exact.rows[:vectors])
    blocks = max(_MARGIN * _enough(longest.places(states, best), overlap), best.shape[1])
    return replace(longest, blocks=blocks) if blocks * BLOCK * _SEVERAL <= vectors else None


def _enough(places: Int[Tensor, "B K"], overlap: float) -> int:
    """The least number that such a share of the places does not exceed."""
    return int(places.flatten().sort().values[math.ceil(overlap * places.numel()) - 1])
