"""Groups of users, against counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.report.groups import hit_curve, interval, ndcg_of, quantile_groups

quantities = st.lists(st.integers(0, 40), min_size=1, max_size=200)


@given(quantities, st.integers(1, 8))
def test_every_user_is_in_the_one_group_whose_bounds_hold_its_quantity(numbers, count):
    groups = quantile_groups(np.array(numbers), count=count)

    held = {user: [at for at, group in enumerate(groups) if user in group.members] for user in range(len(numbers))}
    assert all(
        [at for at, group in enumerate(groups) if group.low <= numbers[user] <= group.high] == mine and len(mine) == 1
        for user, mine in held.items()
    )
    assert len(groups) <= count
    assert [group.low for group in groups] == sorted(group.low for group in groups)


@given(quantities, st.integers(1, 8))
def test_the_bounds_of_a_group_are_reached(numbers, count):
    for group in quantile_groups(np.array(numbers), count=count):
        mine = [numbers[user] for user in group.members]
        assert (min(mine), max(mine)) == (group.low, group.high)


def test_distinct_quantities_are_divided_into_equal_groups():
    shuffled = np.random.default_rng(0).permutation(60)

    groups = quantile_groups(shuffled, count=6)

    assert [group.name for group in groups] == ["0–9", "10–19", "20–29", "30–39", "40–49", "50–59"]
    assert [len(group.members) for group in groups] == [10] * 6


def test_equal_quantities_stay_together():
    groups = quantile_groups(np.array([1] * 90 + [2] * 5 + [3] * 5), count=6)

    assert [(group.name, len(group.members)) for group in groups] == [("1", 90), ("2–3", 10)]


def test_the_figures_of_a_group_are_those_of_its_users():
    ranks = np.array([0.0, 1.0, 9.0, 10.0, np.inf, 0.0])
    groups = quantile_groups(np.array([1, 1, 1, 2, 2, 9]), count=6)

    means, ends = ndcg_of(ranks, groups, 10)

    first = [1.0, 1 / math.log2(3), 1 / math.log2(11)]
    assert [group.members.tolist() for group in groups] == [[0, 1, 2], [3, 4], [5]]
    assert means == pytest.approx([sum(first) / 3, 0.0, 1.0])
    margin = 1.96 * np.std(first, ddof=1) / math.sqrt(3)
    assert ends[0] == pytest.approx((max(sum(first) / 3 - margin, 0), min(sum(first) / 3 + margin, 1)))
    assert ends[1] == (0.0, 0.0)
    assert np.isnan(ends[2]).all(), "one user tells no error"


def test_the_curve_of_hits_counts_the_targets_above_each_depth():
    ranks = np.array([0.0, 0.5, 4.0, np.inf])

    assert hit_curve(ranks, np.array([1, 4, 5, 1000])) == [0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize(
    ("mean", "error", "ends"), [(0.95, 0.05, (0.852, 1.0)), (0.05, 0.05, (0.0, 0.148)), (0.5, 0.1, (0.304, 0.696))]
)
def test_an_interval_stays_where_the_numbers_lie(mean, error, ends):
    assert interval(mean, error) == pytest.approx(ends)
