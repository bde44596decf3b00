"""What a person sees while training runs: a bar on a terminal, a line an epoch elsewhere."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import final

from sasrec.errors import OutputError
from sasrec.files import as_path
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
        loss = round(result.loss, 4) + 0.0  # rounding may put a loss of nothing below it: no -0.0000
        valid = "" if result.ndcg is None else f"  valid NDCG@10 {result.ndcg:.4f}  HR@10 {result.hit_rate:.4f}"
        _say(f"epoch {result.epoch:>3}  loss {loss:.4f}{valid}  {result.seconds:.1f} s{mark}")


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
    fields = {"epoch": done // steps + 1, "epochs": epochs, "loss": float("nan"), "ndcg": float("nan"), "best": best}
    task = progress.add_task("train", total=epochs * steps, completed=done, start=True, visible=True, **fields)

    class Bar:
        def step(self, epoch: int, loss: float) -> None:
            progress.update(task, advance=1, epoch=epoch, loss=loss)

        def epoch(self, result: EpochResult) -> None:
            nonlocal best
            if result.ndcg is not None:
                best = max(best, result.ndcg)
                progress.update(task, ndcg=result.ndcg, best=best)

    with progress:
        yield Bar()


def noted(history: str | Path | None, *, done: Sequence[EpochResult] | None = None) -> Watcher:
    """Adds a line of JSON to a file for every epoch; None is no file.

    Args:
        done: The epochs so far of a training that goes on. Which of them, and of those that it repeats, the file tells
            of already is not told again.

    Raises:
        OutputError: The file cannot be written, or is no text.
    """
    if history is None:
        return Together()
    before = set(map(_epoch_in, _lines(path := as_path(history, what="history"))))

    class History:
        def step(self, epoch: int, loss: float) -> None:
            """Nothing: the file holds epochs."""

        def epoch(self, result: EpochResult) -> None:
            if done is None or (result.epoch, result.loss) not in before:
                _append(path, json.dumps(asdict(result)) + "\n")

    note = History()
    for result in done or ():
        note.epoch(result)
    return note


def _lines(history: Path) -> list[str]:
    """What a file holds, ready for one more line: that of an epoch which was cut short is taken away; OutputError."""
    try:
        content = history.read_bytes() if os.path.isfile(history) else b""
        *_, last = lines = content.decode().split("\n")
        if last and _epoch_in(last) is None and last[:10] == '{"epoch": '[: len(last)]:  # no other line begins so
            os.truncate(history, len(content) - len(last))
            last = ""
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{history}: cannot be read as lines of text: {error}; choose another file") from None
    _append(history, "\n" if last else "")
    return lines


def _append(history: Path, text: str) -> None:
    """Add text to a file, whole or not at all; OutputError."""
    size = os.path.getsize(history) if os.path.isfile(history) else 0
    try:
        with open(history, "a", encoding="utf-8") as file:  # and closed: what it refused would be tried once more
            file.write(text)
    except OSError as error:
        with suppress(OSError):  # it is a folder or device
            os.truncate(history, size)
        raise OutputError(f"{history}: cannot be written: {error.strerror}; choose another file") from None


def _epoch_in(line: str) -> tuple[int, float] | None:
    """Number and loss of the epoch that a line tells of; None where it tells of none."""
    try:
        told = json.loads(line)
        return int(told["epoch"]), float(told["loss"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def told(progress: bool | None) -> Tell:
    """Who is told what is being done: standard error if `progress` is True, or None on a terminal; else nobody."""
    return _say if progress or (progress is None and sys.stderr.isatty()) else lambda _: None


def _say(words: str) -> None:
    """One line on standard error; that nobody can read it any more ends no work."""
    with suppress(OSError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()
