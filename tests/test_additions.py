"""New items: ranked by what their features say, added to a trained model without training."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError, DataError
from sasrec.retrieval.recommender import Recommender
from sasrec.training.beginning import begin
from sasrec.training.settling import settled

rng = np.random.default_rng(5)
COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def table(walks):
    """Two categories and a vector for each of the 25 items, and for four others whose ids lie among them."""
    ids = [*walks.items.ids, "a-first", "i00-second", "i10b", "z-last"]
    return pl.DataFrame(
        {
            "item_id": ids,
            "colours": [f"{COLOURS[row % 3]}|{COLOURS[row % 2]}" for row in range(len(ids))],
            "text": rng.normal(1.0, 2.0, (len(ids), 4)),
        }
    )


@pytest.fixture(scope="module")
def features(walks, table):
    return sasrec.read_features(table, walks.items, columns=["colours"], separator="|", vector="text")


@pytest.fixture(scope="module")
def model(walks, small_config, features):
    return sasrec.train(sasrec.split(walks), small_config, features=features)


@pytest.fixture(scope="module")
def wider(model, table):
    return sasrec.add_items(model, table)


def said_of(model, table, item):
    """What a model's weights say of an item of the table, in float64 by NumPy."""
    row = table.row(by_predicate=pl.col("item_id") == item, named=True)
    items = {name: tensor.double().numpy() for name, tensor in model.scorer.network.items.state_dict().items()}
    recipe = model.record["item_table"]
    vector = (np.array(row["text"]) - np.array(recipe["centre"])) / recipe["scale"] @ items["projection"]
    for value in {*row["colours"].split("|")}:
        vector = vector + items["values"][[pair[1] for pair in recipe["values"]].index(value)]
    return vector


def test_a_new_item_is_what_its_features_say(model, wider, table):
    vectors = wider.scorer.network.items().double().numpy()

    for item in ("a-first", "i00-second", "i10b", "z-last"):
        row = wider.items.rows([item])[0]
        np.testing.assert_allclose(vectors[row], said_of(model, table, item), rtol=1e-4, atol=1e-6)
        assert not wider.scorer.network.items.weight[row].any()


def test_known_items_keep_their_vectors_and_users_their_histories(model, wider):
    old = wider.items.rows(model.items.ids)

    assert torch.equal(wider.scorer.network.items()[old], model.scorer.network.items())
    for row in range(len(model.users)):
        assert wider.items.raw(wider.histories[row]).equals(model.items.raw(model.histories[row]))


def test_new_items_are_ranked_among_the_others_by_their_scores(model, wider, table):
    new = ["a-first", "i00-second", "i10b", "z-last"]
    history = ["i03", "i14", "i15"]
    state = model.scorer.states(Sequences.of([model.items.rows(history)]))[0].double().numpy()
    known = {row["item_id"]: row["score"] for row in model.score(history, model.items.ids).to_dicts()}
    scores = known | {item: float(state @ said_of(model, table, item)) for item in new}

    found = wider.continue_from(history, k=29, exclude_seen=False)

    expected = sorted(scores, key=lambda item: -scores[item])
    assert found["item_id"].to_list() == expected
    np.testing.assert_allclose(found["score"], [scores[item] for item in expected], rtol=1e-3, atol=1e-5)


def test_a_wider_model_answers_alike_after_saving_and_takes_more_items(wider, table, tmp_path):
    wider.save(tmp_path / "m")
    loaded = sasrec.load(tmp_path / "m")
    more = table.tail(1).with_columns(item_id=pl.lit("yet another"))

    again = sasrec.add_items(loaded, more)

    assert loaded.recommend(["u03"], k=29).equals(wider.recommend(["u03"], k=29))
    assert len(again.items) == 30
    twins = again.score(["i03"], ["yet another", "z-last"])["score"]
    assert twins[0] == pytest.approx(twins[1], rel=1e-5)


def test_added_items_can_be_in_a_history_and_be_similar(wider):
    assert len(wider.continue_from(["z-last", "i03"], k=3)) == 3
    assert wider.similar("i10b", k=28)["score"].is_between(-1.00001, 1.00001).all()


