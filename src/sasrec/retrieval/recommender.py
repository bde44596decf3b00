"""Raw ids in, ranked ids out: the object that training gives and that is saved, loaded and served."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, final, get_args

import numpy as np
import polars as pl
import torch

from sasrec import bundle
from sasrec.data.log import FrameKind
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Id, Vocabulary
from sasrec.errors import BundleError, ConfigError, UnknownIdError
from sasrec.retrieval.answers import Ids, Unknown, framed, listed
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.scorers import Scorer
from sasrec.retrieval.stream import write_parquet
from sasrec.retrieval.topk import best, blocks, check_finite, hide, hide_items

_RANKING = pl.Schema({"place": pl.Int64, "item": pl.Int64, "score": pl.Float32, "rank": pl.Int32})
_SCORERS: dict[str, type[Scorer]] = {scorer.kind: scorer for scorer in (Neural, Popularity, Markov)}


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
    ) -> None:
        """Args: frame: Kind of frame to answer with where the question does not come in one."""
        if scorer.items != len(items):
            raise BundleError(f"the scorer ranks {scorer.items:,} items, the vocabulary holds {len(items):,}")
        self.scorer, self.users, self.items = scorer, users, items
        self.histories = replace(histories, users=np.arange(len(users)))
        self.record = record or {}
        self._frame = frame

    @property
    def exclude_seen(self) -> bool:
        """Whether recommendations leave out a user's own items unless told otherwise; chosen in training."""
        return bool(self.record.get("exclude_seen", True))

    def recommend(
        self,
        users: Ids,
        *,
        k: int = 10,
        exclude_seen: bool | None = None,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "raise",
    ) -> Any:
        """The next items for known users.

        Args:
            users: Raw user ids: a list, array, series or one-column frame.
            k: Items for each user; fewer where fewer may be recommended.
            exclude_seen: Leave out what the user had; None does as `exclude_seen` of the model says.
            allow: Raw item ids; only these are ranked.
            deny: Raw item ids that are never recommended.
            unknown: What to do about users that the model does not know: "raise", "skip" them with a warning, "ignore"
                them without one, or give them the "popular" items, marked so in a column `source`.

        Returns:
            A frame of the kind that `users` came in (else the kind the log came in or `load` was told) with columns
            user_id, item_id, score and rank (1 is best), in the order of `users`; with unknown="popular" also
            `source`: "model" or "popular".

        Raises:
            UnknownIdError: A user (with unknown="raise") or an item of `allow` or `deny` is unknown.
            ConfigError: `k` or `unknown` is out of range.
        """
        raw, kind = listed(users, what="users")
        rows = _found(self.users, raw, unknown)
        if unknown in ("skip", "ignore"):
            raw, rows = [one for one, row in zip(raw, rows, strict=True) if row >= 0], rows[rows >= 0]
        known = np.flatnonzero(rows >= 0)
        hidden = self._hidden(allow, deny)
        answer = _joined(
            self._ranked(self.histories.take(rows[known]), known, k=k, exclude_seen=exclude_seen, hidden=hidden)
        )
        if unknown == "popular":
            answer = self._with_popular(answer, np.flatnonzero(rows < 0), k=k, hidden=hidden)
        return framed(self._named(answer, _as_given(raw, rows, self.users)), kind or self._frame)

    def continue_from(
        self,
        history: Ids,
        *,
        k: int = 10,
        exclude_seen: bool | None = None,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "raise",
    ) -> Any:
        """The next items after a raw history, of a user whom the model need not know.

        Args:
            history: Raw item ids, oldest first.
            unknown: What to do about items of the history that the model does not know: "raise", "skip" them with a
                warning or "ignore" them without one; "popular" ignores them too, and answers with the popular items
                when nothing known is left.

        The other arguments are those of `recommend`.

        Returns:
            A frame with columns item_id, score and rank; with unknown="popular" also `source`.

        Raises:
            UnknownIdError: An item is unknown, or (unless "popular") the history holds no known item.
        """
        raw, kind = listed(history, what="history")
        rows = _found(self.items, raw, unknown)
        rows = rows[rows >= 0]
        if not len(rows) and unknown != "popular":
            raise UnknownIdError("history: no item of it is known to the model; unknown='popular' gives popular items")
        hidden = self._hidden(allow, deny)
        histories = Sequences.of([rows] if len(rows) else [])
        answer = _joined(
            self._ranked(histories, np.arange(len(histories)), k=k, exclude_seen=exclude_seen, hidden=hidden)
        )
        if unknown == "popular":
            answer = self._with_popular(answer, np.arange(1 - len(histories)), k=k, hidden=hidden)
        return framed(self._named(answer), kind or self._frame)

    @torch.inference_mode()
    def similar(self, item: Id, *, k: int = 10, allow: Ids | None = None, deny: Ids | None = None) -> Any:
        """The items most like one item, by cosine; never the item itself.

        Returns:
            A frame with columns item_id, score (cosine, in [-1, 1]) and rank.

        Raises:
            UnknownIdError: The item is unknown.
        """
        row = int(self.items.known_rows([item])[0])
        scores = self.scorer.similarities(row).clone().unsqueeze(0)
        scores[0, row] = float("-inf")
        hide_items(scores, self._hidden(allow, deny))
        return framed(self._named(_ranking(scores, np.zeros(1, np.int64), k=_checked_k(k))), self._frame)

    def score(self, history: Ids, candidates: Ids) -> Any:
        """Scores of given items after a raw history, in the order of `candidates`; nothing is left out.

        Args:
            history: Raw item ids, oldest first; all known.
            candidates: Raw item ids; all known.

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
        scores = self.scorer.scores(Sequences.of([past]))[0]
        check_finite(scores)
        answer = pl.DataFrame({"item_id": self.items.raw(rows), "score": scores.numpy()[rows]})
        rank = pl.col("score").rank("min", descending=True).cast(pl.Int32)
        return framed(answer.with_columns(rank=rank), kind or self._frame)

    def recommend_all(
        self, path: str | Path, *, k: int = 10, exclude_seen: bool | None = None, replace: bool = False
    ) -> int:
        """Recommendations for every known user, streamed to a Parquet file in bounded memory.

        The file has the columns of `recommend`, users in the order of their ids. It appears whole or not at all.

        Returns:
            Rows written.

        Raises:
            OutputError: The file exists and `replace` is False, or cannot be written.
        """
        everybody = np.arange(len(self.users))
        ranked = self._ranked(self.histories, everybody, k=k, exclude_seen=exclude_seen, hidden=None)
        return write_parquet(Path(path), (self._named(some, self.users.ids) for some in ranked), replace=replace)

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write the model as a folder, whole or not at all; see `sasrec.bundle`.

        Raises:
            OutputError: The path is taken (and `replace` is False) or cannot be written.
        """
        config, tensors = self.scorer.to_parts()
        content = bundle.Bundle(self.scorer.kind, config, self.users, self.items, self.histories, tensors, self.record)
        bundle.save(content, Path(path), replace=replace)

    def _hidden(self, allow: Ids | None, deny: Ids | None) -> torch.Tensor | None:
        """True at items that may not be recommended to anybody; None where all may."""
        if allow is None and deny is None:
            return None
        hidden = torch.full((len(self.items),), allow is not None)
        if allow is not None:
            hidden[self.items.known_rows(listed(allow, what="allow")[0])] = False
        if deny is not None:
            hidden[self.items.known_rows(listed(deny, what="deny")[0])] = True
        return hidden

    def _ranked(
        self,
        histories: Sequences,
        places: np.ndarray,
        *,
        k: int,
        exclude_seen: bool | None,
        hidden: torch.Tensor | None,
    ) -> Iterator[pl.DataFrame]:
        """Rankings block by block, as `_ranking` gives them; `places[i]` names history i in the answer."""
        k = _checked_k(k)
        seen = self.exclude_seen if exclude_seen is None else exclude_seen
        for rows in blocks(len(histories), items=len(self.items)):
            yield _rank_block(self.scorer, histories.take(rows), places[rows], k=k, seen=seen, hidden=hidden)

    def _with_popular(
        self, answer: pl.DataFrame, places: np.ndarray, *, k: int, hidden: torch.Tensor | None
    ) -> pl.DataFrame:
        """The answer with popular items in the given places, each row marked with its source."""
        if not len(places):
            return answer.with_columns(source=pl.lit("model"))
        nobody = Sequences.of([[]] * len(places))
        popular = _rank_block(self._popularity, nobody, places, k=_checked_k(k), seen=False, hidden=hidden)
        both = pl.concat([answer.with_columns(source=pl.lit("model")), popular.with_columns(source=pl.lit("popular"))])
        return both.sort("place", "rank")

    @cached_property
    def _popularity(self) -> Popularity:
        return Popularity.of(self.histories, items=len(self.items))

    def _named(self, answer: pl.DataFrame, users: pl.Series | None = None) -> pl.DataFrame:
        """Raw ids in the place of rows; `users[place]` is the user of an answer's row."""
        named = answer.with_columns(item_id=self.items.raw(answer["item"].to_numpy()))
        columns = ["item_id", "score", "rank"]
        if users is not None:
            named = named.with_columns(user_id=users.gather(answer["place"]))
            columns = ["user_id", *columns]
        return named.select(*columns, *(["source"] if "source" in answer.columns else []))


