"""Why an item is recommended: what the network looks at after a history, and what would change without each event.

The two answer different questions. Attention is the same whatever item is asked about, and tells where the state comes
from; leaving an event out tells what it does for the one item, through whatever path.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from sasrec.data.sequences import Sequences
from sasrec.retrieval.scorers import Scorer
from sasrec.retrieval.topk import check_finite
from sasrec.serving.api import Explain, ExplainedEvent, Explanation, Recommend
from sasrec.serving.finding import Question, histories
from sasrec.serving.problems import Problem

if TYPE_CHECKING:
    from sasrec.serving.answering import Past, Served


@runtime_checkable
class Attentive(Scorer, Protocol):
    """A scorer that can tell what it looks at."""

    def attention(self, history: Sequences) -> Float[np.ndarray, "L"] | None:
        """The share of its attention that the last position of one history gives to each of the latest L events.

        The mean over blocks and heads; None where the network has no attention.
        """
        ...


def explain(served: "Served", asked: Explain, past: "Past | Problem") -> Explanation | Problem:
    """The item's score and rank after the whole history, and after the history without each of its latest events.

    What may not be recommended stays the same without an event, or an item that was left out would pass the one that
    is explained.

    Args:
        asked: About an item that the model knows.
        past: What is known of its user.

    Raises:
        ScoreError: The model gives scores that are not numbers.
    """
    row = served.items.rows[str(asked.item)]
    question = served.understood(
        Recommend(
            asked.user,
            asked.history,
            asked.times,
            asked.time,
            exclude_seen=asked.exclude_seen,
            scorer=asked.scorer,
        ),
        past,
    )
    if isinstance(question, Problem):
        return question
    question = replace(question, hidden=question.hidden[question.hidden != row])
    history = question.history
    latest = range(max(len(history) - asked.events, 0), len(history))
    (score, rank), *changed = _placed(served, row, [question, *(question.without(at) for at in latest)])
    shares = attention(question)
    texts = served.items.texts
    events = [
        ExplainedEvent(
            item=texts[history[at]],
            attention=None if shares is None else float(shares[at]),
            score_without=score_without if len(history) > 1 else None,
            rank_without=rank_without,
            title=served.title_of(texts[history[at]]),
        )
        for at, (score_without, rank_without) in zip(latest, changed, strict=True)
    ]
    return Explanation(
        item=texts[row],
        score=score,
        rank=rank,
        events=events,
        source="model" if len(history) else "popular",
        used_history=len(history),
        unknown_items=question.unknown,
        model_version=served.version,
        title=served.title_of(texts[row]),
    )


def attention(question: Question) -> np.ndarray | None:
    """The share of its attention that the network's last position gives to each event; they sum to 1.

    The mean over blocks and heads; 0 for events beyond the network's length. None where nothing looks at anything: no
    history, a model that counts, a network without attention.
    """
    scorer = question.scorer
    if not isinstance(scorer, Attentive) or not len(question.history):
        return None
    looked = scorer.attention(histories([question]))
    return None if looked is None else np.pad(looked, (len(question.history) - len(looked), 0))


def _placed(served: "Served", row: int, questions: Sequence[Question]) -> list[tuple[float, int]]:
    """The score and the rank of one item in the answer to each question."""
    placed: dict[int, tuple[float, int]] = {}
    for places in served.finder.together(questions):
        scores = served.finder.scores([questions[at] for at in places])
        own = scores[:, row : row + 1]
        check_finite(own)
        above = (scores > own).sum(axis=1) + (scores[:, :row] == own).sum(axis=1)
        placed.update(zip(places, zip(own[:, 0].tolist(), (above + 1).tolist(), strict=True), strict=True))
    return [placed[at] for at in range(len(questions))]
