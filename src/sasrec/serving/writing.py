"""One thread that writes to a store: what waits together is committed together."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

from sasrec.errors import ServingError
from sasrec.serving.store import Event

_GROUP = 256  # writes that share one transaction at most, and so one wait for the disk
_WAITING = 1024  # writes that wait at most


@dataclass(frozen=True, slots=True)
class Forget:
    """A user whose events are erased."""

    user: str


Write = Sequence[Event] | Forget
"""Events to add, or a user to forget."""


@dataclass(frozen=True, slots=True)
class _Job:
    write: Write
    done: Future[Any]


@final
class Writer:
    """A bounded queue before one thread. While it waits for the disk, writes gather; it then takes all of them."""

    def __init__(self, commit: Callable[[list[Write]], list[Any]], *, name: str, closed: bool = False) -> None:
        """Start the thread.

        Args:
            commit: Makes writes durable as one transaction, and gives what came of each in their order, or a
                `ServingError` where one is not whole for all that; or fails with `ServingError` for all of them.
            name: The store's, for messages.
            closed: Take nothing, for a store that is only read.
        """
        self._commit, self._name, self._closed = commit, name, closed
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="sasrec-events", daemon=True)
        if not closed:
            self._thread.start()

    def submit(self, write: Write) -> Future[Any]:
        """What comes of a write, once it is durable.

        Raises:
            ServingError: Too much waits, or nothing is written any more.
        """
        job = _Job(write, Future())
        with self._submitting:  # nothing may come after the end
            if self._closed:
                raise ServingError(f"{self._name}: the store is closed for writing")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise ServingError(
                    f"{self._name}: {_WAITING:,} writes wait for the disk; send it again later"
                ) from None
        return job.done

    def close(self, *, seconds: float | None = None) -> None:
        """Finish what waits. Args: seconds: To wait for that at most; None waits for ever."""
        with self._submitting:
            open_until_now, self._closed = not self._closed, True
        if open_until_now:
            with suppress(queue.Full):  # then the thread finds the end by itself
                self._jobs.put_nowait(None)
            self._thread.join(seconds)

    def _work(self) -> None:
        ended = False
        while not ended and not (self._closed and self._jobs.empty()):
            taken = [self._jobs.get()]
            while len(taken) < _GROUP and not self._jobs.empty():
                taken.append(self._jobs.get())
            ended = None in taken
            if jobs := [job for job in taken if job is not None]:
                self._carry_out(jobs)

    def _carry_out(self, jobs: list[_Job]) -> None:
        jobs = [job for job in jobs if job.done.set_running_or_notify_cancel()]  # whoever gave up is told nothing
        try:
            results = self._commit([job.write for job in jobs])
        except Exception as error:  # noqa: BLE001  # whoever wrote is told, and the thread goes on
            status, told = (error.status, error.told) if isinstance(error, ServingError) else (None, None)
            for job in jobs:
                job.done.set_exception(ServingError(str(error) or repr(error), status=status, told=told))
            return
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, ServingError):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)
