"""Raw ids in, ranked ids out: the object that training gives and that is saved, loaded and served."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final, get_args

import numpy as np
import polars as pl

from sasrec import bundle
from sasrec.data.clock import When, in_order, in_unit, now
from sasrec.data.log import FrameKind, Log, TimeUnit
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Id, Vocabulary
from sasrec.errors import BundleError, ConfigError, UnknownIdError, check_flag, check_whole
from sasrec.files import as_path
from sasrec.retrieval.answers import Ids, Unknown, as_given, found, framed, listed
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.explaining import Explanation, explain
from sasrec.retrieval.scorers import Scorer, kind_of
from sasrec.retrieval.search import Ranking, Selection, Shortcut, scoring, search
from sasrec.retrieval.stream import write_frames
from sasrec.retrieval.topk import best, check_finite

_REQUEST_TIME = "that of the event to predict, in training, validation and evaluation"


@final
class Recommender:
    """A trained model together with the ids and histories that it speaks about.

    Every model is one of these, whether it is a network or only counts: what differs is the `scorer` inside.

    Attributes:
        scorer: What ranks; see `sasrec.retrieval.scorers.Scorer`.
        users: The users it knows.
        items: The catalogue.
        histories: Everything known of each user, oldest first.
        record: How it came to be: data, training, versions.
        index: What finds the best items of a large catalogue without scoring all; see `sasrec.indexed`.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        users: Vocabulary,
        items: Vocabulary,
        histories: Sequences,
        record: dict[str, Any] | None = None,
        frame: FrameKind = "polars",
        index: Shortcut | None = None,
    ) -> None:
        """Args: frame: Kind of frame to answer with where the question does not come in one."""
        if scorer.items != len(items):
            raise BundleError(f"the scorer ranks {scorer.items:,} items, the vocabulary holds {len(items):,}")
        self.scorer, self.users, self.items = scorer, users, items
        self.histories = replace(histories, users=np.arange(len(users)))
        self.record = record or {}
        if self.reads_times and (histories.times is None or self.time_unit is None):
            raise BundleError("the model looks at times, and does not know those of its histories, or their unit")
        self.index = index
        self.frame = frame

    def __repr__(self) -> str:
        return f"Recommender({self.kind}: {len(self.items):,} items, {len(self.users):,} users)"

    @classmethod
    def of_log(cls, scorer: Scorer, log: Log, *, record: dict[str, Any]) -> "Recommender":
        """For all users, items and complete histories of a log, answering in its kind of frame."""
        known = Sequences(log.histories.items, log.histories.offsets)
        if scorer.reads_times:
            known = replace(known, times=log.histories.times)
            record = {**record, "time_unit": log.source.time_unit, "request_time": _REQUEST_TIME}
        frame = log.source.frame or "polars"
        return cls(scorer, users=log.users, items=log.items, histories=known, record=record, frame=frame)

    @property
    def kind(self) -> str:
        """What it is called: the kind of its scorer, but "recent" for the popularity of the latest events alone."""
        return kind_of(self.scorer, self.record.get("best", {}))

    @property
    def exclude_seen(self) -> bool:
        """Whether recommendations leave out a user's own items unless told otherwise; chosen in training."""
        return bool(self.record.get("exclude_seen", True))

    @property
    def reads_times(self) -> bool:
        """Whether recommendations depend on when events happened and on when they are asked for."""
        return self.scorer.reads_times

    @property
    def time_unit(self) -> TimeUnit | None:
        """What the times of its histories count; None where it does not look at them."""
        unit = self.record.get("time_unit")
        return unit if unit in get_args(TimeUnit) else None

    def recommend(
        self,
        users: Ids,
        *,
        k: int = 10,
        exclude_seen: bool | None = None,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "raise",
        at: When | None = None,
    ) -> Any:
        """The next items for known users.

        Args:
            users: Raw user ids: a list, array, series or one-column frame.
            k: Items for each user; fewer where fewer may be recommended.
            exclude_seen: Leave out what the user had; None does as `exclude_seen` of the model says.
            allow: Raw item ids; only these are ranked.
            deny: Raw item ids that are never recommended.
            unknown: What to do about users that the model does not know: "raise", "skip" them with a warning, "ignore"
                them without one, or give them the "popular" items, marked so in a column `source`. Unknown items of
                `allow` and `deny` raise, too, or else are left out; where none to `allow` is known, nothing is allowed.
            at: For a model that looks at times, when the recommendation is asked for: a number in the unit of the
                log's times, or a date; None is now. A time before the last event counts as the time of that.

        Returns:
            A frame of the kind that `users` came in (else the kind the log came in or `load` was told) with columns
            user_id, item_id, score and rank (1 is best), in the order of `users`; with unknown="popular" also
            `source`: "model" or "popular".

        Raises:
            UnknownIdError: A user or an item of `allow` or `deny` is unknown (with unknown="raise").
            ConfigError: `k` or `unknown` is out of range, or `at` is no time or does not go with the model.
        """
        raw, kind = listed(users, what="users")
        rows = found(self.users, raw, unknown)
        if unknown in ("skip", "ignore"):
            raw, rows = [one for one, row in zip(raw, rows, strict=True) if row >= 0], rows[rows >= 0]
        known = np.flatnonzero(rows >= 0)
        selection = self._selection(k, exclude_seen=exclude_seen, allow=allow, deny=deny, unknown=unknown)
        histories = self._asked(self.histories.take(rows[known]), at)
        answer = Ranking.joined(self._search(histories, known, selection))
        nobody = np.flatnonzero(rows < 0) if unknown == "popular" else None
        return framed(self._answer(answer, selection, nobody, as_given(raw, rows, self.users)), kind or self.frame)

    def continue_from(
        self,
        history: Ids,
        *,
        k: int = 10,
        exclude_seen: bool | None = None,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "raise",
        times: Sequence[When] | None = None,
        at: When | None = None,
    ) -> Any:
        """The next items after a raw history, of a user whom the model need not know.

        Args:
            history: Raw item ids, oldest first.
            unknown: What to do about items of the history that the model does not know: "raise", "skip" them with a
                warning or "ignore" them without one; "popular" ignores them too, and answers with the popular items
                when nothing known is left.
            times: For a model that looks at times, that of every item of the history, as `at` of `recommend`.

        The other arguments are those of `recommend`.

        Returns:
            A frame with columns item_id, score and rank; with unknown="popular" also `source`.

        Raises:
            UnknownIdError: An item is unknown, or (unless "popular") the history holds no known item.
        """
        raw, kind = listed(history, what="history")
        clock = self._clock(times, events=len(raw))
        rows = found(self.items, raw, unknown)
        clock = None if clock is None else clock[rows >= 0]
        rows = rows[rows >= 0]
        if not len(rows) and unknown != "popular":
            raise UnknownIdError("history: no item of it is known to the model; unknown='popular' gives popular items")
        selection = self._selection(k, exclude_seen=exclude_seen, allow=allow, deny=deny, unknown=unknown)
        histories = self._asked(replace(Sequences.of([rows] if len(rows) else []), times=clock), at)
        answer = Ranking.joined(self._search(histories, np.arange(len(histories)), selection))
        nobody = np.arange(1 - len(histories)) if unknown == "popular" else None
        return framed(self._answer(answer, selection, nobody), kind or self.frame)

    def similar(self, item: Id, *, k: int = 10, allow: Ids | None = None, deny: Ids | None = None) -> Any:
        """The items most like one item, by cosine; never the item itself.

        Returns:
            A frame with columns item_id, score (cosine, in [-1, 1]) and rank.

        Raises:
            UnknownIdError: The item is unknown.
            ConfigError: The model counts popularity alone, which does not tell which items are alike.
        """
        row = int(self.items.known_rows([item])[0])
        selection = self._selection(k, exclude_seen=False, allow=allow, deny=deny)
        scores = self.scorer.similarities(row)[np.newaxis]
        scores[:, np.append(selection.hidden(len(self.items)), row)] = -np.inf
        answer = Ranking.of(*best(scores, selection.k), np.zeros(1, np.int64))
        answer.scores.clip(-1, 1, out=answer.scores)  # rounding leads beyond
        return framed(self._named(answer), self.frame)

    def score(
        self, history: Ids, candidates: Ids, *, times: Sequence[When] | None = None, at: When | None = None
    ) -> Any:
        """Scores of given items after a raw history, in the order of `candidates`; nothing is left out.

        Args:
            history: Raw item ids, oldest first; all known.
            candidates: Raw item ids; all known.
            times, at: As those of `continue_from`.

        Returns:
            A frame with columns item_id, score and rank among the candidates (1 is best; equal scores share a rank).

        Raises:
            UnknownIdError: An id is unknown, or the history is empty.
            ScoreError: A score is not a number.
        """
        raw, kind = listed(candidates, what="candidates")
        past = self.items.known_rows(listed(history, what="history")[0])
        if not len(past):
            raise UnknownIdError("history: is empty; a score needs at least one item")
        rows = self.items.known_rows(raw)
        asked = self._asked(replace(Sequences.of([past]), times=self._clock(times, events=len(past))), at)
        # Each item once: a product's last bit depends on the column, and copies of an item must not differ.
        distinct, places = np.unique(rows, return_inverse=True)
        scores = scoring(self.scorer, distinct)(asked)[0][places]
        check_finite(scores)
        answer = pl.DataFrame({"item_id": self.items.raw(rows), "score": scores})
        rank = pl.col("score").rank("min", descending=True).cast(pl.Int32)
        return framed(answer.with_columns(rank=rank), kind or self.frame)

    def explain(
        self,
        history: Ids,
        item: Id,
        *,
        user: Id | None = None,
        exclude_seen: bool | None = None,
        events: int = 20,
        unknown: Unknown = "raise",
        times: Sequence[When] | None = None,
        at: When | None = None,
    ) -> Explanation:
        """Which events of a history carry an item: its score and rank without each of the latest, and attention.

        Args:
            history: Raw item ids, oldest first; with `user` what came after all that the model knows of that user.
            item: Raw id of the item to explain; it is ranked even where it may not be recommended.
            user: Raw id of a known user.
            exclude_seen: Rank among what the user has not had; None does as `exclude_seen` of the model says.
            events: How many are explained at most; each costs as much as a recommendation.
            unknown: As that of `continue_from`; an unknown user has no history of their own.

        The other arguments are those of `continue_from`; a time before the last one known of `user` counts as that.

        Raises:
            UnknownIdError: An id is unknown, or (unless "popular") there is no known event.
            ConfigError: `events` is out of range, or as `continue_from`.
        """
        row, raw = int(self.items.known_rows([item])[0]), listed(history, what="history")[0]
        owner = found(self.users, [] if user is None else [user], unknown)
        own = self.histories.take(owner[owner >= 0])
        clock = self._clock(times, events=len(raw))
        rows = found(self.items, raw, unknown)
        past = np.concatenate([own.items, rows[rows >= 0]])
        if not len(past) and unknown != "popular":
            raise UnknownIdError("history: no item of it is known to the model; give some that are, or a known user")
        asked = replace(Sequences.of([past]), users=owner if len(owner) else None)
        if clock is not None and own.times is not None:
            clock = np.maximum.accumulate(np.concatenate([own.times, clock[rows >= 0]]))
            asked = replace(asked, times=clock)
        check_flag("exclude_seen", exclude_seen)
        return explain(
            self.scorer,
            self._asked(asked, at) if len(past) or not self.reads_times else asked,
            row,
            exclude_seen=self.exclude_seen if exclude_seen is None else exclude_seen,
            events=check_whole("events", events, least=1),
            popularity=self._popularity,
            ids=self.items.ids,
        )

    def recommend_all(
        self,
        path: str | Path,
        *,
        k: int = 10,
        exclude_seen: bool | None = None,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "raise",
        replace: bool = False,
        at: When | None = None,
    ) -> int:
        """Recommendations for every known user, streamed to a file in bounded memory: CSV (`.csv`) or else Parquet.

        The file has the columns of `recommend`, users in the order of their ids. It appears whole or not at all.
        A suffix other than `.csv` and `.parquet` is refused; there may be none. `allow`, `deny` and `at` are those of
        `recommend`, and so is `unknown`, which is about items of the two lists here.

        Returns:
            Rows written.

        Raises:
            OutputError: The file exists and `replace` is False, ends in another suffix, or cannot be written.
            UnknownIdError: An item of `allow` or `deny` is unknown (with unknown="raise").
        """
        selection = self._selection(k, exclude_seen=exclude_seen, allow=allow, deny=deny, unknown=unknown)
        ranked = self._search(self._asked(self.histories, at), np.arange(len(self.users)), selection)
        return write_frames(as_path(path), (self._named(some, self.users.ids) for some in ranked), replace=replace)

    def with_index(self, index: Shortcut) -> "Recommender":
        """The same model, which finds its answers by an index of its item vectors; see `sasrec.indexed`."""
        found = copy(self)
        found.index = index
        return found

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write the model as a folder, whole or not at all; see `sasrec.bundle`.

        Raises:
            OutputError: The path is taken (and `replace` is False) or cannot be written.
        """
        config, tensors = self.scorer.to_parts()
        content = bundle.Bundle(self.scorer.kind, config, self.users, self.items, self.histories, tensors, self.record)
        bundle.save(content, as_path(path), replace=replace)

    def _selection(
        self,
        k: int,
        *,
        exclude_seen: bool | None,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "raise",
    ) -> Selection:
        """What the caller's rules mean in rows; refuses a `k` that is none, and unknown items unless told otherwise."""

        def rows_of(ids: Ids | None, what: str) -> np.ndarray | None:
            rows = found(self.items, [] if ids is None else listed(ids, what=what)[0], unknown, depth=5)
            return None if ids is None else rows[rows >= 0]

        check_flag("exclude_seen", exclude_seen)
        return Selection.of(
            check_whole("k", k, least=1),
            exclude_seen=self.exclude_seen if exclude_seen is None else exclude_seen,
            items=len(self.items),
            allow=rows_of(allow, "allow"),
            deny=rows_of(deny, "deny"),
        )

    def _asked(self, histories: Sequences, at: When | None) -> Sequences:
        """Histories that are asked for what follows them at one time, if the model looks at it."""
        if not self.reads_times or self.time_unit is None or histories.times is None:
            if at is None:
                return histories
            raise ConfigError("at: this model does not look at times; leave it out")
        when = now(self.time_unit, name="at") if at is None else in_unit(at, self.time_unit, name="at")
        return replace(histories, asked=np.maximum(histories.times[histories.offsets[1:] - 1], when))

    def _clock(self, times: Sequence[When] | None, *, events: int) -> np.ndarray | None:
        """The times of a raw history, if the model looks at them."""
        if self.reads_times and self.time_unit is not None:
            return in_order(() if times is None and not events else times, self.time_unit, events=events)
        if times is not None:
            raise ConfigError("times: this model does not look at times; leave them out")
        return None

    def _search(self, histories: Sequences, places: np.ndarray, selection: Selection) -> Iterator[Ranking]:
        return search(self.scorer, histories, places, selection, index=self.index)

    def _answer(
        self, answer: Ranking, selection: Selection, nobody: np.ndarray | None, users: pl.Series | None = None
    ) -> pl.DataFrame:
        """The answer as a frame; with popular items in the places of `nobody`, each row marked with its source."""
        if nobody is None:
            return self._named(answer, users)
        strangers = Sequences.of([[]] * len(nobody))
        popular = Ranking.joined(search(self._popularity, strangers, nobody, replace(selection, exclude_seen=False)))
        both = Ranking.joined([answer, popular])
        order = np.lexsort((both.ranks, both.places))
        source = np.repeat([0, 1], [len(answer.items), len(popular.items)])[order]
        named = self._named(both.take(order), users)
        return named.with_columns(source=pl.Series(["model", "popular"], dtype=pl.String)[pl.Series(source)])

    @cached_property
    def _popularity(self) -> Popularity:
        return Popularity.of(self.histories, items=len(self.items))

    def _named(self, answer: Ranking, users: pl.Series | None = None) -> pl.DataFrame:
        """Raw ids in the place of rows; `users[place]` is the user of an answer's row."""
        columns = [] if users is None else [users[pl.Series(answer.places.astype(np.uint32))].alias("user_id")]
        items = self.items.raw(answer.items).alias("item_id")
        return pl.DataFrame([*columns, items, pl.Series("score", answer.scores), pl.Series("rank", answer.ranks)])
