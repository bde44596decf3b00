"""Results as the tables of docs/accuracy.md."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks.accuracy.published import PUBLISHED, TIMES_KNOWN
from benchmarks.accuracy.results import CUT, Result, What, unpack
from benchmarks.accuracy.rows import COUNTED, LOGS, ROWS, SINCE
from sasrec.evaluation.intervals import Interval, paired_interval
from sasrec.evaluation.metrics import hit_rate, mean_and_error, ndcg

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
    "three": "hybrid of three networks with EASE",
    "ease-refit": "hybrid with EASE, refit",
}

SHOWN: tuple[What, ...] = ("rules", "counts", "network", "blend", "ease", "three")
"""What stands beside the figures of others."""

MEASURED = (
    ("beauty", "default"),
    ("games", "default"),
    ("ml-1m", "default"),
    ("ml-1m", "asked"),
    ("ml-100k", "default"),
    ("retail-time", "default"),
)
"""Log and row of what README shows."""

COUNTS_SHOWN: tuple[What, ...] = ("rules", "markov", "popularity")


def tables(found: Iterable[Result]) -> str:
    """Markdown: a table for every log that there are results of."""
    return "\n\n".join(_table(log, runs) for log, runs in by_log(found).items())


def _table(log: str, found: Sequence[Result]) -> str:
    if len({one.data for one in found}) > 1:
        raise ValueError(f"{log}: results of several logs or splits: {', '.join(sorted({one.data for one in found}))}")
    lines = [
        f"**{LOGS[log].title}**, {len(found[0].ranks()):,} users tested",
        "",
        "| row | model | seeds | NDCG@10 | HR@10 | NDCG@10 beside its base, 95 % | base | epochs | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(cells)} |" for cells in _rows(found)]
    return "\n".join(lines)


def _rows(found: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    grouped = by_row(found)
    for what, title in TITLES.items():
        for row in (row for row in (COUNTED, *ROWS) if (row, what) in grouped):
            runs = grouped[row, what].values()
            pair = compared(grouped, row, what)
            yield (
                named(row),
                title,
                f"{len(runs)}",
                _spread([one.ndcg for one in runs]),
                _spread([one.hits for one in runs]),
                *_words(pair, len(runs)),
                f"{mean(one.best for one in runs):.0f}",
                f"{mean(one.cpu_s for one in runs):.0f}",
            )


def measured(found: Iterable[Result]) -> str:
    """Markdown: the rows of README, with what only counts beside each; errors are of the mean over users."""
    logs = by_log(found)
    lines = [
        "| log | users tested | settings | seeds | NDCG@10 | HR@10 | rules | Markov | popularity |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for log, row in MEASURED:
        grouped = by_row(logs[log])
        runs = [*grouped[row, "network"].values()]
        ranks = [one.ranks() for one in runs]
        cells = [LOGS[log].title, f"{len(ranks[0]):,}", _flags(ROWS[row].on(log)), f"{len(runs)}"]
        for metric in (ndcg, hit_rate):
            mean_of, error = mean_and_error(np.mean([metric(one, CUT) for one in ranks], axis=0))
            cells.append(f"{mean_of:.4f} ± {error:.4f}")
        counts = [grouped[COUNTED, what][0] for what in COUNTS_SHOWN]
        lines.append(f"| {' | '.join(cells + [f'{one.ndcg:.4f} / {one.hits:.4f}' for one in counts])} |")
    return "\n".join(lines)


def _flags(settings: Mapping[str, Any]) -> str:
    """Settings as they are given to `sasrec train`."""
    words = [f"--{name.replace('_', '-')} {value}" for name, value in settings.items()]
    return f"`{' '.join(words)}`" if words else "none given"


def beside_published(found: Iterable[Result]) -> str:
    """Markdown: for every log that others have published figures of, these and ours, the best first."""
    told = {one.log for one in PUBLISHED}
    return "\n\n".join(_beside(log, runs) for log, runs in by_log(found).items() if log in told)


def _beside(log: str, found: Sequence[Result]) -> str:
    ours = [
        (
            one.ndcg,
            f"**sasrec, {one.name}**",
            f"**{one.ndcg:.4f}**",
            f"**{one.hits:.4f}**",
            "the tables below",
            TIMES_KNOWN if one.times else "",
        )
        for one in figures(found)
    ]
    theirs = [
        (one.ndcg, one.model, f"{one.ndcg:.4f}", f"{one.hits:.4f}", one.source, one.differs)
        for one in PUBLISHED
        if one.log == log
    ]
    lines = [
        f"**{LOGS[log].title}**",
        "",
        "| model | NDCG@10 | HR@10 | told by | why it cannot be compared |",
        "|---|---|---|---|---|",
    ]
    return "\n".join(lines + [f"| {' | '.join(cells)} |" for _, *cells in sorted(ours + theirs, reverse=True)])


@dataclass(frozen=True)
class Figure:
    """One of ours beside those of others.

    Attributes:
        name: Model, row and how many seeds.
        ndcg, hits: NDCG@10 and HR@10, means over seeds.
        error: Two standard errors of `ndcg` over users.
        times: The time of the request is known to the network.
    """

    name: str
    ndcg: float
    hits: float
    error: float
    times: bool


def figures(found: Sequence[Result]) -> Iterator[Figure]:
    """Ours of a log without refit."""
    for (row, what), runs in by_row(found).items():
        if what in SHOWN and row in (COUNTED, "default", "last-windows", "drawn", "width-64", "times", "asked"):
            users = np.mean([ndcg(one.ranks(), CUT) for one in runs.values()], axis=0)
            error = 2 * float(users.std(ddof=1)) / len(users) ** 0.5
            seeds = f" ({len(runs)} seeds)" if len(runs) > 1 else ""
            name = TITLES[what] if row == COUNTED else f"{TITLES[what]}, {named(row)}{seeds}"
            times = any(one.config.get("times", "none") != "none" for one in runs.values())
            yield Figure(name, float(users.mean()), mean(one.hits for one in runs.values()), error, times)


def by_log(found: Iterable[Result]) -> dict[str, list[Result]]:
    """Results of each log that has some, in the order of `LOGS`."""
    grouped: dict[str, list[Result]] = {log: [] for log in LOGS}
    for one in found:
        grouped[one.log].append(one)
    return {log: runs for log, runs in grouped.items() if runs}


def by_row(found: Iterable[Result]) -> dict[tuple[str, What], dict[int, Result]]:
    """Results of one log by row and kind, then by seed."""
    grouped: dict[tuple[str, What], dict[int, Result]] = defaultdict(dict)
    for one in found:
        grouped[one.row, one.what][one.seed] = one
    return grouped


@dataclass(frozen=True)
class Compared:
    """A row beside the one that it changes something of.

    Attributes:
        base: That one.
        seeds: How many both have.
        apart: How far they are apart with these.
    """

    base: str
    seeds: int
    apart: Interval


def compared(grouped: Mapping[tuple[str, What], Mapping[int, Result]], row: str, what: What) -> Compared | None:
    """How far a row is from its base, with the seeds that both have; None where there is none."""
    if row == COUNTED or row == ROWS[row].base:
        return None
    base = _base(grouped, row)
    runs, others = grouped.get((row, what), {}), grouped.get((base, what), {})
    shared = sorted(runs.keys() & others.keys())
    if not shared:
        return None
    return Compared(base, len(shared), difference([runs[s] for s in shared], [others[s] for s in shared]))


def _base(grouped: Mapping[tuple[str, What], Mapping[int, Result]], row: str) -> str:
    """What a row is compared with on a log: the same for the network and all that is made of it."""
    name = ROWS[row].base
    # Each was the default of its time, and on some logs is what the next one is.
    for older, newer in (("former", "drawn"), ("drawn", "last-windows"), ("last-windows", "default")):
        if name == older and (name, "network") not in grouped:
            name = newer
    return "before" if name == "default" and row not in SINCE and ("before", "network") in grouped else name


def named(row: str) -> str:
    """A row as it is called where several stand beside each other."""
    if row == COUNTED:
        return COUNTED
    return ROWS[row].title + {
        "drawn": ", drawn",
        "former": ", drawn",
        "width-64": ", width 64",
        "plain": ", width 64, no average",
    }.get(ROWS[row].base, "")


def difference(first: Sequence[Result], second: Sequence[Result]) -> Interval:
    """How far two rows of the same seeds are apart: every user's mean over the seeds, resampled over users."""
    return _apart(*(tuple(one.places for one in runs) for runs in (first, second)))


@cache  # tables and pictures ask for the same ones, and resampling takes a second each
def _apart(first: tuple[str, ...], second: tuple[str, ...]) -> Interval:
    ours, theirs = (np.mean([ndcg(unpack(places), CUT) for places in runs], axis=0) for runs in (first, second))
    return paired_interval(ours, theirs)


def _words(pair: Compared | None, seeds: int) -> tuple[str, str]:
    """The interval, and what it is beside; with how many seeds, where the row has more."""
    if pair is None:
        return "", ""
    told = f"{pair.apart.difference:+.4f} ({pair.apart.low:+.4f} to {pair.apart.high:+.4f})"
    one = ", one seed" if pair.seeds == 1 else f", {pair.seeds} seeds" if pair.seeds < seeds else ""
    return told + one, named(pair.base)


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
