"""Sampled protocols: what is drawn, what is never drawn, and that figures made so are labelled wherever they stand."""

from itertools import combinations

import numpy as np
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, ScoreError
from sasrec.evaluation import candidates as module
from sasrec.evaluation.candidates import LEGACY, draw_candidates, rank_among
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.recommender import Recommender


class Constant:
    """The same scores for everybody."""

    kind = "constant"
    reads_times = False

    def __init__(self, scores):
        self.row = np.array(scores, dtype=np.float32)
        self.items = len(scores)

    def scores(self, histories):
        return np.tile(self.row, (len(histories), 1))


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


def recommender(scorer, log, **record):
    return Recommender(scorer, users=log.users, items=log.items, histories=log.histories, record=record)


# What is drawn


@pytest.mark.parametrize("part", ["test", "valid"])
def test_negatives_lie_outside_the_whole_history_validation_and_test_target_included(data, part):
    holdout = getattr(data, part)

    sample = draw_candidates(data, holdout, 7, seed=3)

    assert sample.negatives.shape == (len(holdout), 7)
    for user, negatives in zip(holdout.users, sample.negatives, strict=True):
        assert not {*negatives.tolist()} & {*data.log.histories[user].tolist()}


def test_negatives_are_drawn_without_replacement(data):
    sample = draw_candidates(data, data.test, 9, seed=0)

    assert all(len({*negatives.tolist()}) == 9 for negatives in sample.negatives)


def test_every_set_of_unseen_items_is_drawn_equally_often(log_of):
    # 6,000 users who had x, y and z of 7 items: 6 pairs of the other 4, each expected 1,000 times.
    histories = {f"u{row}": ["x", "y", "z"] for row in range(6000)} | {"all": ["a", "b", "c", "d"]}
    data = sasrec.split(log_of(histories))
    holdout = data.test.take(np.flatnonzero(data.log.histories.lengths == 3))

    drawn = data.log.items.raw(draw_candidates(data, holdout, 2, seed=1).negatives.ravel()).to_list()

    pairs = [tuple(sorted(drawn[at : at + 2])) for at in range(0, len(drawn), 2)]
    counts = [pairs.count(pair) for pair in combinations("abcd", 2)]
    assert sum(counts) == 6000
    # Chi-squared with 5 degrees of freedom stays below 20.5 with a chance of 99.9 %.
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 20.5


def test_all_unseen_items_can_be_asked_for(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "z"], "bob": ["a", "b", "c"], "cyd": ["x", "b", "z"]}))

    negatives = draw_candidates(data, data.test, 3, seed=0).negatives

    unseen = [{*range(6)} - {*data.log.histories[user].tolist()} for user in range(3)]
    assert [{*row.tolist()} for row in negatives] == unseen


def test_more_negatives_than_a_user_leaves_are_refused(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "z"], "bob": ["a", "b", "c", "x"], "cyd": ["x", "b", "z"]}))

    with pytest.raises(ConfigError, match="expected at most 2, as user 'bob' had all but 2 of the 6 items, found 3"):
        draw_candidates(data, data.test, 3, seed=0)


def test_the_seed_fixes_the_negatives(data):
    first, again, other = (draw_candidates(data, data.test, 5, seed=seed).negatives for seed in (4, 4, 5))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# Ranks


def test_a_rank_counts_the_negatives_above_the_target_and_half_of_those_that_tie(data):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, 25).astype(float)
    sample = draw_candidates(data, data.test, 8, seed=0)

    ranks = rank_among(Constant(scores), sample, exclude_seen=False)

    for rank, target, negatives in zip(ranks, data.test.targets, sample.negatives, strict=True):
        above = sum(scores[one] > scores[target] for one in negatives)
        assert rank == above + sum(scores[one] == scores[target] for one in negatives) / 2


def test_ranked_among_all_that_the_user_never_had_a_target_has_its_rank_in_the_whole_catalogue(log_of, small_config):
    rng = np.random.default_rng(3)
    log = log_of({f"u{user}": [f"i{i:02}" for i in rng.permutation(30)[:6]] for user in range(40)})
    data = sasrec.split(log)
    scorer = sasrec.train(data, small_config, progress=False).scorer

    sampled = rank_among(scorer, draw_candidates(data, data.test, len(log.items) - 6, seed=0), exclude_seen=True)

    np.testing.assert_array_equal(sampled, rank_targets(scorer, data.test, exclude_seen=True).ranks)


def test_a_target_that_was_seen_before_is_out_of_reach_where_seen_items_are_left_out(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "x"], "bob": ["a", "b", "c"], "cyd": ["x", "b", "z"]}))
    sample = draw_candidates(data, data.test, 2, seed=0)
    scorer = Constant(np.arange(6.0))

    left_out, kept = (rank_among(scorer, sample, exclude_seen=seen) for seen in (True, False))

    assert np.isinf(left_out).tolist() == [True, False, False]
    assert np.isfinite(kept).all()
    np.testing.assert_array_equal(left_out[1:], kept[1:])


