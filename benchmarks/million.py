"""What an index finds among a million vectors that were trained: `python -m benchmarks.million`.

A network is trained on a generated log with as many items, by sampled softmax. After every epoch the best ten of 200
users are asked for by all scores, by the exact and by the coarse index, as the cases `topk-*-1m` ask among vectors that
lie between those of a smaller catalogue.

The log has an order to learn. Items are in topics of 50 that stand in a ring. A user has three topics and stays in one
with seven of ten events, where the next item is one of the few that follow; else any item of one of the three comes
next. Topics differ in popularity by a factor of eleven.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmarks.__main__ import at_least_one
from benchmarks.lookup import answered
from benchmarks.measure import call
from benchmarks.run import Run

if TYPE_CHECKING:
    from sasrec.data.sequences import Sequences
    from sasrec.retrieval.recommender import Recommender
    from sasrec.retrieval.scorers import Factored

TOPIC = 50  # items
TOPICS = 3  # of a user
STAYING = 0.7
RANKED = 1_000  # users whose next event is ranked


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, line by line as it is measured."""
    options = _options(arguments)
    run = Run("", "", False, options.threads, options.epochs)
    print(", ".join(f"{name} {value}" for name, value in call("inputs:describe_machine", run, {}).items()))
    print(f"{options.items:,} items, {options.users:,} users with {options.events} events each")
    print("| epoch | loss | HR@10 | length of vectors, at first | by | CPU ms a user | of the best ten missed |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for line in measured(run, items=options.items, users=options.users, events=options.events):
        print(line, flush=True)
    return 0


def measured(run: Run, *, items: int, users: int, events: int) -> Iterator[str]:
    """Train, and after every epoch a line for each way to the best items."""
    import numpy as np

    import sasrec
    from sasrec.data.splits import Holdout
    from sasrec.evaluation.ranking import validated
    from sasrec.training.beginning import begin
    from sasrec.training.machine import torch_threads
    from sasrec.training.settling import settled

    log = generated(items=items, users=users, events=events + 1)
    rows, lengths = np.arange(users), log.lengths
    histories = log.slices(rows, np.zeros_like(lengths), lengths - 1)
    holdout = Holdout(rows, histories, log.items[log.offsets[1:] - 1]).take(rows[:: max(1, users // RANKED)])
    asked = sasrec.Config(width=64, blocks=2, length=50, positions="learned", learning_rate=0.003, threads=run.threads)
    with torch_threads(run.threads):
        training = begin(histories, items=items, config=settled(asked, histories, items=items))
        first = _length(training.scorer())
        for number in range(1, run.epochs + 1):
            loss = training.epoch(number)
            model = _model(training.scorer(), histories)
            _, hits = validated(model.scorer, holdout, exclude_seen=True)
            known = f"{loss:.3f} | {hits:.4f} | {_length(model.scorer):.2f}, {first:.2f}"
            for by in ("all scored", "exact index", "coarse index"):
                found = answered(model, by=by).facts
                yield f"| {number} | {known} | {by} | {found['user_ms']:.1f} | {found['missed']:.4f} |"


def generated(*, items: int, users: int, events: int) -> "Sequences":
    """Histories of the log that is described above, all of one length."""
    import numpy as np

    from sasrec.data.sequences import Sequences

    rng = np.random.default_rng(0)
    topics = -(-items // TOPIC)
    shares = np.cumsum(1 / (np.arange(topics) + topics / 10))
    liked = np.searchsorted(shares, rng.random((users, TOPICS)) * shares[-1])
    everybody, at, place = np.arange(users), np.zeros(users, np.int64), rng.integers(TOPIC, size=users)
    drawn = np.empty((users, events), np.int64)
    for event in range(events):
        stays = rng.random(users) < STAYING
        at = np.where(stays, at, rng.integers(TOPICS, size=users))
        place = np.where(stays, place + rng.geometric(0.5, size=users), rng.integers(TOPIC, size=users)) % TOPIC
        drawn[:, event] = np.minimum(liked[everybody, at] * TOPIC + place, items - 1)
    rows = rng.permutation(items)[drawn.ravel()]  # rows say nothing of topics
    return Sequences(rows.astype(np.int32), np.arange(users + 1, dtype=np.int64) * events)


def _model(scorer: "Factored", histories: "Sequences") -> "Recommender":
    import numpy as np
    import polars as pl

    from sasrec.data.vocab import Vocabulary
    from sasrec.retrieval.recommender import Recommender

    users, items = (
        Vocabulary(pl.Series(np.char.mod("%07d", np.arange(count))), kind)
        for count, kind in ((len(histories), "user"), (scorer.items, "item"))
    )
    return Recommender(scorer, users=users, items=items, histories=histories)


def _length(scorer: "Factored") -> float:
    return float(scorer.table().detach().norm(dim=1).mean())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    for name, count in (("items", 1_000_000), ("users", 300_000), ("events", 20), ("epochs", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=at_least_one, default=count, metavar="N", help=f"({count:,})")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
