"""An open-loop load: requests leave when they are due, whether or not earlier ones are answered.

A client that waits for an answer before it asks again slows down together with the server and hides how long people
would have waited. Here a time is counted from the moment at which a request was due.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass


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


async def measure(host: str, port: int, bodies: Sequence[bytes], *, rate: float, seconds: float) -> Figures:
    """Send the bodies round and round to `/v1/recommend`, `rate` a second."""
    requests = [_request(host, body) for body in bodies]
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    times: list[float] = []
    statuses: list[int] = []

    async def one(request: bytes, due: float) -> None:
        try:
            reader, writer = free.pop() if free else await asyncio.open_connection(host, port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head[9:12])
            free.append((reader, writer))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            status = 0
        statuses.append(status)
        if status == 200:
            times.append(time.perf_counter() - due)

    begun = time.perf_counter()
    count = int(rate * seconds)
    tasks = set()
    for number in range(count):
        due = begun + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(requests[number % len(requests)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - begun
    for _, writer in free:
        writer.close()
    times.sort()
    good, refused = len(times), statuses.count(503) + statuses.count(504)
    return Figures(
        rate=count / elapsed,
        good=good / elapsed,
        p50=1000 * times[good // 2] if good else float("nan"),
        p99=1000 * times[int(good * 0.99)] if good else float("nan"),
        refused=refused,
        failed=len(statuses) - refused - good,
    )


def _request(host: str, body: bytes) -> bytes:
    head = f"POST /v1/recommend HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
