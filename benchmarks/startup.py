"""What it costs before anything is done: whole processes, compared with a Python that does nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.measure import Case, Sample, timed
from benchmarks.run import Run

PROCESSES = 10

CASES = [
    Case("import", "import sasrec, beyond bare Python", "startup:importing", limits={"cpu_s": 0.030}),
    Case("help", "sasrec --help, beyond bare Python", "startup:helping", limits={"whole_s": 0.250}),
]


def importing(_run: Run) -> Sample:
    """The bare import."""
    return _beyond_bare(["-c", "import sasrec"])


def helping(_run: Run) -> Sample:
    """The command line's help."""
    return _beyond_bare(["-m", "sasrec", "--help"])


def _beyond_bare(arguments: Sequence[str]) -> Sample:
    """Medians of several processes of each kind, one after the other in turn."""
    with timed() as watch:
        pairs = [(_process(["-c", "pass"]), _process(arguments)) for _ in range(PROCESSES)]
    (bare_cpu, bare_wall, _), (cpu, wall, peak) = (
        [median(values) for values in zip(*kind, strict=True)] for kind in zip(*pairs, strict=True)
    )
    facts = {"whole_s": cpu, "bare_s": bare_cpu, "processes": PROCESSES}
    return Sample(cpu - bare_cpu, wall - bare_wall, watch.others, peak, facts)


def _process(arguments: Sequence[str]) -> tuple[float, float, float]:
    """CPU seconds, seconds by the clock and MB of a Python with these arguments, which must succeed."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ChildProcessError(f"python {' '.join(arguments)} left with code {process.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024
