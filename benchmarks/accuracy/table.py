"""Results as the tables of docs/accuracy.md."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, stdev

import numpy as np

from benchmarks.accuracy.results import CUT, Result, What
from benchmarks.accuracy.rows import COUNTED, LOGS, ROWS
from sasrec.evaluation.intervals import Interval, paired_interval
from sasrec.evaluation.metrics import ndcg

TITLES: dict[What, str] = {
    "popularity": "popularity",
    "recent": "popularity of the latest events",
    "markov": "Markov",
    "rules": "rules",
    "knn": "kNN",
    "counts": "rules and kNN blended",
    "counts-refit": "rules and kNN blended, refit",
    "network": "one network",
    "blend": "hybrid",
    "ease": "hybrid with EASE",
    "refit": "hybrid, refit",
    "ease-refit": "hybrid with EASE, refit",
}


def tables(found: Iterable[Result]) -> str:
    """Markdown: a table for every log that there are results of."""
    logs: dict[str, list[Result]] = defaultdict(list)
    for one in found:
        logs[one.log].append(one)
    return "\n\n".join(_table(log, logs[log]) for log in LOGS if log in logs)


def _table(log: str, found: Sequence[Result]) -> str:
    if len({one.data for one in found}) > 1:
        raise ValueError(f"{log}: results of several logs or splits: {', '.join(sorted({one.data for one in found}))}")
    lines = [
        f"**{LOGS[log].title}**, {len(found[0].ranks()):,} users tested",
        "",
        "| row | model | seeds | NDCG@10 | HR@10 | NDCG@10 beside its base, 95 % | epochs | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(cells)} |" for cells in _rows(found)]
    return "\n".join(lines)


def _rows(found: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    grouped: dict[tuple[str, What], dict[int, Result]] = defaultdict(dict)
    for one in found:
        grouped[one.row, one.what][one.seed] = one
    for what, title in TITLES.items():
        for row in (row for row in (COUNTED, *ROWS) if (row, what) in grouped):
            runs = grouped[row, what]
            name, base = (COUNTED, COUNTED) if row == COUNTED else (_named(row), ROWS[row].base)
            theirs = grouped.get((base, what), {}) if row != base else {}
            shared = sorted(runs.keys() & theirs.keys())
            yield (
                name,
                title,
                f"{len(runs)}",
                _spread([one.ndcg for one in runs.values()]),
                _spread([one.hits for one in runs.values()]),
                _words(difference([runs[s] for s in shared], [theirs[s] for s in shared]), len(shared))
                if shared
                else "",
                f"{mean(one.best for one in runs.values()):.0f}",
                f"{mean(one.cpu_s for one in runs.values()):.0f}",
            )


def _named(row: str) -> str:
    return ROWS[row].title + ("" if row == "default" or ROWS[row].base == "default" else ", no average")


def difference(first: Sequence[Result], second: Sequence[Result]) -> Interval:
    """How far two rows of the same seeds are apart: every user's mean over the seeds, resampled over users."""
    ours, theirs = (np.mean([ndcg(one.ranks(), CUT) for one in runs], axis=0) for runs in (first, second))
    return paired_interval(ours, theirs)


def _words(interval: Interval, seeds: int) -> str:
    told = f"{interval.difference:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
    return told if seeds > 1 else f"{told}, one seed"


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
