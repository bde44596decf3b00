"""indexed(): a model that finds its answers in a large catalogue without scoring all of it."""

from dataclasses import replace

import numpy as np

from sasrec.errors import ConfigError, check_kind, check_whole
from sasrec.retrieval.coarse import Coarse
from sasrec.retrieval.index import Index
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import has_vectors

_MEASURED = 1024  # users whose best items tell how much a coarse index finds


def indexed(model: Recommender, *, overlap: float | None = None, k: int = 10) -> Recommender:
    """The same model with an index of its item vectors, which is made now and is not saved.

    Args:
        overlap: None answers as the model does without it, only sooner. A share such as 0.999 is content to find so
            much of the exact best k on average: known users settle how much is searched, others of them tell what
            share was found, in `overlap` of the model's `index`.
        k: Most items for which the share is to hold; longer answers are exact.

    Raises:
        ConfigError: The model has no item vectors, as those that count have none, or `overlap` or `k` is out of range.
        ScoreError: The vectors are not finite.
    """
    check_kind("model", model, Recommender, advice="load one with sasrec.load(path)")
    scorer = model.scorer
    if not has_vectors(scorer):
        raise ConfigError(f"a model of kind {scorer.kind!r} has no item vectors to index; use it as it is")
    k = check_whole("k", k, least=1)
    if overlap is None:
        return model.with_index(Index(scorer.table()))
    users = np.flatnonzero(model.histories.lengths)
    some = users[np.linspace(0, len(users) - 1, min(_MEASURED, len(users)), dtype=np.int64)] if len(users) else users
    if len(some) < 2:
        raise ConfigError("overlap: at least two users with a history are needed to measure it")
    histories = model.histories.take(some)
    if histories.times is not None:  # as if each were continued at once
        histories = replace(histories, asked=histories.times[histories.offsets[1:] - 1])
    states = scorer.states(histories)
    return model.with_index(Coarse(scorer.table(), states, overlap=overlap, k=k))