def load(path: str | Path, *, frame: FrameKind = "polars") -> Recommender:
    """Read a model that `Recommender.save` or `sasrec train` wrote, checking every byte of it.

    Args:
        frame: Kind of frame to answer with where the question does not come in one: "polars", "pandas" or "pyarrow".
            That of the log is not kept, as its library need not be where the model is used.

    Raises:
        ConfigError: There is no such `frame`.
        BundleError: The folder is missing, foreign, damaged or written by a newer sasrec.
    """
    if frame not in get_args(FrameKind):
        raise ConfigError(f"frame: expected 'polars', 'pandas' or 'pyarrow', found {frame!r}")
    content = bundle.load(Path(path))
    scorer = _SCORERS.get(content.kind)
    if scorer is None:
        raise BundleError(f"{path}: holds a model of kind {content.kind!r}; this sasrec knows {', '.join(_SCORERS)}")
    try:
        made = scorer.from_parts(len(content.items), content.config, content.tensors)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    return Recommender(
        made,
        users=content.users,
        items=content.items,
        histories=content.histories,
        record=content.record,
        frame=frame,
    )


@torch.inference_mode()
def _rank_block(
    scorer: Scorer, histories: Sequences, places: np.ndarray, *, k: int, seen: bool, hidden: torch.Tensor | None
) -> pl.DataFrame:
    """Score and rank for a block of histories small enough to hold all their scores."""
    scores = scorer.scores(histories)
    if seen:
        hide(scores, histories)
    hide_items(scores, hidden)
    return _ranking(scores, places, k=k)


