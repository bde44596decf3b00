"""Standard output and error that nobody takes any more: whoever has work to save does it all the same."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO, cast, final


@final
class Lasting:
    """A stream that drops what the system refuses to take, and all that comes after it.

    Attributes:
        error: What the system said; None as long as it took everything.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop."""
        with self._refused():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        with self._refused():
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        """All else is the stream's own."""
        return getattr(self._stream, name)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            silence(self._stream)


@contextmanager
def lasting(*, output: bool) -> Iterator[Lasting | None]:
    """Standard error, and standard output where that is asked for, end no work inside the block.

    Yields:
        What stands for standard output; None where it is left alone.
    """
    error, printed = Lasting(sys.stderr), Lasting(sys.stdout) if output else None
    with redirect_stderr(cast(TextIO, error)), redirect_stdout(cast(TextIO, printed) if printed else sys.stdout):
        yield printed


def silence(stream: TextIO) -> None:
    """Lose what a stream did not take: Python would try once more when it closes the stream, and complain."""
    with suppress(OSError, ValueError):  # it has no file of the system
        nowhere(stream.fileno())


def nowhere(number: int) -> None:
    """Let a file of this number take everything and keep nothing."""
    handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, number)
    if handle != number:
        os.close(handle)
