"""A guard against getting slower: `python -m benchmarks.guard`, or `make bench-guard`.

Times differ from machine to machine and from hour to hour, so none is asserted. Each job is compared with the plain
matrix products that it cannot do without, made in the same process, in turns with it; both count CPU seconds, and the
least of several rounds of each. The limits are two to five times what is measured today, which differs between
processors.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

import sasrec
from benchmarks.inputs import NETWORK
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.training.batches import batches, windows_of
from sasrec.training.beginning import begin
from sasrec.training.machine import torch_threads
from sasrec.training.settling import settled
from sasrec.training.steps import Training

USERS, ITEMS, EVENTS = 3_000, 12_000, 8
STEPS, ROUNDS = 8, 7


@dataclass(frozen=True)
class Job:
    """What is guarded.

    Attributes:
        work: Does it once.
        products: Does the matrix products in it once, and nothing else.
        most: How many times the products' cost it may cost.
    """

    name: str
    work: Callable[[], object]
    products: Callable[[], object]
    most: float

    def ratio(self) -> float:
        """Cost of the work over the cost of its products."""
        rounds = [(_cost(self.products), _cost(self.work)) for _ in range(ROUNDS)]
        products, work = (min(costs) for costs in zip(*rounds, strict=True))
        return work / products


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every ratio with its limit; 1 if one is beyond it."""
    argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__).parse_args(arguments)
    with torch_threads(1):
        found = [(job, job.ratio()) for job in jobs()]
    for job, ratio in found:
        print(f"{job.name}: {ratio:.1f} times its products, at most {job.most:g}: {_verdict(ratio, job.most)}")
    return int(any(ratio > job.most for job, ratio in found))


def jobs() -> list[Job]:
    """Training steps in each number format that pays here, top-10 and ranks of everybody."""
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS),
            "item_id": np.concatenate([np.arange(ITEMS), rng.integers(ITEMS, size=USERS * EVENTS - ITEMS)]),
        }
    ).sample(fraction=1.0, shuffle=True, seed=0)
    data = sasrec.split(sasrec.read_log(rows))
    trainings = [_training(data, precision) for precision in sorted({"float32", _automatic(data)})]
    model = Recommender(
        Neural(trainings[0].network, trainings[0].config),
        users=data.log.users,
        items=data.log.items,
        histories=data.log.histories,
    )
    states, table = model.scorer.states(model.histories), model.scorer.network.table().detach()
    scores = torch.empty(len(states), 1024)

    def scoring() -> None:
        for part in table.split(1024):
            torch.mm(states, part.t(), out=scores[:, : len(part)])

    return [
        *(_steps(training) for training in trainings),
        Job("top-10 of everybody", lambda: model.recommend(model.users.ids, k=10), scoring, 10.0),
        Job("ranks of everybody", lambda: rank_targets(model.scorer, data.test, exclude_seen=True), scoring, 10.0),
    ]


def _automatic(data: sasrec.Split) -> str:
    return settled(sasrec.Config(), data.train, items=ITEMS).precision


def _training(data: sasrec.Split, precision: str) -> Training:
    config = settled(sasrec.Config(**NETWORK, precision=precision), data.train, items=len(data.log.items))
    return begin(data.train, items=len(data.log.items), config=config)


def _steps(training: Training) -> Job:
    """Some steps of exact cross-entropy: scores, and what they give to the states and to the table."""
    some = [
        batch
        for _, batch in zip(
            range(STEPS),
            batches(
                training.train,
                windows_of(training.config, training.train, training.rng),
                size=NETWORK["batch"],
                rng=training.rng,
            ),
            strict=False,
        )
    ]
    number = getattr(torch, training.config.precision)
    table = torch.randn(ITEMS, NETWORK["width"]).to(number)
    states = torch.randn(256, NETWORK["width"]).to(number)
    scores, d_states, d_table = states @ table.t(), torch.empty_like(states), torch.empty_like(table)
    chunks = sum(len(batch.targets) for batch in some) / len(states)

    def products() -> None:
        for _ in range(round(chunks)):
            torch.mm(states, table.t(), out=scores)
            torch.mm(scores, table, out=d_states)
            torch.mm(scores.t(), states, out=d_table)

    def work() -> None:
        for batch in some:
            training._step(batch)

    most = 5.0 if number == torch.float32 else 10.0
    return Job(f"training in {training.config.precision}", work, products, most)


def _cost(job: Callable[[], object]) -> float:
    started = time.process_time()
    job()
    return time.process_time() - started


def _verdict(ratio: float, most: float) -> str:
    return "pass" if ratio <= most else "FAIL"


if __name__ == "__main__":
    sys.exit(main())
