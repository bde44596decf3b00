"""`python -m benchmarks.serving`: how long answers take and how many a second there are, in three sizes of catalogue.

In each size a server is started, asked at a given rate (open loop), then by clients that ask again as soon as they are
answered (saturation), then at five times that rate (overload), see `load.py`. The answers under saturation are
compared with those of a full sort. Vectors of items lie in groups and are not trained, see `models.py`.

With --beside the same network exported as ONNX and a plain server of 40 lines are asked too; the plain one needs `pip
install fastapi` and is left out without it. With --soak one server is asked for so long, and its memory told.
Everything runs on this machine: what the load takes, the server does not get. The default takes about four minutes.
"""

import argparse
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.inputs import describe_machine
from benchmarks.measure import ROOT
from benchmarks.serving.load import Figures, at_rate, saturated
from benchmarks.serving.models import make, overlap
from benchmarks.serving.servers import cpu_seconds, megabytes, ready, started
from benchmarks.turns import commit, words

OUTPUT = ROOT / "benchmarks" / "results" / "local" / "serving.json"
OVERLOAD = 5
COLUMNS = "items  server  load  asked/s  good/s  p50 ms  p99 ms  refused  failed  CPU ms  MB  asked for"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Size:
    """What is asked for in a catalogue of some size.

    Attributes:
        rate: Requests a second at which the times are measured.
        p50, p99: Milliseconds at most.
        most: Answers a second under saturation, at least.
    """

    rate: float
    p50: float
    p99: float
    most: float


SIZES = {12_000: Size(300, 2, 10, 1000), 100_000: Size(100, 5, 20, 400), 1_000_000: Size(20, 20, 60, 80)}


@dataclass(frozen=True)
class Row:
    """One load on one server.

    Attributes:
        load: "rate", "saturated" or "overload".
        cpu_ms: CPU time of the server for each good answer.
        mb: Memory of the server afterwards.
        limits: Whether what is asked for was kept, by its name and number.
    """

    items: int
    server: str
    load: str
    figures: Figures
    cpu_ms: float
    mb: float
    limits: dict[str, bool]

    def __str__(self) -> str:
        found = self.figures
        kept = ", ".join(f"{name}: {'pass' if ok else 'FAIL'}" for name, ok in self.limits.items())
        return (
            f"{self.items:>9,} {self.server:<7} {self.load:<9} {found.rate:>7,.0f} {found.good:>7,.0f}"
            f" {found.p50:>7.1f} {found.p99:>7.1f} {found.refused:>8} {found.failed:>7}"
            f" {self.cpu_ms:>7.2f} {self.mb:>6.0f}  {kept}"
        )


def main(arguments: list[str] | None = None) -> None:
    """Print the table, write JSON. A limit that is missed is no failure: these are measurements."""
    asked = _options(arguments)
    result = {
        "commit": commit(),
        "machine": {**describe_machine(None), "cpus": os.cpu_count()},
        "threads": 1,
        "load_before": os.getloadavg(),
    }
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    print(f"commit {result['commit']}, width 64, length 50, k 10, load average {words(result['load_before'])}")
    with tempfile.TemporaryDirectory(prefix="sasrec-serving-") as folder:
        path = Path(folder) / "model.sasrec"
        if asked.soak:
            result["soak"] = soak(path, items=asked.items[0], minutes=asked.soak)
        else:
            print(COLUMNS, flush=True)
            result["sizes"] = [in_size(Path(folder) / f"{items}.sasrec", items, asked) for items in asked.items]
    result["load_after"] = os.getloadavg()
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"load average {words(result['load_after'])} at the end; written to {asked.json}")


def in_size(path: Path, items: int, asked: argparse.Namespace) -> dict:
    """All loads on all servers with a catalogue of one size, printed as they come."""
    bodies = make(path, items=items)
    servers = _servers(path, beside=asked.beside)
    starts = ready(servers, bodies[0], starts=asked.starts)
    for name, start in starts.items():
        print(
            f"{items:>9,} {name:<7} ready after {start.seconds:.2f} s ({start.cpu_s:.2f} s of CPU) with "
            f"{start.mb:.0f} MB, {start.own_mb:.0f} MB of it no part of a file"
        )
    rows: list[Row] = []
    shares: dict[str, float] = {}
    for name, command in servers.items():
        answers: dict[int, bytes] = {}
        with started(command, bodies[0]) as (process, port):
            for row in _loads(name, process.pid, port, bodies, items=items, seconds=asked.seconds, answers=answers):
                print(row, flush=True)
                rows.append(row)
        if name == "sasrec":
            shares["overlap"] = overlap(path, bodies, answers)
            shares["goodput"] = rows[-1].figures.good / rows[-2].figures.good
            print(
                f"{items:>9,} {name:<7} {shares['overlap']:.4f} of the best 10 of a full sort in {len(answers)} answers"
                f" (asked for .999); under overload {shares['goodput']:.0%} of saturation (asked for 80 %)"
            )
    return {
        "items": items,
        "starts": {name: asdict(start) for name, start in starts.items()},
        "rows": [asdict(row) for row in rows],
        **shares,
    }


