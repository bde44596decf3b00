"""The page of a diagnosis."""

import math
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from sasrec.report.charts import Caption, Series, interval_chart, line_chart
from sasrec.report.elements import Content, facts, notes, section, table, tag
from sasrec.studies.diagnose import Diagnosis
from sasrec.studies.facts import Facts
from sasrec.studies.trials import Line
from sasrec.studies.verdict import Estimate

_METRIC = "NDCG@10"


def diagnosis_sections(result: Diagnosis) -> list[Element]:
    """Answers first, then what they rest on."""
    return [
        section("Answers", *(tag("p.answer", sentence) for sentence in result.verdict)),
        section("Changes", tag("div.charts", *_charts(result))),
        section("Figures", _figures(result), *notes(result.notes)),
        _about_log(result.facts),
    ]


def _charts(result: Diagnosis) -> Iterator[Element]:
    whole, *others = result.lines
    told = [(line.name, change) for line in others if (change := line.metrics[_METRIC].change) is not None]
    if told:
        caption = Caption(
            title=f"Change of {_METRIC} from the whole network",
            x="line",
            y="change in %",
            note="With its 95 % interval, from the same users in pairs. The rule is at no change.",
            digits=1,
        )
        middles, ends = zip(*((100 * one.share, (100 * one.low, 100 * one.high)) for _, one in told), strict=True)
        yield interval_chart(caption, [name for name, _ in told], Series("change in %", [*middles], [*ends]))
    curves = {
        f"{start} items": {
            line.length: line.metrics[_METRIC] for line in result.lines if line.length and line.name.startswith(start)
        }
        for start in ("shown the last", "trained on the last")
    }
    lengths = sorted({length for curve in curves.values() for length in curve})
    if len(lengths) > 1:
        caption = Caption(
            title=f"{_METRIC} by number of recent items",
            x="items",
            y=_METRIC,
            note="The same network shown less, and networks trained on less; the axis of items is logarithmic.",
        )
        series = [_curve(name, curve, lengths) for name, curve in curves.items() if curve]
        flat = Series("whole network", [whole.metrics[_METRIC].mean] * len(lengths))
        yield line_chart(caption, [float(length) for length in lengths], [*series, flat], logarithmic=True)


def _curve(name: str, found: dict[int, Estimate], lengths: list[int]) -> Series:
    """A metric at each length where it is known; the interval is that of the difference, around the metric."""
    nothing = Estimate(math.nan, math.nan, math.nan, math.nan, None)
    estimates = [found.get(length, nothing) for length in lengths]
    ends = [(one.mean - one.difference + one.low, one.mean - one.difference + one.high) for one in estimates]
    return Series(name, [one.mean for one in estimates], ends)


def _figures(result: Diagnosis) -> Element:
    """Every line with every metric, and its change from the first."""
    whole = result.lines[0]
    rows = [[line.name, *(_cell(line, name, whole) for name in whole.metrics)] for line in result.lines]
    return table(["line", *whole.metrics], rows)


def _cell(line: Line, name: str, whole: Line) -> Content:
    found = line.metrics[name]
    if line is whole or found.change is None:
        return f"{found.mean:.4f}"
    share, low, high = found.change.percent
    return tag("span", f"{found.mean:.4f}", tag("small", f"{share} % ({low} to {high})"))


def _about_log(log: Facts) -> Element:
    said: dict[str, Content] = {
        "size": log.size,
        "ties": "no times" if log.ties is None else f"{log.ties:.1%} of steps",
        "repeats": f"{log.repeats:.1%} of events, {log.repeated_targets:.1%} of targets",
        "new targets": f"{log.cold_targets:.1%} never occur in training",
    }
    unique = table(
        ["last items kept", "different histories"],
        [[f"{count:,}", f"{share:.1%}"] for count, share in log.unique.items()],
    )
    return section("Facts", facts(said), unique)
