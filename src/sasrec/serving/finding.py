"""The best items for many questions at once, each found by the shortest way that its model has.

Axes: B questions, V catalogue, K best.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sasrec.data.sequences import Sequences
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Factored, Scorer, has_vectors
from sasrec.retrieval.search import Shortcut
from sasrec.retrieval.topk import best, blocks, check_finite

Found = tuple[Float[np.ndarray, "K"], Int[np.ndarray, "K"]]
"""Scores, best first, and item rows; -inf where nothing more may be recommended."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request in rows.

    Attributes:
        history: Item rows, oldest first.
        user: The user's row; -1 for somebody whom the model does not know, or must not.
        hidden: Item rows that must not be recommended.
        allowed: The only rows that may be; None allows all.
        unknown: Items that the request names and the model does not know.
        scorer: What ranks after the history; where that is empty, popularity does.
        times: When the events of the history happened, in the unit of the model's log and never falling; None where
            the model looks at no times, as all questions to it have them or none.
        asked: When the question is asked, likewise.
    """

    history: np.ndarray
    user: int
    k: int
    hidden: np.ndarray
    allowed: list[int] | None
    unknown: list[str]
    scorer: Scorer
    times: np.ndarray | None = None
    asked: int = 0


@final
class Finder:
    """Answers to questions about one model.

    A list of allowed items is scored by itself where the scorer has vectors. With an index the rest of the catalogue
    is not scored either: the questions take one pass over the index together. All else scores the whole catalogue, as
    many questions at a time as fit the cache. The best scores are the same on every way, but for rounding in float32,
    and of equal ones the lower item row is first.
    """

    def __init__(self, model: Recommender, popularity: Scorer) -> None:
        """Args: popularity: What ranks where there is no history."""
        self._index, self._indexed = model.index, model.scorer
        self._items, self._popularity = len(model.items), popularity

    def best(self, questions: Sequence[Question]) -> list[Found]:
        """The best items for each question, at most as many as it asks for.

        Raises:
            ScoreError: A score is NaN or infinite.
        """
        found: dict[int, Found] = {}
        for places, find in self._ways(questions):
            if places:
                found.update(zip(places, find([questions[at] for at in places]), strict=True))
        for values, _ in found.values():
            check_finite(values)
        return [found[at] for at in range(len(questions))]

    def _scores(self, questions: Sequence[Question]) -> Float[np.ndarray, "B V"]:
        """Scores of all items for questions of one scorer, one row each; -inf for what may not be recommended."""
        scores = self._ranking(questions[0]).scores(histories(questions))
        for row, one in enumerate(questions):
            if one.allowed is not None:
                kept = scores[row, one.allowed]
                scores[row] = -np.inf
                scores[row, one.allowed] = kept
            scores[row, one.hidden] = -np.inf
        return scores

    def _ranking(self, question: Question) -> Scorer:
        return question.scorer if len(question.history) else self._popularity

    def _members(self, questions: Sequence[Question]) -> dict[Scorer, list[int]]:
        """The places of the questions of each scorer."""
        members: dict[Scorer, list[int]] = {}
        for at, one in enumerate(questions):
            members.setdefault(self._ranking(one), []).append(at)
        return members

    def _in_blocks(self, places: list[int]) -> Iterator[list[int]]:
        for block in blocks(len(places), items=self._items):
            yield [places[at] for at in block]

    def _ways(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[list[int], Callable[[Sequence[Question]], Iterable[Found]]]]:
        """Places of questions that are answered together, and what answers them."""
        for scorer, places in self._members(questions).items():
            others = places
            if has_vectors(scorer):
                listed = [at for at in places if questions[at].allowed is not None]
                others = [at for at in places if questions[at].allowed is None]
                yield listed, partial(_by_list, scorer)
                if self._index is not None and scorer is self._indexed:
                    yield others, partial(_by_index, scorer, self._index)
                    continue
            for some in self._in_blocks(others):
                yield some, self._by_scores

    def _by_scores(self, questions: Sequence[Question]) -> Iterator[Found]:
        values, items = best(self._scores(questions), max(one.k for one in questions))
        return ((values[row, : one.k], items[row, : one.k]) for row, one in enumerate(questions))


def _by_list(scorer: Factored, questions: Sequence[Question]) -> Iterator[Found]:
    import torch  # what has vectors has torch anyway

    states, table = scorer.states(histories(questions)).detach(), scorer.table().detach()
    for state, one in zip(states, questions, strict=True):
        rows = np.setdiff1d(np.array(one.allowed, dtype=np.int64), one.hidden)
        scores = torch.mv(table[torch.from_numpy(rows).to(table.device)], state).cpu().numpy()
        values, places = best(scores[np.newaxis], one.k)
        yield values[0], rows[places[0]]


def _by_index(scorer: Factored, index: Shortcut, questions: Sequence[Question]) -> Iterator[Found]:
    import torch

    hidden = [torch.from_numpy(one.hidden.astype(np.int64)) for one in questions]
    found = index.best(scorer.states(histories(questions)), [one.k for one in questions], hidden=hidden)
    return ((values.cpu().numpy(), items.cpu().numpy()) for values, items in found)


def histories(questions: Sequence[Question]) -> Sequences:
    """What scorers are given of questions."""
    times = [one.times for one in questions if one.times is not None]
    return replace(
        Sequences.of([one.history for one in questions]),
        users=np.array([one.user for one in questions]),
        times=np.concatenate(times) if times else None,
        asked=np.array([one.asked for one in questions]) if times else None,
    )
