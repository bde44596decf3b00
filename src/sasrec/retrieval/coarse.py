"""A coarse pass before the exact one: only the lists of items that a state points at are searched.

Axes: V catalogue, D width of vectors, C lists, B states, K best, R item rows.
"""

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from sasrec.errors import ConfigError
from sasrec.retrieval.index import BLOCK, Index

_ROUNDS = 8
_SAMPLE = 64  # vectors for each list that directions are found from
_CHUNK = 16_384  # vectors compared with all directions at a time
_MARGIN = 2  # so many times the lists that the measured states needed
_WORTH = 4  # lists beyond this part of all take as long to bring together as a pass over everything
_MANY = 16  # where more than this part of the catalogue is hidden, the measurement says nothing


@final
class Coarse:
    """Finds nearly always the items that `Index` finds, and searches a small part of the catalogue.

    Items are put into lists of similar directions, by k-means on a sample. A state is compared with the mean vector of
    each list, and the items of the best lists are searched by `Index`: what is found there is exact, with exact
    scores, and an item is only ever missed because its list was not looked at. How many are looked at is settled by
    states of real histories.

    Where it cannot know as much it searches everything: for more items than it was measured for, where much of the
    catalogue is hidden, and where the lists hold fewer items than asked for. So it does where more than a quarter of
    the lists would be looked at, as for vectors that have learned little: that would take longer.

    Attributes:
        exact: The index of all items, list after list.
        probes: Lists looked at.
        overlap: Share of the exact best k that was found for states which had no part in choosing `probes`.
        states: How many these were.
        k: What this was measured for.
    """

    @torch.inference_mode()
    def __init__(
        self, table: Float[Tensor, "V D"], states: Float[Tensor, "B D"], *, overlap: float, k: int, seed: int = 0
    ) -> None:
        """Make the lists, and measure.

        Args:
            states: After real histories; at least two. Half of them settle how many lists are looked at.
            overlap: Share of the exact best k to be found on average, in (0, 1].
            seed: Draws the sample and the first centres.

        Raises:
            ConfigError: `overlap` is out of range, or there are fewer than two states.
            ScoreError: A vector or a state is not finite.
        """
        if not 0 < overlap <= 1:
            raise ConfigError(f"overlap: expected a share above 0 and at most 1, found {overlap!r}")
        if len(states) < 2:
            raise ConfigError("overlap: at least two users with a history are needed to measure it")
        owners = _clustered(table, torch.Generator().manual_seed(seed))
        sizes = torch.bincount(owners, minlength=_count(len(table)))
        rows, self._bounds = _laid_out(owners, sizes)
        self.exact = Index(table, rows=rows)
        sums = table.new_zeros(len(sizes), table.shape[1]).index_add_(0, owners, table)
        self._means = sums / sizes.clamp_min(1).unsqueeze(1)
        self.k = min(k, len(table))
        needed = self._needed(states, owners)
        choosing, telling = needed[::2].flatten(), needed[1::2].flatten()
        enough = choosing.sort().values[math.ceil(overlap * len(choosing)) - 1]
        probes, lists = _MARGIN * int(enough), len(self._bounds)
        self.probes = probes if _WORTH * probes <= lists else lists
        self.overlap, self.states = float((telling <= self.probes).double().mean()), len(needed[1::2])

    @torch.inference_mode()
    def best(
        self, states: Float[Tensor, "B D"], k: Sequence[int], *, hidden: Sequence[Int[Tensor, "R"]]
    ) -> list[tuple[Float[Tensor, "K"], Int[Tensor, "K"]]]:
        """For each state its k highest scores that were found, best first, and their items; see `Index.best`."""
        return [self._found(*asked) for asked in zip(states, k, hidden, strict=True)]

    def words(self) -> str:
        """What it finds, as people are told."""
        share = f"{100 * self.overlap:.2f} % of the best {self.k}, measured on {self.states:,} users"
        return f"coarse, of {len(self.exact.table):,} items: finds {share}"

    def _found(
        self, state: Float[Tensor, "D"], k: int, hidden: Int[Tensor, "R"]
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        few = self.probes < len(self._bounds)
        if few and k <= self.k and _MANY * len(hidden) <= len(self.exact.table):
            lists = self._nearest(state.unsqueeze(0), self.probes)[0].sort().values
            values, items = self.exact.best_in([self._bounds[one] for one in lists.tolist()], state, k, hidden=hidden)
            if len(values) == k:
                return values, items
        return self.exact.best(state.unsqueeze(0), [k], hidden=[hidden])[0]

    def _nearest(self, states: Float[Tensor, "B D"], count: int) -> Int[Tensor, "B lists"]:
        """The lists whose mean vectors have the highest products with each state, best first."""
        return (states @ self._means.t()).topk(count, dim=1).indices

    def _needed(self, states: Float[Tensor, "B D"], owners: Int[Tensor, "V"]) -> Int[Tensor, "B K"]:
        """How many lists have to be looked at to find each of the best k of every state."""
        nothing = owners[:0]
        found = torch.stack(
            [rows for _, rows in self.exact.best(states, [self.k] * len(states), hidden=[nothing] * len(states))]
        )
        places = self._nearest(states, len(self._means)).argsort(dim=1)
        return places.gather(1, owners[found]) + 1


def _clustered(table: Float[Tensor, "V D"], generator: torch.Generator) -> Int[Tensor, "V"]:
    """The list of every item, by the directions of their vectors; none has a number of the count of lists or more."""
    count = _count(len(table))
    sample = table[torch.randperm(len(table), generator=generator)[: _SAMPLE * count]]
    sample = normalize(sample, dim=1)
    centres = sample[:count]
    for _ in range(_ROUNDS):
        owners = _nearest_directions(sample, centres)
        sums = torch.zeros_like(centres).index_add_(0, owners, sample)
        # A centre that has lost all its vectors stays where it is.
        centres = torch.where(sums.any(dim=1, keepdim=True), normalize(sums, dim=1), centres)
    return _nearest_directions(table, centres)


def _count(items: int) -> int:
    """As many lists as there are items in each."""
    return max(1, round(math.sqrt(items)))


def _nearest_directions(vectors: Float[Tensor, "B D"], centres: Float[Tensor, "C D"]) -> Int[Tensor, "B"]:
    return torch.cat([torch.mm(part, centres.t()).argmax(dim=1) for part in vectors.split(_CHUNK)])


def _laid_out(owners: Int[Tensor, "V"], sizes: Int[Tensor, "C"]) -> tuple[Int[Tensor, "S"], list[tuple[int, int]]]:
    """The item rows list after list, each filled up with -1 to whole blocks; and where each list begins and ends."""
    stops = (-(-sizes // BLOCK) * BLOCK).cumsum(0)
    starts = torch.cat([stops.new_zeros(1), stops[:-1]])
    rows = torch.full((int(stops[-1]),), -1)
    order = owners.argsort(stable=True)
    within = torch.arange(len(owners)) - (sizes.cumsum(0) - sizes)[owners[order]]
    rows[starts[owners[order]] + within] = order
    return rows, list(zip(starts.tolist(), stops.tolist(), strict=True))
