"""One system on the four logs of the paper, beside what was published: `python -m benchmarks.replication --help`.

The comparison of the paper and of sasrec-pytorch on whatever of these logs is at hand. Training looks at validation
alone and stops when that gets no better; the test is ranked once, with the best weights, as the paper's code did it
(100 drawn items a target), and over the whole catalogue beside the models that count.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import ROOT, timed

if TYPE_CHECKING:
    from sasrec import Config

FOLDER = ROOT / "benchmarks" / "results" / "local"
SYSTEMS = ("paper", "sasrec-pytorch")
METRICS = ("NDCG@10", "HR@10")


@dataclass(frozen=True)
class Known:
    """A log that figures were published of.

    Attributes:
        title: As the table names it.
        size: Users and items, which tell it from other files of its name.
        length: Most recent events that the network looks at, in both publications.
        dropout: Likewise.
        paper, pytorch: NDCG@10 and HR@10 that the paper and sasrec-pytorch tell of the test, each target among 100
            drawn items.
    """

    title: str
    size: tuple[int, int]
    length: int
    dropout: float
    paper: tuple[float, float]
    pytorch: tuple[float, float]


# Kang & McAuley, ICDM 2018, tables 2 and 3; the chart of test figures in the repository seanswyi/sasrec-pytorch.
KNOWN = {
    "beauty": Known("Beauty", (52_024, 57_289), 50, 0.5, paper=(0.3219, 0.4854), pytorch=(0.3415, 0.4955)),
    "games": Known("Games", (31_013, 23_715), 50, 0.5, paper=(0.5360, 0.7410), pytorch=(0.5458, 0.7511)),
    "steam": Known("Steam", (334_730, 13_047), 50, 0.5, paper=(0.6306, 0.8729), pytorch=(0.5977, 0.8339)),
    "ml-1m": Known("MovieLens-1M", (6_040, 3_416), 200, 0.2, paper=(0.5905, 0.8245), pytorch=(0.5676, 0.7965)),
}


@dataclass(frozen=True)
class Result:
    """What came out on one log.

    Attributes:
        name: Of `KNOWN`.
        users, items: Size of the log.
        sampled: NDCG@10 and HR@10 under the paper's protocol, each with its standard error.
        whole: By model the same over the whole catalogue; the network comes first.
        epochs: Epochs until the best weights, and trained in all.
        cpu_s: CPU seconds of training, validation included.
        config: Every setting, as it was settled.
        fingerprint: Hash of the log's content.
    """

    name: str
    users: int
    items: int
    sampled: dict[str, tuple[float, float]]
    whole: dict[str, dict[str, tuple[float, float]]]
    epochs: tuple[int, int]
    cpu_s: float
    config: dict[str, float | str]
    fingerprint: str

    @property
    def published(self) -> dict[str, tuple[float, float]]:
        """What was published of this very log; nothing where it only has the name."""
        known = KNOWN[self.name]
        if (self.users, self.items) != known.size:
            return {}
        return dict(zip(SYSTEMS, (known.paper, known.pytorch), strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and test on every log, print a table, write JSON and a page with charts."""
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name, file in options.logs:
        print(f"{KNOWN[name].title}: {file}", file=sys.stderr)
        results.append(train_and_test(name, file, settings(name, options)))
        plain = {"preset": options.preset, "results": [asdict(one) for one in results]}
        (options.out / "replication.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    write_charts(options.out / "replication.html", results, preset=options.preset)
    print(table(results, preset=options.preset))
    print(f"written to {options.out}/replication.json and replication.html", file=sys.stderr)
    return 0


def settings(name: str, options: argparse.Namespace) -> "Config":
    """The preset with the window and the dropout that both publications have for this log."""
    from sasrec import preset

    known, base = KNOWN[name], preset(options.preset)
    return replace(
        base,
        length=known.length,
        dropout=known.dropout,
        epochs=base.epochs if options.epochs is None else options.epochs,
        seed=options.seed,
        threads=options.threads,
    )


def train_and_test(name: str, file: Path, config: "Config") -> Result:
    """Train on a log, looking at validation alone, and test once with the best weights."""
    import sasrec

    data = sasrec.split(sasrec.read_log(file))
    with timed() as watch:
        model = sasrec.train(data, config)
    sampled = sasrec.evaluate(model, data, candidates="sasrec2018")
    whole = sasrec.evaluate(model, data, exclude_seen=True)
    return Result(
        name,
        users=len(data.log.users),
        items=len(data.log.items),
        sampled={metric: sampled.rows[0].metrics[metric] for metric in METRICS},
        whole={row.model: {metric: row.metrics[metric] for metric in METRICS} for row in whole.rows},
        epochs=(model.record["best"]["epoch"], model.record["epochs"]),
        cpu_s=watch.cpu_s,
        config=model.scorer.config.to_dict(),
        fingerprint=data.fingerprint,
    )


_COUNTED = ("Rules", "Markov", "Popularity")


def table(results: Sequence[Result], *, preset: str) -> str:
    """Markdown: what was published, what came out, and the same model over the whole catalogue."""
    lines = [
        ("log", *SYSTEMS, f"sasrec, `{preset}`", "of the paper", "whole catalogue", *_COUNTED, "epochs"),
        ("---",) * 10,
    ]
    for one in results:
        counted = (one.whole[name] for name in _COUNTED)
        network = next(iter(one.whole.values()))
        lines.append(
            (
                KNOWN[one.name].title,
                *(_pair(*one.published[system]) if one.published else "–" for system in SYSTEMS),
                " / ".join(f"{mean:.4f} ± {error:.4f}" for mean, error in one.sampled.values()),
                " / ".join(f"{share:.1%}" for share in _shares(one)) or "–",
                *(_pair(*(mean for mean, _ in metrics.values())) for metrics in (network, *counted)),
                f"{one.epochs[0]} of {one.epochs[1]}",
            )
        )
    read = "All pairs are NDCG@10 / HR@10. The first four columns rank each target among 100 drawn items."
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", read, *notes(results)])


def notes(results: Sequence[Result]) -> Iterator[str]:
    """What to keep in mind when reading the table."""
    for one in results:
        known = KNOWN[one.name]
        if not one.published:
            found, meant = (
                f"{users:,} users and {items:,} items" for users, items in ((one.users, one.items), known.size)
            )
            yield f"{known.title}: this log has {found}, the published one {meant}; their figures do not compare."
    missing = [known.title for name, known in KNOWN.items() if name not in {one.name for one in results}]
    if missing:
        yield f"Not given: {', '.join(missing)}."


def write_charts(path: Path, results: Sequence[Result], *, preset: str) -> None:
    """A page with a chart of each metric, published figures beside ours with their 95 % intervals."""
    from sasrec.report.charts import Caption, Series, bar_chart
    from sasrec.report.elements import document, section, tag
    from sasrec.report.page import page

    charts = []
    for place, metric in enumerate(METRICS):
        ours = [one.sampled[metric] for one in results]
        series = [
            *(
                Series(s, [one.published[s][place] if one.published else float("nan") for one in results])
                for s in SYSTEMS
            ),
            Series("sasrec", [mean for mean, _ in ours], [(mean - 1.96 * se, mean + 1.96 * se) for mean, se in ours]),
        ]
        note = "The target among 100 drawn items. Whiskers: 95 % of the sampling of users."
        caption = Caption(title=metric, x="log", y=metric, note=note)
        charts.append(bar_chart(caption, [KNOWN[one.name].title for one in results], series))
    figures = section("Published and here", tag("div.charts", *charts), *(tag("p", note) for note in notes(results)))
    protocol = f"preset '{preset}', windows and dropout as published; the original protocol of 100 sampled negatives"
    path.write_text(document(page("SASRec on four logs", protocol, [figures])), encoding="utf-8")


def _shares(one: Result) -> list[float]:
    """How much of the paper's figures was reached; empty where the log is another."""
    if not one.published:
        return []
    return [one.sampled[metric][0] / paper for metric, paper in zip(METRICS, one.published["paper"], strict=True)]


def _pair(ndcg: float, hits: float) -> str:
    return f"{ndcg:.4f} / {hits:.4f}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replication", description=__doc__)
    parser.add_argument(
        "logs", nargs="+", type=_log, metavar="NAME=PATH", help=f"logs at hand; names are {', '.join(KNOWN)}"
    )
    parser.add_argument("--preset", default="seanswyi", help="settings of which system (seanswyi)")
    parser.add_argument("--epochs", type=int, metavar="N", help="most epochs, instead of the preset's")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="fixes every random draw (0)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (1)")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help=f"({FOLDER.relative_to(ROOT)})")
    return parser.parse_args(arguments)


def _log(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if name not in KNOWN or not file:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH with a name of {', '.join(KNOWN)}, found {text!r}")
    if not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"{file}: no such file")
    return name, Path(file)


if __name__ == "__main__":
    sys.exit(main())