@pytest.mark.parametrize("candidates", [5, "sasrec2018"])
def test_the_order_of_the_models_does_not_change_what_they_are_ranked_against(data, walks, candidates):
    scorer = Popularity.of(data.train, items=len(walks.items))

    report = sasrec.evaluate(recommender(scorer, walks), data, exclude_seen=False, candidates=candidates)

    own, *_, namesake = report.rows
    np.testing.assert_array_equal(own.ranks, namesake.ranks)


# The protocol of 2018


@pytest.fixture(scope="module")
def crowd(log_of):
    """300 users of 4 events among 12 items, so that the held-out items are drawn often."""
    rng = np.random.default_rng(5)
    return sasrec.split(log_of({f"u{u:03}": [f"i{i:02}" for i in rng.permutation(12)[:4]] for u in range(300)}))


def test_the_negatives_of_2018_avoid_the_training_part_alone(crowd):
    sample = draw_candidates(crowd, crowd.test, "sasrec2018", seed=0)

    assert sample.negatives.shape == (300, 100)
    drawn = np.zeros(12)
    for history, negatives in zip(crowd.log.histories.take(sample.holdout.users), sample.negatives, strict=True):
        assert not {*history[:2].tolist()} & {*negatives.tolist()}
        # How often the items of the history (the last two are validation and test target), then the others.
        order = [*history, *sorted({*range(12)} - {*history.tolist()})]
        drawn += np.bincount(negatives, minlength=12)[order]
    # Each of the ten stands for a tenth of 30,000 draws; the standard deviation is 52.
    assert drawn[:2].tolist() == [0, 0]
    assert np.abs(drawn[2:] - 3000).max() < 5 * 52


def test_the_negatives_of_an_honest_sample_avoid_all_that_is_known(crowd):
    sample = draw_candidates(crowd, crowd.test, 8, seed=0)

    for user, negatives in zip(sample.holdout.users, sample.negatives, strict=True):
        assert {*negatives.tolist()} == {*range(12)} - {*crowd.log.histories[user].tolist()}


def as_written_in_2018(row, target, train, draws):
    """The rank that the original evaluation gives, in its own steps: reject draws, scores negated, argsort twice."""
    rated, candidates = {*train}, [target]
    draws = iter(draws)
    for _ in range(100):
        drawn = next(draws)
        while drawn in rated:
            drawn = next(draws)
        candidates.append(drawn)
    predictions = -row[candidates]
    return candidates, predictions.argsort(kind="stable").argsort(kind="stable")[0]


def test_the_ranks_of_2018_are_those_of_the_original_steps(crowd, small_config):
    scorer = sasrec.train(crowd, small_config, progress=False).scorer
    sample = draw_candidates(crowd, crowd.test, "sasrec2018", seed=0)
    holdout, log = sample.holdout, crowd.log

    found = rank_among(scorer, sample, exclude_seen=False)

    for place, user in enumerate(holdout.users):
        *train, valid, target = log.histories[user].tolist()
        row = scorer.scores(Sequences.of([[*train, valid]]))[0]
        candidates, rank = as_written_in_2018(row, target, train, sample.negatives[place])
        assert candidates == [target, *sample.negatives[place]]
        assert found[place] == rank


def test_of_more_than_ten_thousand_users_ten_thousand_random_ones_are_ranked(monkeypatch, crowd):
    # The population is another one with every seed, which the whole protocol avoids.
    monkeypatch.setattr(module, "_LEGACY_USERS", 50)

    first, again, other = (draw_candidates(crowd, crowd.test, "sasrec2018", seed=seed).holdout for seed in (0, 0, 1))

    assert len(first) == 50
    assert first.users.tolist() == sorted({*first.users.tolist()}) == again.users.tolist() != other.users.tolist()
    for place, user in enumerate(first.users):
        assert [*first.histories[place].tolist(), first.targets[place]] == crowd.log.histories[user].tolist()


def test_users_who_cannot_be_tested_are_drawn_too_and_passed_over(monkeypatch, log_of):
    histories = {f"long{user}": ["x", "y", "z", "w"][user % 2 :] for user in range(30)}
    data = sasrec.split(log_of(histories | {f"short{user}": ["x", "v"] for user in range(30)}))
    monkeypatch.setattr(module, "_LEGACY_USERS", 40)

    ranked = len(draw_candidates(data, data.test, "sasrec2018", seed=0).holdout)

    assert 10 <= ranked < 30