def test_values_that_the_model_does_not_know_say_nothing_of_an_item(model):
    frame = pl.DataFrame(
        {"item_id": ["new 1", "new 2"], "colours": ["red|mauve", "mauve"], "text": [[1.0] * 4, None]},
        schema_overrides={"text": pl.List(pl.Float64)},
    )

    with pytest.warns(UserWarning, match="left out 1 new items of which .* knows, such as 'new 2'"):
        added = sasrec.add_items(model, frame)

    assert len(added.items) == 26, "an item of which nothing is known cannot be ranked"
    assert added.items.rows(["new 1", "new 2"]).tolist()[1] == -1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda model, table: (model, table.head(25)), DataError, "the table has no new item with a feature"),
        (lambda model, table: (model, table.drop("text")), DataError, "no column 'text'"),
        (lambda model, table: (model, table.drop("colours")), DataError, "no column 'colours'"),
        (
            lambda model, table: (model, table.with_columns(text=pl.Series([[1.0]] * 29))),
            DataError,
            "vectors of 1 numbers; the model was trained with vectors of 4",
        ),
    ],
)
def test_a_table_unlike_that_of_training_is_refused(model, table, change, error, words):
    with pytest.raises(error, match=words):
        sasrec.add_items(*change(model, table))


def test_a_model_without_features_can_take_no_items(small_model, walks, table):
    with pytest.raises(ConfigError, match="trained without features"):
        sasrec.add_items(small_model, table)
    with pytest.raises(ConfigError, match="a rules knows items by who had them alone"):
        sasrec.add_items(sasrec.count(sasrec.split(walks)), table)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "text",
        {"values": [["colours", "red"]]},
        {"centre": [0.0]},
        {"centre": [0.0, 0.0, 0.0, float("nan")]},
        {"scale": 0.0},
        {"scale": "wide"},
        {"columns": "colours"},
    ],
)
def test_a_damaged_record_of_the_table_is_refused(model, table, broken):
    found = {**model.record["item_table"], **broken} if isinstance(broken, dict) else broken
    damaged = Recommender(
        model.scorer,
        users=model.users,
        items=model.items,
        histories=model.histories,
        record={**model.record, "item_table": found},
    )

    with pytest.raises(BundleError, match=r"record\.json: item_table"):
        sasrec.add_items(damaged, table)


def test_text_is_no_id_among_integers(log_of, small_config):
    log = log_of({user: [(user + step) % 9 for step in range(6)] for user in range(12)})
    frame = pl.DataFrame({"item_id": range(9), "kind": [str(one % 3) for one in range(9)]})
    features = sasrec.read_features(frame, log.items, columns=["kind"])
    made = sasrec.train(sasrec.split(log), small_config, features=features)

    added = sasrec.add_items(made, pl.DataFrame({"item_id": ["100", "3"], "kind": ["1", "2"]}))

    assert added.items.ids.to_list() == [*range(9), 100]
    with pytest.raises(DataError, match="the id 'x' is no integer"):
        sasrec.add_items(made, pl.DataFrame({"item_id": ["100", "x"], "kind": ["1", "2"]}))


@pytest.mark.parametrize(("wrong", "words"), [("x" * 5000, "longer than 4,096 bytes"), ("a\0b", "holds a NUL")])
def test_an_id_that_no_log_may_have_is_not_added(model, table, wrong, words):
    more = table.filter(pl.col("item_id") == "z-last").with_columns(item_id=pl.lit(wrong))

    with pytest.raises(DataError, match=words):
        sasrec.add_items(model, more)


# Items that are held out of training


@pytest.fixture(scope="module")
def held(walks):
    return sasrec.hold_out_items(sasrec.split(walks), 0.2, seed=4)


def test_items_held_out_are_targets_of_the_test_alone(held, walks):
    new = set(held.new.tolist())

    assert len(new) == 5
    for part in (held.train, held.valid.histories, held.test.histories, held.refit.train):
        assert not new & set(part.items.tolist())
    assert not new & set(held.valid.targets.tolist())
    assert new & set(held.test.targets.tolist())
    assert (held.test.histories.lengths > 0).all()


