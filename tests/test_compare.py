"""A comparison measures all its models alike, pairs them user by user, and says what each cost."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.errors import ConfigError, DataError, OutputError
from sasrec.evaluation.candidates import LEGACY
from sasrec.evaluation.intervals import paired_interval
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.recommender import Recommender
from sasrec.studies.compare import compare_trained
from sasrec.training.costs import peak_memory


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def configs(small_config):
    return {"wide": replace(small_config, width=12), "deep": replace(small_config, blocks=3, loss="bce")}


@pytest.fixture(scope="module")
def trained(data, configs):
    return {name: sasrec.train(data, config, progress=False) for name, config in configs.items()}


@pytest.fixture(scope="module")
def comparison(data, trained):
    return sasrec.compare(data, trained, k=[3, 10])


def per_user(report, metric, k):
    return metric(report.rows[0].ranks, k)


def test_every_model_has_the_figures_of_its_own_evaluation(comparison, data, trained):
    for name, model in trained.items():
        report = sasrec.evaluate(model, data, k=[3, 10])

        assert comparison[name].metrics == {
            metric: report.rows[0].metrics[metric] for metric in ("NDCG@3", "HR@3", "NDCG@10", "HR@10")
        }


def test_the_counting_models_stand_below(comparison):
    assert [(one.name, one.kind) for one in comparison.contestants] == [
        ("wide", "SASRec (softmax)"),
        ("deep", "SASRec (bce)"),
        ("Rules", "counts"),
        ("Markov", "counts"),
        ("Popularity", "counts"),
    ]


def test_differences_are_to_the_first_user_by_user(comparison, data, trained):
    reports = [sasrec.evaluate(model, data, k=[3, 10]) for model in trained.values()]

    for metric, k, name in ((ndcg, 3, "NDCG@3"), (hit_rate, 10, "HR@10")):
        first, second = (per_user(report, metric, k) for report in reports)
        assert comparison["deep"].differences[name] == paired_interval(second, first)
    assert comparison["wide"].differences == {}
    assert comparison["Markov"].differences["HR@10"].difference == pytest.approx(
        comparison["Markov"].metrics["HR@10"][0] - comparison["wide"].metrics["HR@10"][0]
    )


def test_settings_are_trained_as_train_does_it(data, configs, comparison):
    found = sasrec.compare(data, configs, k=[3, 10], progress=False)

    for name in configs:
        assert found[name].metrics == comparison[name].metrics
        assert found[name].differences == comparison[name].differences


def test_the_cost_is_that_of_the_model_s_own_training(comparison, trained):
    for name, model in trained.items():
        cost = comparison[name].cost
        assert (cost.epochs, cost.seconds) == (3, model.record["seconds"])
        assert cost.cpu_seconds == model.record["cpu_seconds"] > 0
        assert cost.peak_memory is None  # trained in this process, which does other things too
    assert comparison["Markov"].cost is None


def test_several_trainings_are_averaged_user_by_user_and_their_spread_is_told(data, small_config):
    found = sasrec.compare(data, {"one": small_config, "bce": replace(small_config, loss="bce")}, seeds=3, k=10)

    values = [
        per_user(sasrec.evaluate(sasrec.train(data, replace(small_config, seed=seed)), data), ndcg, 10)
        for seed in (1, 2, 3)
    ]
    mean = np.mean(values, axis=0)
    assert found["one"].metrics["NDCG@10"] == pytest.approx((mean.mean(), mean.std(ddof=1) / np.sqrt(len(mean))))
    assert found["one"].spread["NDCG@10"] == pytest.approx(np.std([each.mean() for each in values], ddof=1))
    assert "sd of runs" in str(found)
    told = "'sd of runs' tells how far these are apart, which the intervals over users do not hold"
    assert f"3 trainings of one, bce: {told}" in found.notes
    assert found["Markov"].spread == {}
    assert not any("one training each" in note for note in found.notes)


def test_a_single_training_says_that_another_seed_would_move_it(comparison):
    assert any("one training each" in note for note in comparison.notes)
    assert "sd of runs" not in str(comparison)


def test_what_was_not_trained_several_times_is_named_beside_what_was(data, trained, small_config):
    found = sasrec.compare(data, {**trained, "new": small_config}, seeds=2, progress=False)

    note = "one training of wide, deep: another seed would move a network too, which the intervals do not hold"
    assert note in found.notes
    assert any(note.startswith("2 trainings of new: 'sd of runs'") for note in found.notes)
    assert "new" in [one.name for one in found.contestants if one.spread]


def test_several_seeds_of_nothing_that_is_trained_are_refused(data, trained):
    with pytest.raises(ConfigError, match="seeds: nothing is trained here, found 3; give a Config, or leave seeds out"):
        sasrec.compare(data, trained, seeds=3)


def test_over_folds_all_users_count_and_each_fold_is_trained_on_its_own_past(small_config):
    log = sasrec_log_with_times()
    folds = sasrec.folds(log, 2, share=0.2)

    found = sasrec.compare(folds, {"net": small_config, "bce": replace(small_config, loss="bce")}, progress=False)

    values = [per_user(sasrec.evaluate(sasrec.train(fold, small_config), fold), ndcg, 10) for fold in folds]
    assert found["net"].metrics["NDCG@10"][0] == pytest.approx(np.concatenate(values).mean())
    assert found["net"].spread["NDCG@10"] == pytest.approx(np.std([each.mean() for each in values], ddof=1))
    assert found["Popularity"].spread["NDCG@10"] > 0
    assert found.protocol.splitlines()[0] == "protocol: 2 folds, all users together"
    assert [line.split(";")[0].strip() for line in found.protocol.splitlines()[1:]] == [fold.rule for fold in folds]


def test_all_folds_leave_out_what_was_seen_or_none_does(small_config):
    # Those of the second fold's users come back to their items, those of the first do not.
    rows = [(f"u{user}", f"i{(user + step) % 12}", 100 * step + user) for user in range(30) for step in range(5)]
    rows += [(f"u{user}", f"i{user % 12}", 1000 + user) for user in range(30)]
    log = sasrec.read_log(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))
    folds = sasrec.folds(log, 2, share=0.14)
    assert [sasrec.count(fold, progress=False).exclude_seen for fold in folds] == [True, False]

    found = sasrec.compare(folds, {"net": small_config}, progress=False)

    assert [line.count("exclude_seen=True") for line in found.protocol.splitlines()] == [0, 1, 1]


def sasrec_log_with_times():
    rng = np.random.default_rng(2)
    events = [
        (f"u{user:02}", f"i{item:02}", int(when)) for when, (user, item) in enumerate(rng.integers(0, 20, (600, 2)))
    ]
    return sasrec.read_log(pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"))


def test_a_trained_model_is_not_measured_on_several_splits(trained, small_config):
    folds = sasrec.folds(sasrec_log_with_times(), 2)

    with pytest.raises(ConfigError, match="'wide' was trained on one split and cannot be measured on 2"):
        sasrec.compare(folds, {"new": small_config, "wide": trained["wide"]})


def test_a_model_of_another_split_is_named_in_a_note_and_one_of_another_log_refused(data, walks, trained, log_of):
    other = Recommender(
        trained["deep"].scorer,
        users=walks.users,
        items=walks.items,
        histories=walks.histories,
        record={"data": "another split"},
    )

    found = sasrec.compare(data, {"wide": trained["wide"], "other": other})

    assert "other was trained on another log or split: it may have seen these targets" in found.notes
    with pytest.raises(DataError, match="evaluate on the log that the model was trained on"):
        sasrec.compare(sasrec.split(log_of({"ada": ["x", "y", "z"]})), trained)


def test_all_models_are_ranked_among_the_same_candidates(data, walks):
    # The first counts what the popularity below counts, so against the same candidates their ranks are the same.
    same = Recommender(
        Popularity.of(data.train, items=len(walks.items)),
        users=walks.users,
        items=walks.items,
        histories=walks.histories,
        record={"exclude_seen": False},
    )

    found = sasrec.compare(data, {"same": same}, candidates=4)

    assert found["Popularity"].differences["NDCG@10"].high == found["Popularity"].differences["NDCG@10"].low == 0.0


def test_a_comparison_under_the_protocol_of_2018_is_labelled_legacy(data, trained, tmp_path):
    found = sasrec.compare(data, trained, candidates="sasrec2018")
    sasrec.write_json(tmp_path / "found.json", found)

    assert LEGACY in str(found).splitlines()[0]
    assert LEGACY in found.notes
    assert LEGACY in (tmp_path / "found.json").read_text()


def test_the_seed_of_the_candidates_is_a_choice(data, trained):
    first, again, other = (compare_trained([(data, trained)], k=3, candidates=8, seed=seed) for seed in (1, 1, 2))

    assert str(first) == str(again)
    assert first["wide"].metrics != other["wide"].metrics


def test_a_notebook_shows_the_table_of_a_comparison(comparison):
    assert repr(comparison) == str(comparison)
    assert repr(comparison).startswith(f"{comparison.protocol}\n")


def test_the_table_shows_every_model_its_difference_and_its_cost(comparison):
    lines = str(comparison).splitlines()

    assert lines[0].startswith("protocol: last-item split, test;")
    assert lines[1].split() == [
        *("NDCG@3", "HR@3", "NDCG@10", "HR@10", "NDCG@3", "-", "wide", "epochs", "seconds", "CPU", "s", "peak", "MB")
    ]
    deep = next(line for line in lines if line.startswith("deep"))
    mean, error = comparison["deep"].metrics["NDCG@3"]
    difference = comparison["deep"].differences["NDCG@3"]
    assert re.split(r"  +", deep)[:3] == ["deep", "SASRec (bce)", f"{mean:.4f} ± {error:.4f}"]
    assert f"{difference.difference:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})" in deep
    assert lines[-1] == f"note: {comparison.notes[-1]}"


def test_models_that_count_are_called_what_they_are_beside_others(data):
    chosen = {
        "mine": sasrec.count(data, "rules", progress=False),
        "yours": sasrec.count(data, "recent", progress=False),
    }

    comparison = sasrec.compare(data, chosen)

    assert [comparison[name].kind for name in chosen] == ["Rules", "Recent popularity"]


def test_wide_letters_of_a_name_leave_the_columns_straight(data, trained):
    names = ["推薦", "é", "plain"]  # the first takes four places of a terminal

    lines = str(sasrec.compare(data, dict.fromkeys(names, trained["wide"]))).splitlines()[2:5]

    assert [line.split("  ")[0] for line in lines] == names
    before = [line[: line.index("SASRec")] for line in lines]
    assert [len(one) + 2 * (one[0] == "推") for one in before] == [len(before[2])] * 3


def test_the_json_holds_every_figure(comparison, tmp_path):
    sasrec.write_json(tmp_path / "found.json", comparison)
    saved = json.loads((tmp_path / "found.json").read_text())

    assert saved == comparison.to_dict()
    assert [*saved["models"]] == ["wide", "deep", "Rules", "Markov", "Popularity"]
    deep = saved["models"]["deep"]
    assert deep["kind"] == "SASRec (bce)"
    assert deep["metrics"]["HR@3"]["mean"] == comparison["deep"].metrics["HR@3"][0]
    assert deep["metrics"]["HR@3"]["difference"]["low"] == comparison["deep"].differences["HR@3"].low
    assert deep["cost"]["epochs"] == 3
    with pytest.raises(OutputError, match="exists already"):
        sasrec.write_json(tmp_path / "found.json", comparison)


@pytest.mark.parametrize("name", ["Rules", "Markov", "Popularity"])
def test_the_names_of_the_counting_models_are_taken(data, small_config, name):
    with pytest.raises(ConfigError, match=f"the name '{name}' is taken by another line"):
        sasrec.compare(data, {name: small_config})


def test_nothing_to_compare_is_refused(data):
    with pytest.raises(ConfigError, match="expected at least one to compare"):
        sasrec.compare(data, {})
    with pytest.raises(ConfigError, match="data: expected a split or several, found none"):
        sasrec.compare([], {"net": sasrec.Config()})


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"on": "train"},
        {"candidates": 99},
        {"candidates": "2018"},
        {"candidates": "sasrec2018", "exclude_seen": True},
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(data, small_config, monkeypatch, wrong):
    monkeypatch.setattr("sasrec.studies.compare.train", lambda *_, **__: pytest.fail("trained"))

    with pytest.raises(ConfigError):
        sasrec.compare(data, {"net": small_config}, **wrong)


@pytest.mark.parametrize(
    ("changed", "part", "words"),
    [
        ("refit", "test", "'given' was refit on train .* and 'net' would not be"),
        ("refit", "valid", "on: 'given' was refit and has seen the validation part"),
        ("widened", "test", "'given' ranks items that were added to it, and 'net' would not"),
        ("other", "test", "the 2 items of the model are not the 25 of the log"),
    ],
)
def test_models_that_do_not_compare_are_refused_before_anything_is_trained(
    data, small_config, log_of, monkeypatch, changed, part, words
):
    if changed == "refit":
        model = sasrec.refit(sasrec.count(data, "markov", progress=False), data, progress=False)
    elif changed == "widened":
        genres = pl.DataFrame({"item_id": [*data.log.items.ids, "new"], "genre": ["a", "b"] * 13})
        features = sasrec.read_features(genres.head(25), data.log.items, columns=["genre"])
        model = sasrec.add_items(sasrec.count(data, "content", features=features, progress=False), genres)
    else:
        model = sasrec.count(sasrec.split(log_of({"u": ["a", "b", "a", "b"]})), "markov", progress=False)
    monkeypatch.setattr("sasrec.studies.compare.train", lambda *_, **__: pytest.fail("trained"))

    with pytest.raises((ConfigError, DataError), match=words):
        sasrec.compare(data, {"given": model, "net": small_config}, on=part, progress=False)


def test_the_cost_of_what_was_refit_holds_the_refit(data, trained):
    again = sasrec.refit(trained["wide"], data, progress=False)

    cost = sasrec.compare(data, {"wide": again})["wide"].cost

    assert cost.seconds == trained["wide"].record["seconds"] + again.record["refit"]["seconds"]
    assert cost.cpu_seconds == trained["wide"].record["cpu_seconds"] + again.record["refit"]["cpu_seconds"]


@pytest.mark.parametrize("seeds", [0, True, 1.5])
def test_seeds_are_a_number_of_trainings(data, small_config, seeds):
    with pytest.raises(ConfigError, match="seeds: expected an integer >= 1, found"):
        sasrec.compare(data, {"net": small_config}, seeds=seeds)


def test_a_model_that_was_not_compared_is_a_key_error(comparison):
    with pytest.raises(KeyError, match="no model 'thin'; compared were wide, deep, Rules, Markov, Popularity"):
        comparison["thin"]


def test_progress_names_what_is_trained(data, small_config, capsys):
    sasrec.compare(data, {"net": replace(small_config, epochs=1)}, seeds=2, progress=True)

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "training" in line] == ["training net, 1 of 2", "training net, 2 of 2"]


def test_the_validation_part_can_choose_among_models(data, trained):
    assert ", valid;" in sasrec.compare(data, trained, on="valid").protocol


def test_peak_memory_grows_by_what_is_held_and_does_not_shrink():
    if (before := peak_memory()) is None:
        pytest.skip("this system does not tell")

    held = np.ones(2**26)  # 512 MB, more than the tests hold
    del held

    assert peak_memory() >= max(before, 2**29)


def test_a_training_that_is_interrupted_ends_the_comparison(data, configs, trained, monkeypatch):
    half_trained = Recommender.of_log(
        trained["deep"].scorer, data.log, record={**trained["deep"].record, "stopped": "interrupted"}
    )
    made = iter([trained["wide"], half_trained])
    monkeypatch.setattr("sasrec.studies.compare.train", lambda *_, **__: next(made))

    with pytest.raises(KeyboardInterrupt):
        sasrec.compare(data, configs, progress=False)


@pytest.mark.parametrize("users", [1, 49, 50])
def test_few_users_make_a_note_and_one_has_no_difference_that_is_sure(log_of, users):
    data = sasrec.split(log_of({f"u{user}": [f"i{(user + step) % 9}" for step in range(5)] for user in range(users)}))
    rules, markov = (sasrec.count(data, name, progress=False) for name in ("rules", "markov"))

    found = sasrec.compare(data, {"r": rules, "m": markov}, progress=False)

    note = "intervals of fewer than 50 users are too narrow: do not rely on them"
    assert (note in found.notes) is (users < 50)
    if users == 1:
        assert all((one.low, one.high) == (-1.0, 1.0) for one in found["m"].differences.values())
