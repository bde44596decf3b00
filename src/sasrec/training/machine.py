"""What the machine grants this process, and what it is."""

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def granted_threads() -> int:
    """CPUs that this process may use: its affinity, or the container's quota where that is less. At least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
        cpus = min(cpus, int(quota) // int(period))
    except (OSError, ValueError):  # no such limit here
        pass
    return max(cpus, 1)


def has_fast_bfloat16() -> bool:
    """True where the CPU multiplies bfloat16 faster than float32: with AMX, and with AVX-512 on AMD.

    Intel's processors with AVX-512 and no AMX have the instruction too, at half the rate of their float32.
    """
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or (found.get("avx512_bf16") and _processor().startswith("AMD")))


def has_device(device: str) -> bool:
    """True where torch can compute on "cpu", "cuda" or "mps"."""
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device]


def found_device() -> Literal["cpu", "cuda", "mps"]:
    """A GPU where torch finds one, else the CPU."""
    return "cuda" if has_device("cuda") else "mps" if has_device("mps") else "cpu"


def device_here(device: Literal["cpu", "cuda", "mps", "auto"]) -> Literal["cpu", "cuda", "mps", "auto"]:
    """The device of a model that was trained elsewhere, or what is found where it is not here, with a warning."""
    if device == "auto" or has_device(device):
        return device
    warnings.warn(f"torch finds no '{device}' here; the network is trained on '{found_device()}'", stacklevel=2)
    return found_device()


def describe() -> dict[str, str]:
    """Versions and processor, for records of what was run where."""
    return {"python": platform.python_version(), "torch": torch.__version__, "processor": _processor()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def keep_freed_memory() -> None:
    """Let the C library keep what a training step frees, for the next step to use again.

    glibc gives large blocks back to the system until a block of up to 32 MB has once been freed, and raises its
    bounds then. Without this, every step faults its memory in anew: 130,000 page faults an epoch on Beauty.
    Elsewhere it does nothing.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)  # freed at once


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block; the caller's setting returns afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
