"""`python -m benchmarks.serving`: how long answers take and how many a second there are, beside a plain server.

The model has random weights, which take as long as others. It is served by torch, exported as ONNX without torch, and
by the plain server, which needs `pip install fastapi` and is left out without it. Before the load each server is
started a few times: until it is ready, and what it then holds in memory.
"""

import argparse
import asyncio
import http.client
import importlib.util
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks.serving.load import Figures, measure
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.export.exporting import export_onnx
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender

STARTS = 5


def main() -> None:
    """Print a table of figures, each server in turn."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=12_000)
    options.add_argument("--rates", type=float, nargs="+", default=[300, 1000, 2000])
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--rounds", type=int, default=1)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="sasrec-serving-") as folder:
        path = Path(folder) / "model.sasrec"
        bodies = make(path, items=asked.items)
        serve = [sys.executable, "-m", "sasrec", "serve"]
        servers = {"sasrec": [*serve, str(path), "--port"], "onnx": [*serve, f"{path}.onnx", "--port"]}
        if importlib.util.find_spec("fastapi"):
            servers["plain"] = [sys.executable, "-m", "benchmarks.serving.plain", str(path)]
        print(
            f"{asked.items:,} items, width 64, length 50, k 10; {asked.seconds:g} s each, load {os.getloadavg()[0]:.1f}"
        )
        for name, starts in ready(servers, bodies[0]).items():
            wall, cpu, whole, own = (statistics.median(figures) for figures in zip(*starts, strict=True))
            print(f"{name:<7} ready after {wall:.2f} s ({cpu:.2f} s of CPU) with {whole:.0f} MB, {own:.0f} MB its own")
        print("server  asked/s   good/s  p50 ms  p99 ms  refused  failed  CPU ms an answer")
        for _ in range(asked.rounds):
            for rate in asked.rates:
                for name, command in servers.items():
                    with started(command, bodies[0]) as (process, port):
                        before = cpu_seconds(process.pid)
                        found = asyncio.run(measure("127.0.0.1", port, bodies, rate=rate, seconds=asked.seconds))
                        spent = cpu_seconds(process.pid) - before
                    print(line(name, rate, found, spent, asked.seconds), flush=True)


def line(name: str, rate: float, found: Figures, spent: float, seconds: float) -> str:
    cost = 1000 * spent / max(found.good * seconds, 1)
    return (
        f"{name:<7} {rate:>7,.0f}  {found.good:>7,.0f}  {found.p50:>6.1f}  {found.p99:>6.1f}  {found.refused:>7}"
        f"  {found.failed:>6}  {cost:>16.2f}"
    )


def make(path: Path, *, items: int) -> list[bytes]:
    """Save a network with random weights; gives bodies of requests with histories of 50 items."""
    config = Config(width=64, length=50, blocks=2)
    network = build(config, items=items, generator=torch.Generator().manual_seed(1)).eval()
    ids = [f"item-{number:07}" for number in range(items)]
    rng = np.random.default_rng(1)
    model = Recommender(
        Neural(network, config),
        users=Vocabulary(pl.Series(["nobody"]), "user"),
        items=Vocabulary(pl.Series(ids), "item"),
        histories=Sequences.of([np.arange(10)]),
    )
    model.save(path)
    export_onnx(model, f"{path}.onnx")
    histories = [[ids[row] for row in rng.integers(0, items, 50)] for _ in range(200)]
    return [json.dumps({"history": history, "k": 10}).encode() for history in histories]


def ready(servers: dict[str, list[str]], body: bytes) -> dict[str, list[tuple[float, float, float, float]]]:
    """Of several starts in turn: seconds by the clock and of CPU to the first answer, MB in memory and not of files."""
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in servers}
    for _ in range(STARTS):
        for name, command in servers.items():
            before = time.perf_counter()
            with answering(command, body, every=0.005) as (process, _port):
                seconds = time.perf_counter() - before
                found[name].append((seconds, cpu_seconds(process.pid), *megabytes(process.pid)))
    return found


@contextmanager
def started(command: list[str], body: bytes) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that answers and is warm, at a port that was free."""
    with answering(command, body, every=0.1) as (process, port):
        asyncio.run(measure("127.0.0.1", port, [body], rate=100, seconds=0.5))
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


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
