"""What a run takes: seconds and memory."""

import time
from pathlib import Path
from typing import final


@final
class Clock:
    """Wall and CPU seconds since it was made, and those that were added."""

    def __init__(self) -> None:
        self._started, self._worked = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Wall seconds."""
        return time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of this process."""
        return time.process_time() - self._worked

    def record(self) -> dict[str, float]:
        """Both, to the millisecond, as records have them."""
        return {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}

    def add(self, seconds: float, cpu_seconds: float) -> None:
        """Count what was spent before."""
        self._started -= seconds
        self._worked -= cpu_seconds


def peak_memory() -> int | None:
    """Most bytes that this process ever held; None where the system does not say.

    The resource usage that POSIX knows is no use: a new process takes over the peak of the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
