"""The interval of a difference is that of scipy's paired bootstrap, and narrower than unpaired errors suggest."""

import numpy as np
import pytest
from scipy import stats

from sasrec.evaluation.intervals import Interval, paired_interval
from sasrec.evaluation.metrics import ndcg


@pytest.fixture(scope="module")
def models():
    """NDCG@10 of 400 users under two models that agree on who is easy."""
    rng = np.random.default_rng(0)
    easy = rng.exponential(8.0, 400)
    return tuple(ndcg(np.floor(easy * scale * rng.uniform(0.8, 1.2, 400)), 10) for scale in (1.0, 1.15))


def test_the_interval_is_that_of_scipy(models):
    first, second = models

    ours = paired_interval(first, second, resamples=20_000)
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    )

    # Two runs of either differ by about this much.
    assert ours.difference == pytest.approx(first.mean() - second.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=4e-4)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=4e-4)


def test_with_many_users_the_interval_is_two_standard_errors_of_the_difference():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.3, 1.0, 5000), rng.normal(0.2, 1.0, 5000)

    found = paired_interval(first, second)

    error = (first - second).std(ddof=1) / np.sqrt(5000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_pairing_makes_the_interval_narrower_than_the_errors_of_the_means_suggest(models):
    first, second = models

    found = paired_interval(first, second)

    unpaired = np.hypot(*(values.std(ddof=1) / np.sqrt(len(values)) for values in models))
    assert found.high - found.low < 0.7 * 2 * 1.96 * unpaired


def test_models_that_rank_alike_are_not_told_apart(models):
    assert paired_interval(models[0], models[0]) == Interval(0.0, 0.0, 0.0, 0.95)
    same = paired_interval(models[0], models[0])
    assert same.low <= 0 <= same.high


def test_a_difference_of_every_user_is_certain_and_has_its_sign():
    values = np.linspace(0, 1, 50)

    up, down = paired_interval(values + 0.25, values), paired_interval(values, values + 0.25)

    assert (up.difference, up.low, up.high) == (0.25, 0.25, 0.25)
    assert (down.difference, down.low, down.high) == (-0.25, -0.25, -0.25)
    assert up.low > 0
    assert down.high < 0


def test_a_higher_level_makes_a_wider_interval(models):
    narrow, wide = (paired_interval(*models, level=level) for level in (0.8, 0.99))

    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_seed_fixes_the_interval(models):
    whole = paired_interval(*models, seed=4)

    assert paired_interval(*models, seed=4) == whole
    assert paired_interval(*models, seed=5) != whole


@pytest.mark.parametrize(("first", "second"), [((3,), (4,)), ((2, 2), (2, 2)), ((0,), (0,))])
def test_metrics_of_other_users_are_refused(first, second):
    with pytest.raises(ValueError, match="expected two metrics of the same users"):
        paired_interval(np.zeros(first), np.zeros(second))


def test_a_user_who_stands_in_several_folds_is_drawn_with_all_of_them():
    rng = np.random.default_rng(6)
    users = np.concatenate([np.arange(150), np.arange(0, 150, 2), np.arange(0, 150, 3)])
    first = rng.normal(0.1, 1.0, 150)[users] + rng.normal(0, 0.1, len(users))
    second = np.zeros(len(users))

    found = paired_interval(first, second, users=users, resamples=10_000)
    whose = [np.flatnonzero(users == user) for user in range(150)]
    means = [first[np.concatenate([whose[one] for one in rng.integers(150, size=150)])].mean() for _ in range(5000)]

    assert found.difference == pytest.approx(first.mean())
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.012)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.012)
    alone = paired_interval(first, second)
    assert found.high - found.low > 1.2 * (alone.high - alone.low)


def test_users_who_stand_once_are_drawn_as_without_names(models):
    assert paired_interval(*models, users=np.arange(400)) == paired_interval(*models)


@pytest.mark.parametrize("folds", [1, 3])
def test_one_user_tells_nothing_of_others(folds):
    found = paired_interval(np.full(folds, 0.75), np.full(folds, 0.25), users=np.zeros(folds, dtype=np.int64))

    assert (found.difference, found.low, found.high) == (0.5, -1.0, 1.0)
