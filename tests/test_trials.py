"""Lines that are compared see the same users, targets and seen items."""

from dataclasses import replace

import numpy as np
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout
from sasrec.evaluation.intervals import paired_intervals
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.neural import Neural
from sasrec.studies.trials import Line, Trials


@pytest.fixture
def data(walks):
    return sasrec.split(walks)


def test_a_network_that_is_shown_less_still_leaves_out_all_that_was_seen(small_model, data):
    network, length = small_model.scorer, 2
    shorter = Neural(network.network, replace(network.config, length=length))
    holdout = data.test

    found = rank_targets(shorter, holdout, exclude_seen=True).ranks

    for row in range(len(holdout)):
        history, target = holdout.histories[row].tolist(), int(holdout.targets[row])
        names = small_model.items.raw(np.arange(len(small_model.items)))
        answer = small_model.score(names.gather(history[-length:]), names)  # the network, shown these alone
        scores = answer["score"].to_numpy().astype(np.float64)
        if target in history:
            assert np.isinf(found[row])
            continue
        others = [item for item in range(len(names)) if item not in history and item != target]
        above = sum(scores[item] > scores[target] + 1e-6 for item in others)
        not_below = sum(scores[item] > scores[target] - 1e-6 for item in others)
        assert above <= found[row] <= not_below


def test_differences_are_those_of_the_values_user_by_user(small_model, data):
    trials = Trials(data.test, exclude_seen=False, tell=lambda _: None)
    popularity = Popularity.of(data.train, items=len(small_model.items))

    trials.run("network", "whole", small_model.scorer)
    trials.run("popularity", "counted", popularity, length=0)
    network, popular = trials.lines(seed=0)

    reports = sasrec.evaluate(small_model, data, k=[1, 10], exclude_seen=False).rows
    for name, found in popular.metrics.items():
        assert network.metrics[name].mean == pytest.approx(reports[0].metrics[name][0])
        assert found.mean == pytest.approx(reports[-1].metrics[name][0])
        assert found.difference == pytest.approx(found.mean - network.metrics[name].mean)
        assert found.low <= found.difference <= found.high
        assert (network.metrics[name].low, network.metrics[name].difference, network.metrics[name].high) == (0, 0, 0)


def test_changes_are_ratios_of_means_over_the_same_drawn_users(small_model, data):
    trials = Trials(data.test, exclude_seen=False, tell=lambda _: None)
    popularity = Popularity.of(data.train, items=len(small_model.items))
    trials.run("network", "whole", small_model.scorer)
    trials.run("popularity", "counted", popularity, length=0)

    found = trials.lines(seed=0)[1].metrics

    ranks = [rank_targets(one, data.test, exclude_seen=False).ranks for one in (small_model.scorer, popularity)]
    rng, users, ratios = np.random.default_rng(11), len(data.test), {"HR@1": [], "HR@10": []}
    for _ in range(20_000):
        drawn = rng.integers(users, size=users)
        for name, most in (("HR@1", 1), ("HR@10", 10)):
            network, counted = ((each[drawn] < most).mean() for each in ranks)
            if network:
                ratios[name].append(counted / network - 1)
    for name, expected in ratios.items():
        change, (low, high) = found[name].change, np.quantile(expected, [0.025, 0.975])
        assert change.share == pytest.approx(found[name].mean / trials.lines(seed=0)[0].metrics[name].mean - 1)
        assert [change.low, change.high] == pytest.approx([low, high], abs=0.1 * (high - low))
        assert change.low >= -1.0


def test_there_is_no_change_from_a_network_that_finds_nothing(small_model, data):
    last = replace(data.test, targets=rank_targets_last(small_model.scorer, data.test))
    trials = Trials(last, exclude_seen=False, tell=lambda _: None)

    trials.run("network", "whole", small_model.scorer)

    assert [one.change for one in trials.lines(seed=0)[0].metrics.values()] == [None, None, None]


def rank_targets_last(scorer, holdout):
    """The item that a scorer finds worst for each user."""
    return scorer.scores(holdout.histories).argmin(axis=1).astype(np.int32)


def test_several_times_are_averaged_for_each_user(small_model, data):
    trials = Trials(data.test, exclude_seen=False, tell=lambda _: None)
    holdouts = [replace(data.test, targets=np.roll(data.test.targets, by)) for by in range(3)]
    waiting = iter(holdouts)

    trials.run("rolled", "shuffled", small_model.scorer, histories=lambda _: next(waiting), times=3)

    ranks = [rank_targets(small_model.scorer, one, exclude_seen=False).ranks for one in holdouts]
    expected = np.mean([(each < 10).mean() for each in ranks])
    assert trials.lines(seed=0)[0].metrics["HR@10"].mean == pytest.approx(expected)


