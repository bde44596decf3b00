"""An epoch of training, and what it costs to be able to go on."""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.inputs import NETWORK, read
from benchmarks.measure import Case, Sample, Stopwatch, timed
from benchmarks.run import Run

if TYPE_CHECKING:
    from sasrec import Split
    from sasrec.training.steps import Training

# Of Beauty at length 50: every event of a user's training part but the first, at most 50 a user.
BEAUTY_TARGETS = 128_031

CASES = [
    Case(
        name,
        f"one epoch, {words}",
        "training:epoch",
        {"loss": loss, "precision": precision},
        limits,
        needs_bfloat16=precision == "bfloat16",
    )
    for name, loss, precision, words, limits in (
        ("epoch-softmax", "softmax", "auto", "exact cross-entropy", {"cpu_s": 5.0, "peak_mb": 600.0}),
        ("epoch-softmax-bfloat16", "softmax", "bfloat16", "the same in bfloat16", {}),
        ("epoch-softmax-float32", "softmax", "float32", "the same in float32", {}),
        ("epoch-bce", "bce", "float32", "binary cross-entropy", {"cpu_s": 2.5}),
    )
] + [
    Case("second-thread", "two threads, in turns with one", "training:second_thread", {}, {"of_one": 0.6}),
    Case("checkpoint", "the state of a training, to the disk", "training:checkpoint"),
    Case("checkpoint-million", "the same, of a million items", "training:checkpoint", {"items": 1_000_000}),
]


def epoch(run: Run, *, loss: str, precision: str) -> Sample:
    """The middle one of some epochs after one to warm up, training alone; one validation counts for the peak."""
    import sasrec
    from sasrec.evaluation.ranking import rank_targets
    from sasrec.retrieval.neural import Neural
    from sasrec.training.machine import torch_threads

    data = sasrec.split(read(run))
    targets = real_targets(data, run)
    with torch_threads(run.threads):
        training = _warm(data, threads=run.threads, loss=loss, precision=precision)
        rank_targets(Neural(training.network, training.config), data.valid, exclude_seen=True)
        epochs = [_epoch(training, 2 + number) for number in range(run.epochs)]
    middle = _middle(epochs)
    return middle.sample(targets=targets, us_per_target=1e6 * middle.cpu_s / targets)


def second_thread(run: Run) -> Sample:
    """The middle epoch of two threads, and what its seconds are of those of one thread: pairs of epochs, in turns.

    Where others use the host of a virtual machine, two threads lose more than one, for minutes on end: the middle of
    the pairs' ratios is told, and the spread over processes shows how quiet it was.
    """
    import sasrec
    from sasrec.training.machine import torch_threads

    data = sasrec.split(read(run))
    trainings, pairs = {}, []
    for threads in (1, 2):
        with torch_threads(threads):
            trainings[threads] = _warm(data, threads=threads, loss="softmax", precision="auto")
    for number in range(run.epochs):
        pair = []
        for threads, training in trainings.items():
            with torch_threads(threads):
                pair.append(_epoch(training, 2 + number))
        pairs.append(pair)
    return _middle([two for _, two in pairs]).sample(of_one=median(two.wall_s / one.wall_s for one, two in pairs))


def _warm(data: "Split", *, threads: int, loss: str, precision: str) -> "Training":
    """A training with an epoch behind it."""
    import sasrec
    from sasrec.training.beginning import begin
    from sasrec.training.settling import settled

    items = len(data.log.items)
    asked = sasrec.Config(**NETWORK, threads=threads, loss=loss, precision=precision)
    training = begin(data.train, items=items, config=settled(asked, data.train, items=items))
    training.epoch(1)
    return training


def _epoch(training: "Training", number: int) -> Stopwatch:
    with timed() as watch:
        training.epoch(number)
    return watch


def _middle(watches: list[Stopwatch]) -> Stopwatch:
    """The one in the middle by CPU seconds; of two the lower."""
    return sorted(watches, key=lambda one: one.cpu_s)[(len(watches) - 1) // 2]


def checkpoint(run: Run, *, items: int = 0) -> Sample:
    """The middle one of five writings of a state with moments of every item and with best weights.

    Args:
        items: Size of a catalogue whose item vectors move when they are read; 0 takes the log's, where all move.
    """
    import numpy as np

    from sasrec.config import Config
    from sasrec.data.sequences import Sequences
    from sasrec.training.beginning import begin
    from sasrec.training.checkpoint import Checkpoint, Keeper
    from sasrec.training.epochs import Course
    from sasrec.training.settling import settled

    if items:
        histories = Sequences.of(np.random.default_rng(0).integers(items, size=(1000, 50)))
    else:
        log = read(run)
        histories, items = log.histories, len(log.items)
    config = settled(Config(**NETWORK, loss="auto" if items > 50_000 else "bce"), histories, items=items)
    training, course = begin(histories, items=items, config=config), Course()
    training.epoch(1)
    course.finish(training.network, 1.0, 1.0)
    path = Path(run.folder) / "checkpoint"
    keeper, writings = Keeper(Checkpoint(path), {}, training, course), []
    for _ in range(5):
        with timed() as watch:
            keeper.save()
        writings.append(watch)
    size = path.stat().st_size
    path.unlink()
    return _middle(writings).sample(file_mb=size / 1e6)


def real_targets(data: "Split", run: Run) -> int:
    """The targets of an epoch, counted from the split.

    Raises:
        ValueError: The batches hold another number, or Beauty has not its own: the figures would mean something else.
    """
    import numpy as np

    from sasrec.training.batches import batches, last_windows

    length, size = NETWORK["length"], NETWORK["batch"]
    expected = int((data.train.lengths - 1).clip(0, length).sum())
    windows = last_windows(data.train, length=length)
    found = sum(len(one.targets) for one in batches(data.train, windows, size=size, rng=np.random.default_rng(0)))
    if found != expected or (run.is_beauty and found != BEAUTY_TARGETS):
        raise ValueError(f"an epoch has {found:,} targets; the split has {expected:,}, Beauty {BEAUTY_TARGETS:,}")
    return found
