"""Requests to `/v1/recommend`: at a given rate, or as many as a server can answer.

**Open loop** (`at_rate`): requests leave when they are due, whether or not earlier ones are answered. A client that
waits for an answer before it asks again slows down together with the server and hides how long people would have
waited. Here a time is counted from the moment at which a request was due.

**Saturation** (`saturated`): each of 64 connections asks again as soon as it is answered, so that the server always has
something to do and never more than it can hold. What it then answers a second is what it can answer at most.

One thread drives plain sockets, since every microsecond of it is taken from the server on the same machine. A
connection is kept open and used again, unless the answer says that it will be closed. A request whose kept connection
turns out to have been closed meanwhile, before a byte of an answer, is sent once more, as any HTTP client does. As in
the pool of a proxy there are at most 900 connections: a request that is due when all of them wait leaves when one is
free, and the wait counts; after a second, which is the deadline of a request, it is given up and counts as refused.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

CONNECTIONS = 64  # of a saturating load
_POOL = 900  # connections at most, of the 1,000 that the server takes
_DEADLINE = 1.0  # seconds after which a request that waits for a connection is given up
_PATIENCE = 15.0  # seconds without any answer after which what is open has failed

Told = Callable[[int, bytes], None]
"""Called with the status and the body of an answer; status 0 where the connection broke or none came."""


@dataclass(frozen=True)
class Figures:
    """What a load found.

    Attributes:
        rate: Requests sent a second.
        good: Answers with status 200 a second.
        p50, p99: Milliseconds from when a good request was due to its answer.
        refused: Answers with status 503 or 504: too much waits, or the deadline passed meanwhile.
        failed: All else.
    """

    rate: float
    good: float
    p50: float
    p99: float
    refused: int
    failed: int


@dataclass
class _Counted:
    """Answers as they come."""

    times: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0

    def since(self, due: float, also: Told | None = None) -> Told:
        def told(status: int, body: bytes) -> None:
            if status == 200:
                self.times.append(time.perf_counter() - due)
            elif status in (503, 504):
                self.refused += 1
            else:
                self.failed += 1
            if also is not None:
                also(status, body)

        return told

    @property
    def all(self) -> int:
        return len(self.times) + self.refused + self.failed

    def figures(self, sent: int, seconds: float) -> Figures:
        times, good = sorted(self.times), len(self.times)
        p50, p99 = (1000 * times[int(good * share)] if good else float("nan") for share in (0.5, 0.99))
        return Figures(sent / seconds, good / seconds, p50, p99, self.refused, self.failed)


def at_rate(host: str, port: int, bodies: Sequence[bytes], *, rate: float, seconds: float) -> Figures:
    """Send the bodies round and round, `rate` a second, and wait for the last answer."""
    requests, counted, wires = [_request(host, body) for body in bodies], _Counted(), _Wires(host, port)
    begun, count = time.perf_counter(), int(rate * seconds)
    for number in range(count):
        due = begun + number / rate
        while (wait := due - time.perf_counter()) > 0:
            wires.turn(wait)
        wires.ask(requests[number % len(requests)], counted.since(due))
        wires.turn(0)
    wires.finish()
    return counted.figures(count, time.perf_counter() - begun)


def saturated(
    host: str,
    port: int,
    bodies: Sequence[bytes],
    *,
    seconds: float,
    connections: int = CONNECTIONS,
    told: Callable[[int, int, bytes], None] | None = None,
) -> Figures:
    """Ask again on every connection as soon as it is answered, the bodies round and round.

    Args:
        told: Called with the number of a body, the status and the answer to it.
    """
    requests, counted, wires = [_request(host, body) for body in bodies], _Counted(), _Wires(host, port)
    begun, sent = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds:
        while sent - counted.all < connections:
            number = sent % len(requests)
            also = None if told is None else lambda status, body, number=number: told(number, status, body)
            wires.ask(requests[number], counted.since(time.perf_counter(), also))
            sent += 1
        wires.turn(0.1)
    wires.finish()
    return counted.figures(sent, time.perf_counter() - begun)


class _Wires:
    """Connections, opened when they are needed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._epoll = select.epoll()
        self._open: dict[int, _Wire] = {}
        self._free: list[_Wire] = []
        self._queue: deque[tuple[float, bytes, Told]] = deque()

    def ask(self, request: bytes, told: Told) -> None:
        if not self._free and len(self._open) >= _POOL:
            self._queue.append((time.perf_counter() + _DEADLINE, request, told))
            return
        if self._free:
            self._free.pop().ask(request, told)
            return
        try:
            wire = _Wire(self._address)
        except OSError:
            told(0, b"")
            return
        self._open[wire.socket.fileno()] = wire
        self._epoll.register(wire.socket, select.EPOLLIN | select.EPOLLOUT)
        wire.asked, wire.told = request, told

    def turn(self, seconds: float) -> bool:
        """Wait so long at most, and read what has come; whether anything had."""
        if seconds > 0:
            select.select([self._epoll], [], [], seconds)  # epoll's own patience is counted in whole milliseconds
        events = self._epoll.poll(0)
        for number, event in events:
            wire = self._open[number]
            if event & select.EPOLLOUT:
                self._epoll.modify(number, select.EPOLLIN)
                wire.send()
            if event & ~select.EPOLLOUT:
                self._read(wire)
        while self._queue and self._queue[0][0] < time.perf_counter():
            self._queue.popleft()[2](503, b"")
        while self._queue and (self._free or len(self._open) < _POOL):
            self.ask(*self._queue.popleft()[1:])
        return bool(events)

    def finish(self) -> None:
        """Wait for all answers, then close."""
        latest = time.perf_counter()
        while (self._queue or self._busy()) and time.perf_counter() < latest + _PATIENCE:
            if self.turn(1.0):
                latest = time.perf_counter()
        for wire in self._busy():
            wire.answer(0, b"")
        for wire in self._open.values():
            wire.socket.close()
        self._epoll.close()

    def _busy(self) -> list["_Wire"]:
        return [wire for wire in self._open.values() if wire.told]

    def _read(self, wire: "_Wire") -> None:
        again, told = (wire.asked, wire.told) if wire.used and not wire.read else (b"", None)
        if wire.receive():
            self._free.append(wire)
        elif wire.over:
            del self._open[wire.socket.fileno()]
            if wire in self._free:
                self._free.remove(wire)
            wire.socket.close()
            if wire.told and told:
                self.ask(again, told)
            elif wire.told:
                wire.answer(0, b"")


class _Wire:
    """One connection, with one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)
        self.asked, self.read = b"", b""
        self.told: Told | None = None
        self.used = self.over = False

    def ask(self, request: bytes, told: Told) -> None:
        self.asked, self.told, self.read, self.used = request, told, b"", True
        self.send()

    def send(self) -> None:
        with suppress(OSError):  # of a connection that is over, which is told when it is read
            self.socket.send(self.asked)  # a request is far smaller than what a socket takes at once

    def receive(self) -> bool:
        """Read what is there; True where an answer is whole and the connection can be used again."""
        try:
            data = self.socket.recv(262_144)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        lines = head.lower()
        whole = bool(found) and len(body) >= int(lines.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        kept = b"connection: close" not in lines
        self.over = not data or (whole and not kept)
        if not whole or self.told is None:
            return False
        self.answer(int(head[9:12]), body)
        return kept and bool(data)

    def answer(self, status: int, body: bytes) -> None:
        told, self.told = self.told, None
        if told is not None:
            told(status, body)


def _request(host: str, body: bytes) -> bytes:
    head = f"POST /v1/recommend HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
