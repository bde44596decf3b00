"""A retrained model is what one would get by hand with the settings of the model before."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sasrec
from sasrec.errors import ConfigError
from sasrec.retrieval.blend import Blend
from sasrec.training.retraining import retrain


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def newer(log_of):
    """A log of other users and more items than `walks` has."""
    rng = np.random.default_rng(3)
    log = log_of({f"v{u:02}": [f"i{i:02}" for i in rng.integers(0, 31, 4 + u % 9)] for u in range(50)})
    return sasrec.split(log)


def assert_same(ours, theirs):
    ours, theirs = ours.scorer.to_parts(), theirs.scorer.to_parts()
    assert ours[0] == theirs[0]
    assert ours[1].keys() == theirs[1].keys()
    for name, tensor in ours[1].items():
        assert torch.equal(tensor, theirs[1][name]), name


def test_a_network_is_trained_with_the_settings_of_the_one_before(small_model, newer):
    found = retrain(small_model, newer, progress=False)

    expected = sasrec.train(newer, small_model.scorer.config, progress=False)
    assert_same(found, expected)
    assert found.items.ids.equals(newer.log.items.ids)
    assert found.record["best"]["ndcg"] == expected.record["best"]["ndcg"]
    assert found.record["data"] == newer.fingerprint


def test_a_network_of_a_device_that_is_not_here_is_trained_on_what_is_found(model_of_a_gpu, small_model, newer):
    with pytest.warns(UserWarning, match="torch finds no 'cuda' here; the network is trained on 'cpu'"):
        found = retrain(model_of_a_gpu, newer, progress=False)

    assert_same(found, retrain(small_model, newer, progress=False))


def test_an_exported_network_is_trained_with_the_settings_of_the_one_it_was_made_from(small_model, newer, tmp_path):
    sasrec.export_onnx(small_model, tmp_path / "exported", progress=False)

    found = retrain(sasrec.load(tmp_path / "exported"), newer, progress=False)

    assert found.scorer.kind == "sasrec"
    assert "export" not in found.record
    assert_same(found, retrain(small_model, newer, progress=False))


@pytest.mark.parametrize("name", ["popularity", "recent", "markov", "rules", "knn", "ease"])
def test_a_counted_model_is_counted_with_the_best_of_its_settings(name, data, newer):
    model = sasrec.count(data, name, progress=False)

    found = retrain(model, newer, progress=False)

    assert_same(found, sasrec.count(newer, name, progress=False))
    assert found.record["counted"] == name


def test_a_model_that_was_refit_is_made_again_without_the_validation_part(small_model, data, newer):
    release = sasrec.refit(small_model, data, progress=False)

    found = retrain(release, newer, progress=False)

    assert "refit" not in found.record
    assert_same(found, retrain(small_model, newer, progress=False))


def test_a_blend_is_made_of_its_parts_made_again(small_config, data, newer):
    network = sasrec.train(data, replace(small_config, initial="small"), progress=False)
    model = sasrec.blend(data, [network, "rules", "recent"], progress=False)
    names = {"sasrec": network.scorer.config, "rules": "rules", "recent": "recent"}

    found = retrain(model, newer, progress=False)

    parts = [names[name] for name in model.scorer.parts]
    assert len(parts) > 1
    made = [sasrec.train(newer, one, progress=False) if one is names["sasrec"] else one for one in parts]
    assert isinstance(found.scorer, Blend)
    assert_same(found, sasrec.blend(newer, made, progress=False))


def test_an_interrupted_retraining_gives_nothing(small_model, newer, monkeypatch):
    half_trained = SimpleNamespace(record={"stopped": "interrupted"})
    monkeypatch.setattr("sasrec.training.retraining.train", lambda *_, **__: half_trained)

    with pytest.raises(KeyboardInterrupt):
        retrain(small_model, newer, progress=False)


def test_a_blend_of_one_part_is_that_part_made_again(data, newer):
    rules = sasrec.count(data, "rules", progress=False)
    model = sasrec.Recommender.of_log(Blend({"rules": (1.0, rules.scorer)}), data.log, record={})

    assert_same(retrain(model, newer, progress=False), sasrec.count(newer, "rules", progress=False))


def test_features_are_given_where_the_model_had_some_and_nowhere_else(small_model, data, newer, tmp_path):
    import polars as pl

    kinds = pl.DataFrame({"item_id": [f"i{i:02}" for i in range(31)], "kind": ["even", "odd"] * 15 + ["even"]})
    before, now = (sasrec.read_features(kinds, one.log.items, columns=["kind"]) for one in (data, newer))
    model = sasrec.train(data, small_model.scorer.config, features=before, progress=False)

    sasrec.export_onnx(model, tmp_path / "exported", progress=False)

    found = retrain(model, newer, features=now, progress=False)

    assert_same(retrain(sasrec.load(tmp_path / "exported"), newer, features=now, progress=False), found)
    assert_same(found, sasrec.train(newer, small_model.scorer.config, features=now, progress=False))
    with pytest.raises(ConfigError, match=r"trained with them \(features: kind .*give those of now"):
        retrain(model, newer, progress=False)
    with pytest.raises(ConfigError, match="trained without them; leave them out"):
        retrain(small_model, newer, features=now, progress=False)
