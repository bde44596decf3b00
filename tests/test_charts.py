"""Charts: what is drawn is what is given, in finite numbers, with a table of it underneath."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.cells import cell_len

from sasrec.report.charts import Caption, Series, bar_chart, heat_map, interval_chart, line_chart

CAPTION = Caption(title="A title", x="epoch", y="NDCG@10", note="A note.")
NAN, INF = math.nan, math.inf


def drawing(figure):
    svg = figure.find("svg")
    assert svg is not None
    return ElementTree.fromstring(ElementTree.tostring(svg))


def numbers_of(figure):
    """Every cell of the table, row by row."""
    return [["".join(cell.itertext()) for cell in row] for row in figure.iter("tr")]


def coordinates(figure):
    """Every number of every drawing attribute, as a browser would read it."""
    said = " ".join(
        value
        for element in drawing(figure).iter()
        for name, value in element.attrib.items()
        if name in ("d", "x", "y", "width", "height", "fill-opacity", "viewBox")
    )
    assert "nan" not in said
    assert "inf" not in said
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", said)]


def heights(figure):
    return [float(bar.get("height")) for bar in drawing(figure).iter("rect")]


def every_kind(values, ends=()):
    places = [str(at) for at in range(len(values))]
    series = [Series("a", values, ends), Series("b", values[::-1])]
    yield line_chart(CAPTION, [float(at + 1) for at in range(len(values))], series)
    yield line_chart(CAPTION, [float(at + 1) for at in range(len(values))], series, logarithmic=True, marked=1.0)
    yield bar_chart(CAPTION, places, series)
    yield interval_chart(CAPTION, places, series[0])


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.1, 0.2, 0.3], [(0.05, 0.12), (0.2, 0.2), (0.1, 0.4)]),
        ([0.0, 0.0], [(0.0, 0.0)] * 2),
        ([0.5], [(NAN, NAN)]),
        ([NAN, 0.2, INF], [(NAN, NAN), (0.1, 0.3), (NAN, INF)]),
        ([NAN, NAN], ()),
        ([], ()),
        ([-0.3, 0.2], [(-0.4, -0.1), (-1.0, 0.3)]),
        ([1e-9, 3e-9], ()),
        ([1e6, 2e6], [(9e5, 2e6), (1e6, 1e7)]),
    ],
)
def test_whatever_the_values_a_drawing_holds_finite_numbers_alone(values, ends):
    for figure in every_kind(values, ends):
        assert all(math.isfinite(one) for one in coordinates(figure))


def test_the_last_tick_of_intervals_is_named_within_the_drawing():
    figure = interval_chart(CAPTION, ["a"], Series("change", [1500.0], [(0.0, 2000.0)]))

    last = next(one for one in drawing(figure).iter("text") if one.text == "2,000")
    assert float(last.attrib["x"]) + len("2,000") * 6.6 / 2 <= 400


def test_a_bar_is_as_high_as_its_value():
    figure = bar_chart(CAPTION, ["few", "many"], [Series("a", [0.1, 0.2]), Series("b", [0.4, 0.0])])

    assert heights(figure) == pytest.approx([heights(figure)[0] * factor for factor in (1, 4, 2, 0)], abs=0.05)


def test_bars_do_not_overlap_and_stay_within_the_drawing():
    figure = bar_chart(CAPTION, [f"group {at}" for at in range(7)], [Series(name, [1.0] * 7) for name in "abcd"])

    bars = sorted((float(bar.get("x")), float(bar.get("width"))) for bar in drawing(figure).iter("rect"))

    assert all(left + width <= following for (left, width), (following, _) in pairwise(bars))
    assert bars[0][0] >= 0
    assert sum(bars[-1]) <= 400


def test_a_line_goes_through_its_points_and_is_interrupted_where_there_is_none():
    figure = line_chart(CAPTION, [1, 2, 3, 4, 5], [Series("a", [0.0, 1.0, NAN, 0.5, 1.0])])

    path = next(one.get("d") for one in drawing(figure).iter("path") if one.get("class") == "line")
    points = [tuple(map(float, one.split())) for one in re.findall(r"[ML]([^ML]+)", path)]

    assert re.sub("[^ML]", "", path) == "MLML"
    steps = {round(points[1][0] - points[0][0], 1), round((points[2][0] - points[1][0]) / 2, 1)}
    assert len(steps) == 1, "equal epochs lie equally far apart"
    assert points[1][1] == points[3][1] < points[2][1] < points[0][1]


def test_the_table_says_what_is_drawn():
    series = [Series("a", [0.1234, NAN], [(0.1, 0.2), (NAN, NAN)]), Series("b", [0.2, 0.3])]

    figure = bar_chart(CAPTION, ["few", "many"], series)

    assert numbers_of(figure) == [
        ["epoch", "a", "b"],
        ["few", "0.1234 (0.1000 to 0.2000)", "0.2000"],
        ["many", "–", "0.3000"],
    ]


@pytest.mark.parametrize("figure", list(every_kind([0.1, 0.2])))
def test_a_drawing_has_a_name_and_a_description(figure):
    svg = drawing(figure)

    assert svg.get("role") == "img"
    assert svg[0].tag == "title"
    assert svg[0].text == "A title"
    assert "NDCG@10 by epoch" in svg[1].text


def test_a_heat_map_is_as_strong_as_its_shares():
    shares = np.array([[1.0, 0.0], [0.25, 0.75]])

    figure = heat_map(CAPTION, ["first", "second"], shares)
    strength, x, y = (
        [float(cell.get(name)) for cell in drawing(figure).iter("rect")] for name in ("fill-opacity", "x", "y")
    )

    assert strength == [1.0, 0.25, 0.75]
    assert x[1] == x[0] < x[2]
    assert y[0] < y[1] == y[2]
    assert numbers_of(figure)[1:] == [["first", "1.0000", "0.0000"], ["second", "0.2500", "0.7500"]]


@pytest.mark.parametrize(
    "name", ["short", "a title that goes on and on without an end", "長い題名は幅を取るので切り詰める", "x" * 500]
)
def test_a_name_is_cut_to_its_room_and_shown_whole_on_pointing(name):
    figure = heat_map(CAPTION, [name], np.ones((1, 1)))

    label = next(text for text in drawing(figure).iter("text") if text.find("title") is not None)

    assert cell_len(label.text) <= 21
    assert label.find("title").text.endswith(name)


def test_crowded_names_of_groups_stand_on_two_lines():
    figure = bar_chart(CAPTION, [f"{at},000–{at},999" for at in range(6)], [Series("a", [1.0] * 6)])

    labels = [text for text in drawing(figure).iter("text") if "–" in (text.text or "")]

    assert [text.text for text in labels] == [f"{at},000–{at},999" for at in range(6)], "none is cut"
    assert len({text.get("y") for text in labels}) == 2


def test_series_are_told_apart_without_their_colour():
    figure = line_chart(CAPTION, [1, 2], [Series(name, [0.1, 0.2]) for name in "abcd"])

    keys = [svg.find("path").get("d") for svg in figure.find("ul").iter("svg")]

    assert len(set(keys)) == 4


@pytest.mark.parametrize("draw", [bar_chart, lambda caption, names, series: line_chart(caption, [1.0, 2.0], series)])
def test_only_a_value_with_an_interval_has_a_whisker(draw):
    figure = draw(CAPTION, ["one", "two"], [Series("a", [0.5, 0.25], [(NAN, NAN), (0.125, 0.375)])])

    assert len(drawing(figure).findall(".//*[@class='whisker']")) == 1
