"""Counted models: the best of a few settings by validation, from the training part alone."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, DataError
from sasrec.evaluation.metrics import ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Markov
from sasrec.retrieval.ease import EASE, ease
from sasrec.retrieval.linked import KNN, RULES, Linked
from sasrec.training.counting import recently_popular

NAMES = ["popularity", "recent", "markov", "rules", "knn", "ease"]


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_by_validation_is_kept_and_everything_tried_is_told(name, data):
    model = sasrec.count(data, name, progress=False)

    tried = model.record["tried"]
    ranks = rank_targets(model.scorer, data.valid, exclude_seen=model.exclude_seen).ranks
    assert len(tried) == {"recent": 3, "rules": 6, "knn": 6, "ease": 4}.get(name, 1)
    assert model.record["best"] == max(tried, key=lambda one: one["ndcg"])
    assert model.record["best"]["ndcg"] == pytest.approx(ndcg(ranks, 10).mean())
    assert model.scorer.kind == {"recent": "popularity"}.get(name, name)


@pytest.mark.parametrize(("name", "base"), [("rules", RULES), ("knn", KNN), ("ease", EASE)])
def test_every_figure_that_was_tried_is_that_of_its_settings(name, base, data):
    model = sasrec.count(data, name, progress=False)

    for one in model.record["tried"]:
        settings = replace(base, **{key: one[key] for key in one if key not in ("ndcg", "hit_rate")})
        scorer = (ease if name == "ease" else Linked.of)(data.train, items=25, settings=settings)
        ranks = rank_targets(scorer, data.valid, exclude_seen=model.exclude_seen).ranks
        assert one["ndcg"] == pytest.approx(ndcg(ranks, 10).mean())


@pytest.mark.parametrize("name", NAMES)
def test_the_test_part_changes_nothing_that_is_counted(name, data, log_of):
    parts = {user: data.of_user(user) for user in data.log.users.ids}
    swapped = {
        user: [*had["train"], *had["valid"], *(data.log.items.ids[:1].to_list() if had["test"] else [])]
        for user, had in parts.items()
    }
    changed = sasrec.split(log_of(swapped))
    assert changed.log.items.ids.equals(data.log.items.ids)

    ours, theirs = (sasrec.count(one, name, progress=False) for one in (data, changed))

    assert ours.record["tried"] == theirs.record["tried"]
    for array, tensor in ours.scorer.to_parts()[1].items():
        assert tensor.equal(theirs.scorer.to_parts()[1][array])


def test_it_recommends_from_complete_histories(data):
    model = sasrec.count(data, "markov", progress=False)

    assert np.array_equal(model.histories.items, data.log.histories.items)
    assert isinstance(model.scorer, Markov)


def test_recent_events_are_the_latest_of_all_where_there_are_times():
    train = replace(Sequences.of([[0, 1, 2], [3, 1]]), times=np.array([1, 5, 9, 8, 10]))

    counts = recently_popular(train, items=4, share=0.5).counts

    assert counts.tolist() == [0, 1, 1, 1], "of times 1 5 9 8 10 the latest half are 8 9 10"


def test_recent_events_are_the_last_of_each_history_where_there_are_none():
    counts = recently_popular(Sequences.of([[0, 1, 2, 3], [0], []]), items=4, share=0.5).counts

    assert counts.tolist() == [1, 0, 1, 1]


def test_places_in_each_users_own_history_are_no_times_of_all():
    rows = [(f"u{user}", f"i{place}", place) for user in range(9) for place in range(1, 6)]
    rows += [("long", f"i{place % 3}", place) for place in range(1, 101)]
    frame = pl.DataFrame(rows, schema=["user", "item", "order"], orient="row")
    placed, plain = (sasrec.split(sasrec.read_log(frame, time=time)) for time in ("order", ""))

    counts = [recently_popular(data.train, items=6, share=0.3).counts.tolist() for data in (placed, plain)]

    assert placed.log.source.time_unit == "order"
    assert counts[0] == counts[1]


def test_a_model_that_is_not_known_is_refused(data):
    with pytest.raises(ConfigError, match="model: expected one of popularity, recent, markov, rules, knn"):
        sasrec.count(data, "trends")


def test_a_log_that_nobody_can_be_validated_on_is_refused(data):
    nobody = replace(data, valid_at=np.full_like(data.valid_at, -1))

    with pytest.raises(DataError, match="nobody to validate on"):
        sasrec.count(nobody, "rules")


def test_what_is_tried_is_told_where_that_is_asked_for(data, capsys):
    sasrec.count(data, "recent", progress=True)
    told = capsys.readouterr().err.splitlines()
    sasrec.count(data, "recent", progress=False)

    assert [line.partition(" valid")[0] for line in told] == [f"recent: recent={share}" for share in (0.02, 0.1, 0.3)]
    assert capsys.readouterr().err == ""


def test_recent_events_are_told_apart_to_the_nanosecond():
    times = 1_700_000_000_000_000_000 + np.arange(10)
    train = Sequences(np.arange(10, dtype=np.int32), np.array([0, 10]), times=times)

    assert recently_popular(train, items=10, share=0.2).counts.tolist() == [0] * 8 + [1] * 2


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 2, 11, 101, 1001, 2357])
def test_the_latest_events_are_those_from_the_quantile_of_the_times_on(count, share):
    times = np.sort(np.random.default_rng(count).integers(1_600_000_000, 1_600_001_000, count))
    train = Sequences(np.arange(count, dtype=np.int32), np.array([0, count]), times=times)

    counted = recently_popular(train, items=count, share=share).counts

    np.testing.assert_array_equal(counted, times >= np.quantile(times, 1 - share))
