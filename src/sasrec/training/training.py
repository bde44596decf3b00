"""Training: from a split to a recommender with the weights that were best on validation."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.splits import Split, known_split
from sasrec.errors import TrainingError, check_kind
from sasrec.evaluation.ranking import validated
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.training.beginning import begin
from sasrec.training.costs import Clock
from sasrec.training.epochs import Course, Judge, Watcher, until_no_better
from sasrec.training.interrupts import held_back
from sasrec.training.machine import describe, torch_threads
from sasrec.training.negatives import Draw
from sasrec.training.progress import Together, noted, told, watched
from sasrec.training.settling import check, has_repeats, reasons, settled
from sasrec.training.steps import Training
from sasrec.words import counted


class Keeping(Watcher, Protocol):
    """A watcher that keeps the state of a training, and can put it back."""

    def resumed(self, *, log: str) -> bool:
        """Put back what was kept before, if that was asked for; whether it was."""

    def save(self) -> None:
        """Keep what there is now."""

    def guarding(self, watcher: Watcher) -> Watcher:
        """Tells a watcher, and keeps what there is before an error of its passes on."""


@runtime_checkable
class Kept(Protocol):
    """Where the state of a training is kept: a `sasrec.Checkpoint`."""

    def held(self) -> AbstractContextManager[None]:
        """Refuse what cannot be gone on with, or would be lost; no other training has it inside the block."""

    def continued(self, asked: Config, taken: Config) -> Config:
        """The settings without "auto", as the training that is to go on has them."""

    def keeper(
        self, training: Training, course: Course, data: Split, *, features: Features | None, draw: Draw | None
    ) -> Keeping:
        """What keeps the state of this training."""


def train(
    data: Split,
    config: Config = Config(),
    *,
    history: str | Path | None = None,
    draw: Draw | None = None,
    features: Features | None = None,
    checkpoint: Kept | None = None,
    progress: bool | None = None,
) -> Recommender:
    """Train a network and give back the weights of the epoch with the best validation NDCG@10.

    Validation ranks the whole catalogue for every user; the test part of `data` is never looked at. Ctrl-C ends
    training after the step that is being made, and keeps the best epoch so far.

    Args:
        config: Settings; each "auto" is settled from the data and the machine and recorded as it was settled.
        history: A file to which a line of JSON is added after every epoch.
        draw: A sampler of one's own in place of `config.sampler`: takes rows of T training histories, a number N and a
            NumPy generator, and gives item rows, integers of shape (T, N), -1 for none.
        features: Categories and vectors of the items, added to the items' own vectors; see `sasrec.read_features`.
        checkpoint: A `sasrec.Checkpoint`: where the state is kept meanwhile, and whether to go on from it.
        progress: True shows progress, False nothing; None shows a bar if standard error is a terminal.

    Returns:
        A recommender of all users, items and complete histories of the log; its `record` says how it was trained.

    Raises:
        DataError: There is nothing to learn from or to validate on, or a checkpoint is of another log or split.
        ConfigError: No split or device, a setting that nothing reads, draws of another kind, or a checkpoint of others.
        BundleError: There is no checkpoint to go on from, or it is damaged.
        OutputError: `history` or the checkpoint cannot be written, or the latter is that of another training.
        TrainingError: The loss is no longer finite, or Ctrl-C came before the first epoch was validated.
        ScoreError: The weights of an epoch give scores that are not numbers.
    """
    check_kind("checkpoint", checkpoint, Kept | None, called="Checkpoint", advice="give sasrec.Checkpoint(path)")
    clock, asked, parts, valid, items = Clock(), config, known_split(data).train, data.valid, len(data.log.items)
    check(data, parts, valid, asked, features)
    taken, exclude_seen = settled(asked, parts, items=items, drawn=draw is not None), not has_repeats(valid)
    config = taken if checkpoint is None else checkpoint.continued(asked, taken)
    with nullcontext() if checkpoint is None else checkpoint.held(), torch_threads(int(config.threads)):
        training, course = begin(parts, items=items, config=config, draw=draw, features=features), Course(clock)
        keeper = None if checkpoint is None else checkpoint.keeper(training, course, data, features=features, draw=draw)
        if keeper is not None and keeper.resumed(log=data.log.source.name):
            ahead = course.over(config) or f"going on in epoch {len(course.results) + 1}"
            told(progress)(f"{ahead}, after {counted(training.step, 'step')}")
        bar = watched(progress, epochs=config.epochs, steps=training.steps, done=training.step, best=course.best)
        judge = partial(validated, valid=valid, exclude_seen=exclude_seen)
        note = noted(history, done=course.results if training.step else None)
        with bar as watcher:
            stopped = _interruptible(training, course, judge, Together(watcher, note), keeper)
        course.put_back(training.network)
    record = {
        **_learned(data, features, exclude_seen),
        "automatic": reasons(asked, config, parts, items=items),
        **course.record(stopped, steps=training.steps),
        **clock.record(),
        **describe(),
    }
    return Recommender.of_log(training.scorer(), data.log, record=record)


def whole(model: Recommender) -> Recommender:
    """The model, or KeyboardInterrupt where its training was interrupted: half a network compares with nothing."""
    if model.record["stopped"] == "interrupted":
        raise KeyboardInterrupt
    return model


def _interruptible(training: Training, course: Course, judge: Judge, watcher: Watcher, keeper: Keeping | None) -> str:
    """Train until nothing gets better or somebody interrupts, and keep what there is; why it ended."""
    with held_back() as interrupts:

        def judge_or_stop(scorer: Scorer) -> tuple[float, float]:
            with interrupts.at_once():
                return judge(scorer)

        watchers = [watcher] if keeper is None else [keeper.guarding(watcher), keeper]
        try:
            return until_no_better(training, course, judge=judge_or_stop, watcher=Together(*watchers, interrupts))
        except KeyboardInterrupt:
            later = ""
            if keeper is not None and interrupts.came:  # held back until the state was whole
                keeper.save()
                later = "; resume=True goes on with it"
            if not course.weights:
                raise TrainingError(
                    f"interrupted before the first epoch was validated; there is nothing to keep{later}",
                    interrupted=True,
                ) from None
            return "interrupted"


def _learned(data: Split, features: Features | None, exclude_seen: bool) -> dict[str, object]:
    """What was learned from, for the record."""
    learned = {"data": data.fingerprint, "split": data.rule, "exclude_seen": exclude_seen}
    return {**learned, **({"features": None, "item_table": None} if features is None else features.record())}
