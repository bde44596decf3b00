"""Reading of events, in threads of its own: where a database does not answer, nothing waits that needs no events."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, final

from sasrec.errors import ServingError
from sasrec.serving.answering import LOGGER, Informed, Request, Served
from sasrec.serving.batching import TOGETHER, WAITING
from sasrec.serving.problems import AWAY, BUSY, Problem, unread

_A = TypeVar("_A")
_T = TypeVar("_T")

_THREADS = 4  # for what is no request to the model


@dataclass(frozen=True, slots=True)
class _Job:
    served: Served
    requests: Sequence[Request]
    done: "asyncio.Future[list[Informed]]"


@final
class Reader:
    """Threads that read events, and nothing else; for the event loop that runs.

    Users of requests to the model are read by one thread, in its turns all that wait, so that those who were read of
    together wait for the model together.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "sasrec-reads")
        self._users = ThreadPoolExecutor(1, "sasrec-users")
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._busy = False

    async def read(self, read: Callable[[_A], _T], what: _A, *, seconds: float) -> _T:
        """What a reading gives.

        Args:
            seconds: How long it is of use. What has not begun by then never begins.

        Raises:
            Problem: BUSY where too many wait, AWAY where nothing comes in time; else as `unread`.
        """
        work = asyncio.get_running_loop().run_in_executor(self._threads, _logged, read, what)
        try:
            return await self._awaited(work, 1, seconds)
        except ServingError as error:
            raise unread(error) from None

    async def inform(self, served: Served, requests: Sequence[Request], *, seconds: float) -> list[Informed]:
        """The requests, each with what is known of its user after all that is acknowledged by now.

        Args:
            served: The version that is to answer.
            seconds: How long that is of use.

        Raises:
            Problem: BUSY where too many wait, AWAY where nothing comes in time.
        """
        job = _Job(served, requests, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if not self._busy:
            self._begin()
        return await self._awaited(job.done, len(requests), seconds)

    def close(self) -> None:
        """Begin nothing more; what has begun is ended by the store."""
        self._jobs.clear()
        for threads in (self._threads, self._users):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _awaited(self, work: "asyncio.Future[_T]", size: int, seconds: float) -> _T:
        if self._waiting >= WAITING:
            work.cancel()
            raise Problem(BUSY, "more requests wait for events to be read than can be answered in time")
        self._waiting += size
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise Problem(AWAY, f"events could not be read within {seconds:.3g} s; try again later") from None
        finally:
            self._waiting -= size

    def _begin(self) -> None:
        """Let the thread read of the users of what waits, up to `TOGETHER` requests."""
        jobs: list[_Job] = []
        size = 0
        while self._jobs and (not jobs or size + len(self._jobs[0].requests) <= TOGETHER):
            job = self._jobs.popleft()
            if not job.done.done():  # its deadline has not passed
                jobs.append(job)
                size += len(job.requests)
        self._busy = bool(jobs)
        if jobs:
            work = asyncio.get_running_loop().run_in_executor(self._users, _informed, jobs)
            work.add_done_callback(lambda done: self._deliver(jobs, done))

    def _deliver(self, jobs: list[_Job], work: "asyncio.Future[list[list[Informed]]]") -> None:
        if work.cancelled():  # the server has stopped
            return
        error = work.exception()
        for at, job in enumerate(jobs):
            if job.done.done():
                continue
            if error is not None:
                job.done.set_exception(error)
            else:
                job.done.set_result(work.result()[at])
        self._begin()


def _informed(jobs: list[_Job]) -> list[list[Informed]]:
    together: dict[Served, list[Request]] = {}
    for job in jobs:
        together.setdefault(job.served, []).extend(job.requests)
    read = {served: iter(served.informed(requests)) for served, requests in together.items()}
    return [[next(read[job.served]) for _ in job.requests] for job in jobs]


def _logged(read: Callable[[_A], _T], what: _A) -> _T:
    try:
        return read(what)
    except ServingError as error:
        # Here, as whoever asked may wait no more. The message names hosts and files, which are the operator's business.
        LOGGER.error("%s", error)
        raise