@for_all(share=st.floats(0.05, 0.9), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_what_is_left_of_every_history_is_in_its_order(walks, share, seed):
    data = sasrec.split(walks)

    held = sasrec.hold_out_items(data, share, seed=seed)

    assert len(held.new) == max(round(share * 25), 1)
    for before, after in zip(map(list, map(data.train.__getitem__, range(60))), range(60), strict=True):
        assert held.train[after].tolist() == [item for item in before if item not in held.new]
    rows = {user: row for row, user in enumerate(data.test.users)}
    for row, user in enumerate(held.test.users):
        whole = data.test.histories[rows[user]]
        assert held.test.histories[row].tolist() == [item for item in whole if item not in held.new]
        assert held.test.targets[row] == data.test.targets[rows[user]]


def test_a_seed_fixes_which_items_are_held_out_and_the_fingerprint_tells(walks):
    data = sasrec.split(walks)
    first, again, other = (sasrec.hold_out_items(data, 0.2, seed=seed) for seed in (4, 4, 5))

    assert first.new.tolist() == again.new.tolist() != other.new.tolist()
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, other.fingerprint, data.fingerprint}) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda data: sasrec.hold_out_items(data, 0.0), "share: expected a number > 0 and < 1, found 0.0"),
        (lambda data: sasrec.hold_out_items(data, 1.0), "share: expected a number > 0 and < 1, found 1.0"),
        (lambda data: sasrec.hold_out_items(data, "0.1"), "share: expected a number > 0 and < 1, found '0.1'"),
        (lambda data: sasrec.hold_out_items(data, seed=-1), "seed: expected an integer >= 0, found -1"),
        (lambda data: sasrec.hold_out_items(sasrec.hold_out_items(data)), "holds items out already"),
    ],
)
def test_a_share_or_seed_that_is_none_is_refused(walks, call, words):
    with pytest.raises(ConfigError, match=words):
        call(sasrec.split(walks))


def test_items_that_never_occur_are_what_their_features_say_and_no_wrong_answer(held, small_config, features):
    config = settled(small_config, held.train, items=25)
    training = begin(held.train, items=25, config=config, features=features)

    whole, known = training.scorer().network, np.unique(held.train.items)

    assert len(training.network.items.weight) == len(known) == 20
    assert not whole.items.weight[held.new].any()
    assert torch.equal(whole.items.weight[known], training.network.items.weight)
    torch.testing.assert_close(whole.items()[known], training.network.items())


@pytest.mark.parametrize("settings", [{}, {"loss": "bce"}, {"loss": "sampled-softmax", "negatives": 8}])
@pytest.mark.parametrize("updates", ["all", "touched"])
def test_features_of_items_held_out_change_nothing_that_is_learned(held, small_config, features, settings, updates):
    """Nothing of an item that nobody has had may reach the weights, neither as a negative nor by its features."""
    if updates == "touched" and not settings:
        pytest.skip("exact cross-entropy moves every item")
    config = sasrec.Config(**small_config.to_dict() | settings | {"item_updates": updates, "sampler": "uniform"})
    config = settled(config, held.train, items=25)
    other = features.take(np.arange(25))
    other.vectors[held.new] = 9.0

    one, two = (begin(held.train, items=25, config=config, features=some) for some in (features, other))
    for number in (1, 2):
        assert one.epoch(number) == two.epoch(number)

    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, two.network.state_dict()[name]), name


def test_a_sampler_of_the_callers_own_may_draw_items_that_are_held_out(held, small_config, features):
    config = sasrec.Config(**small_config.to_dict() | {"loss": "bce", "negatives": 4})
    seen = []

    def draw(rows, count, rng):
        drawn = rng.integers(-1, 25, (len(rows), count))
        seen.append(drawn)
        return drawn

    made = sasrec.train(held, config, draw=draw, features=features)

    assert np.isin(held.new, np.concatenate(seen)).all()
    assert not made.scorer.network.items.weight[held.new].any()


def test_without_features_nothing_of_training_is_different(held, small_config):
    config = settled(small_config, held.train, items=25)

    training = begin(held.train, items=25, config=config)

    assert training.scorer().network is training.network
    assert len(training.network.items.weight) == 25


def test_refit_knows_new_items_by_their_features_too(held, small_config, features):
    made = sasrec.train(held, small_config, features=features)

    again = sasrec.refit(made, held, features=features, progress=False)
    other = features.take(np.arange(25))
    other.vectors[3] *= 2.0

    with pytest.raises(ConfigError, match="features: a refit needs those that the model was trained with"):
        sasrec.refit(made, held, features=other, progress=False)
    weights = again.scorer.network.items.weight
    assert not weights[held.new].any()
    assert weights.any(dim=1).sum() == 20


# On the command line