def test_the_protocol_of_2018_is_of_the_last_item_split(walks, small_model):
    import polars as pl

    events = [(f"u{row % 30}", f"i{row * 7 % 11}", row) for row in range(300)]
    log = sasrec.read_log(pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"))
    by_time = sasrec.split(log, how="time")

    with pytest.raises(ConfigError, match="'sasrec2018' is a protocol of the last-item split, found a split by time"):
        draw_candidates(by_time, by_time.test, "sasrec2018", seed=0)


# Ties, numbers that are none, populations, candidates


def test_a_model_that_scores_everything_alike_is_neither_perfect_nor_worthless(data, walks):
    flat = recommender(Constant(np.zeros(25)), walks)

    whole = sasrec.evaluate(flat, data, exclude_seen=False)
    sampled = sasrec.evaluate(flat, data, exclude_seen=False, candidates=8)

    assert {*whole.rows[0].ranks} == {12.0}
    assert {*sampled.rows[0].ranks} == {4.0}


def test_the_protocol_of_2018_calls_it_perfect_and_says_so(data, walks):
    report = sasrec.evaluate(recommender(Constant(np.zeros(25)), walks), data, candidates="sasrec2018")

    assert report["NDCG@10"] == 1.0
    assert "ties won by the target" in report.protocol


@pytest.mark.parametrize("candidates", [None, 5, "sasrec2018"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_numbers_are_refused_by_every_protocol(data, walks, candidates, value):
    scores = np.zeros(25)
    scores[11] = value

    with pytest.raises(ScoreError, match="NaN or infinite"):
        sasrec.evaluate(recommender(Constant(scores), walks), data, candidates=candidates)


def test_every_user_is_ranked_unless_the_protocol_of_2018_is_asked_for(monkeypatch, small_model, data):
    monkeypatch.setattr(module, "_LEGACY_USERS", 20)

    ranked = [len(sasrec.evaluate(small_model, data, candidates=one).users) for one in (None, 3, "sasrec2018")]

    assert ranked[:2] == [len(data.test)] * 2
    assert ranked[2] < 20


def test_the_whole_catalogue_is_the_default_and_sampled_figures_say_that_they_are_not_comparable(small_model, data):
    whole = sasrec.evaluate(small_model, data)
    sampled = sasrec.evaluate(small_model, data, candidates=3, seed=8)

    assert "whole catalogue of 25 items ranked" in whole.protocol
    assert "whole catalogue" not in sampled.protocol
    assert "each target ranked among 3 items that its user never had" in sampled.protocol
    assert "seed 8" in sampled.protocol
    assert any("not comparable with whole-catalogue figures" in note for note in sampled.notes)


def test_fewer_candidates_make_higher_scores_of_the_same_model(crowd, small_config):
    model = sasrec.train(crowd, small_config, progress=False)

    hit_rates = [sasrec.evaluate(model, crowd, k=2, candidates=one)["HR@2"] for one in (2, 5, 8)]

    assert hit_rates == sorted(hit_rates, reverse=True)
    assert hit_rates[0] > hit_rates[2] + 0.2


def test_with_one_target_ndcg_is_a_logarithm_of_the_rank_and_recall_is_the_hit_rate(small_model, data):
    for candidates in (None, 10):
        report = sasrec.evaluate(small_model, data, k=5, exclude_seen=False, candidates=candidates)
        ranks = report.rows[0].ranks

        assert report["NDCG@5"] == pytest.approx(np.mean([1 / np.log2(r + 2) if r < 5 else 0 for r in ranks]))
        assert report["Recall@5"] == report["HR@5"] == np.mean(ranks < 5)
        assert report["MAP@5"] == report["MRR@5"]
    assert (ndcg(np.array([0.0, 1.0, 10.0]), 10) == [1.0, 1 / np.log2(3), 0.0]).all()
    assert hit_rate(np.array([9.0, 9.5, 10.0]), 10).tolist() == [1.0, 1.0, 0.0]


# Labels and refusals


def test_figures_of_the_protocol_of_2018_are_labelled_legacy_wherever_they_stand(small_model, data, tmp_path):
    report = sasrec.evaluate(small_model, data, candidates="sasrec2018")
    sasrec.write_json(tmp_path / "report.json", report)

    assert LEGACY in report.protocol
    assert LEGACY in report.notes
    assert LEGACY in str(report).splitlines()[0]
    assert LEGACY in (tmp_path / "report.json").read_text()


def test_coverage_is_not_told_where_the_catalogue_was_not_ranked(small_model, data):
    report = sasrec.evaluate(small_model, data, candidates=4)

    assert report.rows[0].coverage == {}
    assert "coverage" not in str(report)


@pytest.mark.parametrize("candidates", [0, -1, True, 2.5, "sasrec", "100", [5]])
def test_candidates_are_an_integer_or_a_protocol(small_model, data, candidates):
    with pytest.raises(ConfigError, match="candidates: expected an integer >= 1 or 'sasrec2018', found"):
        sasrec.evaluate(small_model, data, candidates=candidates)


@pytest.mark.parametrize("seed", [-1, 0.5, True, None])
def test_a_seed_is_an_integer_of_zero_or_more(small_model, data, seed):
    with pytest.raises(ConfigError, match="seed: expected an integer >= 0, found"):
        sasrec.evaluate(small_model, data, candidates=3, seed=seed)


def test_the_protocol_of_2018_leaves_nothing_out(small_model, data):
    assert "exclude_seen=False" in sasrec.evaluate(small_model, data, candidates="sasrec2018").protocol
    with pytest.raises(ConfigError, match="exclude_seen: 'sasrec2018' ranks what was drawn"):
        sasrec.evaluate(small_model, data, candidates="sasrec2018", exclude_seen=True)


def test_an_integer_of_numpy_is_a_number_of_candidates(small_model, data):
    ours, theirs = (sasrec.evaluate(small_model, data, candidates=one) for one in (4, np.int64(4)))

    assert str(ours) == str(theirs)