def _ranking(scores: torch.Tensor, places: np.ndarray, *, k: int) -> pl.DataFrame:
    """The best k of each row of scores as columns place, item, score, rank; hidden items never appear.

    Raises:
        ScoreError: A score is NaN or +inf, which no order can be trusted with.
    """
    values, items = best(scores, k)
    check_finite(values)
    kept = (values > float("-inf")).numpy().ravel()
    count = values.shape[1]
    return pl.DataFrame(
        {
            "place": np.repeat(places, count)[kept],
            "item": items.numpy().ravel()[kept],
            "score": values.numpy().ravel()[kept],
            "rank": np.tile(np.arange(1, count + 1, dtype=np.int32), len(values))[kept],
        },
        schema=_RANKING,
    )


def _joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=_RANKING), *frames])


def _found(ids: Vocabulary, raw: list[Id], unknown: Unknown) -> np.ndarray:
    """Rows of raw ids, -1 where unknown; raises or warns of those as the caller chose."""
    if unknown not in get_args(Unknown):
        raise ConfigError(f"unknown: expected 'raise', 'skip', 'ignore' or 'popular', found {unknown!r}")
    if unknown == "raise":
        return ids.known_rows(raw)
    rows = ids.rows(raw)
    if unknown == "skip" and (rows < 0).any():
        missing = [one for one, row in zip(raw, rows, strict=True) if row < 0]
        warnings.warn(f"skipped {ids.unknown_message(missing)}", stacklevel=3)
    return rows


def _as_given(raw: list[Id], rows: np.ndarray, ids: Vocabulary) -> pl.Series:
    """The model's own ids where it knows them, else the given ones; all as text where one of these does not fit."""
    own = ids.raw(np.maximum(rows, 0))
    unknown = np.flatnonzero(rows < 0)
    if not len(unknown):
        return own
    shown: list[object] = own.to_list()
    for place in unknown:
        shown[place] = raw[place]
    fitting = Integral if ids.integer else str
    try:
        if all(isinstance(one, fitting) and not isinstance(one, bool) for one in shown):
            return pl.Series(shown, dtype=ids.ids.dtype)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):  # an integer that is too large
        pass
    return pl.Series([str(one) for one in shown], dtype=pl.String)


def _checked_k(k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ConfigError(f"k: expected an integer >= 1, found {k!r}")
    return k
