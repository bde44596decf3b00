"""An argument of another type, or beyond what it may be, is refused with what to do before anything is done with it."""

import re

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.errors import ConfigError


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def rules(data):
    return sasrec.count(data, "rules", progress=False)


@pytest.mark.parametrize(
    "use",
    [
        sasrec.train,
        sasrec.count,
        sasrec.blend,
        lambda log: sasrec.refit(sasrec.count(sasrec.split(log)), log),
        lambda log: sasrec.evaluate(sasrec.count(sasrec.split(log)), log),
        lambda log: sasrec.compare(log, {"a": sasrec.Config(), "b": sasrec.Config()}),
        lambda log: sasrec.tune(log, {"dropout": [0.1, 0.2]}),
        sasrec.diagnose,
    ],
    ids=["train", "count", "blend", "refit", "evaluate", "compare", "tune", "diagnose"],
)
def test_a_log_in_the_place_of_a_split_is_refused_with_what_to_do(walks, use):
    with pytest.raises(ConfigError, match=r"data: expected a split, found a Log; make one with sasrec\.split\(log\)"):
        use(walks)


@pytest.mark.parametrize("wrong", ["ratings.csv", pl.DataFrame({"user": [1]}), None])
def test_what_is_no_log_cannot_be_split(wrong):
    with pytest.raises(ConfigError, match=r"log: expected a Log, found (a \w+|None); read one with sasrec\.read_log"):
        sasrec.split(wrong)


@pytest.mark.parametrize("wrong", ["model.sasrec", pl.DataFrame({"user": [1]}), None])
@pytest.mark.parametrize(
    "use",
    [
        sasrec.evaluate,
        sasrec.refit,
        lambda model, data: sasrec.indexed(model),
        lambda model, data: sasrec.compare(data, {"mine": model}),
        lambda model, data: sasrec.blend(data, [model, "rules"]),
    ],
    ids=["evaluate", "refit", "indexed", "compare", "blend"],
)
def test_what_is_no_model_is_refused_by_its_type_or_name(data, use, wrong):
    with pytest.raises(ConfigError, match=r"expected (a|one of) .*, found (a \w+|None|'model.sasrec')"):
        use(wrong, data)


def test_settings_are_a_config_and_a_trained_model_is_none(data, rules):
    with pytest.raises(ConfigError, match=r"config: expected a Config, found a dict; settings go into sasrec\.Config"):
        sasrec.train(data, {"epochs": 1})
    with pytest.raises(ConfigError, match=r"config: expected a Config, found a Recommender; .* model="):
        sasrec.diagnose(data, rules)


def test_models_to_compare_have_names(data, rules):
    with pytest.raises(ConfigError, match="models: expected a model or Config by each name, found a list"):
        sasrec.compare(data, [rules])


