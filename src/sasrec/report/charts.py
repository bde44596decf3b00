"""Charts as inline SVG: lines, bars, intervals, heat maps. Each comes with its legend and a table of its numbers.

Drawings are as wide as a phone, so that their letters stay readable there; on a wider screen they stand side by side.
Colours are classes that the style sheet fills for light and for dark.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

import numpy as np
from rich.cells import cell_len, set_cell_size

from sasrec.report.axes import Axis, linear_axis, logarithmic_axis
from sasrec.report.elements import Content, folded, number, printable, table, tag

COLOURS = 6  # classes series-0 to series-5 of the style sheet
_WIDTH, _HEIGHT = 400.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 26.0, 42.0
_CELL = 6.6  # width of a letter of 11 units, in units of the drawing; most are narrower
_MARKS = 40  # points beyond which a line goes without marks


@dataclass(frozen=True, eq=False)
class Series:
    """One line, or one colour of bars.

    Attributes:
        name: As the legend shows it.
        values: One value for each place of the chart; NaN draws nothing.
        ends: The two ends of each value's interval, NaN where there is none; empty where no value has one.
    """

    name: str
    values: Sequence[float]
    ends: Sequence[tuple[float, float]] = ()

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Both ends of each value's interval; the value itself twice where there is none."""
        ends = self.ends or [(math.nan, math.nan)] * len(self.values)
        return [
            (low, high) if math.isfinite(low) and math.isfinite(high) else (value, value)
            for value, (low, high) in zip(self.values, ends, strict=True)
        ]

    def text(self, place: int, digits: int) -> str:
        """A value in words, with its interval."""
        value, (low, high) = self.values[place], self.intervals[place]
        if not math.isfinite(value):
            return "–"
        interval = "" if not self.ends or low == high == value else f" ({low:.{digits}f} to {high:.{digits}f})"
        return f"{value:.{digits}f}{interval}"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The words of a chart.

    Attributes:
        title: What it shows.
        x, y: What its axes measure.
        note: How to read it.
        digits: Decimals of the values in tables.
    """

    title: str
    x: str
    y: str
    note: str = ""
    digits: int = 4


def line_chart(
    caption: Caption,
    x: Sequence[float],
    series: Sequence[Series],
    *,
    logarithmic: bool = False,
    marked: float | None = None,
) -> Element:
    """Values over a quantity.

    Args:
        x: Where each value lies, ascending; at least one, all above 0 where the axis is `logarithmic`.
        marked: A place of x with a rule through it.
    """
    start, stop = _LEFT + 8, _WIDTH - _RIGHT - 8
    across = logarithmic_axis(x, start, stop) if logarithmic else linear_axis(x, start, stop, whole=_are_whole(x))
    up = _upward(series)
    drawn = [_grid(up, caption), *_ticks_below(across)]
    if marked is not None:
        drawn.append(tag("path.rule", {"d": f"M{_point(across(marked), _TOP)}V{number(_HEIGHT - _BOTTOM)}"}))
    for place, one in enumerate(series):
        drawn.append(tag("path.line", {"d": _line(one.values, x, across, up)}, _colour(place)))
        for at, value, text in zip(x, one.values, _texts(one, caption), strict=True):
            if math.isfinite(value) and len(x) <= _MARKS:
                drawn.append(_mark(place, across(at), up(value), f"{one.name}, {caption.x} {at:,g}: {text}"))
        if one.ends:
            drawn += [
                _whisker(across(at), up(low), up(high))
                for at, (low, high) in zip(x, one.intervals, strict=True)
                if low < high
            ]
    return _figure(caption, drawn, series, [f"{value:,g}" for value in x])


def bar_chart(caption: Caption, groups: Sequence[str], series: Sequence[Series]) -> Element:
    """Bars from zero, side by side in groups, with their intervals."""
    up = _upward(series, from_zero=True)
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    bar = min(slot * 0.8 / max(len(series), 1), 34.0)
    drawn = [_grid(up, caption)]
    crowded = any(cell_len(group) * _CELL > slot - 4 for group in groups)
    for at, group in enumerate(groups):
        middle = _LEFT + slot * (at + 0.5)
        drop = 28.0 if crowded and at % 2 else 15.0
        drawn.append(
            _label(group, middle, _HEIGHT - _BOTTOM + drop, room=slot * (2 if crowded else 1), anchor="middle")
        )
        for place, one in enumerate(series):
            if not math.isfinite(one.values[at]):
                continue
            left = middle + bar * (place - len(series) / 2)
            top, foot = sorted((up(one.values[at]), up(0.0)))
            shape = {"x": left + 0.5, "y": top, "width": bar - 1, "height": foot - top}
            said = f"{one.name}, {group}: {one.text(at, caption.digits)}"
            drawn.append(tag("rect", shape, _colour(place), tag("title", said)))
            low, high = one.intervals[at]
            if low < high:
                drawn.append(_whisker(left + bar / 2, up(low), up(high)))
    return _figure(caption, drawn, series, groups)


def interval_chart(caption: Caption, names: Sequence[str], values: Series) -> Element:
    """One value a line with its interval, to compare many by name; a rule stands at zero where that is in sight."""
    line = 24.0
    left = min(max((cell_len(printable(name)) for name in names), default=0) * _CELL + 12, _WIDTH / 2)
    foot = _TOP + line * len(names)
    reach = [end for interval in values.intervals for end in interval]
    across = linear_axis(reach, left + 6, _WIDTH - _RIGHT - 6)
    # The name of the last tick, centred below it, must end within the drawing.
    half = cell_len(across.labels[-1]) * _CELL / 2
    across = replace(across, stop=min(across.stop, _WIDTH - half))
    drawn = list(_ticks_below(across, foot=foot, top=_TOP - 8))
    if across.low <= 0 <= across.high:
        drawn.append(tag("path.rule", {"d": f"M{_point(across(0), _TOP - 8)}V{number(foot)}"}))
    for at, (name, (low, high)) in enumerate(zip(names, values.intervals, strict=True)):
        y = _TOP + line * (at + 0.5)
        drawn.append(_label(name, left - 4, y + 4, room=left - 8, anchor="end"))
        if math.isfinite(values.values[at]):
            drawn.append(tag("path.interval", {"d": f"M{_point(across(low), y)}H{number(across(high))}"}, _colour(0)))
            drawn.append(_mark(0, across(values.values[at]), y, f"{name}: {values.text(at, caption.digits)}"))
    drawn.append(tag("text.quiet", {"x": _WIDTH - _RIGHT, "y": foot + 36, "text-anchor": "end"}, caption.y))
    return _figure(caption, drawn, [values], names, height=foot + _BOTTOM)


def heat_map(caption: Caption, names: Sequence[str], shares: np.ndarray) -> Element:
    """Shares in [0, 1] of a square matrix; the stronger the colour, the more. Row and column i are both `names[i]`.

    Args:
        shares: float of shape (names, names).
    """
    left, line, count = 140.0, 15.0, max(len(names), 1)
    cell = min((_WIDTH - left - _RIGHT) / count, 2 * line)
    foot = 4 + line * count
    largest = float(shares.max(initial=0.0)) or 1.0
    drawn = []
    for row, name in enumerate(names):
        y = 4 + line * row
        drawn.append(_label(f"{row + 1} {name}", left - 4, y + 11.5, room=left - 6, anchor="end"))
        for column in np.flatnonzero(shares[row]).tolist():
            share = float(shares[row, column])
            place = {"x": left + cell * column, "y": y, "width": cell - 0.6, "height": line - 0.6}
            said = f"{row + 1} {name} looks at {column + 1} {names[column]}: {share:.3f}"
            drawn.append(tag("rect.heat", place, {"fill-opacity": share / largest}, tag("title", said)))
    for column in range(0, count, 1 if cell >= 16 else 2):
        middle = left + cell * (column + 0.5)
        drawn.append(tag("text", {"x": middle, "y": foot + 13, "text-anchor": "middle"}, str(column + 1)))
    drawn.append(tag("text.quiet", {"x": _WIDTH - _RIGHT, "y": foot + 30, "text-anchor": "end"}, caption.x))
    drawn.append(tag("text.quiet", {"x": 0, "y": foot + 30}, f"strongest: {largest:.{caption.digits}f}"))
    columns = [Series(str(at + 1), [float(share) for share in shares[:, at]]) for at in range(len(names))]
    return _figure(caption, drawn, columns, names, height=foot + 34, legend=False)


def _figure(
    caption: Caption,
    drawn: Sequence[Element],
    series: Sequence[Series],
    places: Sequence[str],
    *,
    height: float = _HEIGHT,
    legend: bool = True,
) -> Element:
    """Title, legend and drawing, and the numbers as a table."""
    description = f"{caption.y} by {caption.x}: {', '.join(one.name for one in series[:COLOURS])}. {caption.note}"
    box = {"viewBox": f"0 0 {number(_WIDTH)} {number(height)}", "role": "img"}
    parts: list[Content] = [tag("figcaption", tag("h3", caption.title), tag("p", caption.note))]
    if legend and len(series) > 1:
        parts.append(tag("ul.legend", *(tag("li", _key(place), one.name) for place, one in enumerate(series))))
    parts.append(tag("svg", box, tag("title", caption.title), tag("desc", description), *drawn))
    rows = [[name, *(one.text(at, caption.digits) for one in series)] for at, name in enumerate(places)]
    parts.append(folded("The numbers", table([caption.x, *(one.name for one in series)], rows)))
    return tag("figure", *parts)


def _upward(series: Sequence[Series], *, from_zero: bool = False) -> Axis:
    reach = [end for one in series for interval in one.intervals for end in interval]
    if from_zero and all(value >= 0 for one in series for value in one.values if math.isfinite(value)):
        # The interval of a share near zero may reach below it; the axis does not.
        reach = [max(end, 0.0) for end in reach]
    return linear_axis(reach, _HEIGHT - _BOTTOM, _TOP, from_zero=from_zero)


def _grid(up: Axis, caption: Caption) -> Element:
    lines = [
        part
        for tick, name in zip(up.ticks, up.labels, strict=True)
        for part in (
            tag("path.grid", {"d": f"M{_point(_LEFT, up(tick))}H{number(_WIDTH - _RIGHT)}"}),
            tag("text", {"x": _LEFT - 6, "y": up(tick) + 4, "text-anchor": "end"}, name),
        )
    ]
    y_title = tag("text.quiet", {"x": 0, "y": 12}, caption.y)
    x_title = tag("text.quiet", {"x": _WIDTH - _RIGHT, "y": _HEIGHT - 3, "text-anchor": "end"}, caption.x)
    return tag("g", *lines, y_title, x_title)


def _ticks_below(across: Axis, *, foot: float = _HEIGHT - _BOTTOM, top: float | None = None) -> Iterator[Element]:
    """The ticks of a horizontal axis; with `top`, a grid line to each."""
    for tick, name in zip(across.ticks, across.labels, strict=True):
        x = across(tick)
        yield tag("path.grid", {"d": f"M{_point(x, foot)}V{number(foot + 4 if top is None else top)}"})
        yield tag("text", {"x": x, "y": foot + 16, "text-anchor": "middle"}, name)


def _label(text: str, x: float, y: float, *, room: float, anchor: str) -> Element:
    """Text cut to the room that it has; the whole of it shows on pointing."""
    shown, cells = printable(text), int(room / _CELL)
    if cell_len(shown) > cells:
        shown = set_cell_size(shown, max(cells - 1, 1)).rstrip() + "…"
    return tag("text", {"x": x, "y": y, "text-anchor": anchor}, shown, tag("title", text))


def _line(values: Sequence[float], x: Sequence[float], across: Axis, up: Axis) -> str:
    """The path through all finite values, interrupted where there is none."""
    path, drawing = "", False
    for at, value in zip(x, values, strict=True):
        known = math.isfinite(value)
        if known:
            path += ("L" if drawing else "M") + _point(across(at), up(value))
        drawing = known
    return path


def _whisker(x: float, low: float, high: float) -> Element:
    foot, head = min(low, _HEIGHT - _BOTTOM), max(high, _TOP)
    ends = "".join(f"M{_point(x - 3, y)}h6" for y in (foot, head))
    return tag("path.whisker", {"d": f"M{_point(x, foot)}V{number(head)}{ends}"})


def _mark(place: int, x: float, y: float, said: str) -> Element:
    """A point whose shape, too, tells the series apart: circle, square, triangle, diamond."""
    shapes = (
        f"M{_point(x - 3.5, y)}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
        f"M{_point(x - 3.2, y - 3.2)}h6.4v6.4h-6.4z",
        f"M{_point(x, y - 4.2)}l4.2 7.4h-8.4z",
        f"M{_point(x, y - 4.6)}l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    )
    return tag("path.mark", {"d": shapes[place % len(shapes)]}, _colour(place), tag("title", said))


def _key(place: int) -> Element:
    return tag("svg.key", {"viewBox": "1 1 10 10", "aria-hidden": "true"}, _mark(place, 6, 6, ""))


def _colour(place: int) -> dict[str, str | float]:
    return {"data-series": str(place % COLOURS)}


def _texts(series: Series, caption: Caption) -> list[str]:
    return [series.text(at, caption.digits) for at in range(len(series.values))]


def _are_whole(values: Sequence[float]) -> bool:
    return all(float(value).is_integer() for value in values)


def _point(x: float, y: float) -> str:
    return f"{number(x)} {number(y)}"
