"""Metrics are those of the definitions, worked by hand; tests/golden holds them against another library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.evaluation.metrics import METRICS, hit_rate, mean_and_error, mrr, ndcg, precision

RANKS = np.array([0.0, 1.0, 2.5, 9.0, 9.5, 10.0, np.inf])


def test_ranks_count_from_zero_and_the_first_k_are_hits():
    assert hit_rate(RANKS, 10).tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert hit_rate(RANKS, 1).tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_ndcg_is_one_over_the_logarithm_of_the_place():
    expected = [1.0, 1 / np.log2(3), 1 / np.log2(4.5), 1 / np.log2(11), 1 / np.log2(11.5), 0.0, 0.0]

    assert ndcg(RANKS, 10).tolist() == pytest.approx(expected)


def test_mrr_is_one_over_the_place():
    assert mrr(RANKS, 10).tolist() == pytest.approx([1.0, 1 / 2, 1 / 3.5, 1 / 10, 1 / 10.5, 0.0, 0.0])


def test_with_one_target_recall_is_the_hit_rate_and_precision_its_kth_part():
    assert METRICS["Recall"](RANKS, 3).tolist() == hit_rate(RANKS, 3).tolist()
    assert precision(RANKS, 3).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0])


@given(rank=st.floats(0, 100), k=st.integers(1, 50))
def test_a_better_rank_and_a_larger_cut_never_lower_a_metric(rank, k):
    for name, metric in METRICS.items():
        here, better = metric(np.array([rank, rank / 2]), k)

        assert 0 <= here <= better <= 1
        if name != "Precision":
            assert metric(np.array([rank]), k + 1)[0] >= here


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_an_unreachable_target_counts_as_a_miss_at_any_k(metric):
    with np.errstate(all="raise"):
        assert metric(np.array([np.inf]), 10**9).tolist() == [0.0]


def test_the_standard_error_is_that_of_the_mean():
    values = np.array([0.0, 0.0, 1.0, 1.0, 1.0])

    mean, error = mean_and_error(values)

    assert mean == pytest.approx(0.6)
    # Sample variance 5/4 * 0.24 = 0.3, divided by 5 users.
    assert error == pytest.approx(np.sqrt(0.3 / 5))


def test_one_user_has_no_standard_error():
    mean, error = mean_and_error(np.array([0.25]))

    assert mean == 0.25
    assert np.isnan(error)


def test_values_of_one_user_do_not_count_as_independent():
    rng = np.random.default_rng(2)
    values = rng.normal(size=60)

    mean, error = mean_and_error(np.tile(values, 4), np.tile(np.arange(60), 4))

    assert (mean, error) == pytest.approx(mean_and_error(values))
    assert np.isnan(mean_and_error(values, np.zeros(60))[1])
