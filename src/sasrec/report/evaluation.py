"""The page of an evaluation."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from sasrec.data.splits import Holdout, Split
from sasrec.data.vocab import Id
from sasrec.errors import DataError
from sasrec.evaluation.metrics import in_tables, mean_and_error, ndcg
from sasrec.evaluation.protocol import Report, Row
from sasrec.report.charts import Caption, Series, bar_chart, line_chart
from sasrec.report.elements import Content, notes, section, table, tag
from sasrec.report.examples import Names, attention_maps, drawn, examples
from sasrec.report.groups import INTERVAL, MEANS, Group, hit_curve, mean_cell, ndcg_of, quantile_groups
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender

_DEPTHS = 60  # points of the curve of hits by depth


def evaluation_sections(
    report: Report, model: Recommender | None, data: Split | None, *, user: Id | None, titles: str | Path | None
) -> list[Element]:
    """The sections that can be made of what is given; see `write_page`."""
    charts = list(_of_ranks(report))
    people: list[Element] = []
    if data is not None:
        holdout = _ranked(report, data)
        charts = [*_by_group(report, data, holdout), *charts]
        if model is not None:
            names = Names(data.log, titles)
            few = drawn(holdout, data.log, user)
            if not model.users.ids.equals(data.log.users.ids):  # nobody that the model knows, as in the report
                few = replace(few, histories=replace(few.histories, users=None))
            people.append(examples(model, few, names, exclude_seen=report.exclude_seen))
            people += _attention(model, few, names)
    return [
        _results(report),
        section("Where it is good", tag("div.charts", *charts)),
        *people,
    ]


def _attention(model: Recommender, few: Holdout, names: Names) -> Iterator[Element]:
    """The section of what the network looks at, where there is a network and it looks."""
    if isinstance(model.scorer, Neural) and (maps := attention_maps(model.scorer, few, names)):
        whose = tag(
            "p", "What the events of user ", names.user_element(int(few.users[0])), " look at; 1 is the oldest."
        )
        yield section("Attention", whose, tag("div.charts", *maps))


def _ranked(report: Report, data: Split) -> Holdout:
    """The users that the report ranked, in its order."""
    holdout = data.test if report.on == "test" else data.valid
    places = np.searchsorted(holdout.users, report.users)
    if (places >= len(holdout)).any() or (holdout.users[places] != report.users).any():
        raise DataError(f"data: does not hold out the {len(report.users):,} users of the report; give its own split")
    return holdout.take(places)


def _results(report: Report) -> Element:
    """The table of the report, and what stands out in it."""
    return section(
        "Results",
        _tiles(report),
        *(_metrics(report, k) for k in report.k),
        tag("p.quiet", MEANS),
        *notes(report.notes),
    )


def _cut_of(report: Report) -> int:
    """The cut-off that the charts show: 10 where the report has it, else its first."""
    return 10 if 10 in report.k else report.k[0]


def _of_ranks(report: Report) -> Iterator[Element]:
    """Charts of the ranks alone: hits by depth, and coverage."""
    deepest = max(int(row.ranks[np.isfinite(row.ranks)].max(initial=0)) + 1 for row in report.rows)
    depths = np.unique(np.geomspace(1, max(deepest, 10), _DEPTHS).astype(np.int64))
    caption = Caption(
        title="Hits by depth",
        x="items shown",
        y="share of users",
        note="How many users find their held-out item among the first so many; the axis of items is logarithmic.",
    )
    curves = [Series(row.model, hit_curve(row.ranks, depths)) for row in report.rows]
    yield line_chart(caption, depths.tolist(), curves, logarithmic=True)
    if not report.rows[0].coverage:
        return
    caption = Caption(
        title="Coverage",
        x="items shown to each user",
        y="% of the catalogue",
        note="Share of the catalogue that anybody is recommended.",
        digits=1,
    )
    shares = [Series(row.model, [100 * share for share in row.coverage.values()]) for row in report.rows]
    yield bar_chart(caption, [name.removeprefix("coverage@") for name in report.rows[0].coverage], shares)


def _by_group(report: Report, data: Split, holdout: Holdout) -> Iterator[Element]:
    """NDCG of every model by how much is known of the user, and by how common the target is."""
    k = _cut_of(report)
    counts = np.bincount(data.train.items, minlength=len(data.log.items))
    for title, what, quantities in (
        ("By history length", "events before the held-out one", holdout.histories.lengths),
        ("By popularity of the target", "training events of the held-out item", counts[holdout.targets]),
    ):
        groups = quantile_groups(quantities)
        caption = Caption(
            title=f"{title}: NDCG@{k}",
            x=what,
            y=f"NDCG@{k}",
            note=f"Users grouped, as evenly as equal values allow ({_sizes(groups)} users a group); 95 % intervals.",
        )
        bars = [Series(row.model, *ndcg_of(row.ranks, groups, k)) for row in report.rows]
        yield bar_chart(caption, [group.name for group in groups], bars)


def _tiles(report: Report) -> Element:
    """The figures to look at first, and how far the model is ahead of the best of the others."""
    own, *others = report.rows
    k = _cut_of(report)
    tiles = [
        tag("div", tag("b", f"{own.metrics[name][0]:.4f}"), tag("span", f"{name} of {own.model}"))
        for name in (f"NDCG@{k}", f"HR@{k}")
    ]
    if others:
        best = max(others, key=lambda row: row.metrics[f"NDCG@{k}"][0])
        ahead, error = mean_and_error(ndcg(own.ranks, k) - ndcg(best.ranks, k))
        margin = "" if math.isnan(error) else f" ± {INTERVAL * error:.4f}"
        said = f"NDCG@{k} ahead of {best.model}, over the same users: {_verdict(ahead, error)}"
        tiles.append(tag("div", tag("b", f"{ahead:+.4f}{margin}"), tag("span", said)))
    return tag("div.tiles", *tiles)


def _verdict(difference: float, error: float) -> str:
    if math.isnan(error) or abs(difference) <= INTERVAL * error:
        return "not told apart at 95 %"
    return "better at 95 %" if difference > 0 else "worse at 95 %"


def _metrics(report: Report, k: int) -> Element:
    """The table at one cut-off."""
    names = [name for name in in_tables(report.rows[0].metrics) if name.endswith(f"@{k}")]
    shares = [name for name in report.rows[0].coverage if name.endswith(f"@{k}")]
    return table(["model", *names, *shares], [_metrics_of(row, names, shares) for row in report.rows])


def _metrics_of(row: Row, names: list[str], shares: list[str]) -> list[Content]:
    means = [mean_cell(*row.metrics[name]) for name in names]
    return [row.model, *means, *(f"{row.coverage[name]:.1%}" for name in shares)]


def _sizes(groups: list[Group]) -> str:
    sizes = [len(group.members) for group in groups]
    return f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
