"""Categories of items: read from every shape, summed into item vectors, kept with the model."""

import os

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, DataError
from sasrec.retrieval.neural import Neural
from sasrec.training.beginning import begin
from sasrec.training.settling import settled

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
    assert (
        repr(features)
        == str(features)
        == "features: cast (2 values), genre (2 values), year (2 values); 0 of 3 items have none"
    )


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
        ((), "name the columns that hold categories or vectors; there are genre"),
        (("gendre",), "no column 'gendre'; columns are item_id, genre"),
    ],
)
def test_a_column_that_is_not_there_is_named(columns, words):
    with pytest.raises(DataError, match=words):
        sasrec.read_features(pl.DataFrame({"item_id": ["a"], "genre": ["War"]}), ITEMS, columns=columns)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[["a"]], [["b"]], []], r"List\(String\)+"),
        ([b"a", b"\xff", None], "Binary"),
        (pl.Series([object(), object(), None], dtype=pl.Object), "Object"),
    ],
)
def test_values_that_have_no_text_are_refused_with_their_column(values, words):
    wide = pl.DataFrame({"item_id": ["a", "b", "c"], "kind": values})
    long = pl.DataFrame({"id": ["a", "b", "c"], "feature": ["kind"] * 3, "value": values})

    with pytest.raises(DataError, match=f"frame, column 'kind': {words} cannot be read as text; convert it"):
        sasrec.read_features(wide, ITEMS, columns=["kind"])
    with pytest.raises(DataError, match=f"frame, column 'value': .*{words} cannot be read as text; convert it"):
        sasrec.read_features(long, ITEMS)


def test_an_array_of_values_is_read_like_a_list_of_them():
    values = pl.Series([["x", "y"], ["y", None], None], dtype=pl.Array(pl.String, 2))

    features = sasrec.read_features(pl.DataFrame({"item_id": ["a", "b", "c"], "kind": values}), ITEMS, columns=["kind"])

    assert by_item(features) == [[("kind", "x"), ("kind", "y")], [("kind", "y")], []]


@pytest.mark.parametrize("columns", [["kind", "kind"], ["item_id"]])
def test_a_column_that_is_wanted_twice_is_refused(columns):
    with pytest.raises(DataError, match=f"column '{columns[0]}' is wanted more than once; name it once"):
        sasrec.read_features(pl.DataFrame({"item_id": ["a"], "kind": ["x"]}), ITEMS, columns=columns)


def test_ids_are_no_values():
    frame = pl.DataFrame({"id": ["a"], "feature": ["kind"], "value": ["x"]})

    with pytest.raises(DataError, match="column 'value' is wanted more than once; name it once, and not the ids'"):
        sasrec.read_features(frame, ITEMS, item="value")


def test_ids_that_gaps_made_floats_are_those_of_the_log():
    frame = pd.DataFrame({"item_id": [10.0, None, 9.0], "kind": ["x", "y", "z"], "v0": [1.0, 2.0, 3.0]})

    found = sasrec.read_features(frame, Vocabulary(pl.Series([9, 10]), "item"), columns=["kind"], vector="v")

    assert by_item(found) == [[("kind", "z")], [("kind", "x")]]
    assert found.vectors[:, 0].tolist() == [1.0, -1.0]


def test_a_frame_without_names_of_columns_is_refused():
    with pytest.raises(DataError, match="the names of columns must be text, found 0"):
        sasrec.read_features(pd.DataFrame([["a", "x"]]), ITEMS, columns=["kind"])


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


# Vectors


@pytest.fixture(scope="module")
def given(walks):
    """A vector of five numbers for all items but the last, whose mean is far from 0."""
    ids = walks.items.ids.to_list()[:-1]
    return pl.DataFrame({"item_id": ids, "text": np.random.default_rng(3).normal(4.0, 2.0, (len(ids), 5))})


@pytest.fixture(scope="module")
def told(walks, small_config, given):
    """A model with vectors and categories."""
    table = given.with_columns(odd=pl.col("item_id").str.slice(2).cast(pl.Int64) % 2)
    features = sasrec.read_features(table, walks.items, columns=["odd"], vector="text")
    return sasrec.train(sasrec.split(walks), small_config, features=features), features


