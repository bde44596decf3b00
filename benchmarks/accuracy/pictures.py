"""Results as the pictures of docs/accuracy.md: a dot for every figure, a bar for what it may be off by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, tostring

from benchmarks.accuracy.published import PUBLISHED
from benchmarks.accuracy.results import Result
from benchmarks.accuracy.rows import LOGS, ROWS
from benchmarks.accuracy.table import by_log, by_row, compared, figures, named
from sasrec.report.axes import linear_axis
from sasrec.report.elements import number, tag

Whose = Literal["ours", "theirs"]

_WIDTH, _LEFT, _RIGHT, _LINE, _HEAD, _FOOT = 900.0, 490.0, 30.0, 18.0, 30.0, 34.0
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1c2024; }
text.title { font-size: 12px; font-weight: 600; }
path.grid { stroke: #d9dcd8; }
path.zero { stroke: #5a636c; }
path.ours { stroke: #0067b1; stroke-width: 2; } circle.ours { fill: #0067b1; stroke: #0067b1; }
path.theirs { stroke: #c8500a; stroke-width: 2; } circle.theirs { fill: #c8500a; stroke: #c8500a; }
circle.open { fill: #fdfdfc; stroke-width: 1.5; }
rect.paper { fill: #fdfdfc; }
"""


@dataclass(frozen=True)
class Dot:
    """One line of a picture.

    Attributes:
        name: What stands to the left.
        value: Where the dot is.
        ends: The ends of its bar; the value twice where there is none.
        whose: Whose figure it is.
        filled: It can be compared with the others.
    """

    name: str
    value: float
    ends: tuple[float, float]
    whose: Whose = "ours"
    filled: bool = True


def choices(found: Iterable[Result]) -> str:
    """SVG of what each choice is worth: NDCG@10 beside the row that it is compared with, 95 % intervals."""
    panels = []
    for log, runs in by_log(found).items():
        grouped = by_row(runs)
        dots = []
        for row in ROWS:
            if pair := compared(grouped, row, "network"):
                words = f"{named(row)} ({pair.seeds} seed{'s' if pair.seeds > 1 else ''})"
                dots.append(Dot(words, pair.apart.difference, (pair.apart.low, pair.apart.high)))
        if dots:
            panels.append((LOGS[log].title, sorted(dots, key=lambda dot: -dot.value)))
    return _picture("What each choice adds to NDCG@10 of one network, 95 % interval over users", panels, zero=True)


def standing(found: Iterable[Result]) -> str:
    """SVG of NDCG@10 beside what is published: filled where both can be compared."""
    panels = []
    for log, runs in by_log(found).items():
        theirs = [
            Dot(f"{one.model}: {one.source}", one.ndcg, (one.ndcg, one.ndcg), "theirs", not one.differs)
            for one in PUBLISHED
            if one.log == log
        ]
        if theirs:
            ours = [
                Dot(
                    f"sasrec, {one.name}",
                    one.ndcg,
                    (one.ndcg - one.error, one.ndcg + one.error),
                    filled=not one.times,
                )
                for one in figures(runs)
            ]
            panels.append((LOGS[log].title, sorted(ours + theirs, key=lambda dot: -dot.value)))
    return _picture(
        "NDCG@10 beside what is published (open where it cannot be compared); bars are two standard errors over users",
        panels,
    )


def _picture(words: str, panels: Sequence[tuple[str, Sequence[Dot]]], *, zero: bool = False) -> str:
    parts: list[Element] = []
    top = 30.0
    for title, dots in panels:
        parts.append(tag("g", {"transform": f"translate(0 {number(top)})"}, *_panel(title, dots, zero=zero)))
        top += _HEAD + _LINE * len(dots) + _FOOT
    box = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH:g} {top:g}", "role": "img"}
    head = [tag("title", words), tag("style", _STYLE), tag("rect.paper", {"width": _WIDTH, "height": top})]
    return tostring(tag("svg", box, *head, tag("text", {"x": 10, "y": 20}, words), *parts), encoding="unicode") + "\n"


def _panel(title: str, dots: Sequence[Dot], *, zero: bool) -> list[Element]:
    bottom = _HEAD + _LINE * len(dots)
    across = linear_axis(
        [end for dot in dots for end in (*dot.ends, dot.value)], _LEFT, _WIDTH - _RIGHT, from_zero=zero
    )
    parts = [tag("text.title", {"x": 10, "y": 18}, title)]
    for tick, name in zip(across.ticks, across.labels, strict=True):
        kind = "path.zero" if zero and tick == 0 else "path.grid"
        parts.append(tag(kind, {"d": f"M{number(across(tick))} {number(_HEAD - 4)}V{number(bottom)}"}))
        parts.append(tag("text", {"x": across(tick), "y": bottom + 14, "text-anchor": "middle"}, name))
    for place, dot in enumerate(dots):
        y = _HEAD + _LINE * (place + 0.5)
        low, high = (number(across(end)) for end in dot.ends)
        parts.append(tag("text", {"x": _LEFT - 12, "y": y + 4, "text-anchor": "end"}, dot.name))
        if low != high:
            parts.append(tag(f"path.{dot.whose}", {"d": f"M{low} {number(y)}H{high}"}))
        parts.append(
            tag(f"circle.{dot.whose}{'' if dot.filled else '.open'}", {"cx": across(dot.value), "cy": y, "r": 4})
        )
    return parts
