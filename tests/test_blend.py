"""A blend is the weighted mean of its parts, with weights that validation alone has chosen."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError, DataError
from sasrec.evaluation.metrics import ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.blend import Blend
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Linked
from sasrec.training import blending


@pytest.fixture(scope="module")
def data(log_of):
    """120 users who walk round 40 items, each with a stride of their own: the last item alone says little."""
    rng = np.random.default_rng(5)
    walks = {
        f"u{user:03}": [f"i{(start + step * stride) % 40:02}" for step in range(length)]
        for user, (start, stride, length) in enumerate(
            zip(*rng.integers((0, 1, 6), (40, 4, 12), (120, 3)).T, strict=True)
        )
    }
    return sasrec.split(log_of(walks))


@pytest.fixture(scope="module")
def network(data, small_config):
    return sasrec.train(data, small_config, progress=False)


@pytest.fixture(scope="module")
def blended(data, network):
    return sasrec.blend(data, [network, "rules", "markov"], progress=False)


def parts_of(model):
    return {part["name"]: part for part in model.record["parts"]}


def test_scores_are_the_weighted_mean_of_roots_of_chances(network, data):
    rules = Linked.of(data.train, items=40)
    histories = Sequences.of([[1, 2, 3], [7]])

    scores = Blend({"network": (0.25, network.scorer), "rules": (0.75, rules)}).scores(histories)

    chances = np.exp(network.scorer.scores(histories).astype(np.float64))
    counted = rules.scores(histories).astype(np.float64)
    expected = 0.25 * np.sqrt(chances / chances.sum(axis=1, keepdims=True))
    expected += 0.75 * np.sqrt(counted / counted.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_the_figures_of_the_search_are_those_of_the_blend_on_validation(blended, data):
    ranks = rank_targets(blended.scorer, data.valid, exclude_seen=blended.exclude_seen).ranks

    assert blended.record["best"]["ndcg"] == pytest.approx(ndcg(ranks, 10).mean(), abs=1e-3)


def test_no_part_is_better_alone_than_the_blend_on_validation(blended):
    assert blended.record["best"]["ndcg"] >= max(part["ndcg"] for part in blended.record["parts"])


def test_weights_sum_to_one_and_parts_without_weight_are_left_out(blended):
    weights = {name: part["weight"] for name, part in parts_of(blended).items()}

    assert sum(weights.values()) == pytest.approx(1)
    assert {name: weight for name, (weight, _) in blended.scorer.parts.items()} == {
        name: weight for name, weight in weights.items() if weight > 0
    }


def test_two_weights_are_the_best_of_a_grid(data):
    rules, markov = (sasrec.count(data, name, progress=False) for name in ("rules", "markov"))

    found = sasrec.blend(data, [rules, markov], progress=False)

    def value(weight):
        scorer = Blend({"rules": (weight, rules.scorer), "markov": (1 - weight, markov.scorer)})
        return ndcg(rank_targets(scorer, data.valid, exclude_seen=rules.exclude_seen).ranks, 10).mean()

    assert found.record["best"]["ndcg"] >= max(map(value, (0.1, 0.25, 0.5, 0.75, 0.9))) - 0.005


def test_a_part_that_knows_nothing_gets_no_weight_and_that_is_said(data, capsys):
    markov = sasrec.count(data, "markov", progress=False)
    backwards = Markov.of(replace(data.train, items=data.train.items[::-1].copy()), items=40)
    useless = sasrec.Recommender.of_log(backwards, data.log, record=markov.record)

    found = sasrec.blend(data, [markov, useless], progress=True)

    assert parts_of(found)["markov"]["weight"] > 0
    said = capsys.readouterr().err
    assert "markov 2 (markov): weight 0" in said or "which may be nothing" in said
    assert parts_of(found)["markov"]["adds"]["low"] > 0


def test_what_a_part_adds_is_told_from_the_best_blend_without_it(blended, data, network):
    without = sasrec.blend(data, [network, "markov"], progress=False)

    adds = parts_of(blended)["rules"]["adds"]["difference"]

    assert adds == pytest.approx(blended.record["best"]["ndcg"] - without.record["best"]["ndcg"], abs=1e-9)


def test_the_test_part_changes_no_weight(data, network, log_of):
    histories = {user: data.of_user(user) for user in data.log.users.ids}
    changed = sasrec.split(log_of({user: [*had["train"], *had["valid"], "i00"] for user, had in histories.items()}))
    assert changed.log.items.ids.equals(data.log.items.ids)

    ours, theirs = (sasrec.blend(one, ["rules", "markov"], progress=False) for one in (data, changed))

    assert [part["weight"] for part in ours.record["parts"]] == [part["weight"] for part in theirs.record["parts"]]
    assert ours.record["best"] == theirs.record["best"]


def test_a_blend_is_saved_loaded_and_recommends_from_complete_histories(blended, data, tmp_path):
    blended.save(tmp_path / "blend")
    loaded = sasrec.load(tmp_path / "blend")

    assert loaded.record == blended.record
    assert loaded.recommend(["u001"], k=5).equals(blended.recommend(["u001"], k=5))
    assert list(loaded.histories[1]) == list(data.log.histories[1])


def test_models_of_which_weights_would_not_be_honest_are_refused(data, network, blended, small_config, walks):
    stranger = sasrec.train(sasrec.split(walks), replace(small_config, epochs=1), progress=False)
    untold = sasrec.Recommender.of_log(Popularity.of(data.train, items=40), data.log, record={})

    for models, error, words in (
        ([network], ConfigError, "a blend needs two or more, found 1"),
        ([network, blended], ConfigError, "a blend cannot be part of another"),
        ([network, stranger], DataError, "trained on another log or split"),
        ([network, untold], DataError, "does not say how"),
        ([sasrec.refit(network, data, progress=False), "rules"], ConfigError, "was refit"),
        ([network, "best"], ConfigError, "expected one of popularity, recent, markov, rules"),
    ):
        with pytest.raises(error, match=words):
            sasrec.blend(data, models, progress=False)


def test_parts_that_find_nobody_are_blended_all_the_same(data, monkeypatch):
    search = blending._Search({"a": Popularity(torch.ones(40))}, data.valid, exclude_seen=False)
    monkeypatch.setattr(blending._Search, "values", lambda *_: np.zeros(3))

    weights, _ = search.weights(["a", "b"])

    assert sum(weights.values()) == 1


def test_of_many_users_some_are_enough(data, monkeypatch):
    monkeypatch.setattr(blending, "_USERS", 50)

    found = sasrec.blend(data, ["rules", "markov"], progress=False)

    assert found.record["best"]["ndcg"] > 0


@pytest.mark.parametrize(
    "harm",
    [
        lambda config: config["parts"].clear(),
        lambda config: config["parts"][0].update(weight=0.9),
        lambda config: config["parts"][0].update(weight=-0.5),
        lambda config: config["parts"][0].update(kind="blend"),
        lambda config: config["parts"][0].update(name="rules"),
        lambda config: config["parts"][0].update(more=1),
        lambda config: config["parts"].reverse(),
        lambda config: config.update(more=1),
    ],
)
def test_parts_that_do_not_fit_are_refused(harm):
    train = Sequences.of([[0, 1, 2], [1, 2]])
    parts = {"markov": (0.5, Markov.of(train, items=3)), "rules": (0.5, Linked.of(train, items=3))}
    config, tensors = Blend(parts).to_parts()
    config = json.loads(json.dumps(config))
    harm(config)

    with pytest.raises(BundleError):
        Blend.from_parts(3, config, tensors)


def test_arrays_of_no_part_are_refused():
    config, tensors = Blend({"all": (1.0, Popularity(np.ones(3, dtype=np.float32)))}).to_parts()

    with pytest.raises(BundleError, match="do not fit each other"):
        Blend.from_parts(3, config, tensors | {"1.counts": torch.ones(3)})