def test_vectors_are_centred_and_divided_by_one_number(walks, given):
    raw = given["text"].to_numpy()
    from_mean = raw - raw.mean(axis=0)

    features = sasrec.read_features(given, walks.items, vector="text")

    expected = from_mean / np.sqrt((from_mean**2).sum() / len(raw))
    np.testing.assert_allclose(features.vectors[:-1], expected, rtol=1e-5, atol=1e-6)
    assert not features.vectors[-1].any()
    assert str(features) == "features: vectors of 5 numbers (text); 1 of 25 items have none"


def spelt_out(given, folder, shape):
    """The same vectors in another kind of table, and the name of their column there."""
    raw = given["text"].to_numpy()
    columns = {f"v{place}": raw[:, place] for place in range(5)}
    if shape == "pandas":
        return pytest.importorskip("pandas").DataFrame({"item_id": given["item_id"], "text": list(raw)}), "text"
    if shape == "pyarrow":
        return given.with_columns(pl.col("text").cast(pl.List(pl.Float64))).to_arrow(), "text"
    path = folder / f"items.{shape}"
    if shape == "npy":
        np.save(path, raw)
        path.with_suffix(".ids").write_text("\n".join(given["item_id"]))
        return path, None
    if shape == "parquet":
        given.write_parquet(path)
        return path, "text"
    pl.DataFrame({"item_id": given["item_id"], **columns}).write_csv(path)
    return path, "v"


@pytest.mark.parametrize("shape", ["parquet", "csv", "npy", "pandas", "pyarrow"])
def test_vectors_are_the_same_from_every_kind_of_table(walks, given, tmp_path, shape):
    table, name = spelt_out(given, tmp_path, shape)

    found = sasrec.read_features(table, walks.items, vector=name)

    np.testing.assert_array_equal(found.vectors, sasrec.read_features(given, walks.items, vector="text").vectors)


def test_more_numbered_columns_than_ten_are_in_the_order_of_their_numbers(walks):
    columns = {f"v{place}": [float(place == row) for row in range(25)] for place in reversed(range(12))}

    found = sasrec.read_features(pl.DataFrame({"item_id": walks.items.ids, **columns}), walks.items, vector="v")

    assert found.vectors.argmax(axis=1)[:12].tolist() == list(range(12))


LISTS = pl.List(pl.Float64)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [[1.0], [2.0], [3.0]]}, "no column 'text', nor columns text0, text1, ...; columns are x"),
        ({"text": [[1.0], [2.0, 3.0], [4.0]]}, "those of 'text' have 1 and 2"),
        ({"text": pl.Series([[], [], []], dtype=LISTS)}, "from 1 to 65,536; those of 'text' have 0"),
        ({"text": [[0.0] * 65_537] * 3}, "those of 'text' have 65,537"),
        ({"text": [[1.0], [float("nan")], [3.0]]}, "the vector of item 'b' holds what is no finite number"),
        ({"text": [[1.0], [float("inf")], [3.0]]}, "the vector of item 'b' holds what is no finite number"),
        ({"text": [[1.0], [None], [3.0]]}, "the vector of item 'b' holds what is no finite number"),
        ({"text": [[1.0], [1e30], [3.0]]}, r"or one beyond 1e\+18"),
        ({"text": ["[1, 2]", "[3, 4]", "[5, 6]"]}, "holds String, not lists of numbers"),
        ({"text": [["x"], ["y"], ["z"]]}, r"holds List\(String\), not lists of numbers"),
        ({"text": [[1.0], [1.0], [1.0]]}, "all vectors of 'text' are the same"),
        ({"text": pl.Series([None, None, None], dtype=LISTS)}, "no item of the log has a vector there"),
        ({"text0": [1.0, 2.0, 3.0], "text2": [1.0, 2.0, 3.0]}, "not numbered from 0 without gaps: no 'text1'"),
        ({"text0": ["1", "two", "3"]}, "the vector of item 'b' holds what is no finite number"),
        ({"feature": ["g", "g", "g"], "value": ["x", "y", "z"]}, "no column 'text', nor columns text0"),
    ],
)
def test_vectors_that_are_none_are_refused(columns, words):
    with pytest.raises(DataError, match=words):
        sasrec.read_features(pl.DataFrame({"item_id": ["a", "b", "c"], **columns}), ITEMS, vector="text")


