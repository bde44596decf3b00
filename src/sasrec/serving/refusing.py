"""Requests that the queue has no room for: known by their heads, and told so together, a little later."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from sasrec.serving.batching import FULL
from sasrec.serving.operations import OPERATIONS, Desk
from sasrec.serving.problems import BUSY, Problem

PROBLEM = Problem(BUSY, FULL)
_TICK = 0.25  # seconds between the times at which refusals are sent; an answer that is any good took as long to come
_QUEUED = {(one.method.encode(), one.path.encode()): one.route for one in OPERATIONS if one.queued}


@dataclass(slots=True)
class Refusal:
    """One request that is refused.

    Attributes:
        route: Of its operation.
        request_id: What the answer is to bear.
        last: Whether its connection ends with the answer.
        whole: Whether it has been read to its end.
        begun: When its head was there.
    """

    route: str
    request_id: str
    last: bool
    whole: bool = False
    begun: float = field(default_factory=time.perf_counter)


@final
class Refusals:
    """What a connection asks before it makes a request the application's business.

    Under overload most requests are refused, so a refusal has to cost little: no task, no routing, no body that is
    decoded. And whoever is refused asks again as soon as it is told. So it is told at the next tick only: until then
    it costs nothing, and the thread that scores has the processor, and Python's lock, to itself.
    """

    def __init__(self, desk: Desk) -> None:
        """For the loop that runs; `desk` is the application's."""
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._held: dict[Callable[[], None], None] = {}  # in the order of their coming, each once
        self._let_in = 0  # requests of this turn of the loop, whose tasks run in the next

    @property
    def draining(self) -> bool:
        """Whether every connection is to end with its next answer."""
        return self._desk.service.draining

    def route(self, method: bytes, url: bytes) -> str | None:
        """The route of a request that there is no room for; None where the application has to see it."""
        route = _QUEUED.get((method, url.partition(b"?")[0]))
        if route is None:
            return None
        if not self._desk.batcher.has_room(before=self._let_in):
            return route
        # Hundreds may come in one turn after a batch: as many as there is room for are let in, not all of them.
        if not self._let_in:
            self._loop.call_soon(self._turn)
        self._let_in += 1
        return None

    def _turn(self) -> None:
        self._let_in = 0

    def hold(self, tell: Callable[[], None]) -> None:
        """Have something called at the next tick."""
        if not self._held:
            self._loop.call_later(_TICK, self._tell)
        self._held[tell] = None

    def count(self, refusal: Refusal) -> None:
        """Count a request as the application would have, now that it is answered."""
        metrics = self._desk.metrics
        metrics.refused.add(PROBLEM.kind.name)
        metrics.requests.add(refusal.route, str(PROBLEM.kind.status))
        metrics.seconds.observe(refusal.route, time.perf_counter() - refusal.begun)

    def _tell(self) -> None:
        held, self._held = self._held, {}
        for tell in held:
            tell()
