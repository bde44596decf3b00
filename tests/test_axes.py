"""Axes: round ticks, and values where they belong."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.report.axes import linear_axis, logarithmic_axis

values = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 4)), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("reach", "labels"),
    [
        ([0.0, 0.3], ("0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30")),
        ([0.0, 1.0], ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")),
        ([0.0, 1234.0], ("0", "250", "500", "750", "1,000", "1,250")),
    ],
)
def test_ticks_are_round_and_named_with_the_decimals_they_need(reach, labels):
    assert linear_axis(reach, 0, 100).labels == labels


@given(values, st.booleans())
def test_every_value_lies_between_the_ends(numbers, from_zero):
    axis = linear_axis(numbers, 10, 110, from_zero=from_zero)

    assert axis.low < axis.high
    assert all(10 - 1e-6 <= axis(value) <= 110 + 1e-6 for value in numbers)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 2 <= len(axis.ticks) <= 9
    assert len(set(axis.labels)) == len(axis.ticks)


def test_the_ends_of_the_axis_lie_at_the_ends_of_the_drawing():
    axis = linear_axis([0.0, 1.0], 200, 20)

    assert (axis(0.0), axis(0.25), axis(1.0)) == (200, 155, 20)


@pytest.mark.parametrize("last", [1, 2, 7, 30, 200])
def test_whole_quantities_have_whole_ticks(last):
    axis = linear_axis([1.0, float(last)], 0, 100, whole=True)

    assert axis.ticks
    assert all(tick.is_integer() and 1 <= tick <= max(last, 2) for tick in axis.ticks)


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis():
    axis = logarithmic_axis([1.0, 1000.0], 0, 90)

    assert [axis(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 30, 60, 90])
    assert axis.labels == ("1", "10", "100", "1,000")
    assert logarithmic_axis([1.0, 50.0], 0, 1).labels == ("1", "2", "5", "10", "20", "50")
    assert logarithmic_axis([3.0, 30.0], 0, 1).labels == ("5", "10", "20")


@pytest.mark.parametrize("empty", [[], [math.nan], [math.inf]])
def test_an_axis_of_nothing_can_still_be_drawn(empty):
    assert math.isfinite(linear_axis(empty, 0, 100)(0.0))
    assert math.isfinite(logarithmic_axis(empty, 0, 100)(1.0))
