"""Training: from a split to a recommender with the weights that were best on validation."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

import msgspec
from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.splits import Holdout, Split
from sasrec.errors import TrainingError
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.model.building import Network
from sasrec.retrieval.recommender import Recommender
from sasrec.training.checkpoint import Checkpoint, State
from sasrec.training.interrupts import Interrupts, held_back
from sasrec.training.machine import Clock, describe, torch_threads
from sasrec.training.negatives import Draw
from sasrec.training.progress import EpochResult, Note, Watcher, noted, told, watched
from sasrec.training.resuming import Keeper, identity
from sasrec.training.settling import check, has_repeats, reasons, settled
from sasrec.training.steps import Training


def train(
    data: Split,
    config: Config = Config(),
    *,
    history: str | Path | None = None,
    draw: Draw | None = None,
    features: Features | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool | None = None,
) -> Recommender:
    """Train a network and give back the weights of the epoch with the best validation NDCG@10.

    Validation ranks the whole catalogue for every user; the test part of `data` is never looked at. Ctrl-C ends
    training after the step that is being made, and keeps the best epoch so far.

    Args:
        config: Settings; each "auto" is settled from the data and the machine and recorded as it was settled.
        history: A file to which a line of JSON is added after every epoch.
        draw: A sampler of negatives of one's own, in place of the one that `config.sampler` names: takes rows of T
            training histories, a number N and a NumPy generator, and gives item rows of shape (T, N), -1 for none.
        features: Categories and vectors of the items, added to the items' own vectors; see `sasrec.read_features`.
        checkpoint: Where the state of the training is kept meanwhile, and whether to go on from it.
        progress: True shows progress, False nothing; None shows a bar if standard error is a terminal.

    Returns:
        A recommender of all users, items and complete histories of the log; its `record` says how it was trained.

    Raises:
        DataError: There is nothing to learn from or to validate on, or a checkpoint is of another log or split.
        ConfigError: The device is not there, or a checkpoint is of other settings.
        BundleError: There is no checkpoint to go on from, or it is damaged.
        OutputError: `history` or the checkpoint cannot be written, another training writes the checkpoint, or it would
            take the place of a stopped one.
        TrainingError: The loss is no longer finite, or Ctrl-C came before the first epoch was validated.
        ScoreError: The weights of an epoch give scores that are not numbers.
    """
    clock, parts, valid = Clock(), data.train, data.valid
    check(data, parts, valid, config, features)
    items, asked, exclude_seen = len(data.log.items), config, not has_repeats(valid)
    config = settled(asked, parts, items=items)
    same = identity(data, config, features=features, own_sampler=draw is not None)
    alone = nullcontext() if checkpoint is None else checkpoint.held()
    with alone, torch_threads(int(config.threads)):
        training = Training(parts, items=items, config=config, draw=draw, features=features)
        course = Course(clock)
        keeper = None if checkpoint is None else Keeper(checkpoint, same, training, course)
        if keeper is not None and keeper.resumed(log=data.log.source.name):
            told(progress)(f"going on in epoch {len(course.results) + 1}, after {training.step:,} steps")
        bar = watched(progress, epochs=config.epochs, steps=training.steps, done=training.step, best=course.best)
        with noted(history, again=training.step > 0) as note, bar as watcher:
            stopped = _Run(training, course, valid, exclude_seen, keeper).until_no_better(watcher, note)
    record = {
        **_learned(data, features, exclude_seen),
        "automatic": reasons(asked, config, parts, items=items),
        **course.record(stopped, steps=training.steps),
        **clock.record(),
        **describe(),
    }
    return Recommender.of_log(training.scorer(), data.log, record=record)


def _learned(data: Split, features: Features | None, exclude_seen: bool) -> dict[str, object]:
    """What was learned from, for the record."""
    learned = {"data": data.fingerprint, "split": data.rule, "exclude_seen": exclude_seen}
    if features is None:
        return {**learned, "features": None, "item_table": None}
    table = asdict(features.recipe) | {"sha256": features.digest}
    return {**learned, "features": str(features), "item_table": table}


@final
@dataclass
class Course:
    """How far a training has come, epoch by epoch.

    Attributes:
        clock: Seconds since the start.
        results: Finished epochs.
        weights: The network's after the best of them.
        began: Seconds at which the epoch after these began.
        loss: Its mean loss, once it is trained and not yet judged.
    """

    clock: Clock = field(default_factory=Clock)
    results: list[EpochResult] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    began: float | None = None
    loss: float | None = None

    @property
    def best(self) -> EpochResult | None:
        """The epoch with the highest NDCG@10."""
        return next((result for result in reversed(self.results) if result.best), None)

    def over(self, config: Config) -> str | None:
        """Why no further epoch is trained; None where one is."""
        since = self.results if self.best is None else self.results[self.best.epoch :]
        if sum(result.ndcg is not None for result in since) >= config.patience:
            every = config.validate_every
            judged = "epochs" if every == 1 else f"validations, one every {every} epochs"
            return f"no better for {config.patience} {judged}"
        return "all epochs trained" if len(self.results) >= config.epochs else None

    def finish(self, network: Network, score: float | None, hits: float | None) -> EpochResult:
        """The epoch that was trained ends, with its NDCG@10 and HR@10 where it was judged."""
        better = score is not None and (self.best is None or score > float(self.best.ndcg or 0.0))
        if better:
            self.weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        seconds = round(self.clock.seconds - float(self.began or 0.0), 3)
        result = EpochResult(len(self.results) + 1, float(self.loss or 0.0), score, hits, seconds, better)
        self.results.append(result)
        self.began = self.loss = None
        return result

    def record(self, stopped: str, *, steps: int) -> dict[str, object]:
        """How training went, with `steps` an epoch; not the time of each epoch, which differs from run to run."""
        names = ("epoch", "loss", "ndcg", "hit_rate")
        history = [{name: getattr(one, name) for name in names} for one in self.results]
        best = asdict(self.best) if self.best else None
        trained = len(self.results)
        return {"stopped": stopped, "best": best, "epochs": trained, "history": history, "steps": trained * steps}

    def state(self) -> State:
        """All of it, for `restore`."""
        values = {
            "seconds": self.clock.seconds,
            "cpu_seconds": self.clock.cpu_seconds,
            "results": [asdict(result) for result in self.results],
            "began": self.began,
            "loss": self.loss,
        }
        return State(values, self.weights)

    def restore(self, state: State) -> None:
        """Go on where another was; KeyError or msgspec.ValidationError where the state is of something else."""
        values = state.values
        self.clock.add(*msgspec.convert((values["seconds"], values["cpu_seconds"]), tuple[float, float]))
        self.results = msgspec.convert(values["results"], list[EpochResult])
        self.began, self.loss = msgspec.convert((values["began"], values["loss"]), tuple[float | None, float | None])
        self.weights = state.tensors


@final
@dataclass(frozen=True)
class _Run:
    """A training with what judges and keeps it."""

    training: Training
    course: Course
    valid: Holdout
    exclude_seen: bool
    keeper: Keeper | None

    def until_no_better(self, watcher: Watcher, note: Note) -> str:
        """Train until `patience` validations bring nothing better, then put the best weights back; why it ended."""
        training, course, config = self.training, self.course, self.training.config
        with held_back() as interrupts:
            between = _Between(watcher, interrupts, self.keeper)
            try:
                while (stopped := course.over(config)) is None:
                    if course.began is None:
                        course.began = course.clock.seconds
                    number = len(course.results) + 1
                    if course.loss is None:
                        course.loss = training.epoch(number, between)
                    with training.judged() as network:
                        with interrupts.at_once():
                            scores = self._scores(number)
                        result = course.finish(network, *scores)
                    watcher.epoch(result)
                    note(result)
                    interrupts.check()
            except KeyboardInterrupt:
                stopped = self._interrupted(interrupts)
        training.network.load_state_dict(course.weights)
        training.network.to("cpu")
        return stopped

    def _scores(self, number: int) -> tuple[float, float] | tuple[None, None]:
        """NDCG@10 and HR@10 of an epoch on validation, where it is its turn."""
        config = self.training.config
        if number % config.validate_every and number < config.epochs:
            return None, None
        ranks = rank_targets(self.training.scorer(), self.valid, exclude_seen=self.exclude_seen).ranks
        return float(ndcg(ranks, 10).mean()), float(hit_rate(ranks, 10).mean())

    def _interrupted(self, interrupts: Interrupts) -> str:
        """Keep what there is, or say that there is nothing; why training ended."""
        later = ""
        if self.keeper is not None and interrupts.came:  # held back until the state was whole
            self.keeper.save()
            later = "; --resume goes on with it"
        if not self.course.weights:
            raise TrainingError(f"interrupted before the first epoch was validated; there is nothing to keep{later}")
        return "interrupted"


@final
@dataclass(frozen=True)
class _Between:
    """What is done between two steps, when the state of a training is whole."""

    watcher: Watcher
    interrupts: Interrupts
    keeper: Keeper | None

    def step(self, epoch: int, loss: float) -> None:
        self.watcher.step(epoch, loss)
        if self.keeper is not None:
            self.keeper.save_if_due()
        self.interrupts.check()

    def epoch(self, result: EpochResult) -> None:
        self.watcher.epoch(result)
