"""Which events of a history carry an item, as an answer over HTTP; `sasrec.retrieval.explaining` finds it out."""

from typing import TYPE_CHECKING

from sasrec.retrieval import explaining
from sasrec.serving.api import Explain, ExplainedEvent, Explanation, Recommend
from sasrec.serving.finding import histories
from sasrec.serving.problems import Problem

if TYPE_CHECKING:
    from sasrec.serving.answering import Past, Served


def explain(served: "Served", asked: Explain, past: "Past | Problem") -> Explanation | Problem:
    """The item's place after all that is known of the user, and without each of the latest events.

    Args:
        asked: About an item that the model knows.
        past: What is known of its user.

    Raises:
        ScoreError: The model gives scores that are not numbers.
    """
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
    texts = served.items.texts
    found = explaining.explain(
        question.scorer,
        histories([question]),
        served.items.rows[str(asked.item)],
        exclude_seen=served.model.exclude_seen if asked.exclude_seen is None else asked.exclude_seen,
        events=asked.events,
        popularity=served.popularity,
        ids=texts,
    )
    events = [
        ExplainedEvent(
            item=str(one.item_id),
            attention=one.attention,
            score_without=one.score_without,
            rank_without=one.rank_without,
            title=served.title_of(str(one.item_id)),
        )
        for one in found.events
    ]
    return Explanation(
        item=str(found.item_id),
        score=found.score,
        rank=found.rank,
        events=events,
        source=found.source,
        used_history=found.used_history,
        unknown_items=question.unknown,
        model_version=served.version,
        title=served.title_of(str(found.item_id)),
    )