def test_a_misspelt_model_that_counts_is_named_before_anything_is_counted(data):
    with pytest.raises(ConfigError, match=r"expected one of popularity, .*, found 'ruels'"):
        sasrec.blend(data, ["ruels"])


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            lambda data, model: sasrec.train(data, features="items.csv"),
            "features: expected a Features, found a str; read",
        ),
        (
            lambda data, model: sasrec.train(data, checkpoint="a.state"),
            "checkpoint: expected a Checkpoint, found a str",
        ),
        (lambda data, model: sasrec.train(data, history=5), "history: expected a path, found a"),
        (
            lambda data, model: sasrec.blend(data, models=model),
            "models: expected a list, found a Recommender; give models",
        ),
        (lambda data, model: sasrec.blend(data, "rules"), "models: expected a list, found a str; give models and"),
        (lambda data, model: sasrec.blend(data, {"a": model}), "models: expected a list, found a dict; give models"),
        (lambda data, model: sasrec.blend(data, None), "models: expected a list, found None; give models and names"),
        (lambda data, model: sasrec.Checkpoint(5), "path: expected a path, found an int"),
        (lambda data, model: sasrec.Checkpoint("a.state", every="5"), "every: expected a number of minutes above 0, "),
        (lambda data, model: sasrec.Checkpoint("a.state", every=float("nan")), "every: expected a number of minutes"),
        (lambda data, model: sasrec.retrain("a.model", data), "model: expected a Recommender, found a str; train one"),
        (
            lambda data, model: sasrec.retrain(model, data, features="items.csv"),
            "features: expected a Features, found a",
        ),
        (
            lambda data, model: sasrec.refit(model, data, features="items.csv"),
            "features: expected a Features, found a",
        ),
        (lambda data, model: sasrec.add_items("a.model", "items.csv"), "model: expected a Recommender, found a str"),
        (lambda data, model: sasrec.export_onnx("a.model", "a.onnx"), "model: expected a Recommender, found a str"),
        (lambda data, model: sasrec.load(model), "path: expected a path, found a Recommender"),
        (lambda data, model: model.save(None), "path: expected a path, found None; give"),
        (lambda data, model: sasrec.write_json(model, "a.json"), "result: expected a result, found a str; give what"),
        (lambda data, model: sasrec.folds(data), "log: expected a Log, found a Split; read one with sasrec.read_log"),
        (lambda data, model: sasrec.hold_out_items(data.log), "data: expected a split, found a Log; make one with"),
        (lambda data, model: sasrec.compare(data, {1: model}), "models: expected a name, found an int; call each as"),
        (lambda data, model: sasrec.tune(data, {"width": [8]}, base="a"), "base: expected a Config, found a str; sett"),
        (lambda data, model: sasrec.tune(data, ["width"]), "space: expected a dict, found a list; give values or"),
        (
            lambda data, model: sasrec.tune(data, {"width": [8]}, study=5),
            "study: expected a path, found an int; give",
        ),
        (lambda data, model: sasrec.preset(5), "preset: expected a name, found an int; known are paper, "),
        (lambda data, model: sasrec.read_log("a.csv", user=3), "user: expected a name, found an int; pass that of one"),
        (lambda data, model: sasrec.serve(model, "shop"), "place: expected a Place, found a str; give sasrec.Place"),
        (lambda data, model: sasrec.serve(5), "model: expected a path, found an int; give the"),
        (
            lambda data, model: sasrec.Place(host=None),
            "host: expected an address of this machine, as '127.0.0.1'",
        ),
        (
            lambda data, model: sasrec.Place(host=""),
            "host: expected an address of this machine, as '127.0.0.1', found ''",
        ),
        (lambda data, model: sasrec.Place(events=5), "events: expected the address of a database"),
        (lambda data, model: sasrec.Place(data=5), "data: expected a path, found an int"),
        (lambda data, model: sasrec.Place(port="80"), "port: expected 0 to 65535, found '80'"),
        (lambda data, model: sasrec.Place(drain="1"), "drain: expected 0 to 3600 seconds, found '1'"),
        (lambda data, model: sasrec.Place(threads=1.5), "threads: expected 1 to 1024, found 1.5"),
        (lambda data, model: sasrec.Place(overlap="1"), "overlap: expected a share above 0 and at most 1, found '1'"),
        (lambda data, model: sasrec.Place(known_as="shop"), "known_as: expected names of hosts, as ('shop.example',)"),
        (lambda data, model: sasrec.Place(known_as=(80,)), "known_as: expected names of hosts, as ('shop.example',)"),
    ],
)
def test_an_argument_of_another_kind_is_told_from_the_right_one(tmp_path, monkeypatch, data, rules, use, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")

    with pytest.raises(ConfigError, match=re.escape(words)):
        use(data, rules)


@pytest.mark.parametrize("wrong", ["False", "no", 0, 1])
def test_a_text_is_no_flag(data, rules, walks, wrong):
    words = f"exclude_seen: expected True, False or None, found {wrong!r}"
    with pytest.raises(ConfigError, match=words):
        sasrec.evaluate(rules, data, exclude_seen=wrong)
    with pytest.raises(ConfigError, match=words):
        rules.recommend([walks.users.ids[0]], exclude_seen=wrong)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_are_integers(data, rules, walks, kind):
    user = walks.users.ids[0]

    assert rules.recommend([user], k=kind(3)).equals(rules.recommend([user], k=3))
    assert sasrec.evaluate(rules, data, k=kind(5)).k == (5,)


@pytest.mark.parametrize("wrong", [0, True, 2.0, "5", np.float64(3), (), (5, 0)])
def test_cut_offs_are_integers_from_one_on(data, rules, wrong):
    with pytest.raises(ConfigError, match="k: expected an integer >= 1"):
        sasrec.evaluate(rules, data, k=wrong)


def test_a_space_of_one_value_is_refused_with_what_it_should_be(data):
    for wrong in (0.2, "0.2"):
        with pytest.raises(ConfigError, match=f"space: dropout: expected a list of values or a Range, found {wrong!r}"):
            sasrec.tune(data, {"dropout": wrong})


@pytest.mark.parametrize("wrong", ["3.5", True, [3]])
def test_a_least_weight_is_a_number(wrong):
    with pytest.raises(ConfigError, match="min_weight: expected a number or None"):
        sasrec.Filters(min_weight=wrong)


def test_least_events_are_integers_of_python_or_numpy():
    assert sasrec.Filters(user_core=np.int64(3)).user_core == 3
    for wrong in (True, 2.0, "2", -1):
        with pytest.raises(ConfigError, match="item_core: expected a whole number of 0 or more, found"):
            sasrec.Filters(item_core=wrong)
