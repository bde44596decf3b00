"""Why an item is recommended: what the network looks at after a history, and what would change without each event.

The two answer different questions. Attention is the same whatever item is asked about, and tells where the state comes
from; leaving an event out tells what it does for the one item, through whatever path.

Axes: L events of a history, B histories.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Float

from sasrec.data.sequences import Sequences, offsets_of
from sasrec.data.vocab import Id
from sasrec.retrieval.answers import columns
from sasrec.retrieval.scorers import Scorer
from sasrec.retrieval.topk import blocks, check_finite
from sasrec.words import counted


@runtime_checkable
class Attentive(Scorer, Protocol):
    """A scorer that can tell what it looks at."""

    def attention(self, history: Sequences) -> Float[np.ndarray, "L"] | None:
        """The share of its attention that the last position of one history gives to each of the latest L events.

        The mean over blocks and heads; None where the network has no attention.
        """
        ...


@dataclass(frozen=True)
class ExplainedEvent:
    """An event of a history, and what it does for an item.

    Attributes:
        event: Its place in the history, from 1; what the model does not know is not counted.
        item_id: What the user had.
        attention: Share of what the network looks at after the history, whatever the item; they sum to 1 over the
            history, and events beyond the network's length have 0. None where nothing looks at anything.
        score_without: The item's score if the event had not been; None where no other event is known, as the answer
            would be the popular items then.
        rank_without: Its rank likewise, in that case among the popular items.
    """

    event: int
    item_id: Id
    attention: float | None
    score_without: float | None
    rank_without: int


@dataclass(frozen=True)
class Explanation:
    """An item's place after a history, and what each of the latest events does for it; `print` shows it as a table.

    Attributes:
        item_id: The item.
        score: After the whole history.
        rank: Likewise, 1 is best; among what may be recommended and the item itself. Of equal scores the item of the
            lower row is first.
        events: The latest, the oldest of them first.
        source: What ranks: the model, or popularity where nothing of the history is known.
        used_history: Events of the history that the model knows.
    """

    item_id: Id
    score: float
    rank: int
    events: tuple[ExplainedEvent, ...]
    source: Literal["model", "popular"]
    used_history: int

    def summary(self) -> str:
        """The item's place, in words."""
        place = f"score {self.score:.4f}, rank {self.rank:,}"
        if self.source == "popular":
            return f"{place} of the popular items, as nothing of the history is known"
        return f"{place} after {counted(self.used_history, 'event')}"

    def __str__(self) -> str:
        rows = [["event", "item_id", "attention", "score_without", "rank_without"]]
        for one in self.events:
            numbers = ("" if value is None else f"{value:.4f}" for value in (one.attention, one.score_without))
            rows.append([f"{one.event}", f"{one.item_id}", *numbers, f"{one.rank_without}"])
        return "\n".join([f"{self.item_id}: {self.summary()}", *(columns(rows, left=(1,)) if self.events else ())])

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {**asdict(self), "events": [asdict(one) for one in self.events]}


def explain(
    scorer: Scorer,
    history: Sequences,
    item: int,
    *,
    exclude_seen: bool,
    events: int,
    popularity: Scorer,
    ids: Sequence[Id] | pl.Series,
) -> Explanation:
    """The item's score and rank after the whole history, and after the history without each of its latest events.

    What may not be recommended stays the same without an event, or an item that was left out would pass the one that
    is explained. The other events keep their times, and the request its own.

    Args:
        history: One, with all that the scorer reads; it may be empty.
        item: Its row.
        exclude_seen: Rank among what is not in the history; the item is ranked even if it is there.
        events: How many are explained at most; each costs as much as a recommendation.
        popularity: What ranks where there is no history.
        ids: The id of every item row, as the explanation shall have it.

    Raises:
        ScoreError: The model gives scores that are not numbers.
    """
    length = len(history.items)
    latest = range(max(length - events, 0), length)
    left_out = [[], *([at] for at in latest)]
    some = len(left_out) if length > 1 else length  # of no event, or without the only one, no history is left
    hidden = history.items[history.items != item] if exclude_seen else history.items[:0]
    (score, rank), *changed = [
        *_placed(scorer, history, left_out[:some], item, hidden),
        *_placed(popularity, history, left_out[some:], item, hidden),
    ]
    shares = _attention(scorer, history)
    explained = (
        ExplainedEvent(
            event=at + 1,
            item_id=ids[int(history.items[at])],
            attention=None if shares is None else float(shares[at]),
            score_without=score_without if length > 1 else None,
            rank_without=rank_without,
        )
        for at, (score_without, rank_without) in zip(latest, changed, strict=True)
    )
    return Explanation(ids[item], score, rank, tuple(explained), "model" if length else "popular", length)


def _attention(scorer: Scorer, history: Sequences) -> Float[np.ndarray, "L"] | None:
    """The share of its attention that the last position gives to each event; 0 beyond the network's length."""
    if not isinstance(scorer, Attentive) or not len(history.items):
        return None
    looked = scorer.attention(history)
    return None if looked is None else np.pad(looked, (len(history.items) - len(looked), 0))


def _without(history: Sequences, left_out: Sequence[list[int]]) -> Sequences:
    """One history several times, each time without the events at some places."""
    kept = [np.delete(np.arange(len(history.items)), places) for places in left_out]
    events = np.concatenate(kept)
    return Sequences(
        history.items[events],
        offsets_of([len(one) for one in kept]),
        times=None if history.times is None else history.times[events],
        users=None if history.users is None else history.users.repeat(len(kept)),
        asked=None if history.asked is None else history.asked.repeat(len(kept)),
    )


def _placed(
    scorer: Scorer, history: Sequences, left_out: Sequence[list[int]], item: int, hidden: np.ndarray
) -> list[tuple[float, int]]:
    """The score and the rank of one item after a history without the events at some places, for each such list."""
    placed: list[tuple[float, int]] = []
    for rows in blocks(len(left_out), items=max(scorer.items, len(history.items))):
        scores = scorer.scores(_without(history, left_out[rows[0] : rows[-1] + 1]))
        scores[:, hidden] = -np.inf
        check_finite(scores)
        own = scores[:, item : item + 1]
        above = (scores > own).sum(axis=1) + (scores[:, :item] == own).sum(axis=1)
        placed += zip(own[:, 0].tolist(), (above + 1).tolist(), strict=True)
    return placed
