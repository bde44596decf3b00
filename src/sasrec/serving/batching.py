"""Requests that wait together are answered together, in a thread of their own, so that the event loop never waits."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from sasrec.serving.answering import Answer, Asked
from sasrec.serving.problems import BUSY, LATE, Problem

TOGETHER = 64  # requests that are answered in one go at most
WAITING = 512  # requests that wait at most; fewer than connections, so that there are some left to be refused on
_PATIENCE = 0.5  # seconds of whole batches that wait at most, half the usual deadline: under load they take longer
FULL = "more requests wait than can be answered in time; try again later"
_SMOOTHING = 0.1  # weight of the latest batch in the mean time of one


@dataclass(frozen=True, slots=True)
class _Job:
    requests: Sequence[Asked]
    deadline: float
    done: "asyncio.Future[list[Answer | Problem]]"


@final
class Batcher:
    """A bounded queue before one thread.

    While the thread is at work, requests gather; it then takes all of them. So a request that comes alone is answered
    at once, and the busier the server is the cheaper a request becomes. A request that cannot be answered before its
    deadline, as the mean time of a batch tells, is refused at once rather than kept waiting. It is batches that are
    counted: in a large catalogue, 64 requests together take a few times as long as one.
    """

    def __init__(self, answer: Callable[[Sequence[Asked]], list[Answer | Problem]]) -> None:
        """Start the thread.

        Args:
            answer: Called in the thread alone.
        """
        self._answer = answer
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._cost = 0.0
        self.waiting = 0
        self.batches = 0
        self.scored = 0
        self._thread = threading.Thread(target=self._work, name="sasrec-scores", daemon=True)
        self._thread.start()

    def has_room(self, requests: int = 1, *, before: int = 0, seconds: float = math.inf) -> bool:
        """Whether requests may wait here.

        Asked when the head of a request is there, of which no more is known, and once more when all of it is.

        Args:
            before: Requests that have been let in and do not wait yet.
            seconds: How long an answer is of use.
        """
        waiting = self.waiting + before
        if not waiting:
            return True
        batches = waiting // TOGETHER  # that are whole and come first; one may always wait
        full = waiting + requests > WAITING or (batches > 0 and batches * self._cost > _PATIENCE)
        return not full and (batches + 1) * self._cost <= seconds

    async def ask(self, requests: Sequence[Asked], *, seconds: float) -> list[Answer | Problem]:
        """Answers from one version of the model.

        Args:
            seconds: How long an answer is of use.

        Raises:
            Problem: BUSY where the queue is full or too long for the deadline, LATE where the deadline has passed.
        """
        if not self.has_room(len(requests), seconds=seconds):
            raise Problem(BUSY, FULL)
        job = _Job(requests, time.monotonic() + seconds, self._loop.create_future())
        with self._changed:
            self.waiting += len(requests)
            self._jobs.append(job)
            self._changed.notify()
        return await job.done

    def close(self, *, seconds: float | None = None) -> None:
        """Answer what waits, then end the thread. Args: seconds: To wait for that at most; None waits for ever."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while jobs := self._taken():
            now = time.monotonic()
            late = [job for job in jobs if job.deadline <= now]
            jobs = [job for job in jobs if job.deadline > now]
            requests = [one for job in jobs for one in job.requests]
            error: BaseException | None = None
            answers: list[Answer | Problem] = []
            try:
                answers = self._answer(requests) if requests else []
            except Exception as raised:  # noqa: BLE001  # whoever asked is told, and the next batch is answered
                error = raised
            if requests:
                spent = time.monotonic() - now
                self._cost += (spent - self._cost) * (_SMOOTHING if self._cost else 1.0)
            self._loop.call_soon_threadsafe(self._deliver, jobs, late, answers, error)

    def _taken(self) -> list[_Job]:
        """Everything that waits, up to `TOGETHER` requests; nothing once the queue is closed and empty."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            jobs: list[_Job] = []
            size = 0
            while self._jobs and (not jobs or size + len(self._jobs[0].requests) <= TOGETHER):
                jobs.append(self._jobs.popleft())
                size += len(jobs[-1].requests)
            self.waiting -= size
            return jobs

    def _deliver(
        self, jobs: list[_Job], late: list[_Job], answers: list[Answer | Problem], error: BaseException | None
    ) -> None:
        self.batches += bool(jobs)
        self.scored += len(answers)
        for job in late:
            if not job.done.done():
                job.done.set_exception(Problem(LATE, "the deadline passed while the request waited"))
        place = 0
        for job in jobs:
            if job.done.done():  # whoever asked is gone
                pass
            elif error is not None:
                job.done.set_exception(error)
            else:
                job.done.set_result(answers[place : place + len(job.requests)])
            place += len(job.requests)
