"""Recommendations and evaluation for every user of the log."""

from pathlib import Path

from benchmarks.inputs import read
from benchmarks.measure import Case, Sample, timed
from benchmarks.run import Run

K = 10

CASES = [
    Case("top10-frame", "top-10 of every user as a frame", "ranking:frame", limits={"cpu_s": 1.0}, inputs="make_model"),
    Case(
        "top10-parquet",
        "top-10 of every user to Parquet",
        "ranking:parquet",
        limits={"cpu_s": 2.0},
        inputs="make_model",
    ),
    Case(
        "evaluate",
        "rank of every user's test item",
        "ranking:evaluation",
        limits={"cpu_s": 1.0},
        inputs="make_model",
    ),
]


def frame(run: Run) -> Sample:
    """`recommend` of all users, seen items excluded."""
    import sasrec
    from sasrec.training.machine import torch_threads

    model = sasrec.load(run.model)
    users = model.users.ids
    with torch_threads(run.threads), timed() as watch:
        answer = model.recommend(users, k=K, exclude_seen=True)
    return watch.sample(users=len(users), rows=_complete(len(answer), len(users)))


def parquet(run: Run) -> Sample:
    """`recommend_all`, seen items excluded."""
    import sasrec
    from sasrec.training.machine import torch_threads

    model = sasrec.load(run.model)
    target = Path(run.folder) / "recommendations.parquet"
    with torch_threads(run.threads), timed() as watch:
        rows = model.recommend_all(target, k=K, exclude_seen=True, replace=True)
    return watch.sample(users=len(model.users), rows=_complete(rows, len(model.users)))


def evaluation(run: Run) -> Sample:
    """The whole catalogue ranked for each user of the test part, seen items excluded."""
    import sasrec
    from sasrec.evaluation.ranking import rank_targets
    from sasrec.training.machine import torch_threads

    model = sasrec.load(run.model)
    holdout = sasrec.split(read(run)).test
    with torch_threads(run.threads), timed() as watch:
        ranks = rank_targets(model.scorer, holdout, exclude_seen=True, cuts=(K,)).ranks
    return watch.sample(users=len(ranks))


def _complete(rows: int, users: int) -> int:
    if rows != K * users:
        raise ValueError(f"expected {K} rows for each of {users:,} users, got {rows:,}")
    return rows
