"""Ctrl-C and SIGTERM that end a training between two steps, when its state is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

Handler = Callable[[int, FrameType | None], object]
"""What `signal.signal` takes."""


@final
class Interrupts:
    """Holds an interrupt back until it does no harm.

    Attributes:
        came: True once there was one.
    """

    def __init__(self) -> None:
        self.came = False
        self._at_once = False

    def step(self, epoch: int, loss: float) -> None:  # noqa: ARG002  # see `Watcher`
        """After a step it does none."""
        self.check()

    def epoch(self, result: object) -> None:  # noqa: ARG002  # see `Watcher`
        """After an epoch it does none."""
        self.check()

    def check(self) -> None:
        """Raise the interrupt that was held back, if there was one; KeyboardInterrupt."""
        if self.came:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside the block an interrupt is raised as soon as it comes; KeyboardInterrupt."""
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as `signal.signal` calls it
        """A signal came."""
        self.came = True
        if self._at_once:
            raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[Interrupts]:
    """Hold back, inside the block, every signal that would raise KeyboardInterrupt where it finds the program.

    A handler of the caller's own stays, and a background job that ignores Ctrl-C still does. Outside the main thread,
    where Python raises none, nothing is held.
    """
    interrupts = Interrupts()
    with _handled(signal.default_int_handler, interrupts.note, signal.SIGINT, signal.SIGTERM):
        yield interrupts


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM inside the block is a KeyboardInterrupt, as Ctrl-C is, unless it has a handler already."""
    with _handled(signal.SIG_DFL, signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def _handled(usual: Handler | signal.Handlers, handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Inside the block, a handler for those of these signals that have the usual one."""
    main = threading.current_thread() is threading.main_thread()
    taken = {number: found for number in numbers if main and (found := signal.getsignal(number)) is usual}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in taken.items():
            signal.signal(number, found)
