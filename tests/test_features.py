"""Categories of items: read from every shape, summed into item vectors, kept with the model."""

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, DataError
from sasrec.retrieval.neural import Neural

ITEMS = Vocabulary(pl.Series(["a", "b", "c"]), "item")


def by_item(features):
    return [
        [features.values[row] for row in features.rows[start:stop]]
        for start, stop in zip(features.offsets, features.offsets[1:], strict=False)
    ]


def test_a_column_for_each_feature_is_read_with_lists_and_separated_texts_as_several_values():
    frame = pl.DataFrame(
        {
            "item_id": ["c", "a", "x", "b"],
            "genre": ["War | Drama", "War", "Noir", None],
            "cast": [["Ann"], ["Bob", "Ann"], ["Eve"], []],
            "year": [1990, 1991, 1992, 1990],
        }
    )

    features = sasrec.read_features(frame, ITEMS, columns=["genre", "cast", "year"], separator="|")

    assert by_item(features) == [
        [("cast", "Ann"), ("cast", "Bob"), ("genre", "War"), ("year", "1991")],
        [("year", "1990")],
        [("cast", "Ann"), ("genre", "Drama"), ("genre", "War"), ("year", "1990")],
    ]
    assert str(features) == "features: cast (2 values), genre (2 values), year (2 values); 0 of 3 items have none"


@pytest.mark.parametrize(("columns", "expected"), [((), 3), (("genre",), 2)])
def test_a_row_for_each_value_is_read_as_rectools_has_it(columns, expected):
    frame = pl.DataFrame(
        {
            "id": ["a", "a", "b", "x"],
            "feature": ["genre", "maker", "genre", "genre"],
            "value": ["War", "Z", "Art", "No"],
        }
    )

    features = sasrec.read_features(frame, ITEMS, columns=columns)

    assert len(features.values) == expected
    assert by_item(features)[2] == []


def test_text_of_a_file_meets_integer_ids(tmp_path):
    (tmp_path / "items.csv").write_text("movieId,genre\n10,War\n9,Art\n")

    features = sasrec.read_features(tmp_path / "items.csv", Vocabulary(pl.Series([9, 10]), "item"), columns=["genre"])

    assert by_item(features) == [[("genre", "Art")], [("genre", "War")]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ((), "name the columns that hold categories; there are genre"),
        (("gendre",), "no column 'gendre'; columns are item_id, genre"),
    ],
)
def test_a_column_that_is_not_there_is_named(columns, words):
    with pytest.raises(DataError, match=words):
        sasrec.read_features(pl.DataFrame({"item_id": ["a"], "genre": ["War"]}), ITEMS, columns=columns)


def test_a_file_of_other_items_is_refused():
    with pytest.raises(DataError, match="no item of the log has a value there; its ids are like 'a'"):
        sasrec.read_features(pl.DataFrame({"item_id": ["q"], "genre": ["War"]}), ITEMS, columns=["genre"])


def test_features_of_another_catalogue_are_refused(walks):
    features = sasrec.read_features(pl.DataFrame({"item_id": ["a"], "genre": ["War"]}), ITEMS, columns=["genre"])

    with pytest.raises(DataError, match=r"features are of 3 items, the log has 25; read them for log\.items"):
        sasrec.train(sasrec.split(walks), features=features)


@pytest.fixture(scope="module")
def model(walks, small_config):
    ids = walks.items.ids.to_list()
    frame = pl.DataFrame(
        {"item_id": ids[:-1], "tens": [one[1] for one in ids[:-1]], "odd": [int(one[2]) % 2 for one in ids[:-1]]}
    )
    features = sasrec.read_features(frame, walks.items, columns=["tens", "odd"])
    return sasrec.train(sasrec.split(walks), small_config, features=features), features


def test_an_items_vector_is_its_own_plus_those_of_its_values(model):
    network, features = model[0].scorer.network, model[1]
    own, values = network.items.weight.detach(), network.items.values.detach()

    found = network.items().detach()

    for item, pairs in enumerate(by_item(features)):
        expected = own[item] + sum((values[features.values.index(pair)] for pair in pairs), torch.zeros(8))
        torch.testing.assert_close(found[item], expected)
    assert torch.equal(found[-1], own[-1])


def test_vectors_of_values_are_learned(model, walks, small_config):
    start = sasrec.train(
        sasrec.split(walks),
        sasrec.Config(**small_config.to_dict() | {"epochs": 1, "learning_rate": 1e-9}),
        features=model[1],
    )

    moved = (model[0].scorer.network.items.values - start.scorer.network.items.values).abs().amax(dim=1)

    assert (moved > 1e-4).all()


def test_a_model_with_features_answers_alike_after_saving(model, tmp_path):
    model[0].save(tmp_path / "m")

    loaded = sasrec.load(tmp_path / "m")

    assert loaded.recommend(["u03", "u14"]).equals(model[0].recommend(["u03", "u14"]))
    assert loaded.similar("i03").equals(model[0].similar("i03"))
    assert "tens (3 values)" in loaded.record["features"]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("items.feature_rows", lambda rows: rows + 100),
        ("items.feature_rows", lambda rows: rows - 100),
        ("items.feature_rows", lambda rows: rows.float()),
        ("items.feature_offsets", lambda offsets: offsets.flip(0)),
        ("items.feature_offsets", lambda offsets: offsets[1:]),
        ("items.feature_offsets", lambda offsets: offsets + 1),
    ],
)
def test_features_that_point_nowhere_are_refused(model, name, broken):
    config, tensors = model[0].scorer.to_parts()

    with pytest.raises(BundleError, match="the features of items point beyond their values"):
        Neural.from_parts(len(model[0].items), config, tensors | {name: broken(tensors[name])})


def test_the_command_line_trains_with_features(walks, tmp_path, capsys):
    from sasrec.cli import main

    users = walks.users.raw(walks.histories.owners())
    pl.DataFrame({"user_id": users, "item_id": walks.items.raw(walks.histories.items)}).write_csv(tmp_path / "log.csv")
    pl.DataFrame({"item_id": walks.items.ids, "kind": ["x y"] * 25}).write_csv(tmp_path / "items.csv")
    typed = [str(tmp_path / "log.csv"), "--time", "", "--out", str(tmp_path / "m"), "--epochs", "1", "--width", "8"]

    code = main(["train", *typed, "--features", str(tmp_path / "items.csv"), "--feature", "kind", "--separator", " "])

    assert code == 0
    assert "features: kind (2 values); 0 of 25 items have none" in capsys.readouterr().out
    assert np.isfinite(sasrec.load(tmp_path / "m").recommend(["u03"])["score"].to_numpy()).all()
    assert main(["train", *typed, "--feature", "kind", "--replace"]) == 2
    assert "pass --features FILE" in capsys.readouterr().err
