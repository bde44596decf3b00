"""One sample of a case: a function, called once in a process of its own, with its time and memory.

Only the standard library and `Run` are imported here. So the interpreter of another environment can take a sample too,
and the process that starts the others stays small: Linux counts what it holds into the peak memory of its children.
Python 3.7, which some systems need, can import it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.run import Run

ROOT = Path(__file__).parents[1]

# Each library reads its own; all do so when they are imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
ANSWER = "RESULT "  # what the line with the answer begins with


@dataclass(frozen=True)
class Case:
    """What is measured: one row of the table.

    Attributes:
        name: What `--only` calls it.
        title: What is done, in words.
        function: "module:function" of this package; called with the `Run` and `settings`, it gives a `Sample`.
        settings: Keyword arguments that tell this case from others of the same function.
        limits: The most that is asked for, by name of a field or fact of the sample.
        inputs: The function of `inputs` that makes what this case works on; empty for the log alone.
        needs_bfloat16: True where it means something only where bfloat16 is faster than float32.
    """

    name: str
    title: str
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    inputs: str = ""
    needs_bfloat16: bool = False


@dataclass(frozen=True)
class Sample:
    """What one process found.

    Attributes:
        cpu_s: CPU seconds of the measured part, user and system, all threads and helper processes.
        wall_s: Seconds by the clock.
        others: Cores that other processes kept busy meanwhile. Where this and our own come near the number of cores,
            the caches and the memory were shared: CPU seconds are then too high as well.
        peak_mb: Most memory of the whole process, in MB of 2^20 bytes.
        facts: Further numbers by name, such as the count of what was done.
    """

    cpu_s: float
    wall_s: float
    others: float
    peak_mb: float
    facts: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """CPU seconds, seconds by the clock and the cores that others kept busy, of the `with` blocks of `timed`."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = self.others = 0.0

    def sample(self, **facts: float) -> Sample:
        """The last block's time, and the memory of the process so far."""
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Sample(self.cpu_s, self.wall_s, self.others, peak_mb, facts)


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time the block; the result stands in the stopwatch afterwards."""
    watch = Stopwatch()
    wall, cpu, machine = time.perf_counter(), _own_cpu(), _machine_cpu()
    yield watch
    watch.cpu_s, watch.wall_s = _own_cpu() - cpu, time.perf_counter() - wall
    watch.others = max(0.0, (_machine_cpu() - machine - watch.cpu_s) / watch.wall_s)


def _own_cpu() -> float:
    """CPU seconds of this process and of the helpers that it started, as the samplers of some systems are."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(_cpu_of(child.pid) for child in multiprocessing.active_children())
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def _cpu_of(process: int | None) -> float:
    """CPU seconds of a running process; 0 where the system does not tell."""
    try:
        with open(f"/proc/{process}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _machine_cpu() -> float:
    """CPU seconds of all processes since the machine started; 0 where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _idle, _waiting, *interrupts = map(int, file.readline().split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def call(
    function: str,
    run: Run,
    settings: Mapping[str, Any],
    *,
    python: str = sys.executable,
    errors: Path | None = None,
    patience: float | None = None,
) -> dict[str, Any]:
    """What "module:function" of this package answers in a fresh process.

    Args:
        python: The interpreter.
        errors: File for what the process says on standard error; None lets it through.
        patience: Seconds after which it is killed, with all that it started; None waits for ever.

    Raises:
        ChildProcessError: The process failed, or was killed; what it said stands on standard error or in the file.
    """
    threads = dict.fromkeys(_THREAD_VARIABLES, str(run.threads))
    request = json.dumps({"run": asdict(run), "settings": dict(settings)})
    with open(errors, "w", encoding="utf-8") if errors else nullcontext() as said:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.child", function, request],
            cwd=ROOT,
            env={"GOMP_SPINCOUNT": "10000", **os.environ, **threads},  # as the command line has it
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            process_group=0,
        )
        with process:
            try:
                out, _ = process.communicate(timeout=patience)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)  # its helpers too, which would disturb the next sample
                if isinstance(error, subprocess.TimeoutExpired):
                    raise ChildProcessError(f"{function} did not end within {patience:,.0f} s") from None
                raise
    answers = [line for line in out.splitlines() if line.startswith(ANSWER)]
    if process.returncode or not answers:
        words = errors.read_text(encoding="utf-8", errors="replace").split("\n") if errors else []
        last = next((f": {line.strip()}" for line in reversed(words) if line.strip()), "")
        raise ChildProcessError(f"{function} left with code {process.returncode}{last}")
    return json.loads(answers[-1][len(ANSWER) :])
