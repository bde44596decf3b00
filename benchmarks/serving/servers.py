"""Servers as processes: started, asked until they answer, and what they take of the machine."""

import http.client
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.load import at_rate


@dataclass(frozen=True)
class Start:
    """Medians of several starts.

    Attributes:
        seconds, cpu_s: To the first answer, the program itself included.
        mb, own_mb: Memory that the server then holds, and how much of it is no part of a file.
    """

    seconds: float
    cpu_s: float
    mb: float
    own_mb: float


def ready(servers: dict[str, list[str]], body: bytes, *, starts: int) -> dict[str, Start]:
    """What it takes to start each server, in turns."""
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in servers}
    for _ in range(starts):
        for name, command in servers.items():
            before = time.perf_counter()
            with answering(command, body, every=0.005) as (process, _port):
                seconds = time.perf_counter() - before
                found[name].append((seconds, cpu_seconds(process.pid), *megabytes(process.pid)))
    return {name: Start(*map(statistics.median, zip(*times, strict=True))) for name, times in found.items()}


@contextmanager
def started(command: list[str], body: bytes) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that answers and is warm, at a port that was free."""
    with answering(command, body, every=0.1) as (process, port):
        at_rate("127.0.0.1", port, [body], rate=50, seconds=1)
        yield process, port


@contextmanager
def answering(command: list[str], body: bytes, *, every: float) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server from its first answer on; it is asked for one again and again, after so many seconds each time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not answers(port, body):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
            time.sleep(every)
        yield process, port
    finally:
        process.terminate()
        process.wait()


def answers(port: int, body: bytes) -> bool:
    """Whether a server answers a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        try:
            connection.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
            return connection.getresponse().status == 200
        except OSError:
            return False


def megabytes(process: int) -> tuple[float, float]:
    """What a process holds in memory, and how much of it is no part of a file; Linux alone tells."""
    lines = dict(line.split(":") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    whole, own = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    return whole, own


def cpu_seconds(process: int) -> float:
    """Of all threads so far; Linux alone tells."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