def test_an_item_with_two_vectors_is_refused():
    frame = pl.DataFrame({"item_id": ["a", "b", "a"], "text": [[1.0], [2.0], [3.0]]})

    with pytest.raises(DataError, match="item 'a' has several vectors"):
        sasrec.read_features(frame, ITEMS, vector="text")


@pytest.mark.parametrize(
    ("array", "ids", "words"),
    [
        (np.zeros((2, 3)), "a\n", "1 ids for the 2 rows"),
        (np.zeros(3), "a\nb\nc\n", r"expected rows of numbers, found shape \(3,\)"),
        (np.array([["x"], ["y"]]), "a\nb\n", "expected rows of numbers"),
        (np.array([[{}], [{}]]), "a\nb\n", "cannot be read as an array"),
        (np.zeros((2, 3)), None, "no such file"),
    ],
)
def test_an_array_that_is_none_is_refused(tmp_path, array, ids, words):
    np.save(tmp_path / "items.npy", array)
    if ids is not None:
        (tmp_path / "items.ids").write_text(ids)

    with pytest.raises(DataError, match=words):
        sasrec.read_features(tmp_path / "items.npy", ITEMS)


@pytest.mark.parametrize(
    "shape",
    ["(3", "(99999999999999999999999, 4)", "(2, 4611686018427387904)", "(2, -4)", "(True, 4)", "(" * 3000, "[" * 8000],
    ids=lambda shape: shape[:20],
)
def test_an_array_whose_header_says_what_none_can_be_is_refused(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}{'}' if ')' in shape else ''}".encode()
    (tmp_path / "items.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(640))
    (tmp_path / "items.ids").write_text("a\nb\n")

    with pytest.raises(DataError, match="cannot be read as an array with its ids"):
        sasrec.read_features(tmp_path / "items.npy", ITEMS)


def test_several_arrays_in_one_file_are_none(tmp_path):
    with (tmp_path / "items.npy").open("wb") as file:
        np.savez(file, np.eye(3))
    (tmp_path / "items.ids").write_text("a\nb\nc\n")

    with pytest.raises(DataError, match="cannot be read as an array with its ids"):
        sasrec.read_features(tmp_path / "items.npy", ITEMS)


@pytest.mark.parametrize("name", ["items.npy", "items.ids"])
def test_a_pipe_in_the_place_of_an_array_or_its_ids_is_refused_without_waiting_for_it(tmp_path, name):
    np.save(tmp_path / "items.npy", np.eye(3))
    (tmp_path / "items.npy").with_suffix(".ids").write_text("a\nb\nc\n")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)

    with pytest.raises(DataError, match="not a regular file"):
        sasrec.read_features(tmp_path / "items.npy", ITEMS)


def test_a_byte_order_mark_before_the_ids_of_an_array_is_none_of_them(tmp_path):
    np.save(tmp_path / "items.npy", np.eye(3))
    (tmp_path / "items.ids").write_text("\ufeffa\nb\nc\n", encoding="utf-8")

    assert sasrec.read_features(tmp_path / "items.npy", ITEMS).known.all()


def test_ids_are_no_vectors():
    with pytest.raises(DataError, match="column 'item_id' cannot be both item ids and vectors"):
        sasrec.read_features(pl.DataFrame({"item_id": ["a"]}), ITEMS, vector="item_id")


def test_an_array_that_promises_more_than_it_holds_takes_no_memory(tmp_path):
    np.save(tmp_path / "items.npy", np.zeros((2, 3)))
    whole = (tmp_path / "items.npy").read_bytes()
    (tmp_path / "items.npy").write_bytes(whole.replace(b"(2, 3)", b"(2, 9000000000000)"))
    (tmp_path / "items.ids").write_text("a\nb\n")

    with pytest.raises(DataError, match="cannot be read as an array"):
        sasrec.read_features(tmp_path / "items.npy", ITEMS)


def expected_vectors(network, features):
    """What the items' vectors should be, in float64 by NumPy."""
    parts = {name: tensor.detach().double().numpy() for name, tensor in network.items.state_dict().items()}
    own = parts["weight"] + features.vectors.astype(np.float64) @ parts["projection"]
    for item, pairs in enumerate(by_item(features)):
        own[item] += sum(parts["values"][features.values.index(pair)] for pair in pairs)
    return own


