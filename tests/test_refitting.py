"""A refit changes the training part alone: neither settings, nor epochs, nor anything by the test part."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec.errors import ConfigError, DataError, TrainingError
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.blend import Blend
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.ease import ease
from sasrec.retrieval.linked import Linked
from sasrec.training.beginning import begin
from sasrec.training.counting import recently_popular
from sasrec.training.steps import Training


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def again(small_model, data):
    return sasrec.refit(small_model, data, progress=False)


def weights(model):
    return model.scorer.to_parts()[1]


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_network_is_trained_from_its_start_for_the_chosen_number_of_epochs(small_model, again, data):
    config = small_model.scorer.config
    chosen = small_model.record["best"]["epoch"]
    training = begin(data.refit.train, items=25, config=config)
    for number in range(1, chosen + 1):
        training.epoch(number)

    with training.judged() as network:
        assert_equal(weights(again), network.state_dict())
    assert again.scorer.config == config


def test_a_network_of_a_device_that_is_not_here_is_trained_on_what_is_found(model_of_a_gpu, again, data):
    with pytest.warns(UserWarning, match="torch finds no 'cuda' here; the network is trained on 'cpu'"):
        found = sasrec.refit(model_of_a_gpu, data, progress=False)

    assert_equal(weights(found), weights(again))


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_chosen_number_is_that_of_the_best_epoch(small_model, data, monkeypatch, epoch):
    trained = []
    monkeypatch.setattr(Training, "epoch", lambda self, number, watcher: trained.append(number) or 1.0)
    best = {**small_model.record["best"], "epoch": epoch}
    model = sasrec.Recommender.of_log(small_model.scorer, data.log, record={**small_model.record, "best": best})

    sasrec.refit(model, data, progress=False)

    assert trained == list(range(1, epoch + 1))


@pytest.mark.parametrize("name", ["popularity", "recent", "markov", "rules", "knn", "ease"])
def test_a_counted_model_counts_both_parts_with_its_settings(name, data):
    model = sasrec.count(data, name, progress=False)

    found = sasrec.refit(model, data, progress=False).scorer

    train = data.refit.train
    if isinstance(model.scorer, Linked):
        expected = (ease if name == "ease" else Linked.of)(train, items=25, settings=model.scorer.settings)
    elif isinstance(model.scorer, Markov):
        expected = Markov.of(train, items=25)
    elif name == "recent":
        expected = recently_popular(train, items=25, share=model.record["best"]["recent"])
    else:
        expected = Popularity.of(train, items=25)
    assert_equal(found.to_parts()[1], expected.to_parts()[1])


def test_a_blend_keeps_its_weights_and_every_part_is_refit(small_model, again, data):
    blended = sasrec.blend(data, [small_model, "rules"], progress=False)
    rules = sasrec.refit(sasrec.count(data, "rules", progress=False), data, progress=False)

    found = sasrec.refit(blended, data, progress=False)

    expected = {"sasrec": weights(again), "rules": weights(rules)}
    assert {name: one[0] for name, one in found.scorer.parts.items()} == {
        name: one[0] for name, one in blended.scorer.parts.items()
    }
    for name, (_, part) in found.scorer.parts.items():
        assert_equal(part.to_parts()[1], expected[name])


def test_the_test_part_changes_nothing(small_model, small_config, again, data, log_of):
    parts = {user: data.of_user(user) for user in data.log.users.ids}
    other = data.log.items.ids[0]
    changed = sasrec.split(
        log_of({user: [*had["train"], *had["valid"], *([other] if had["test"] else [])] for user, had in parts.items()})
    )
    assert changed.log.items.ids.equals(data.log.items.ids)

    found = sasrec.refit(sasrec.train(changed, small_config, progress=False), changed, progress=False)

    assert_equal(weights(found), weights(again))


def test_the_model_itself_stays_as_it_was(small_model, data):
    before = {name: tensor.clone() for name, tensor in weights(small_model).items()}

    sasrec.refit(small_model, data, progress=False)

    assert_equal(weights(small_model), before)
    assert "refit" not in small_model.record


def test_the_record_is_that_of_the_model_with_what_was_done(small_model, again, data):
    refit = again.record["refit"]

    assert {name: value for name, value in again.record.items() if name != "refit"} == small_model.record
    assert refit["events"] == int(data.train_lengths.sum()) + len(data.valid)


def test_a_report_of_it_is_labelled_and_counts_the_same_training_part(again, small_model, data):
    report, before = sasrec.evaluate(again, data), sasrec.evaluate(small_model, data)

    assert "test; refit on train + validation; 54 users" in report.protocol
    assert "refit" not in before.protocol
    assert [row.model for row in report.rows] == [row.model for row in before.rows]
    for row, kind in zip(report.rows[1:], (Linked, Markov, Popularity), strict=True):
        counted = kind.of(data.refit.train, items=25)
        ranks = rank_targets(counted, data.test, exclude_seen=report.exclude_seen).ranks
        np.testing.assert_array_equal(row.ranks, ranks)
    assert not any("another log or split" in note for note in report.notes)


def test_its_figures_are_never_mixed_with_others(again, small_model, small_config, data):
    with pytest.raises(ConfigError, match="'again' was refit on train \\+ validation, 'before' was not"):
        sasrec.compare(data, {"before": small_model, "again": again})
    with pytest.raises(ConfigError, match="'again' was refit on train \\+ validation, and 'new' would not be"):
        sasrec.compare(data, {"again": again, "new": small_config})
    with pytest.raises(ConfigError, match="has seen the validation part"):
        sasrec.evaluate(again, data, on="valid")

    assert "refit on train + validation" in sasrec.compare(data, {"one": again, "two": again}).protocol


def test_a_refit_calls_no_epoch_the_best(small_model, data, capsys):
    sasrec.refit(small_model, data, progress=True)

    assert re.search("^epoch +1 ", said := capsys.readouterr().err, re.MULTILINE)
    assert "best" not in said


def test_what_cannot_be_refit_is_refused(again, small_model, data, walks):
    unsaid = sasrec.Recommender.of_log(small_model.scorer, walks, record={})
    featured = sasrec.Recommender.of_log(
        small_model.scorer, walks, record={**small_model.record, "features": "2 values"}
    )

    for model, error, words in (
        (again, ConfigError, "was refit already"),
        (unsaid, DataError, "does not say how"),
        (featured, ConfigError, r"features: a refit needs those .*; pass features= as then \(2 values"),
    ):
        with pytest.raises(error, match=words):
            sasrec.refit(model, data)


def test_an_interrupted_refit_gives_nothing(small_model, data, monkeypatch):
    def interrupt(self, number, watcher):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "epoch", interrupt)

    with pytest.raises(TrainingError, match="a refit is whole or nothing"):
        sasrec.refit(small_model, data, progress=False)


def test_a_split_by_time_is_refit_on_what_was_before_the_test_alone(walks):
    times = np.arange(len(walks.histories.items))
    order = np.concatenate(
        [np.sort(part) for part in np.split(np.random.default_rng(3).permutation(times), walks.histories.offsets[1:-1])]
    )
    log = replace(walks, histories=replace(walks.histories, times=order), source=replace(walks.source, time_unit="s"))
    data = sasrec.split(log, how="time", share=0.2)

    train = data.refit.train

    tested_from = np.sort(order)[int(len(order) * 0.8)]
    assert train.times.max() < tested_from
    assert len(train.items) == int((order < tested_from).sum())
    assert len(data.refit.valid) == 0
    np.testing.assert_array_equal(data.refit.test.targets, data.test.targets)


def test_a_network_with_features_beside_one_without_is_refit_with_its_own(small_model, small_config, data, walks):
    ids = walks.items.ids
    table = pl.DataFrame({"item_id": ids, "colour": ["red", "green", "blue", "red", "green"] * 5})
    features = sasrec.read_features(table, walks.items, columns=["colour"])
    coloured = sasrec.train(data, small_config, features=features, progress=False)
    blended = sasrec.blend(data, [small_model, coloured], progress=False)
    both = Blend({"sasrec": (0.5, small_model.scorer), "sasrec 2": (0.5, coloured.scorer)})
    model = sasrec.Recommender.of_log(both, walks, record=blended.record)

    found = sasrec.refit(model, data, features=features, progress=False).scorer

    names = [set(part.network.state_dict()) for _, part in found.parts.values()]
    assert [("items.values" in one) for one in names] == [False, True]
    with pytest.raises(ConfigError, match="features: a refit needs those"):
        sasrec.refit(model, data)