def test_new_items_are_measured_added_and_recommended_from_the_bundle_alone(walks, table, tmp_path, capsys):
    from sasrec.cli import main

    users = walks.users.raw(walks.histories.owners())
    pl.DataFrame({"user_id": users, "item_id": walks.items.raw(walks.histories.items)}).write_csv(tmp_path / "log.csv")
    table.head(27).write_parquet(tmp_path / "items.parquet")
    table.tail(2).write_parquet(tmp_path / "more.parquet")
    log, model, wider, widest = (str(tmp_path / name) for name in ("log.csv", "m", "wider", "widest"))
    given = ["--features", str(tmp_path / "items.parquet"), "--vector", "text", "--feature", "colours"]
    small = ["--separator", "|", "--time", "", "--epochs", "2", "--width", "8", "--new-items", "0.2", "--new-seed", "4"]

    trained = main(["train", log, "--out", model, *given, *small])
    said = capsys.readouterr().out
    evaluated = main(["evaluate", model, log])
    report = capsys.readouterr().out
    added = [main(["add-items", model, str(tmp_path / "items.parquet"), "--out", wider])]
    added.append(main(["add-items", wider, str(tmp_path / "more.parquet"), "--out", widest]))
    told = capsys.readouterr().out
    again = main(["evaluate", widest, log])

    assert [trained, evaluated, *added, again] == [0] * 5
    assert "features: colours (3 values), vectors of 4 numbers (text); 0 of 25 items have none" in said
    assert "5 of 25 items are new in the test (seed 4)" in said
    assert "new targets: the" in report
    assert "Content" in report
    assert "added 2 items to 25" in told
    assert "added 2 items to 27" in told
    assert "whole catalogue of 29 items ranked" in capsys.readouterr().out
    assert main(["info", widest]) == 0
    told = capsys.readouterr().out
    assert "added       4 items after training\n" in told
    assert "numbers (text); 0 of 29 items have none" in " ".join(told.split())
    assert main(["recommend", widest, "--user", "u03", "-k", "29"]) == 0
    assert "z-last" in capsys.readouterr().out
    assert main(["add-items", widest, str(tmp_path / "more.parquet"), "--out", str(tmp_path / "none")]) == 3
    assert "there is nothing to add" in capsys.readouterr().err


@pytest.mark.parametrize("does", ["refit", "blend", "diagnose"])
def test_what_the_log_knows_nothing_of_is_refused_before_anything_is_made(model, wider, walks, features, does):
    data = sasrec.split(walks)
    calls = {
        "refit": lambda: sasrec.refit(wider, data, features=features),
        "blend": lambda: sasrec.blend(data, ["rules", wider]),
        "diagnose": lambda: sasrec.diagnose(data, model=wider),
    }

    with pytest.raises(ConfigError, match=f"4 items were added to it after training.*; {does} the model that it was"):
        calls[does]()


def test_models_of_which_one_was_widened_are_told_apart(model, wider, walks):
    for models in ({"m": model, "w": wider}, {"w": wider, "m": model}):
        with pytest.raises(DataError, match=r"the models rank different items \((25 and 29|29 and 25) of them\)"):
            sasrec.compare(sasrec.split(walks), models, progress=False)


def test_a_wider_model_has_a_page_and_answers_in_the_frames_of_the_first(model, wider, table, walks, tmp_path):
    data = sasrec.split(walks)
    sasrec.write_page(tmp_path / "p.html", sasrec.evaluate(wider, data), model=wider, data=data)
    model.save(tmp_path / "m")
    in_pandas = sasrec.add_items(sasrec.load(tmp_path / "m", frame="pandas"), table)

    assert "29 items" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert type(in_pandas.continue_from(["i03"], k=2)).__module__.startswith("pandas")


def test_added_items_change_nothing_among_the_known_ones_of_a_blend(walks, table, features):
    data = sasrec.split(walks)
    rest = pl.concat([table.with_columns(item_id=pl.col("item_id") + f" {number}") for number in range(8)])
    for parts in (["content", "popularity"], ["content", "rules", "markov"]):
        blend = sasrec.blend(data, parts, features=features, progress=False)
        wide = sasrec.add_items(blend, rest)

        was = blend.score(["i03", "i14"], walks.items.ids)["score"]
        now = wide.score(["i03", "i14"], walks.items.ids)["score"]

        np.testing.assert_allclose(now, was, rtol=1e-6)
