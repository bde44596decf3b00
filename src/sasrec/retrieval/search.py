"""The best items that may be recommended after each history, found by the shortest way there is.

Axes: B histories, V catalogue, A listed items, `state` numbers in a state, K best, R item rows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from jaxtyping import Float, Int

from sasrec.data.sequences import Sequences, offsets_of
from sasrec.retrieval.scorers import Factored, Scorer, has_vectors
from sasrec.retrieval.topk import best, blocks, check_finite, hide, scored_blocks

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 4096  # scores of a history that its state is worth in memory: short lists do not make endless blocks
_SHORT = 16  # a list of this part of the catalogue is scored by itself even where there is an index


class Shortcut(Protocol):
    """Finds the best items after states without scoring all of them; see `sasrec.indexed`."""

    def best(
        self, states: "Float[Tensor, 'B state']", k: Sequence[int], *, hidden: "Sequence[Int[Tensor, 'R']]"
    ) -> "list[tuple[Float[Tensor, 'K'], Int[Tensor, 'K']]]":
        """For each state its k highest scores, best first, and their items; fewer where fewer are not hidden."""
        ...

    def words(self) -> str:
        """What it finds, as people are told."""
        ...


@dataclass(frozen=True, eq=False)
class Selection:
    """How many items to recommend, and which may be.

    Attributes:
        k: Items after each history, at most.
        exclude_seen: Leave out the items of each history.
        allowed: Item rows, ascending: only these may be recommended; None where all may that are not denied.
        denied: Item rows that may not be recommended to anybody, ascending; none where `allowed` says it all.
    """

    k: int
    exclude_seen: bool
    allowed: Int[np.ndarray, "A"] | None
    denied: Int[np.ndarray, "denied"]

    @classmethod
    def of(
        cls, k: int, *, exclude_seen: bool, items: int, allow: np.ndarray | None = None, deny: np.ndarray | None = None
    ) -> Self:
        """From item rows in any order, repeated or not; None allows all and denies none.

        Args:
            items: Catalogue size V, above every row.
        """
        denied = np.unique(np.empty(0, np.int64) if deny is None else deny)
        if allow is not None or 2 * len(denied) > items:
            allowed = np.setdiff1d(np.arange(items) if allow is None else allow, denied)
            return cls(k, exclude_seen, allowed, denied[:0])
        return cls(k, exclude_seen, None, denied)

    def hidden(self, items: int) -> Int[np.ndarray, "hidden"]:
        """Every item row of the catalogue that may not be recommended to anybody."""
        if self.allowed is None:
            return self.denied
        hidden = np.ones(items, dtype=bool)
        hidden[self.allowed] = False
        return np.flatnonzero(hidden)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Recommended items, history by history and best first, as columns of the same length.

    Attributes:
        places: Which history an item is for, int64.
        items: Item rows, int64.
        scores: float32.
        ranks: From 1 for each history, int32.
    """

    places: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray

    @classmethod
    def of(cls, values: Float[np.ndarray, "B K"], items: Int[np.ndarray, "B K"], places: np.ndarray) -> Self:
        """From the best scores of each history and their items; those of -inf are hidden and left out.

        Raises:
            ScoreError: A score is NaN or +inf, which no order can be trusted with.
        """
        check_finite(values)
        kept = values > -np.inf
        histories, ranks = kept.nonzero()
        return cls(places[histories], items[kept], values[kept], (ranks + 1).astype(np.int32))

    @classmethod
    def joined(cls, rankings: Iterable["Ranking"]) -> "Ranking":
        """Several one after the other; of none, nothing for nobody."""
        parts = list(rankings)
        if len(parts) == 1:
            return parts[0]
        whole = np.empty(0, np.int64)
        parts.append(cls(whole, whole, np.empty(0, np.float32), np.empty(0, np.int32)))
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def take(self, rows: np.ndarray) -> "Ranking":
        """The answers at these places, an int array of shape (taken,), in the given order."""
        return Ranking(self.places[rows], self.items[rows], self.scores[rows], self.ranks[rows])


def search(
    scorer: Scorer,
    histories: Sequences,
    places: np.ndarray,
    selection: Selection,
    *,
    index: Shortcut | None = None,
) -> Iterator[Ranking]:
    """The best items after each history, block by block.

    A list of allowed items is scored by itself; with an index, the rest of the catalogue is not scored either. The
    best scores are the same on every way, but for rounding in float32, and of equal ones the lower item row is first.

    Args:
        places: Names history i in the answer, int64 of shape (B,).
        index: Of the scorer's vectors; None scores the whole catalogue.

    Raises:
        ScoreError: A score is NaN or infinite.
    """
    listed = selection.allowed
    if index is not None and has_vectors(scorer) and (listed is None or _SHORT * len(listed) > scorer.items):
        hidden = selection.hidden(scorer.items)
        for rows in blocks(len(histories), items=_LEAST):
            yield _by_index(scorer, index, histories.take(rows), places[rows], selection, hidden)
    elif listed is None:
        for rows, block, scores in scored_blocks(scorer, histories):
            if selection.exclude_seen:
                hide(scores, block)
            scores[:, selection.denied] = -np.inf
            yield Ranking.of(*best(scores, selection.k), places[rows])
    else:
        yield from _by_list(scorer, histories, places, selection, listed)


def scoring(scorer: Scorer, items: Int[np.ndarray, "A"]) -> Callable[[Sequences], Float[np.ndarray, "B A"]]:
    """A function that scores the given item rows after each history, and where it can no others."""
    if has_vectors(scorer):
        vectors = scorer.table()[items].detach().t()
        return lambda histories: (scorer.states(histories) @ vectors).cpu().numpy()
    return lambda histories: scorer.scores(histories)[:, items]


def _by_list(
    scorer: Scorer, histories: Sequences, places: np.ndarray, selection: Selection, listed: Int[np.ndarray, "A"]
) -> Iterator[Ranking]:
    scores_of = scoring(scorer, listed)
    width = len(listed) if has_vectors(scorer) else scorer.items
    for rows in blocks(len(histories), items=max(width, _LEAST)):
        block = histories.take(rows)
        scores = scores_of(block)
        if selection.exclude_seen:
            hide(scores, _within(block, listed))
        values, found = best(scores, selection.k)
        yield Ranking.of(values, listed[found], places[rows])


def _within(histories: Sequences, listed: np.ndarray) -> Sequences:
    """The same histories as places in an ascending list of items, without what is not in it."""
    spots = np.searchsorted(listed, histories.items)
    there = np.flatnonzero(spots < len(listed))
    there = there[listed[spots[there]] == histories.items[there]]
    return Sequences(spots[there], offsets_of(np.bincount(histories.owners()[there], minlength=len(histories))))


def _by_index(
    scorer: Factored,
    index: Shortcut,
    histories: Sequences,
    places: np.ndarray,
    selection: Selection,
    hidden: Int[np.ndarray, "hidden"],
) -> Ranking:
    import torch  # what has an index has torch anyway

    seen = [block if selection.exclude_seen else hidden[:0] for block in map(histories.__getitem__, range(len(places)))]
    left_out = [torch.from_numpy(np.concatenate([hidden, one])) for one in seen]
    found = index.best(scorer.states(histories), [selection.k] * len(places), hidden=left_out)
    return Ranking.joined(
        Ranking.of(values.numpy()[None], items.numpy()[None], places[number : number + 1])
        for number, (values, items) in enumerate(found)
    )
