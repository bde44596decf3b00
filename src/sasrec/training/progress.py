"""What a person sees while training runs: a bar on a terminal, a line an epoch elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

Tell = Callable[[str], None]
"""Is told, in words, what is being done."""


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss per position, in nats.
        ndcg: NDCG@10 on the validation users, whole catalogue; None where the epoch was not validated.
        hit_rate: HR@10 on the same.
        seconds: Wall seconds of training and validation.
        best: True where no earlier epoch had a higher NDCG@10.
    """

    epoch: int
    loss: float
    ndcg: float | None
    hit_rate: float | None
    seconds: float
    best: bool


class Watcher(Protocol):
    """Is told how training goes."""

    def step(self, epoch: int, loss: float) -> None:
        """A step was made."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch was trained and validated."""


class Silent:
    """Shows nothing."""

    def step(self, epoch: int, loss: float) -> None:
        """A step was made."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch was trained and validated."""


class Lines(Silent):
    """One line an epoch on standard error, for log files."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch was trained and validated."""
        mark = " *" if result.best else ""
        valid = ""
        if result.ndcg is not None:
            valid = f"  valid NDCG@10 {result.ndcg:.4f}  HR@10 {result.hit_rate:.4f}"
        sys.stderr.write(f"epoch {result.epoch:>3}  loss {result.loss:.4f}{valid}  {result.seconds:.1f} s{mark}\n")
        sys.stderr.flush()


@contextmanager
def watched(show: bool | None, *, epochs: int, steps: int) -> Iterator[Watcher]:
    """Who watches a run: a bar on a terminal; elsewhere lines if `show` is True; nobody if it is False.

    Args:
        epochs: Most epochs; an early stop may come sooner, so the time left is "at most".
        steps: Steps in an epoch.
    """
    terminal = sys.stderr.isatty()
    if show is False or (show is None and not terminal):
        yield Silent()
    elif not terminal:
        yield Lines()
    else:
        with _bar(epochs, steps) as watcher:
            yield watcher


@contextmanager
def _bar(epochs: int, steps: int) -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  NDCG@10 {task.fields[ndcg]:.4f}  best {task.fields[best]:.4f}"),
        TimeElapsedColumn(),
        TextColumn("at most"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(
            "train", total=epochs * steps, epoch=1, epochs=epochs, loss=float("nan"), ndcg=float("nan"), best=0.0
        )
        best = 0.0

        class Bar:
            def step(self, epoch: int, loss: float) -> None:
                progress.update(task, advance=1, epoch=epoch, loss=loss)

            def epoch(self, result: EpochResult) -> None:
                nonlocal best
                if result.ndcg is None:
                    return
                best = max(best, result.ndcg)
                progress.update(task, ndcg=result.ndcg, best=best)

        yield Bar()


def told(progress: bool | None) -> Tell:
    """Who is told what is being done: standard error if `progress` is True, or None on a terminal; else nobody."""
    show = sys.stderr.isatty() if progress is None else progress

    def tell(words: str) -> None:
        if show:
            sys.stderr.write(f"{words}\n")
            sys.stderr.flush()

    return tell