def test_an_items_vector_is_its_own_plus_its_values_plus_the_projection_of_what_was_given(told):
    network, features = told[0].scorer.network, told[1]

    found = network.items().numpy()

    np.testing.assert_allclose(found, expected_vectors(network, features), rtol=1e-4, atol=1e-6)
    assert network.items.projection.detach().abs().max() > 0.03, "the projection has learned nothing"


def test_a_model_with_vectors_answers_alike_after_saving(told, tmp_path):
    told[0].save(tmp_path / "m")

    loaded = sasrec.load(tmp_path / "m")

    assert loaded.recommend(["u03", "u14"]).equals(told[0].recommend(["u03", "u14"]))
    assert "vectors of 5 numbers (text)" in loaded.record["features"]


def test_the_same_seed_gives_the_same_bits_with_vectors(told, walks, small_config):
    again = sasrec.train(sasrec.split(walks), small_config, features=told[1])

    for name, tensor in again.scorer.network.state_dict().items():
        assert torch.equal(tensor, told[0].scorer.network.state_dict()[name]), name


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda vectors: vectors[1:], "the vectors given of items do not fit the catalogue"),
        (lambda vectors: vectors.double(), "the vectors given of items do not fit the catalogue"),
        (lambda vectors: vectors.flatten(), "the vectors given of items do not fit the catalogue"),
        (lambda vectors: vectors[:, 1:], "weights do not fit the config: items.projection"),
        (lambda vectors: vectors * float("nan"), "weights are not finite numbers"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_in_a_bundle(told, broken, words):
    config, tensors = told[0].scorer.to_parts()

    with pytest.raises(BundleError, match=words):
        Neural.from_parts(25, config, tensors | {"items.vectors": broken(tensors["items.vectors"])})


@pytest.mark.parametrize("form", ["pandas", "polars", "csv"])
def test_whole_numbers_are_the_same_values_where_a_gap_made_floats_of_them(form, tmp_path):
    ids = ["a", "b", "c"]
    ints = pl.DataFrame({"item_id": ids, "year": [1990, 1991, 1990]})
    whole = sasrec.read_features(ints, ITEMS, columns=["year"])
    frame = pd.DataFrame({"item_id": ids, "year": [1990.0, float("nan"), 1992.0]})
    if form == "csv":
        frame.to_csv(tmp_path / "items.csv", index=False)
    tables = {"pandas": frame, "polars": pl.DataFrame({"item_id": ids, "year": [1990.0, float("nan"), 1992.0]})}

    gappy = sasrec.read_features(tables.get(form, tmp_path / "items.csv"), ITEMS, columns=["year"])

    assert whole.values == (("year", "1990"), ("year", "1991"))
    assert gappy.values == (("year", "1990"), ("year", "1992"))


def test_a_fraction_stays_and_makes_no_other_value_of_whole_numbers_beside_it():
    frame = pl.DataFrame({"item_id": ["a", "b"], "size": [1.5, 2.0]})

    assert sasrec.read_features(frame, ITEMS, columns=["size"]).values == (("size", "1.5"), ("size", "2"))


def test_an_item_without_a_vector_is_a_gap_in_arrays_of_pandas_too():
    vectors = [np.array([1.0, 2.0]), None, np.array([2.0, 0.0])]
    frame = pd.DataFrame({"item_id": ["a", "b", "c"], "text": vectors})

    features = sasrec.read_features(frame, ITEMS, vector="text")

    assert features.known.tolist() == [True, False, True]


def test_a_value_that_no_item_of_the_training_has_says_nothing(small_config):
    train = Sequences.of([[0, 1, 2, 3, 4]] * 4)
    kinds = pl.DataFrame({"item_id": ["0", "1", "2", "3", "4", "5"], "kind": ["a", "b", "a", "b", "a", "novel"]})
    items = Vocabulary(pl.Series([str(row) for row in range(6)]), "item")
    features = sasrec.read_features(kinds, items, columns=["kind"])

    training = begin(train, items=6, config=settled(small_config, train, items=6), features=features)
    training.epoch(1)

    values = training.network.items.values.detach()
    assert features.values[2] == ("kind", "novel")
    assert values[2].tolist() == [0.0] * small_config.width
    assert (values[:2].abs().amax(dim=1) > 0).all()