def test_intervals_are_those_of_the_normal_distribution_where_users_are_many():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(0.3, 2.0, 4000), rng.exponential(1.0, 4000)], axis=1)

    low, high = paired_intervals(values, seed=1)

    error = values.std(axis=0, ddof=1) / np.sqrt(4000)
    np.testing.assert_allclose(low, values.mean(axis=0) - 1.96 * error, atol=0.15 * error.max())
    np.testing.assert_allclose(high, values.mean(axis=0) + 1.96 * error, atol=0.15 * error.max())


def test_intervals_are_those_of_scipy_s_percentile_bootstrap():
    from scipy.stats import bootstrap

    values = np.random.default_rng(2).exponential(1.0, 60)
    expected = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=3
    ).confidence_interval

    low, high = paired_intervals(values[:, None], seed=1)

    error = values.std() / np.sqrt(60)
    assert abs(low[0] - expected.low) < 0.15 * error
    assert abs(high[0] - expected.high) < 0.15 * error


def test_intervals_do_not_depend_on_what_else_is_compared():
    values = np.random.default_rng(0).normal(size=(50, 3))

    together, alone = paired_intervals(values, seed=4), paired_intervals(values[:, 1:2], seed=4)

    np.testing.assert_allclose(together[:, 1:2], alone, rtol=1e-12)


def test_one_hit_among_many_users_is_no_sure_difference_and_ten_are():
    users, items = 1000, 30
    histories = Sequences(np.zeros(users, np.int32), np.arange(users + 1), users=np.arange(users))
    targets = np.full(users, items - 1, np.int32)
    trials = Trials(Holdout(np.arange(users), histories, targets), exclude_seen=False, tell=lambda _: None)

    trials.run("network", "whole", Hitting(range(10), items))
    trials.run("one less", "shown", Hitting(range(9), items))
    trials.run("nothing", "counted", Hitting(range(0), items))
    _, less, nothing = (line.metrics["HR@10"].change for line in trials.lines(seed=0))

    assert (less.effect, less.high, less.differs) == ("unclear", 0.0, False)
    assert (nothing.effect, nothing.low, nothing.high, nothing.differs) == ("loss", -1.0, -1.0, True)


def test_the_only_hit_among_many_users_tells_nothing():
    users, items = 1000, 30
    histories = Sequences(np.zeros(users, np.int32), np.arange(users + 1), users=np.arange(users))
    targets = np.full(users, items - 1, np.int32)
    trials = Trials(Holdout(np.arange(users), histories, targets), exclude_seen=False, tell=lambda _: None)

    trials.run("network", "whole", Hitting([7], items))
    trials.run("nothing", "counted", Hitting([], items))
    change = trials.lines(seed=0)[1].metrics["HR@10"].change

    assert (change.low, change.high) == (-1.0, -1.0)
    assert change.effect == "unclear"


class Hitting:
    """Scores the last item best for some users, and worst for all others."""

    def __init__(self, users, items):
        self.users, self.items = [*users], items

    def scores(self, histories):
        found = np.tile(np.arange(self.items, 0, -1, dtype=np.float32), (len(histories), 1))
        found[np.isin(histories.users, self.users), -1] = self.items + 1
        return found


def test_how_far_the_network_lies_from_another_is_asked_of_the_same_users_and_counts_draws_without_its_hits():
    rng = np.random.default_rng(5)
    network, counted = np.zeros(60), np.where(rng.random(60) < 0.2, rng.random(60), 0.0)
    network[:2] = 0.6
    trials = Trials(
        Holdout(np.arange(60), Sequences.of([[0]] * 60), np.zeros(60, dtype=np.int64)),
        exclude_seen=True,
        tell=lambda _: None,
    )
    for name, values in (("whole network", network), ("Rules", counted)):
        trials._tried.append((Line(name, "whole", None, {}), np.stack([values] * 3, axis=1)))

    found = trials.from_line("Rules", seed=0)

    draws = rng.integers(60, size=(20_000, 60))
    ratios = network[draws].mean(axis=1) / counted[draws].mean(axis=1) - 1
    assert found.share == pytest.approx(network.mean() / counted.mean() - 1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), abs=0.2)
    assert found.low == -1.0  # no hit of the two is drawn in one of seven
    assert not found.sure
