"""How long a system trains, and which of its steps are timed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Stopwatch, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Pace:
    """Is told of every step, in the system's own loop: some warm up, the next ones are timed, then it is enough.

    Attributes:
        warmup: Steps before the clock starts.
        steps: Steps that are timed, each with the loading of its batch.
        made: Steps so far.
        windows: Histories, or parts of one, in all steps so far.
        targets: Real targets in all steps so far.
        timed_targets: Those of the timed steps.
        watch: The time of the timed steps.
    """

    def __init__(self, *, warmup: int, steps: int) -> None:
        if warmup < 1 or steps < 1:
            raise ValueError(f"at least one step to warm up and one to time; got {warmup} and {steps}")
        self.warmup, self.steps = warmup, steps
        self.made = self.windows = self.targets = self.timed_targets = 0
        self.watch = Stopwatch()
        self._running = ExitStack()

    @property
    def limit(self) -> int:
        """Steps to make, of which the first ones warm up."""
        return self.warmup + self.steps

    def step(self, windows: int, targets: int) -> bool:
        """A step was made; True when it is enough."""
        windows, targets = int(windows), int(targets)  # some count in numbers of NumPy, which JSON does not know
        self.made += 1
        self.windows += windows
        self.targets += targets
        if self.made > self.warmup:
            self.timed_targets += targets
        if self.made == self.warmup:
            self.watch = self._running.enter_context(timed())
        elif self.made == self.limit:
            self._running.close()
        return self.made >= self.limit

    def through(self, batches: Iterable[Any], count: Callable[[Any], tuple[int, int]]) -> Iterator[Any]:
        """The batches, one a step, until it is enough.

        Args:
            count: Windows and real targets of a batch.
        """
        for batch in batches:
            # Counted before the step, for some loops change the batch.
            windows, targets = count(batch)
            yield batch
            if self.step(windows, targets):
                return
