"""One version of a model, answering: raw ids as text in, ranked ids as text out, many requests in one pass."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np
import polars as pl

from sasrec.data.titles import read_titles
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, ConfigError, ServingError
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.retrieval.topk import best, check_finite
from sasrec.serving.api import (
    Explain,
    Explanation,
    FoundItem,
    PastEvent,
    Recommend,
    Recommendation,
    Scored,
    Similar,
    Similars,
)
from sasrec.serving.explaining import explain
from sasrec.serving.finding import Finder, Question
from sasrec.serving.problems import UNKNOWN_ITEM, Problem, invalid, unread
from sasrec.serving.searching import Search
from sasrec.serving.store import EventStore, Stored
from sasrec.serving.timing import Clock, untimely

Request = Recommend | Similar | Explain
Answer = Recommendation | Similars | Explanation

LOGGER = logging.getLogger("sasrec.serving")

_NONE = np.empty(0, dtype=np.int32)


class Past(NamedTuple):
    """What is known of a user to a version of the model.

    Attributes:
        rows: Item rows of what the version was trained on.
        user: The user's row there; -1 for nobody whom the version knows or may.
        since: The events since.
    """

    rows: np.ndarray
    user: int
    since: list[Stored]


_NOBODY = Past(_NONE, -1, [])


@dataclass(frozen=True, slots=True)
class Informed:
    """A request with what is known of its user.

    Attributes:
        served: The version that it was read for, which answers, even if another one has come meanwhile.
        past: What is known; or why that cannot be told.
    """

    served: "Served"
    request: Request
    past: Past | Problem


Asked = Request | Informed


@final
class Names:
    """Raw ids as text and their rows. An integer id is its decimal text, so `007` is no name of item 7."""

    def __init__(self, ids: Vocabulary) -> None:
        """Args: ids: The raw ids."""
        self.texts: list[str] = ids.ids.cast(pl.String).to_list()
        self.rows = {text: row for row, text in enumerate(self.texts)}

    def split(self, ids: Iterable[str | int]) -> tuple[list[int], list[str]]:
        """The rows of the ids that are known, in their order, and the ids that are not."""
        texts = list(map(str, ids))
        known = [row for row in map(self.rows.get, texts) if row is not None]
        return known, [] if len(known) == len(texts) else [text for text in texts if text not in self.rows]

    def places(self, ids: Iterable[str | int]) -> np.ndarray:
        """The row of every id, -1 where it is unknown; int32."""
        return np.array([self.rows.get(str(one), -1) for one in ids], dtype=np.int32)


@runtime_checkable
class Composed(Scorer, Protocol):
    """A scorer that is made of others.

    Attributes:
        parts: Weight and scorer of each, by its name.
    """

    parts: dict[str, tuple[float, Scorer]]


@final
class Served:
    """A version of a model with what it needs to answer; it is replaced as a whole and never changed."""

    def __init__(self, model: Recommender, version: str, store: EventStore, *, titles: Path | None = None) -> None:
        """Get ready, and answer once.

        Args:
            titles: File of items with their titles.

        Raises:
            DataError: The titles cannot be read, or fit none of the items.
            BundleError: The model knows no item, or looks at times that no clock tells.
            ScoreError: The model gives scores that are not numbers.
        """
        self.model, self.version, self.store = model, version, store
        self.items, self.users = Names(model.items), Names(model.users)
        if not self.items.texts:
            raise BundleError("the model knows no item, so it can recommend nothing")
        self._clock = Clock(model.time_unit) if model.reads_times and model.time_unit is not None else None
        self.titles = _titles(titles, model.items)
        self.since = time.time()
        # A model that was trained on events of this store says so in its record; these are part of its own histories.
        trained_on = model.record.get("events", {})
        self._through = int(trained_on.get("through", 0)) if trained_on.get("store") == store.id else 0
        self.popularity = Popularity.of(model.histories, items=len(model.items))
        self.finder = Finder(model, self.popularity)
        parts = model.scorer.parts if isinstance(model.scorer, Composed) else {}
        self._parts = {model.kind: model.scorer} | {name: part for name, (_, part) in parts.items()}
        self.scorers = list(dict.fromkeys((*self._parts, Markov.kind, Popularity.kind)))

        def trial(events: int) -> Question:
            times = None if self._clock is None else np.zeros(events, np.int64)
            return Question(np.zeros(events, np.int32), -1, 1, _NONE, None, [], model.scorer, times)

        # Torch compiles some products for every number of states: not while somebody waits.
        for count in (1,) if model.index is None else (64, 32, 16, 8, 4, 2, 1):
            self._rank([trial(1)] * count)
        self._rank([trial(1), trial(2)])  # what was made to do harm may be able to answer one history alone

    def informed(self, requests: Sequence[Request]) -> list[Informed]:
        """The requests, each with what is known of its user now."""
        users = [None if isinstance(one, Similar) or one.user is None else str(one.user) for one in requests]
        pasts = self._pasts(list({user: None for user in users if user is not None}))
        return [
            Informed(self, one, _NOBODY if user is None else pasts[user])
            for one, user in zip(requests, users, strict=True)
        ]

    def answer(self, requests: Sequence[Asked]) -> list[Answer | Problem]:
        """Answers in the order of the requests; those that need scores take as few passes as fit the cache.

        Args:
            requests: Users of those that are not informed are read of here; those that are were so for this version.
        """
        read = iter(self.informed([one for one in requests if not isinstance(one, Informed)]))
        whole = [one if isinstance(one, Informed) else next(read) for one in requests]
        asked = [
            self.understood(one.request, one.past)
            if isinstance(one.request, Recommend)
            else self._about_one(one.request, one.past)
            for one in whole
        ]
        ranked = iter(self._rank([one for one in asked if isinstance(one, Question)]))
        return [next(ranked) if isinstance(one, Question) else one for one in asked]

    def history(self, user: str) -> list[PastEvent]:
        """Everything known of a user: what the model was trained on, then the events since, by time.

        All of it is by time where the model looks at times, and so knows those of its own histories.
        """
        [past] = self._known([user])
        if isinstance(past, ServingError):
            raise past
        own, row, since = past
        items = [self.items.texts[item] for item in own.tolist()] + [one.item for one in since]
        times = [None] * len(own) + [one.time / 1e6 for one in since]
        names = [None] * len(own) + [one.id for one in since]
        order = np.arange(len(items))
        if self._clock is not None:
            known = self._times(row, since, self._clock)
            times[: len(own)] = self._clock.in_seconds(known[: len(own)])
            order = known.argsort(kind="stable")
        return [PastEvent(items[at], times[at], names[at], self.title_of(items[at])) for at in order.tolist()]

    def find(self, words: str, *, limit: int) -> list[FoundItem]:
        """Items whose id or title contains the words, as `Search.rows` orders them."""
        found = [self.items.texts[row] for row in self._search.rows(words, limit=limit)]
        return [FoundItem(item, self.title_of(item)) for item in found]

    def title_of(self, item: str) -> str | None:
        """The title of an item, where it is known."""
        row = self.items.rows.get(item)
        return None if self.titles is None or row is None else self.titles[row]

    @cached_property
    def _search(self) -> Search:
        return Search(self.items.texts, self.titles)

    @cached_property
    def _markov(self) -> Markov:
        # Counted when it is first asked for: on large histories that takes a second and room of its own.
        return Markov.of(self.model.histories, items=len(self.items.texts))

    def _scorer(self, name: str | None) -> Scorer:
        """What ranks under one of the names in `scorers`."""
        if name is None:
            return self.model.scorer
        # A part of a blend that counts goes before what counts the whole histories.
        return self._parts.get(name) or (self._markov if name == Markov.kind else self.popularity)

    def _unlisted(self, name: str | None) -> Problem | None:
        """Why nothing ranks under a name; None where something does."""
        if name in (None, *self.scorers):
            return None
        return invalid(f"{name!r} is none of {', '.join(self.scorers)} - at `$.scorer`")

    def _about_one(self, request: Similar | Explain, past: Past | Problem) -> Answer | Problem:
        if str(request.item) not in self.items.rows:
            return Problem(UNKNOWN_ITEM, f"the model {self.version} does not know the item {str(request.item)!r}")
        if isinstance(request, Explain):
            return explain(self, request, past)
        return self._unlisted(request.scorer) or self._similar(request)

    def _pasts(self, users: list[str]) -> dict[str, Past | Problem]:
        if not users:
            return {}
        try:
            found = self._known(users)
        except ServingError as error:
            found = [error] * len(users)
        told = {str(one): None for one in found if isinstance(one, ServingError)}
        for text in told:
            LOGGER.error("%s", text)
        # Of such a user alone: those who are answered together with it have other rows.
        return {
            user: unread(one) if isinstance(one, ServingError) else one for user, one in zip(users, found, strict=True)
        }

    def _known(self, users: list[str]) -> list[Past | ServingError]:
        rows = [self.users.rows.get(user, -1) for user in users]
        # Of whom the model knows nothing, all events; and who is forgotten later has none from before that.
        places = [self._through if row >= 0 else 0 for row in rows]
        found: list[Past | ServingError] = []
        for row, one in zip(rows, self.store.known(list(zip(users, places, strict=True))), strict=True):
            if isinstance(one, ServingError):
                found.append(one)
            elif row < 0 or (one[0] is not None and one[0] > self._through):
                # What was trained on holds none of them, or no longer may.
                found.append(Past(_NONE, -1, one[1]))
            else:
                found.append(Past(self.model.histories[row], row, one[1]))
        return found

    def _times(self, user: int, since: Sequence[Stored], clock: Clock) -> np.ndarray:
        """When the events of `_known` happened, as the model's log counts it.

        Args:
            user: The user's row; -1 for nobody whom the model knows or may.
        """
        times, offsets = self.model.histories.times, self.model.histories.offsets
        own = _NONE if times is None or user < 0 else times[offsets[user] : offsets[user + 1]]
        return np.concatenate([own.astype(np.int64), clock.of_microseconds(one.time for one in since)])

    def understood(self, request: Recommend, past: Past | Problem) -> Question | Problem:
        """A request in rows, or why it cannot be answered. Args: past: What is known of its user."""
        if problem := self._unlisted(request.scorer) or untimely(request, needed=self._clock is not None):
            return problem
        if isinstance(past, Problem):
            return past
        own, user, since = past
        later, given = self.items.places(one.item for one in since), self.items.places(request.history)
        rows, times, asked = np.concatenate([own, later, given]), None, 0
        if self._clock is not None:
            known = self._times(user, since, self._clock)
            order = known.argsort(kind="stable")
            rows[: len(known)] = rows[order]
            # What is given follows what is known, and whoever gives it need not know of an event of a moment ago.
            times = np.concatenate([known[order], self._clock.of_seconds(request.times or ())])
            times = np.maximum.accumulate(times)[rows >= 0]
            asked = self._clock.asked(request.time, times)
        history = rows[rows >= 0]
        unknown = [str(one) for one, row in zip(request.history, given.tolist(), strict=True) if row < 0]
        denied, more = self.items.split(request.deny)
        allowed = None
        if request.allow is not None:
            allowed, missing = self.items.split(request.allow)
            more += missing
        seen = self.model.exclude_seen if request.exclude_seen is None else request.exclude_seen
        hidden = np.concatenate([history if seen else _NONE, np.array(denied, dtype=np.int32)])
        named = list(dict.fromkeys(unknown + more))
        scorer = self._scorer(request.scorer)
        return Question(history, user, request.k, hidden, allowed, named, scorer, times, asked)

    def _rank(self, questions: Sequence[Question]) -> list[Recommendation]:
        return [
            Recommendation(
                self._scored(items.tolist(), values.tolist()),
                "model" if len(one.history) else "popular",
                len(one.history),
                one.unknown,
                self.version,
            )
            for one, (values, items) in zip(questions, self.finder.best(questions), strict=True)
        ]

    def _similar(self, request: Similar) -> Similars | Problem:
        row = self.items.rows[request.item]
        try:
            scores = self._scorer(request.scorer).similarities(row)[np.newaxis]
        except ConfigError as error:
            return invalid(f"{error} - at `$.scorer`")
        scores[0, row] = -np.inf
        values, items = best(scores, request.k)
        check_finite(values)
        values = np.where(values > -np.inf, values.clip(-1, 1), values)  # rounding leads beyond
        return Similars(self._scored(items[0].tolist(), values[0].tolist()), self.version)

    def _scored(self, rows: list[int], scores: list[float]) -> list[Scored]:
        """Ids, scores and titles of the rows that may be recommended: those with a score above -inf."""
        return [
            Scored(self.items.texts[row], score, None if self.titles is None else self.titles[row])
            for row, score in zip(rows, scores, strict=True)
            if score > float("-inf")
        ]


def _titles(path: Path | None, items: Vocabulary) -> list[str | None] | None:
    """The title of every item row, None where an item has none; None where there is no file."""
    if path is None:
        return None
    known = read_titles(path, items)
    titles: list[str | None] = [None] * len(items)
    for row, title in zip(items.rows(known["item_id"].to_list()).tolist(), known["title"].to_list(), strict=True):
        titles[row] = title
    return titles
