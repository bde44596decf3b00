"""Retraining: a model of the same kind and settings, of newer data."""

from dataclasses import replace
from typing import get_args

from sasrec.data.features import Features, check_features
from sasrec.data.splits import Split
from sasrec.errors import ConfigError, check_kind
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import kind_of
from sasrec.training.blending import blend
from sasrec.training.counting import Countable, count
from sasrec.training.machine import device_here
from sasrec.training.parts import Part, parts_of
from sasrec.training.training import train, whole


def retrain(
    model: Recommender, data: Split, *, features: Features | None = None, progress: bool | None = None
) -> Recommender:
    """Make a model like another one from other data, such as the log of a month later.

    A network is trained with the settings of the other one, from its first weights until validation gets no better,
    also where the other one was exported, and on what is found where its device is not here, with a warning. A model
    that counts is counted with the best of its settings on validation. A blend is made of the parts that the other one
    uses, each made again, with weights found anew. Nothing else is taken over.

    Args:
        model: What to make again; it stays as it is.
        data: A split of the other data.
        features: Categories and vectors of its items, where the model knows such.
        progress: As `train`.

    Returns:
        A recommender as `train`, `count` or `blend` gives it: its record has what validation says, and no "refit".

    Raises:
        ConfigError: The model was trained with features and none are given, or the other way round; or a setting
            does not fit the data or the machine.
        DataError: There is nothing to learn from or to validate on.
        TrainingError: As `train`.
        KeyboardInterrupt: Ctrl-C; what takes the place of another model is trained to its end.
    """
    check_kind("model", model, Recommender, advice="train one, or load one with sasrec.load(path)")
    check_features(features)
    if (features is None) != (model.record.get("features") is None):
        if features is not None:
            raise ConfigError("features: the model was trained without them; leave them out")
        raise ConfigError(f"features: the model was trained with them ({model.record['features']}); give those of now")
    made = [_made(part, data, part.learned(features), progress) for part in parts_of(model)]
    return blend(data, made, progress=progress) if len(made) > 1 else made[0]


def _made(part: Part, data: Split, features: Features | None, progress: bool | None) -> Recommender:
    if isinstance(part.scorer, Neural | Exported):
        config = part.scorer.config
        config = replace(config, device=device_here(config.device))
        return whole(train(data, config, features=features, progress=progress))
    name = kind_of(part.scorer, part.chosen)
    for countable in get_args(Countable):
        if name == countable:
            return count(data, countable, features=features, progress=progress)
    raise ConfigError(f"model: one of kind {part.scorer.kind!r} cannot be made again; give one that `sasrec` made")
