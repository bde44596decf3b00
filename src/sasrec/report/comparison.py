"""The page of a comparison."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from sasrec.report.charts import Caption, Series, interval_chart
from sasrec.report.elements import Content, notes, section, table, tag
from sasrec.report.groups import MEANS, interval, mean_cell
from sasrec.studies.compare import Comparison, Contestant


def comparison_sections(result: Comparison) -> list[Element]:
    """The table with its charts, then what each training took."""
    return [
        section(
            "Results",
            _metrics(result),
            tag("p.quiet", MEANS),
            tag("div.charts", *_charts(result)),
        ),
        section("Differences", _differences(result)),
        section("Cost", table(["model", "epochs", "seconds", "CPU seconds", "peak MB"], list(_costs(result)))),
        *([section("Notes", *notes(result.notes))] if result.notes else []),
    ]


def _charts(result: Comparison) -> Iterator[Element]:
    """The first metric of all models, and how far each is from the first."""
    first, *others = result.contestants
    metric = next(iter(first.metrics))
    names = [one.name for one in result.contestants]
    found = [one.metrics[metric] for one in result.contestants]
    caption = Caption(title=f"{metric} of each", x="model", y=metric, note="With 95 % intervals over users.")
    yield interval_chart(caption, names, Series(metric, [mean for mean, _ in found], [interval(*one) for one in found]))
    if not others:
        return
    apart = [one.differences[metric] for one in others]
    caption = Caption(
        title=f"{metric} less that of {first.name}",
        x="model",
        y=f"difference in {metric}",
        note="With 95 % intervals of a paired bootstrap: those that miss the rule are told apart.",
    )
    ends = [(one.low, one.high) for one in apart]
    yield interval_chart(caption, names[1:], Series("difference", [one.difference for one in apart], ends))


def _metrics(result: Comparison) -> Element:
    names = list(result.contestants[0].metrics)
    return table(["model", "kind", *names], [_line(one, names) for one in result.contestants])


def _line(one: Contestant, names: list[str]) -> list[Content]:
    cells: list[Content] = [one.name, one.kind]
    for name in names:
        spread = f"; sd of runs {one.spread[name]:.4f}" if name in one.spread else ""
        cells.append(mean_cell(*one.metrics[name], more=spread))
    return cells


def _differences(result: Comparison) -> Element:
    first, *others = result.contestants
    names = list(first.metrics)
    rows: list[list[Content]] = []
    for one in others:
        apart = [one.differences[name] for name in names]
        cells = [
            tag("span", f"{each.difference:+.4f}", tag("small", f"{each.low:+.4f} to {each.high:+.4f}"))
            for each in apart
        ]
        rows.append([one.name, *cells])
    return table([f"less {first.name}", *names], rows)


def _costs(result: Comparison) -> Iterator[list[Content]]:
    for one in result.contestants:
        yield [one.name, *(["–"] * 4 if one.cost is None else one.cost.cells(nothing="–"))]
