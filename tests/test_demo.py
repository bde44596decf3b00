"""The generated log: pinned, plausible, and its best possible score really is one."""

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.data import demo
from sasrec.data.demo import best_possible, generate
from sasrec.errors import ConfigError
from sasrec.evaluation.metrics import ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Markov, Popularity


@pytest.fixture(scope="module")
def made():
    return generate()


@pytest.fixture(scope="module")
def data(made):
    return sasrec.split(sasrec.read_log(made.log))


def test_the_same_seed_gives_the_same_log_on_every_machine(made):
    assert made.sha256() == "7b660919d908339939c543dad352080c1b46aace077c7aa9d9051e52ec628387"


def test_another_seed_gives_another_log_of_the_same_kind(made):
    other = generate(seed=1)

    assert other.sha256() != made.sha256()
    assert other.log.schema == made.log.schema
    assert abs(len(other.log) / len(made.log) - 1) < 0.1
    assert abs(other.best["NDCG@10"][0] - made.best["NDCG@10"][0]) < 0.1


def test_the_log_is_of_the_promised_size(made):
    assert made.log["user_id"].n_unique() == 3000
    assert len(made.items) == made.items["title"].n_unique() == 1200
    assert 72_000 <= len(made.log) <= 90_000


def test_nobody_takes_an_item_twice(made):
    assert not made.log.select("user_id", "item_id").is_duplicated().any()


def test_time_rises_for_every_user(made):
    steps = made.log.select(pl.col("timestamp").diff().over("user_id")).to_series().drop_nulls()

    assert steps.min() > 0


def test_nothing_is_taken_before_its_release(made):
    taken = made.log.join(made.items, on="item_id").select(pl.from_epoch("timestamp").dt.date() - pl.col("released"))

    assert taken.to_series().min() >= pl.Series([0], dtype=pl.Duration("ms"))[0]


def test_the_chances_of_a_step_sum_to_one_and_leave_out_what_was_read():
    rng = np.random.default_rng(3)
    world = demo.make_world(80, rng)
    crowd = demo.make_crowd(12, 20, rng)

    taken, last = demo.live(world, crowd, rng)

    assert np.allclose(last.sum(axis=1), 1.0)
    for reader in range(12):
        history = taken[crowd.offsets[reader] : crowd.offsets[reader + 1] - 1]
        assert (last[reader, history] == 0).all()
        assert last[reader, taken[crowd.offsets[reader + 1] - 1]] > 0


def test_the_best_possible_score_is_that_of_ranking_by_the_true_chances():
    chance = np.array([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]])
    target = np.array([1, 0, 3])  # second; ties with another for second place; first

    mean, error = best_possible(chance, target)["NDCG@10"]

    gains = [1 / np.log2(3), 1 / np.log2(3.5), 1.0]
    assert mean == pytest.approx(np.mean(gains))
    assert error == pytest.approx(np.std(gains, ddof=1) / np.sqrt(3))


def test_no_draw_is_likelier_than_its_chance(made):
    # Were the oracle's probabilities not those of the draws, held-out items would not stand where it puts them: the
    # mean chance of the first place is what the first place is hit by, up to chance.
    rng = np.random.default_rng(11)
    world, crowd = demo.make_world(200, rng), demo.make_crowd(1500, 30, rng)

    taken, last = demo.live(world, crowd, rng)

    hit = last.argmax(axis=1) == taken[crowd.offsets[1:] - 1]
    expected = last.max(axis=1)
    spread = np.sqrt((expected * (1 - expected)).sum()) / len(hit)
    assert abs(hit.mean() - expected.mean()) < 4 * spread


def test_counting_models_are_far_from_the_best_and_popularity_is_behind_markov(made, data):
    items = len(data.log.items)

    popularity, markov = (
        ndcg(rank_targets(kind.of(data.train, items=items), data.test, exclude_seen=True).ranks, 10).mean()
        for kind in (Popularity, Markov)
    )

    assert popularity < 0.25 * markov
    assert markov < 0.6 * made.best["NDCG@10"][0]


@pytest.mark.parametrize("wrong", [{"users": 1}, {"users": 10**23}, {"items": 49}, {"items": 5001}, {"seed": -1}])
def test_a_demo_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match="a demo needs"):
        generate(**wrong)