def _loads(
    name: str, process: int, port: int, bodies: list[bytes], *, items: int, seconds: float, answers: dict[int, bytes]
) -> Iterator[Row]:
    size = SIZES.get(items, SIZES[12_000])

    def row(load: str, figures: Figures, before: float, limits: dict[str, bool]) -> Row:
        cost = 1000 * (cpu_seconds(process) - before) / max(figures.good * seconds, 1)
        return Row(items, name, load, figures, cost, megabytes(process)[0], limits)

    def told(number: int, status: int, body: bytes) -> None:
        if status == 200:
            answers.setdefault(number, body)

    before = cpu_seconds(process)
    found = at_rate(HOST, port, bodies, rate=size.rate, seconds=seconds)
    limits = {f"p50 <= {size.p50:g}": found.p50 <= size.p50, f"p99 <= {size.p99:g}": found.p99 <= size.p99}
    yield row("rate", found, before, limits)
    before = cpu_seconds(process)
    most = saturated(HOST, port, bodies, seconds=seconds, told=told)
    yield row("saturated", most, before, {f"good >= {size.most:g}": most.good >= size.most})
    before = cpu_seconds(process)
    found = at_rate(HOST, port, bodies, rate=OVERLOAD * most.good, seconds=seconds)
    yield row("overload", found, before, {"good >= 80 %": found.good >= 0.8 * most.good, "failed 0": not found.failed})


def soak(path: Path, *, items: int, minutes: float) -> dict:
    """One server at the rate of its size: its memory at the start, after a tenth of the time and at the end."""
    bodies = make(path, items=items)
    rate = SIZES.get(items, SIZES[12_000]).rate
    with started(_servers(path, beside=False)["sasrec"], bodies[0]) as (process, port):
        memory = [megabytes(process.pid)[0]]
        counts = []
        begun = time.perf_counter()
        for share in (0.1, 0.9):
            counts.append(at_rate(HOST, port, bodies, rate=rate, seconds=60 * minutes * share))
            memory.append(megabytes(process.pid)[0])
        seconds = time.perf_counter() - begun
    start, tenth, end = memory
    failed = sum(one.refused + one.failed for one in counts)
    print(
        f"{items:,} items, {rate:g} requests/s for {seconds / 60:.1f} min: {start:.0f} MB at the start, {tenth:.0f} MB"
        f" after a tenth, {end:.0f} MB at the end ({end - tenth:+.1f}); {failed} not answered"
    )
    return {"items": items, "rate": rate, "seconds": seconds, "mb": memory, "not_answered": failed}


def _servers(path: Path, *, beside: bool) -> dict[str, list[str]]:
    serve = [sys.executable, "-m", "sasrec", "serve"]
    servers = {"sasrec": [*serve, str(path), "--port"]}
    if beside:
        import sasrec

        sasrec.export_onnx(sasrec.load(path), f"{path}.onnx")
        servers["onnx"] = [*serve, f"{path}.onnx", "--port"]
        if importlib.util.find_spec("fastapi"):
            servers["plain"] = [sys.executable, "-m", "benchmarks.serving.plain", str(path)]
    return servers


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[*SIZES], help=f"catalogues ({[*SIZES]})")
    parser.add_argument("--seconds", type=float, default=15, help="of each load (15)")
    parser.add_argument("--starts", type=int, default=3, help="of each server (3)")
    parser.add_argument("--beside", action="store_true", help="the exported network and the plain server too")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="the first size alone, at its rate, for so long")
    parser.add_argument("--json", type=Path, default=OUTPUT, metavar="OUT", help=f"({OUTPUT.relative_to(ROOT)})")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
