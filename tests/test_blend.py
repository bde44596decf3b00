"""A blend is the weighted mean of its parts, with weights that validation alone has chosen."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec.client import Client
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError, DataError
from sasrec.evaluation.metrics import ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.blend import Blend, NewItems
from sasrec.retrieval.content import Content
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Linked
from sasrec.training import blending
from sasrec.training.retraining import retrain


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


def test_popularity_in_a_blend_moves_no_item_among_similar_ones(data):
    rules, popular = Linked.of(data.train, items=40), Popularity.of(data.train, items=40)

    similar = Blend({"rules": (0.75, rules), "popularity": (0.25, popular)}).similarities(3)

    np.testing.assert_allclose(similar, rules.similarities(3), rtol=1e-6)


def test_both_kinds_of_popularity_have_a_name_of_their_own(data, network):
    found = sasrec.blend(data, [network, "popularity", "recent", "recent"], progress=False)

    assert [*parts_of(found)] == ["sasrec", "popularity", "recent", "recent 2"]


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


# Items that nobody had in training, ranked by content


@pytest.fixture(scope="module")
def features(data):
    """A place on a circle for each item, and the tens of its number."""
    rng = np.random.default_rng(9)
    table = pl.DataFrame(
        {
            "item_id": data.log.items.ids,
            "tens": [item[1] for item in data.log.items.ids],
            "place": np.stack([np.cos(np.arange(40) / 6), np.sin(np.arange(40) / 6)], axis=1)
            + rng.normal(0, 0.1, (40, 2)),
        }
    )
    return sasrec.read_features(table, data.log.items, columns=["tens"], vector="place")


@pytest.fixture(scope="module")
def held(data):
    return sasrec.hold_out_items(data, 0.2, seed=1)


@pytest.fixture(scope="module")
def widely(held, features):
    return sasrec.blend(held, ["rules", "markov"], features=features, progress=False)


def root_of_chances(scores, *, free):
    chances = np.exp(scores.astype(np.float64)) if free else np.maximum(scores.astype(np.float64), 0)
    return np.sqrt(chances / chances.sum(axis=1, keepdims=True))


def test_new_items_are_scored_by_content_alone_and_known_ones_by_what_knows_them(network, data, features):
    rules = Linked.of(data.train, items=40)
    content = sasrec.count(data, "content", features=features, progress=False).scorer
    histories, new, known = Sequences.of([[1, 2, 3], [7]]), [3, 30], [*range(3), *range(4, 30), *range(31, 40)]
    parts = {"sasrec": (0.25, network.scorer), "rules": (0.45, rules), "content": (0.3, content)}

    scores = Blend(parts, NewItems(np.array(new), 0.6)).scores(histories)

    odds = np.exp(8 * content.scores(histories).astype(np.float64))
    lent = np.sqrt(odds / odds[:, known].sum(axis=1, keepdims=True))  # new items take no chance from known ones
    expected = 0.6 * lent
    expected[:, known] = 0.3 * lent[:, known]
    expected[:, known] += 0.25 * root_of_chances(network.scorer.scores(histories)[:, known], free=True)
    expected[:, known] += 0.45 * root_of_chances(rules.scores(histories)[:, known], free=False)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_features_bring_content_in_and_new_items_are_those_that_nobody_had_in_training(widely, held):
    assert [part["name"] for part in widely.record["parts"]] == ["rules", "markov", "content"]
    assert widely.scorer.new.rows.tolist() == sorted({*range(40)} - {*held.train.items.tolist()})
    assert {*held.new.tolist()} <= {*widely.scorer.new.rows.tolist()}
    assert widely.record["new"]["items"] == len(widely.scorer.new.rows)
    assert widely.record["features"].startswith("features: tens")


@pytest.mark.parametrize("made", ["blended", "refit"])
def test_parts_that_share_their_features_are_saved_and_answer_alike(data, features, small_config, made, tmp_path):
    informed = sasrec.train(data, small_config, features=features, progress=False)
    model = sasrec.blend(data, [informed, "popularity"], features=features, progress=False)
    model = sasrec.refit(model, data, features=features, progress=False) if made == "refit" else model

    model.save(tmp_path / "model")

    assert {"sasrec", "content"} <= {*model.scorer.parts}
    histories = Sequences.of([[1, 2, 3], [7]])
    np.testing.assert_array_equal(
        sasrec.load(tmp_path / "model").scorer.scores(histories), model.scorer.scores(histories)
    )


def as_if_new(model, valid, weight):
    """NDCG@10 on validation, each target scored as a new item would be; by brute force."""
    scorer = Blend(model.scorer.parts, NewItems(model.scorer.new.rows, weight))
    known = np.setdiff1d(np.arange(40), model.scorer.new.rows)
    odds = np.exp(8 * model.scorer.content.scores(valid.histories).astype(np.float64))
    taken_for_new = weight * np.sqrt(odds / odds[:, known].sum(axis=1, keepdims=True))
    found = []
    for user, scores in enumerate(scorer.scores(valid.histories)):
        target = valid.targets[user]
        others = np.delete(scores, np.append(valid.histories[user], target) if model.exclude_seen else target)
        own = taken_for_new[user, target]
        rank = (others > own).sum() + (others == own).sum() / 2
        if model.exclude_seen and target in valid.histories[user]:
            rank = np.inf
        found.append(1 / np.log2(rank + 2) if rank < 10 else 0)
    return np.mean(found)


def test_new_items_weigh_as_little_as_ranks_them_as_well_as_content_does(widely, held):
    weight = widely.scorer.new.weight
    ranks = rank_targets(widely.scorer.content, held.valid, exclude_seen=widely.exclude_seen).ranks
    enough = ndcg(ranks, 10).mean()

    assert 1 / 64 < weight < 64
    assert as_if_new(widely, held.valid, weight) >= enough - 1e-6
    assert as_if_new(widely, held.valid, weight / 1.02) < enough


def test_the_figures_of_a_blend_with_new_items_are_those_of_the_whole(widely, held):
    ranks = rank_targets(widely.scorer, held.valid, exclude_seen=widely.exclude_seen).ranks
    hidden = Blend(widely.scorer.parts, NewItems(widely.scorer.new.rows, 1e-9))
    before = rank_targets(hidden, held.valid, exclude_seen=widely.exclude_seen).ranks
    known = ~np.isin(held.valid.targets, widely.scorer.new.rows)

    assert widely.record["best"]["ndcg"] == pytest.approx(ndcg(ranks, 10).mean(), abs=1e-3)
    costs = widely.record["new"]["costs"]["difference"]
    assert costs == pytest.approx((ndcg(ranks, 10) - ndcg(before, 10))[known].mean(), abs=1e-3)


def test_content_that_adds_nothing_to_known_items_stays_for_new_ones(data, features, monkeypatch):
    monkeypatch.setattr(
        blending._Search,
        "weights",
        lambda self, names: ({n: float(n == names[0]) for n in names}, self.alone(names[0])),
    )

    found = sasrec.blend(data, ["rules"], features=features, progress=False)

    assert {name: weight for name, (weight, _) in found.scorer.parts.items()} == {"rules": 1.0, "content": 0.0}


@pytest.fixture(scope="module")
def moved(data, features):
    """Features in the same words, with other vectors."""
    return replace(features, vectors=features.vectors[::-1].copy())


def test_models_of_tables_that_differ_in_their_values_alone_are_refused(data, features, moved, monkeypatch):
    models = [sasrec.count(data, "content", features=one, progress=False) for one in (features, moved)]
    monkeypatch.setattr(blending, "_Search", None)  # before anything is searched

    assert str(features) == str(moved)
    with pytest.raises(ConfigError, match="models: those of different features could not be refit together"):
        sasrec.blend(data, models, progress=False)


def test_the_table_is_that_of_the_first_model_that_tells_of_one(data, features):
    content = sasrec.count(data, "content", features=features, progress=False)
    silent = {name: value for name, value in content.record.items() if name != "item_table"}
    older = sasrec.Recommender.of_log(content.scorer, data.log, record=silent)

    record = sasrec.blend(data, [older, content], progress=False).record

    assert {name: record[name] for name in ("features", "item_table")} == features.record()


def test_features_that_a_given_model_was_not_made_with_are_refused(data, network, features, moved):
    content = sasrec.count(data, "content", features=features, progress=False)

    with pytest.raises(ConfigError, match="features: a content was made with others; give those that"):
        sasrec.blend(data, [content, "rules"], features=moved, progress=False)
    with pytest.raises(DataError, match="features are of 30 items, the log has 40"):
        sasrec.blend(data, [content, network], features=features.take(np.arange(30)), progress=False)


def test_content_is_no_part_without_features(data):
    with pytest.raises(ConfigError, match="features: content ranks by what items are"):
        sasrec.blend(data, ["rules", "content"], progress=False)


def test_a_blend_with_new_items_is_saved_loaded_and_answers_alike(widely, tmp_path):
    widely.save(tmp_path / "blend")
    loaded = sasrec.load(tmp_path / "blend")

    assert loaded.record == json.loads(json.dumps(widely.record))
    assert loaded.recommend(["u001", "u002"], k=40).equals(widely.recommend(["u001", "u002"], k=40))
    assert loaded.similar("i03", k=39).equals(widely.similar("i03", k=39))


def test_what_is_similar_to_new_items_is_what_content_says(widely):
    new = int(widely.scorer.new.rows[0])
    content = widely.scorer.content

    assert np.array_equal(widely.scorer.similarities(new), content.similarities(new))
    others = [row for row in range(40) if row not in widely.scorer.new.rows]
    for row in others[:5]:
        assert widely.scorer.similarities(row)[new] == content.similarities(row)[new]


def test_after_a_refit_items_that_validated_are_known(widely, held, features):
    model = sasrec.refit(widely, held, features=features, progress=False)
    again = model.scorer

    assert model.record["new"]["items"] == len(again.new.rows)
    assert again.new.rows.tolist() == sorted({*range(40)} - {*held.refit.train.items.tolist()})
    assert again.new.weight == widely.scorer.new.weight
    assert again.parts.keys() == widely.scorer.parts.keys()


def test_a_blend_with_content_is_made_again_with_weights_of_its_own(widely, data, features):
    found = retrain(widely, data, features=features, progress=False)

    expected = sasrec.blend(data, [*widely.scorer.parts], features=features, progress=False)
    assert found.record["parts"] == expected.record["parts"]
    assert found.record["new"] == expected.record["new"]
    with pytest.raises(ConfigError, match="give those of now"):
        retrain(widely, data)


@pytest.mark.parametrize("counted", [("rules", "markov"), ("knn", "popularity"), ("ease", "recent")])
def test_items_are_added_to_a_blend_with_content_and_known_ones_keep_their_order(network, data, features, counted):
    table = pl.DataFrame({"item_id": ["a new", "i09 new", "z new"], "tens": ["3", "0", "1"], "place": [[1.0, 0.2]] * 3})
    made = sasrec.blend(data, [network, *counted], features=features, progress=False)

    wider = sasrec.add_items(made, table)

    assert wider.items.raw(wider.scorer.new.rows).to_list() == ["a new", "i09 new", "z new"]
    history = ["i03", "i14", "i15"]
    before, after = (one.score(history, made.items.ids)["score"].to_numpy() for one in (made, wider))
    old = wider.items.rows(made.items.ids)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    odds = np.exp(8 * wider.scorer.content.scores(Sequences.of([wider.items.rows(history)]))[0].astype(np.float64))
    lent = np.sqrt(odds / odds[old].sum())
    added = wider.score(history, ["a new", "i09 new", "z new"])["score"].to_numpy()
    rows = wider.items.rows(["a new", "i09 new", "z new"])
    np.testing.assert_allclose(added, made.scorer.new.weight * lent[rows], rtol=1e-4)
    assert wider.histories.items.tolist() == old[made.histories.items].tolist()


def test_a_blend_without_content_can_take_no_items(blended):
    with pytest.raises(ConfigError, match="blend the same with 'content' among them"):
        sasrec.add_items(blended, pl.DataFrame({"item_id": ["new"], "tens": ["1"]}))


def test_a_report_of_a_blend_with_content_tells_new_targets_apart(widely, held):
    report = sasrec.evaluate(widely, held)

    assert [row.model for row in report.rows] == ["Blend (this model)", "Content", "Rules", "Markov", "Popularity"]
    assert "new targets" in report.groups()


def test_a_server_answers_by_a_blend_with_new_items_and_by_its_content(widely, serving, tmp_path):
    widely.save(tmp_path / "blend")
    with serving(sasrec.load(tmp_path / "blend"), data=tmp_path / "data") as running, Client(running.url) as client:
        whole = client.recommend(history=["i03", "i14"], k=40)
        part = client.recommend(history=["i03", "i14"], k=40, scorer="content")

    assert [one.item for one in whole.items] == widely.continue_from(["i03", "i14"], k=40)["item_id"].to_list()
    scores = widely.scorer.content.scores(Sequences.of([widely.items.rows(["i03", "i14"])]))[0]
    assert {one.item: one.score for one in part.items} == pytest.approx(
        {item: float(scores[row]) for row, item in enumerate(widely.items.ids) if item not in ("i03", "i14")}, abs=1e-6
    )


@pytest.mark.parametrize(
    "harm",
    [
        lambda config, _: config.pop("new"),
        lambda config, _: config.update(new=0.0),
        lambda config, _: config.update(new=float("inf")),
        lambda config, _: config["parts"][0].update(weight=0.0),
        lambda config, _: config["parts"][0].update(name="new"),
        lambda config, _: config["parts"].pop(1),
        lambda _, tensors: tensors.pop("new"),
        lambda _, tensors: tensors.update(new=torch.tensor([2, 1])),
        lambda _, tensors: tensors.update(new=torch.tensor([1, 40])),
        lambda _, tensors: tensors.update(new=torch.tensor([-1, 4])),
        lambda _, tensors: tensors.update(new=torch.tensor([[1], [4]])),
        lambda _, tensors: tensors.update(new=torch.tensor([1.0, 4.0])),
    ],
)
def test_new_items_that_do_not_fit_are_refused(widely, data, harm):
    parts = {"rules": (1.0, Linked.of(data.train, items=40)), "content": (0.0, widely.scorer.content)}
    config, tensors = Blend(parts, NewItems(np.array([1, 4]), 0.5)).to_parts()
    config = json.loads(json.dumps(config))
    harm(config, tensors)

    with pytest.raises(BundleError):
        Blend.from_parts(40, config, tensors)


def test_what_one_user_shows_may_be_nothing(log_of, capsys):
    data = sasrec.split(log_of({"u": ["a", "b", "c", "a", "b", "c"], "v": ["d", "e"]}))

    sasrec.blend(data, ["rules", "popularity"], progress=True)

    assert "(-1.0000 to +1.0000) to the others, which may be nothing" in capsys.readouterr().err


@pytest.mark.parametrize("popularity", [0.0, 0.5])
def test_popularity_in_a_blend_moves_no_new_item_among_similar_ones(popularity):
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    told = {"vectors": torch.tensor(vectors, dtype=torch.float32), "features": None, "values": 0}
    content = Content.of(told, items=4)
    parts = {"content": (1 - popularity, content), "popularity": (popularity, Popularity(np.ones(4, np.float32)))}

    similar = Blend(parts, NewItems(np.array([2]), 1.0)).similarities(0)

    np.testing.assert_allclose(similar, [1.0, 1.0, 0.6, 0.0], atol=1e-6)
