"""How much training it takes to become good."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Sample, timed
from benchmarks.peers.pace import Pace
from benchmarks.peers.work import Work, check_targets, score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.run import Run

MOST_EPOCHS = 40


def sample(run: Run, *, driver: str, config: Mapping[str, Any], ndcg: float) -> Sample:
    """Training alone, in whole epochs, until the validation NDCG@10 of all users is reached.

    What our own network begins with counts too, as it may be counted from the log.

    Raises:
        ValueError: It was not reached, or the system learned from something else.
    """
    work = Work.read(str(run.histories))
    system = import_module(f"benchmarks.peers.drivers.{driver}").System(work, config, run.threads)
    spent = [system.begun] if hasattr(system, "begun") else []
    for epoch in range(1, MOST_EPOCHS + 1):
        # One step more than there are: nothing is cut off.
        pace = Pace(warmup=1, steps=system.steps)
        with timed() as watch:
            system.epoch(pace)
        check_targets(pace.targets, pace.windows, system.windows)
        spent.append(watch.sample())
        found = score(work, system.best("valid"), held_out=2)["ndcg10"]
        if found >= ndcg:
            cpu_s, wall_s = (sum(getattr(one, name) for one in spent) for name in ("cpu_s", "wall_s"))
            others = max(one.others for one in spent)
            return Sample(cpu_s, wall_s, others, spent[-1].peak_mb, {"epochs": epoch, "valid_ndcg10": found})
    raise ValueError(f"validation NDCG@10 {found:.4f} after {MOST_EPOCHS} epochs; {ndcg} was asked for")
