"""Likeness of items by what they are, against NumPy: scored, counted, saved, served and made again."""

import json

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
from sasrec.retrieval.content import Content, Recency, feature_tensors
from sasrec.training.retraining import retrain

VALUES = [[0, 2], [2], [], [1, 2, 3], [0, 1]]
HISTORIES = [[0], [3, 1], [2, 2, 4, 0]]


def unit(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def by_vectors():
    return np.random.default_rng(2).normal(size=(5, 3)) * np.array([[1], [1], [0], [5], [0]])


def by_categories():
    table = np.array([[value in own for value in range(4)] for own in VALUES], dtype=float)
    return table * np.log(5 / table.sum(axis=0))


def told_of(kinds):
    rows = torch.tensor(np.concatenate(VALUES).astype(np.int64))
    return {
        "features": (rows, torch.tensor([0, *np.cumsum([len(own) for own in VALUES])]))
        if "categories" in kinds
        else None,
        "values": 4 if "categories" in kinds else 0,
        "vectors": torch.tensor(by_vectors(), dtype=torch.float32) if "vectors" in kinds else None,
    }


@pytest.mark.parametrize("kinds", [("vectors",), ("categories",), ("vectors", "categories")])
@pytest.mark.parametrize(("last", "decay"), [(50, 0.65), (2, 0.5), (1, 1.0)])
def test_a_score_is_the_cosine_to_the_weighted_mean_of_the_last_items(kinds, last, decay):
    rows = {"vectors": by_vectors(), "categories": by_categories()}
    items = unit(np.concatenate([unit(rows[kind]) for kind in kinds], axis=1))

    scores = Content.of(told_of(kinds), items=5, settings=Recency(last=last, decay=decay)).scores(
        Sequences.of(HISTORIES)
    )

    for row, history in enumerate(HISTORIES):
        state = sum(decay**age * items[item] for age, item in enumerate(history[::-1][:last]))
        length = np.linalg.norm(state)
        expected = items @ state / length if length else np.zeros(5)
        np.testing.assert_allclose(scores[row], expected, rtol=1e-5, atol=1e-6)


def test_items_alike_in_both_ways_have_the_mean_of_both_cosines():
    content = Content.of(told_of(("vectors", "categories")), items=5)

    similar = content.similarities(0)

    cosines = [unit(rows) @ unit(rows)[0] for rows in (by_vectors(), by_categories())]
    np.testing.assert_allclose(similar[[1, 3]], np.mean(cosines, axis=0)[[1, 3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ({"last": 0}, {}),
        ({"decay": 2.0}, {}),
        ({"more": 1}, {}),
        ({}, {"worth": None, "feature_rows": None, "feature_offsets": None, "vectors": None}),
        ({}, {"worth": torch.full((4,), -1.0)}),
        ({}, {"worth": torch.tensor([1.0, 1.0, float("nan"), 1.0])}),
        ({}, {"worth": torch.ones(3)}),  # a value more is named
        ({}, {"worth": torch.ones(2, 2)}),
        ({}, {"worth": torch.empty(0)}),
        ({}, {"feature_rows": None}),
        ({}, {"feature_offsets": torch.tensor([0, 2, 3, 3, 6, 9])}),
        ({}, {"feature_offsets": torch.tensor([0, 2**62, -(2**62), 3, 6, 8])}),
        ({}, {"vectors": torch.ones(4, 3)}),
        ({}, {"vectors": torch.full((5, 3), float("inf"))}),
        ({}, {"vectors": torch.ones(5, 3, dtype=torch.float64)}),
        ({}, {"more": torch.ones(1)}),
    ],
)
def test_what_does_not_fit_is_refused(config, tensors):
    own, arrays = Content.of(told_of(("vectors", "categories")), items=5).to_parts()
    arrays = {name: tensor for name, tensor in {**arrays, **tensors}.items() if tensor is not None}

    with pytest.raises(BundleError):
        Content.from_parts(5, {**own, **config}, arrays)


# Counted from a table of items


@pytest.fixture(scope="module")
def table(walks):
    """A category and a vector of the 25 items of `walks`, and of three more."""
    ids = [*walks.items.ids, "new a", "new b", "new c"]
    rng = np.random.default_rng(5)
    return pl.DataFrame(
        {
            "item_id": ids,
            "colour": [["red", "green", "blue", "grey"][row % 4] for row in range(len(ids))],
            "text": rng.normal(1.0, 2.0, (len(ids), 4)),
        }
    )


@pytest.fixture(scope="module")
def features(walks, table):
    return sasrec.read_features(table, walks.items, columns=["colour"], vector="text")


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def model(data, features):
    return sasrec.count(data, "content", features=features, progress=False)


def test_the_best_settings_by_validation_are_kept_and_everything_tried_is_told(model, data, features):
    tried = model.record["tried"]

    assert [(one["last"], one["decay"]) for one in tried] == [(n, d) for n in (3, 10) for d in (0.5, 0.65, 0.8)]
    for one in tried:
        settings = Recency(last=one["last"], decay=one["decay"])
        scorer = Content.of(feature_tensors(features), items=25, settings=settings)
        ranks = rank_targets(scorer, data.valid, exclude_seen=model.exclude_seen).ranks
        assert one["ndcg"] == pytest.approx(ndcg(ranks, 10).mean())
    assert model.record["best"] == max(tried, key=lambda one: one["ndcg"])
    assert model.scorer.settings == Recency(**{name: model.record["best"][name] for name in ("last", "decay")})


def test_events_change_nothing_but_the_choice_of_settings(model, data, features):
    again = sasrec.refit(model, data, features=features, progress=False)

    assert again.record["refit"]["events"] > len(data.train.items)
    for name, tensor in model.scorer.to_parts()[1].items():
        assert torch.equal(tensor, again.scorer.to_parts()[1][name])


def test_content_without_a_table_and_a_table_without_content_are_refused(data, features, model, log_of):
    other = sasrec.split(log_of({user: list("abcd") for user in "xyz"}))

    with pytest.raises(ConfigError, match="features: content ranks by what items are, which a table of items tells"):
        sasrec.count(data, "content")
    with pytest.raises(ConfigError, match="features: 'rules' knows items by who had them alone"):
        sasrec.count(data, "rules", features=features)
    with pytest.raises(DataError, match="features are of 25 items, the log has 4"):
        sasrec.count(other, "content", features=features)
    with pytest.raises(ConfigError, match="features: a refit needs those that the model was trained with"):
        sasrec.refit(model, data)
    with pytest.raises(ConfigError, match=r"trained with them \(features: colour .*give those of now"):
        retrain(model, data)


def test_it_is_made_again_of_newer_data(model, table, log_of):
    rng = np.random.default_rng(3)
    newer = log_of({f"v{u}": table["item_id"].gather(rng.integers(0, 28, 4 + u % 9)).to_list() for u in range(40)})
    told = sasrec.read_features(table, newer.items, columns=["colour"], vector="text")

    found = retrain(model, sasrec.split(newer), features=told, progress=False)

    expected = sasrec.count(sasrec.split(newer), "content", features=told, progress=False)
    assert found.record["tried"] == expected.record["tried"]
    assert found.recommend(["v3"], k=5).equals(expected.recommend(["v3"], k=5))


def test_added_items_are_ranked_by_what_they_are_and_known_ones_keep_their_scores(model, table, walks, tmp_path):
    wider = sasrec.add_items(model, table)
    wider.save(tmp_path / "wider")
    loaded = sasrec.load(tmp_path / "wider")
    history = ["i03", "i14"]

    known = loaded.score(history, walks.items.ids)["score"]
    twin = table.tail(1).with_columns(item_id=pl.lit("twin"))
    twins = sasrec.add_items(loaded, twin).score(["i03", "new c"], ["new c", "twin"])["score"]

    assert loaded.items.ids.to_list() == sorted(table["item_id"])
    assert known.equals(model.score(history, walks.items.ids)["score"])
    assert twins[0] == pytest.approx(twins[1], rel=1e-5)
    assert loaded.similar("new a", k=27)["score"].is_between(-1.00001, 1.00001).all()


def test_a_report_tells_new_targets_apart_and_shows_it_once(walks, features):
    held = sasrec.hold_out_items(sasrec.split(walks), 0.2, seed=4)
    made = sasrec.count(held, "content", features=features, progress=False)

    report = sasrec.evaluate(made, held)

    assert [row.model for row in report.rows] == ["Content (this model)", "Rules", "Markov", "Popularity"]
    assert [*report.groups()] == ["new targets", "other targets"]


def test_a_server_answers_by_it(model, serving, tmp_path):
    with serving(model, data=tmp_path / "data") as running, Client(running.url) as client:
        found = client.recommend(history=["i03", "i14"], k=4)
        told = client.explain(found.items[0].item, history=["i03", "i14"])
        scorers = client.model().scorers

    expected = model.continue_from(["i03", "i14"], k=4)
    assert [one.item for one in found.items] == expected["item_id"].to_list()
    assert [event.item for event in told.events] == ["i03", "i14"]
    assert told.rank == 1
    assert scorers == ["content", "markov", "popularity"]


# On the command line


def test_it_is_counted_widened_refit_and_told_of_on_the_command_line(walks, table, tmp_path, capsys):
    from sasrec.cli import main

    users = walks.users.raw(walks.histories.owners())
    pl.DataFrame({"user_id": users, "item_id": walks.items.raw(walks.histories.items)}).write_csv(tmp_path / "log.csv")
    table.write_parquet(tmp_path / "items.parquet")
    log, items, made, wider, blend, again = (
        str(tmp_path / name) for name in ("log.csv", "items.parquet", "made", "wider", "blend", "again")
    )
    given = ["--features", items, "--vector", "text", "--feature", "colour"]
    held = ["--time", "", "--new-items", "0.2", "--new-seed", "4"]

    codes = [
        main(["count", log, "--model", "content", *given, *held, "--out", made]),
        main(["add-items", made, items, "--out", wider]),
        main(["blend", log, made, *given, "--out", blend]),
        main(["refit", blend, log, *given, "--out", again]),
        main(["evaluate", again, log]),
        main(["info", blend]),
    ]
    said = " ".join(capsys.readouterr().out.split())

    assert codes == [0] * 6
    assert "added 3 items to 25" in said
    assert "new items (5 in the catalogue): by content alone, times" in said
    assert json.loads((tmp_path / "again" / "config.json").read_text())["new"] > 0
    assert main(["count", log, "--model", "content", "--out", str(tmp_path / "none")]) == 2
    assert "--model content ranks by what items are; pass --features FILE" in capsys.readouterr().err
