"""Counting: models that need no training, each with the best of a few settings by validation."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, get_args

import numpy as np

from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Split, known_split
from sasrec.errors import ConfigError
from sasrec.evaluation.ranking import validated
from sasrec.retrieval.content import Content, Recency, feature_tensors
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.ease import EASE, ease
from sasrec.retrieval.linked import KNN, RULES, Linked, Linking
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.training.costs import Clock
from sasrec.training.machine import describe
from sasrec.training.progress import told
from sasrec.training.settling import check_enough, check_fitting, has_repeats

Countable = Literal["popularity", "recent", "markov", "rules", "knn", "ease", "content"]
"""The models that `count` knows: "recent" is the popularity of the latest events alone."""

_LATEST = (0.02, 0.1, 0.3)
_GRIDS = {
    "rules": [replace(RULES, discount=discount, decay=decay) for discount in (0.0, 0.25) for decay in (0.5, 0.65, 0.8)],
    "knn": [replace(KNN, discount=discount, decay=decay) for discount in (0.3, 0.5) for decay in (0.5, 0.65, 0.8)],
    "ease": [replace(EASE, l2=l2, decay=decay) for l2 in (200.0, 1000.0) for decay in (0.8, 0.9)],
}

_RECENCIES = [Recency(last=last, decay=decay) for last in (3, 10) for decay in (0.5, 0.65, 0.8)]

_SEARCHED = {"rules": ("discount", "decay"), "knn": ("discount", "decay"), "ease": ("l2", "decay")}


def count(
    data: Split,
    model: Countable = "rules",
    *,
    features: Features | None = None,
    progress: bool | None = None,
) -> Recommender:
    """Count a model on the training part, with the settings that rank the validation part best.

    Tried are: the latest 2, 10 and 30 % of events for "recent"; discounts of 0 and 0.25 with decays of 0.5, 0.65 and
    0.8 for "rules"; discounts of 0.3 and 0.5 with the same decays for "knn"; penalties of 200 and 1,000 with decays of
    0.8 and 0.9 for "ease"; the last 3 and 10 events with decays of 0.5, 0.65 and 0.8 for "content". The test part is
    never looked at.

    Args:
        model: "popularity", "recent" (popularity of the latest events), "markov" (what followed the last item),
            "rules" (what soon followed the last items), "knn" (what shares histories with them), "ease" (what tells
            items of a user from others, in closed form: minutes for 10,000 items, and no more than 16,384) or "content"
            (what is like the last items, whoever had it).
        features: Categories and vectors of the items, for "content" alone; see `sasrec.read_features`.
        progress: True tells on standard error what is tried, False nothing; None does so on a terminal.

    Returns:
        A recommender of all users, items and complete histories of the log; its `record` holds what was tried.

    Raises:
        ConfigError: There is no such model, the catalogue is too large for it, or features are missing or not its.
        DataError: There is nothing to count, or nobody to validate on, or features are of another catalogue.
    """
    check_countable(model)
    train, valid, tell = known_split(data).train, data.valid, told(progress)
    check_enough(data, train, valid)
    _check_needed(data, model, features)
    clock = Clock()
    exclude_seen = not has_repeats(valid)
    found: list[tuple[dict[str, Any], Scorer]] = []
    for settings, scorer in _choices(model, train, features, items=len(data.log.items)):
        score, hits = validated(scorer, valid, exclude_seen=exclude_seen)
        found.append(({**settings, "ndcg": score, "hit_rate": hits}, scorer))
        words = "".join(f"{name}={value} " for name, value in settings.items())
        tell(f"{model}: {words}valid NDCG@10 {score:.4f}  HR@10 {hits:.4f}")
    best, chosen = max(found, key=lambda one: one[0]["ndcg"])
    record = {
        "data": data.fingerprint,
        "split": data.rule,
        "exclude_seen": exclude_seen,
        **({} if features is None else features.record()),
        "counted": model,
        "tried": [tried for tried, _ in found],
        "best": best,
        **clock.record(),
        **describe(),
    }
    return Recommender.of_log(chosen, data.log, record=record)


def check_countable(model: object) -> None:
    """Refuse what is no name of a model that counts; ConfigError."""
    if model not in get_args(Countable):
        raise ConfigError(f"model: expected one of {', '.join(get_args(Countable))}, found {model!r}")


def _check_needed(data: Split, model: Countable, features: Features | None) -> None:
    """Content needs features of this catalogue, and nothing else looks at them."""
    if model == "content" and features is None:
        raise ConfigError(
            "features: content ranks by what items are, which a table of items tells; give sasrec.read_features(...)"
        )
    if model != "content" and features is not None:
        raise ConfigError(f"features: {model!r} knows items by who had them alone; leave them out, or count 'content'")
    check_fitting(data, features)


def _choices(
    model: Countable, train: Sequences, features: Features | None, *, items: int
) -> Iterator[tuple[dict[str, Any], Scorer]]:
    """What is tried, with the settings that tell it from the others."""
    if model == "popularity":
        yield {}, Popularity.of(train, items=items)
    elif model == "recent":
        for share in _LATEST:
            yield {"recent": share}, recently_popular(train, items=items, share=share)
    elif model == "markov":
        yield {}, Markov.of(train, items=items)
    elif model == "content":
        for recency in _RECENCIES:
            yield asdict(recency), Content.of(feature_tensors(features), items=items, settings=recency)
    else:
        made: Linked | None = None
        for settings in _GRIDS[model]:
            # Discount and decay are of how links are followed: they need no other ones.
            if made is None or settings.l2 != made.settings.l2:
                made = _linked(settings, train, items=items)
            differing = {name: getattr(settings, name) for name in _SEARCHED[model]}
            yield differing, Linked(settings, made.links, made.counts)


def recently_popular(train: Sequences, *, items: int, share: float) -> Popularity:
    """Popularity of the latest events alone.

    Args:
        share: Share of the events to count, in (0, 1]: the latest of all, or where the histories have no times the
            last ones of each history.
    """
    if train.times is not None:
        # The least time that is no earlier than the quantile, which as a float would not tell nanoseconds apart.
        place = math.ceil(round((len(train.times) - 1) * (1 - share), 6))
        counted = train.items[train.times >= np.partition(train.times, place)[place]]
    else:
        kept = np.ceil(train.lengths * share).astype(np.int64)
        counted = train.slices(np.arange(len(train)), train.lengths - kept, train.lengths).items
    return Popularity(np.bincount(counted, minlength=items).astype(np.float32))


def _linked(settings: Linking, train: Sequences, *, items: int) -> Linked:
    return (ease if settings.kind == "ease" else Linked.of)(train, items=items, settings=settings)


def recounted(scorer: Scorer, train: Sequences, chosen: Mapping[str, Any]) -> Scorer | None:
    """A counted scorer once more, of other histories of its catalogue; None where it is of another kind.

    Args:
        chosen: What validation chose of it, as records have it under "best".
    """
    items = scorer.items
    if isinstance(scorer, Popularity):
        if "recent" in chosen:
            return recently_popular(train, items=items, share=chosen["recent"])
        return Popularity.of(train, items=items)
    if isinstance(scorer, Markov):
        return Markov.of(train, items=items)
    if isinstance(scorer, Linked):
        return _linked(scorer.settings, train, items=items)
    return scorer if isinstance(scorer, Content) else None  # content counts nothing of histories
