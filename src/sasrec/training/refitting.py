"""Refitting: the chosen settings once more, with what validated them added to the training part."""

import time
from dataclasses import dataclass, replace

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Split, known_split
from sasrec.errors import ConfigError, TrainingError, check_kind
from sasrec.retrieval.blend import Blend, NewItems
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.training.beginning import begin
from sasrec.training.costs import Clock
from sasrec.training.counting import recounted
from sasrec.training.epochs import EpochResult
from sasrec.training.machine import device_here, torch_threads
from sasrec.training.negatives import Draw
from sasrec.training.parts import Part, check_nothing_added, check_same_features, check_trained_on, parts_of
from sasrec.training.progress import watched
from sasrec.words import with_article


def refit(
    model: Recommender,
    data: Split,
    *,
    features: Features | None = None,
    draw: Draw | None = None,
    progress: bool | None = None,
) -> Recommender:
    """Train or count a model once more on training and validation part together, for release.

    Everything stays as it was chosen on validation: a network is trained from its first weights for as many epochs as
    the best one had, a counted model keeps its settings, a blend its weights. Nothing chooses any more, and the test
    part is never looked at. A network whose device is not here is trained on what is found, with a warning.
    `evaluate` names the result's figures apart, for they compare with no others.

    Args:
        model: A model of the training part of `data`; it stays as it is.
        data: The split that it was trained on.
        features: Those that it was trained with.
        draw: The sampler that it was trained with.
        progress: True shows progress, False nothing; None shows a bar if standard error is a terminal.

    Returns:
        A recommender whose `record` is that of `model` with what was done under "refit".

    Raises:
        ConfigError: The model was refit already, or without the features that it was trained with.
        DataError: The model was trained on another log or split, or does not say on which.
        TrainingError: The loss is no longer finite, or Ctrl-C came: a refit is whole or nothing.
    """
    check_kind("model", model, Recommender, advice="train one, or load one with sasrec.load(path)")
    known_split(data)
    record = model.record
    if "refit" in record:
        raise ConfigError("model: was refit already; give the one that it was made from")
    if "export" in record:
        raise ConfigError("model: is an exported network; refit the model that it was made from, then export that")
    check_trained_on(data, model, advice="read and split the log as in training")
    check_nothing_added(model, data, done="refit")
    check_same_features(model, features, done="a refit")
    clock = Clock()
    again = _Again(data.refit.train, len(data.log.items), features, draw, progress)
    made = {part.name: (part.weight, again.made(part)) for part in parts_of(model)}
    scorer = again.blended(made, model.scorer) if isinstance(model.scorer, Blend) else made[model.scorer.kind][1]
    record = {**record, "refit": {"events": len(again.train.items), **clock.record()}}
    if isinstance(scorer, Blend) and scorer.new is not None:
        record["new"] = {**record["new"], "items": len(scorer.new.rows)}
    return Recommender.of_log(scorer, data.log, record=record)


@dataclass(frozen=True)
class _Again:
    """Makes scorers of one training part as others were made of a smaller one."""

    train: Sequences
    items: int
    features: Features | None
    draw: Draw | None
    progress: bool | None

    def made(self, part: Part) -> Scorer:
        """Args: part: What to make again, as it was chosen."""
        if (again := recounted(part.scorer, self.train, part.chosen)) is not None:
            return again
        if not isinstance(part.scorer, Neural):
            raise ConfigError(
                f"model: {with_article(part.scorer.kind)} is neither trained nor counted; give what it was made from"
            )
        epochs = int(part.chosen["epoch"])
        return self._trained(part.scorer.config, part.learned(self.features), epochs=epochs)

    def blended(self, parts: dict[str, tuple[float, Scorer]], like: Blend) -> Blend:
        """Args: like: What the parts made up before; items that are in this training part are no longer new."""
        new = None if like.new is None else NewItems.of(self.train, items=self.items, weight=like.new.weight)
        return Blend(parts, new)

    def _trained(self, config: Config, features: Features | None, *, epochs: int) -> Scorer:
        config = replace(config, device=device_here(config.device))
        with torch_threads(int(config.threads)):
            training = begin(self.train, items=self.items, config=config, draw=self.draw, features=features)
            try:
                with watched(self.progress, epochs=epochs, steps=training.steps) as watcher:
                    for number in range(1, epochs + 1):
                        started = time.perf_counter()
                        loss = training.epoch(number, watcher.step)
                        seconds = round(time.perf_counter() - started, 3)
                        watcher.epoch(EpochResult(number, loss, None, None, seconds, best=False))
            except KeyboardInterrupt:
                raise TrainingError("interrupted; a refit is whole or nothing", interrupted=True) from None
        with training.judged() as network:
            weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(weights)
        network.to("cpu")
        return training.scorer()
