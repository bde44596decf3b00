"""One system, trained and asked for recommendations in a process of its own environment."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Sample, timed
from benchmarks.peers.pace import Pace
from benchmarks.peers.work import Work, check_targets, score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.run import Run

WARMUP = 10  # steps before a whole epoch's clock starts


def sample(run: Run, *, driver: str, config: Mapping[str, Any], steps: int) -> Sample:
    """The cost of an epoch and of everybody's top-10.

    Args:
        driver: Module of `drivers`.
        config: Settings as `sasrec.Config` has them.
        steps: Steps to time, after two to warm up; 0 for all of an epoch but the first ten. Either is scaled to a
            whole epoch.

    Raises:
        ValueError: The system learned from something else, or recommends what it must not.
    """
    work = Work.read(str(run.histories))
    system = import_module(f"benchmarks.peers.drivers.{driver}").System(work, config, run.threads)
    pace = paced(system.steps, steps)
    system.epoch(pace)
    trained = scaled(pace, system.steps)
    check_targets(pace.targets, pace.windows, system.windows)
    with timed() as ranking:
        lists = system.top()
    facts = {"top10_cpu_s": ranking.cpu_s, "top10_wall_s": ranking.wall_s, **score(work, lists)}
    return Sample(trained.cpu_s, trained.wall_s, trained.others, trained.peak_mb, {**trained.facts, **facts})


def paced(whole: int, steps: int) -> Pace:
    """Which steps of a whole epoch are timed."""
    if steps:
        return Pace(warmup=2, steps=min(steps, whole - 2))
    warmup = min(WARMUP, math.ceil(whole / 10))
    return Pace(warmup=warmup, steps=whole - warmup)


def scaled(pace: Pace, whole: int) -> Sample:
    """The time of the timed steps, as that of a whole epoch.

    Raises:
        ValueError: The system made fewer steps than it was to.
    """
    if pace.made != pace.limit:
        raise ValueError(f"{pace.made} steps of the {pace.limit} that were to be made")
    share = pace.steps / whole
    found = pace.watch.sample(
        timed_steps=pace.steps,
        epoch_steps=whole,
        targets=pace.targets / pace.made * whole,
        us_per_target=1e6 * pace.watch.cpu_s / pace.timed_targets,
    )
    return Sample(found.cpu_s / share, found.wall_s / share, found.others, found.peak_mb, found.facts)
