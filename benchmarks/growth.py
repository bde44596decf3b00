"""How time and memory grow with the log and the network: `python -m benchmarks.growth`.

Training and ranking are measured on generated logs, of which one size changes at a time: the catalogue, the users, the
length of the histories, the width of the network. Every point has a process of its own. The slope of a straight line
through the logarithms is the exponent: 0 where a size costs nothing, 1 where twice as much takes twice as long.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, Sample, call, timed
from benchmarks.run import Run

if TYPE_CHECKING:
    from sasrec.data.sequences import Sequences

OUTPUT = ROOT / "benchmarks" / "results" / "local" / "growth.json"
BATCH = 128
WORK = {
    "softmax": "training, exact cross-entropy",
    "sampled-softmax": "training, sampled softmax",
    "ranking": "ranking",
}


@dataclass(frozen=True)
class Growth:
    """One size that changes while the others stay.

    Attributes:
        title: What is counted.
        sizes: The values measured.
        whole: True where times are of all users: of an epoch, and of ranking everybody. Else of one step, and of
            ranking as many users as a step has.
        others: The sizes that stay, where they are not the usual ones.
        exact: Most that exact cross-entropy is measured at.
    """

    title: str
    sizes: tuple[int, ...]
    whole: bool = False
    others: dict[str, int] = field(default_factory=dict)
    exact: float = math.inf


# A length of 0 stands for lengths as on Amazon Beauty: a few long ones, most of them short.
USUAL = {"items": 10_000, "users": 6 * BATCH, "length": 0, "width": 64}
GROWTHS = {
    "items": Growth("items in the catalogue", (10_000, 30_000, 100_000, 300_000, 1_000_000), exact=100_000),
    "users": Growth("users", (1_000, 3_000, 9_000), whole=True),
    "length": Growth("positions in every history", (25, 50, 100, 200), others={"users": 2 * BATCH}),
    "width": Growth("width of vectors and states", (32, 64, 128, 256)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print tables, write JSON and, where asked for, a plot; 1 if a point could not be measured."""
    options = _options(arguments)
    run = Run("", "", False, options.threads, 2)
    result: dict[str, Any] = {
        "machine": {**call("inputs:describe_machine", run, {}), "cpus": os.cpu_count()},
        "threads": run.threads,
        "load_before": os.getloadavg(),
        "growths": {},
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        result["growths"][name] = along(name, run, more=options.items)
        print(table(result["growths"][name]), flush=True)
        result["load_after"] = os.getloadavg()
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")  # an interrupt leaves the rest
    print(f"load average {result['load_after'][0]:.1f} at the end; written to {options.json}")
    if options.plot is not None:
        call("plot:draw", run, {"source": str(options.json.absolute()), "target": str(options.plot.absolute())})
        print(f"drawn to {options.plot}")
    return int(any(None in one["cpu_ms"] for found in result["growths"].values() for one in found["work"].values()))


def along(name: str, run: Run, *, more: Sequence[int] = ()) -> dict[str, Any]:
    """Every point of one growth, and the exponents that fit them.

    Args:
        more: Further sizes of the catalogue, for all but exact cross-entropy.
    """
    growth, work = GROWTHS[name], {}
    for kind in WORK:
        sizes = [size for size in growth.sizes if kind != "softmax" or size <= growth.exact]
        if name == "items" and kind != "softmax":
            sizes += more
        points = [_point(kind, USUAL | growth.others | {name: size}, growth.whole, run) for size in sizes]
        cpu_ms, peak_mb = ([point and point[place] for point in points] for place in (0, 1))
        work[kind] = {
            "sizes": sizes,
            "cpu_ms": cpu_ms,
            "peak_mb": peak_mb,
            "cpu_exponent": exponent(sizes, cpu_ms),
            "peak_exponent": exponent(sizes, peak_mb),
        }
    return {"title": growth.title, "whole": growth.whole, "work": work}


def exponent(sizes: Sequence[float], values: Sequence[float | None]) -> float | None:
    """The slope of the straight line through the logarithms, by least squares; None of fewer than two values."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True) if value]
    if len(points) < 2:
        return None
    x, y = (sum(ends) / len(points) for ends in zip(*points, strict=True))
    return sum((one - x) * (other - y) for one, other in points) / sum((one - x) ** 2 for one, _ in points)


def table(growth: dict[str, Any]) -> str:
    """CPU time and peak memory, one line a size, and a last one with the exponents."""
    timed_as = ("ms an epoch", "ms for all users") if growth["whole"] else ("ms a step", f"ms for {BATCH} users")
    columns = [[growth["title"]]]
    sizes = sorted({size for one in growth["work"].values() for size in one["sizes"]})
    columns[0] += [*(f"{size:,}" for size in sizes), "exponent"]
    for kind, one in growth["work"].items():
        for field_, unit in (("cpu", timed_as[kind == "ranking"]), ("peak", "MB")):
            values = dict(zip(one["sizes"], one["cpu_ms" if field_ == "cpu" else "peak_mb"], strict=True))
            power = one[f"{field_}_exponent"]
            column = [
                f"{WORK[kind]}, {unit}",
                *("-" if values.get(size) is None else f"{values[size]:,.1f}" for size in sizes),
            ]
            columns.append([*column, "-" if power is None else f"{power:.2f}"])
    lines = ["| " + " | ".join(cells) + " |" for cells in zip(*columns, strict=True)]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]])


def _point(kind: str, sizes: dict[str, int], whole: bool, run: Run) -> tuple[float, float] | None:
    """CPU time in ms and peak memory in MB; None where it could not be measured."""
    print(f"{WORK[kind]}: {', '.join(f'{size:,} {name}' for name, size in sizes.items())}", file=sys.stderr)
    settings = sizes if kind == "ranking" else {"loss": kind, **sizes}
    try:
        sample = Sample(**call(f"growth:{'ranking' if kind == 'ranking' else 'training'}", run, settings))
    except ChildProcessError as error:
        print(f"could not be measured: {error}", file=sys.stderr)
        return None
    share = 1.0 if whole else BATCH / sizes["users"]
    return 1000 * sample.cpu_s * share, sample.peak_mb


def training(run: Run, *, loss: str, items: int, users: int, length: int, width: int) -> Sample:
    """An epoch after one to warm up: the fastest, since others can only slow it down."""
    import sasrec
    from sasrec.training.beginning import begin
    from sasrec.training.machine import torch_threads
    from sasrec.training.settling import settled

    histories = generated(items=items, users=users, length=length)
    asked = sasrec.Config(
        width=width,
        length=length or 50,
        positions="learned",
        windows="last",
        batch=BATCH,
        loss=loss,
        item_updates="all" if loss == "softmax" else "touched",
        threads=run.threads,
    )
    with torch_threads(run.threads):
        steps = begin(histories, items=items, config=settled(asked, histories, items=items))
        steps.epoch(1)
        epochs = []
        for number in range(run.epochs):
            with timed() as watch:
                steps.epoch(2 + number)
            epochs.append(watch)
    return min(epochs, key=lambda one: one.cpu_s).sample()


def ranking(run: Run, *, items: int, users: int, length: int, width: int) -> Sample:
    """The rank of every user's last item in the whole catalogue, by a network that was not trained."""
    import numpy as np
    import torch

    import sasrec
    from sasrec.data.splits import Holdout
    from sasrec.evaluation.ranking import rank_targets
    from sasrec.model.building import build
    from sasrec.retrieval.neural import Neural
    from sasrec.training.machine import torch_threads
    from sasrec.training.settling import settled

    histories = generated(items=items, users=users, length=length)
    rows, lengths = np.arange(users), histories.lengths
    seen = histories.slices(rows, np.zeros_like(lengths), lengths - 1)
    holdout = Holdout(rows, seen, histories.items[histories.offsets[1:] - 1])
    config = settled(sasrec.Config(width=width, length=length or 50, positions="learned"), histories, items=items)
    scorer = Neural(build(config, items=items, generator=torch.Generator().manual_seed(0)), config)
    with torch_threads(run.threads):
        rank_targets(scorer, holdout.take(rows[:2]), exclude_seen=True)
        with timed() as watch:
            rank_targets(scorer, holdout, exclude_seen=True)
    return watch.sample()


def generated(*, items: int, users: int, length: int) -> "Sequences":
    """Histories of items whose popularity falls as 1 / (rank + 10), in no order that could be learned."""
    import numpy as np

    from sasrec.data.sequences import Sequences

    rng = np.random.default_rng(0)
    if length:
        lengths = np.full(users, length + 1)
    else:
        lengths = np.minimum(5 + np.floor(rng.pareto(1.5, users) * 3), 204).astype(np.int64)
    shares = np.cumsum(1 / (np.arange(items) + 10))
    ranks = np.searchsorted(shares, rng.random(lengths.sum()) * shares[-1], side="right")
    rows = rng.permutation(items)[np.minimum(ranks, items - 1)]
    return Sequences(rows.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="SIZE", choices=GROWTHS, default=[*GROWTHS], help="change only these"
    )
    parser.add_argument(
        "--items", nargs="+", type=int, default=[], metavar="N", help="catalogues beyond the usual ones"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (1)")
    parser.add_argument("--json", type=Path, default=OUTPUT, metavar="OUT", help=f"({OUTPUT.relative_to(ROOT)})")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="SVG to draw, such as docs/growth.svg")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
