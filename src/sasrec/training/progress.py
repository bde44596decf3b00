"""What a person sees while training runs: a bar on a terminal, a line an epoch elsewhere."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import final

from sasrec.errors import OutputError
from sasrec.training.epochs import EpochResult, Watcher

Tell = Callable[[str], None]
"""Is told, in words, what is being done."""


@final
class Lines:
    """One line an epoch on standard error, for log files."""

    def step(self, epoch: int, loss: float) -> None:
        """Nothing: epochs are lines enough."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch was trained and validated."""
        mark = "  best so far" if result.best else ""
        valid = ""
        if result.ndcg is not None:
            valid = f"  valid NDCG@10 {result.ndcg:.4f}  HR@10 {result.hit_rate:.4f}"
        _say(f"epoch {result.epoch:>3}  loss {result.loss:.4f}{valid}  {result.seconds:.1f} s{mark}")


@final
class Together:
    """Tells several, in this order; of none, nobody."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def step(self, epoch: int, loss: float) -> None:
        """A step was made."""
        for watcher in self._watchers:
            watcher.step(epoch, loss)

    def epoch(self, result: EpochResult) -> None:
        """An epoch was trained and validated."""
        for watcher in self._watchers:
            watcher.epoch(result)


@contextmanager
def watched(
    show: bool | None, *, epochs: int, steps: int, done: int = 0, best: EpochResult | None = None
) -> Iterator[Watcher]:
    """Who watches a run: a bar on a terminal; elsewhere lines if `show` is True; nobody if it is False.

    Args:
        epochs: Most epochs; an early stop may come sooner, so the time left is "at most".
        steps: Steps in an epoch.
        done: Steps of all epochs that were made before.
        best: The best epoch among them.
    """
    terminal = sys.stderr.isatty()
    if show is False or (show is None and not terminal):
        yield Together()
    elif not terminal:
        yield Lines()
    else:
        with _bar(epochs, steps, done, (best and best.ndcg) or 0.0) as watcher:
            yield watcher


@contextmanager
def _bar(epochs: int, steps: int, done: int, best: float) -> Iterator[Watcher]:
    import rich.progress as shown
    from rich.console import Console

    columns = (
        shown.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        shown.BarColumn(),
        shown.MofNCompleteColumn(),
        shown.TextColumn("loss {task.fields[loss]:.3f}  NDCG@10 {task.fields[ndcg]:.4f}  best {task.fields[best]:.4f}"),
        shown.TimeElapsedColumn(),
        shown.TextColumn("at most"),
        shown.TimeRemainingColumn(),
    )
    progress = shown.Progress(*columns, console=Console(stderr=True), transient=True)
    nothing, epoch, total = float("nan"), done // steps + 1, epochs * steps
    fields = {"epoch": epoch, "epochs": epochs, "loss": nothing, "ndcg": nothing, "best": best}
    task = progress.add_task("train", total=total, completed=done, start=True, visible=True, **fields)

    class Bar:
        def step(self, epoch: int, loss: float) -> None:
            progress.update(task, advance=1, epoch=epoch, loss=loss)

        def epoch(self, result: EpochResult) -> None:
            nonlocal best
            if result.ndcg is None:
                return
            best = max(best, result.ndcg)
            progress.update(task, ndcg=result.ndcg, best=best)

    with progress:
        yield Bar()


@contextmanager
def noted(history: str | Path | None, *, again: bool = False) -> Iterator[Watcher]:
    """Adds a line of JSON to a file for every epoch; None is no file.

    Args:
        again: Leave out the epochs that the file tells of already, as training that goes on repeats some.

    Raises:
        OutputError: The file cannot be written.
    """
    if history is None:
        yield Together()
        return
    refused = f"{history}: cannot be written: {{}}; choose another file"
    try:
        lines = open(history, "a+", encoding="utf-8")  # noqa: SIM115  # closed below, apart from what is not its fault
    except OSError as error:
        raise OutputError(refused.format(error.strerror)) from None
    with lines:
        lines.seek(0)
        before = set(filter(None, map(_epoch_in, lines))) if again else set()

        class History:
            def step(self, epoch: int, loss: float) -> None:
                """Nothing: the file holds epochs."""

            def epoch(self, result: EpochResult) -> None:
                if (result.epoch, result.loss) in before:
                    return
                try:
                    lines.write(json.dumps(asdict(result)) + "\n")
                    lines.flush()
                except OSError as error:
                    raise OutputError(refused.format(error.strerror)) from None

        yield History()


def _epoch_in(line: str) -> tuple[int, float] | None:
    """Number and loss of the epoch that a line tells of; None where it tells of none."""
    try:
        told = json.loads(line)
        return int(told["epoch"]), float(told["loss"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def told(progress: bool | None) -> Tell:
    """Who is told what is being done: standard error if `progress` is True, or None on a terminal; else nobody."""
    show = sys.stderr.isatty() if progress is None else progress
    return _say if show else lambda _: None


def _say(words: str) -> None:
    """One line on standard error; that nobody can read it any more ends no work."""
    with suppress(OSError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()
