"""The growth of time and memory as a picture: one panel a size, both axes logarithmic."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.growth import BATCH, WORK
from benchmarks.run import Run

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from sasrec.report.axes import Axis

_WIDTH, _HEIGHT, _TOP = 400.0, 230.0, 56.0  # of a panel; room for the legend above all
_LEFT, _RIGHT, _UPPER, _LOWER = 62.0, 14.0, 26.0, 40.0
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1c2024; }
text.title { font-size: 12px; font-weight: 600; }
text.quiet { fill: #5a636c; }
path { fill: none; }
path.grid { stroke: #d9dcd8; }
path.line { stroke-width: 2; stroke-linejoin: round; }
.s0 { stroke: #0067b1; } .s1 { stroke: #c8500a; } .s2 { stroke: #00795a; }
circle { stroke-width: 2; fill: #fdfdfc; }
rect.paper { fill: #fdfdfc; }
"""


def draw(_run: Run, *, source: str, target: str) -> str:
    """Write the picture of a result of `benchmarks.growth`.

    Args:
        source: The JSON.
        target: The SVG.
    """
    from xml.etree.ElementTree import tostring

    result = json.loads(Path(source).read_text(encoding="utf-8"))
    Path(target).write_text(tostring(picture(result["growths"]), encoding="unicode") + "\n", encoding="utf-8")
    return target


def picture(growths: dict[str, Any]) -> "Element":
    """Panels in two columns, time beside memory, a legend above."""
    from sasrec.report.elements import tag

    wide, high = 2 * _WIDTH, _TOP + _HEIGHT * len(growths)
    box = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {wide:g} {high:g}", "role": "img"}
    words = "CPU time and peak memory of training and ranking against the size of the log and of the network"
    parts = [tag("title", words), tag("style", _STYLE), tag("rect.paper", {"width": wide, "height": high})]
    for place, name in enumerate(WORK.values()):
        x = _LEFT + 250 * place
        parts += [tag(f"path.line.s{place}", {"d": f"M{x:g} 20h22"}), tag("text", {"x": x + 28, "y": 24}, name)]
    parts.append(tag("text.quiet", {"x": _LEFT, "y": 44}, "Figures at the ends of lines are the fitted exponents."))
    for row, growth in enumerate(growths.values()):
        units = "epoch; of ranking everybody" if growth["whole"] else f"step; of ranking {BATCH} users"
        for column, (kind, title) in enumerate((("cpu", f"CPU ms of one {units}"), ("peak", "Peak memory, MB"))):
            move = f"translate({_WIDTH * column:g} {_TOP + _HEIGHT * row:g})"
            parts.append(tag("g", {"transform": move}, *_panel(growth, kind, title)))
    return tag("svg", box, *parts)


def _panel(growth: dict[str, Any], kind: str, title: str) -> "list[Element]":
    from sasrec.report.axes import logarithmic_axis
    from sasrec.report.elements import number, tag

    field = "cpu_ms" if kind == "cpu" else "peak_mb"
    lines = [
        [(size, value) for size, value in zip(one["sizes"], one[field], strict=True) if value]
        for one in growth["work"].values()
    ]
    across = logarithmic_axis([size for line in lines for size, _ in line], _LEFT, _WIDTH - _RIGHT - 34)
    # Memory has an axis of its own length at least, or a tenth more of it would look like a mountain.
    reach = [value for line in lines for _, value in line] + ([] if kind == "cpu" else [100.0, 1000.0])
    up = logarithmic_axis(reach, _HEIGHT - _LOWER, _UPPER)
    parts = [tag("text.title", {"x": _LEFT, "y": 14}, title), *_grid(across, up)]
    ends: list[tuple[float, float, str]] = []
    parts.append(tag("text.quiet", {"x": _WIDTH - _RIGHT, "y": _HEIGHT - 8, "text-anchor": "end"}, growth["title"]))
    for place, (line, one) in enumerate(zip(lines, growth["work"].values(), strict=True)):
        points = [(number(across(size)), number(up(value))) for size, value in line]
        parts.append(tag(f"path.line.s{place}", {"d": "M" + "L".join(f"{x} {y}" for x, y in points)}))
        parts += [tag(f"circle.s{place}", {"cx": x, "cy": y, "r": 3}) for x, y in points]
        if points and one[f"{kind}_exponent"] is not None:
            ends.append((float(points[-1][1]), float(points[-1][0]), f"{one[f'{kind}_exponent']:.2f}"))
    below = 0.0
    for y, x, power in sorted(ends):  # lines that end together have their figures one under the other
        below = max(y + 4, below + 11)
        parts.append(tag("text", {"x": x + 7, "y": below}, power))
    return parts


def _grid(across: "Axis", up: "Axis") -> "list[Element]":
    from sasrec.report.elements import number, tag

    parts = []
    for tick, name in zip(up.ticks, up.labels, strict=True):
        y = up(tick)
        parts.append(tag("path.grid", {"d": f"M{number(_LEFT)} {number(y)}H{number(_WIDTH - _RIGHT)}"}))
        parts.append(tag("text", {"x": _LEFT - 6, "y": y + 4, "text-anchor": "end"}, name))
    for tick, name in zip(across.ticks, across.labels, strict=True):
        x = across(tick)
        parts.append(tag("path.grid", {"d": f"M{number(x)} {number(_UPPER)}V{number(_HEIGHT - _LOWER)}"}))
        parts.append(tag("text", {"x": x, "y": _HEIGHT - _LOWER + 15, "text-anchor": "middle"}, name))
    return parts
