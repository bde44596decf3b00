"""A report says what was measured, how, and what to keep in mind; it always shows the counting models."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, DataError, OutputError
from sasrec.evaluation.metrics import hit_rate, mean_and_error, ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Linked
from sasrec.retrieval.recommender import Recommender


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def report(small_model, data):
    return sasrec.evaluate(small_model, data, k=[1, 5, 10], exclude_seen=False)


def recommender(scorer, log, **record):
    return Recommender(scorer, users=log.users, items=log.items, histories=log.histories, record=record)


def test_counting_models_stand_beside_every_network(report):
    assert [row.model for row in report.rows] == ["SASRec (softmax)", "Rules", "Markov", "Popularity"]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "SASRec (softmax)"),
        ({"loss": "bce"}, "SASRec (bce)"),
        ({"user_width": 4}, "SSE-PT (softmax)"),
        ({"network": "stamp-last", "learn": "last", "loss": "bpr", "positions": "none"}, "STAMP-last (bpr)"),
    ],
)
def test_a_report_names_the_network_and_its_loss(data, small_config, settings, name):
    model = sasrec.train(data, replace(small_config, epochs=1, **settings), progress=False)

    assert sasrec.evaluate(model, data).rows[0].model == name


@pytest.mark.parametrize(("kind", "name"), [(Linked, "Rules"), (Markov, "Markov"), (Popularity, "Popularity")])
def test_a_counting_model_is_evaluated_itself_and_not_its_namesake(kind, name, walks, data):
    # It counted the test events too, so it differs from what is counted on the training part alone.
    scorer = kind.of(walks.histories, items=len(walks.items))

    report = sasrec.evaluate(recommender(scorer, walks), data, exclude_seen=False)

    own, namesake = report.rows[0], next(row for row in report.rows[1:] if row.model == name)
    assert own.model == f"{name} (this model)"
    np.testing.assert_array_equal(own.ranks, rank_targets(scorer, data.test, exclude_seen=False).ranks)
    assert not np.array_equal(own.ranks, namesake.ranks)


def test_popularity_of_the_latest_events_is_not_called_as_that_of_all(data):
    report = sasrec.evaluate(sasrec.count(data, "recent", progress=False), data)

    assert [row.model for row in report.rows] == ["Recent popularity (this model)", "Rules", "Markov", "Popularity"]


def test_the_counting_models_count_the_training_part_alone(report, walks, data):
    for row, kind in zip(report.rows[1:], (Linked, Markov, Popularity), strict=True):
        counted = kind.of(data.train, items=len(walks.items))

        np.testing.assert_array_equal(row.ranks, rank_targets(counted, data.test, exclude_seen=False).ranks)


def test_means_and_errors_are_those_of_the_ranks(report):
    for row in report.rows:
        for k in (1, 5, 10):
            for name, metric in (("NDCG", ndcg), ("HR", hit_rate)):
                values = metric(row.ranks, k)
                mean, error = row.metrics[f"{name}@{k}"]
                assert mean == pytest.approx(values.mean())
                assert error == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)))


def test_every_user_of_the_part_is_ranked(report, data):
    assert all(len(row.ranks) == len(data.test) for row in report.rows)
    assert f"{len(data.test):,} users" in report.protocol


def test_coverage_is_the_share_of_items_that_anybody_is_recommended(report, small_model, data):
    holdout = data.test
    for k in (1, 5, 10):
        shown = set()
        for place in range(len(holdout)):
            history = small_model.items.raw(holdout.histories[place])
            shown |= {*small_model.continue_from(history, k=k, exclude_seen=False)["item_id"]}

        assert report.rows[0].coverage[f"coverage@{k}"] == len(shown) / len(small_model.items)


@pytest.mark.parametrize("seen", [True, False])
def test_whether_seen_items_are_left_out_is_a_choice_and_printed(small_model, data, seen):
    report = sasrec.evaluate(small_model, data, exclude_seen=seen)

    assert f"exclude_seen={seen}" in str(report).splitlines()[0]
    np.testing.assert_array_equal(
        report.rows[0].ranks, rank_targets(small_model.scorer, data.test, exclude_seen=seen).ranks
    )


@pytest.mark.parametrize("trained", [True, False])
def test_seen_items_are_treated_as_in_training_unless_told_otherwise(walks, data, trained):
    model = recommender(Popularity.of(data.train, items=len(walks.items)), walks, exclude_seen=trained)

    assert f"exclude_seen={trained}" in sasrec.evaluate(model, data).protocol


def test_targets_that_were_seen_before_are_counted_as_unreachable_and_said(log_of):
    log = log_of({"ada": ["x", "y", "z", "x"], "bob": ["x", "y", "z", "w"], "cyd": ["w", "y", "w", "w"]})
    data = sasrec.split(log)
    model = recommender(Popularity.of(data.train, items=4), log)

    excluding = sasrec.evaluate(model, data, k=4, exclude_seen=True)
    including = sasrec.evaluate(model, data, k=4, exclude_seen=False)

    assert np.isinf(excluding.rows[0].ranks).tolist() == [True, False, True]
    assert excluding["HR@4"] == pytest.approx(1 / 3)
    note = "2 of 3 targets were seen before and cannot be hit with exclude_seen=True"
    assert note in excluding.notes
    assert f"note: {note}" in str(excluding)
    assert including["HR@4"] == 1.0
    assert not any("seen before" in note for note in including.notes)


def test_targets_that_training_never_holds_are_said(log_of):
    log = log_of({"ada": ["x", "y", "new"], "bob": ["x", "y", "x"], "cyd": ["y", "x", "y"]})
    data = sasrec.split(log)

    report = sasrec.evaluate(recommender(Popularity.of(data.train, items=3), log), data, exclude_seen=False)

    assert "1 of 3 targets never occur in training" in report.notes


def test_a_model_trained_on_another_split_is_said(small_model, walks):
    by_time = sasrec.evaluate(small_model, sasrec.split(walks))
    other = recommender(small_model.scorer, walks, data="another split")

    assert not any("another log or split" in note for note in by_time.notes)
    assert any("may have seen these targets" in note for note in sasrec.evaluate(other, sasrec.split(walks)).notes)


@pytest.mark.parametrize("items", [["i00", "i01", "i02"], [f"j{row:02}" for row in range(25)]])
def test_a_model_of_another_catalogue_is_refused(small_model, log_of, items):
    other = sasrec.split(log_of({"ada": items}))

    with pytest.raises(
        DataError, match="evaluate on the log that the model was trained on, test part too, read as then"
    ):
        sasrec.evaluate(small_model, other)


def test_validation_can_be_looked_at_instead(small_model, data):
    report = sasrec.evaluate(small_model, data, on="valid")

    assert ", valid;" in report.protocol
    np.testing.assert_array_equal(
        report.rows[0].ranks,
        rank_targets(small_model.scorer, data.valid, exclude_seen=small_model.exclude_seen).ranks,
    )


def test_a_cut_off_that_is_none_is_named_as_it_was_typed(small_model, data):
    with pytest.raises(ConfigError, match="k: expected an integer >= 1 or several, found 0"):
        sasrec.evaluate(small_model, data, k=(0,))


@pytest.mark.parametrize("k", [0, -1, True, 2.5, "10", None, [], [5, 0], [5, True], [5, "1"], {5: 1}])
def test_k_is_one_or_several_integers_of_one_or_more(small_model, data, k):
    with pytest.raises(ConfigError, match="k: expected an integer >= 1 or several, found"):
        sasrec.evaluate(small_model, data, k=k)


def test_only_two_parts_exist(small_model, data):
    with pytest.raises(ConfigError, match="on: expected 'test' or 'valid', found 'train'"):
        sasrec.evaluate(small_model, data, on="train")


def test_a_metric_is_looked_up_by_its_name(report):
    assert report["NDCG@5"] == report.rows[0].metrics["NDCG@5"][0]
    assert report["coverage@10"] == report.rows[0].coverage["coverage@10"]
    with pytest.raises(KeyError, match=r"no metric 'NDCG@3'; the report has NDCG@1, HR@1"):
        report["NDCG@3"]


def test_a_notebook_shows_the_table_of_a_report(report):
    assert repr(report) == str(report)
    assert repr(report).startswith(f"{report.protocol}\n")


def test_the_table_and_the_json_say_the_same(report, tmp_path):
    sasrec.write_json(tmp_path / "report.json", report)
    saved = json.loads((tmp_path / "report.json").read_text())
    protocol, header, *lines = str(report).splitlines()

    names = header.split()
    assert saved["protocol"] == protocol
    assert saved["notes"] == [line.removeprefix("note: ") for line in lines[4:]]
    for line in lines[:4]:
        model, *cells = re.split(r"  +", line.strip())
        assert len(cells) == len(names)
        for name, cell in zip(names, cells, strict=True):
            found = saved["models"][model][name]
            expected = f"{found['mean']:.4f} ± {found['error']:.4f}" if "error" in found else f"{found['mean']:.1%}"
            assert cell == expected


def test_json_holds_every_metric_at_every_k(report):
    models = report.to_dict()["models"]

    names = {
        f"{name}@{k}" for name in ("NDCG", "HR", "MRR", "Recall", "Precision", "MAP", "coverage") for k in (1, 5, 10)
    }
    assert all({*values} == names for values in models.values())


def test_a_report_is_not_written_over_another_unasked(report, tmp_path):
    (tmp_path / "report.json").write_text("old")

    with pytest.raises(OutputError, match="exists already"):
        sasrec.write_json(tmp_path / "report.json", report)
    sasrec.write_json(tmp_path / "report.json", report, replace=True)

    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()


def test_what_is_no_result_is_not_written_as_json(small_model, tmp_path):
    with pytest.raises(ConfigError, match=r"result: .* found a Recommender; give what evaluate\(\), compare\(\)"):
        sasrec.write_json(tmp_path / "model.json", small_model)

    assert not list(tmp_path.iterdir())


def test_a_single_user_is_reported_with_an_error_that_is_json(log_of, tmp_path):
    log = log_of({"ada": ["x", "y", "z"]})
    data = sasrec.split(log)
    model = recommender(Popularity.of(data.train, items=3), log)

    report = sasrec.evaluate(model, data)
    sasrec.write_json(tmp_path / "report.json", report)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert np.isnan(report.rows[0].metrics["NDCG@10"][1])
    assert "nan" not in str(report)
    assert mean_and_error(np.array([0.5]))[0] == 0.5


def test_evaluating_twice_gives_the_same_report(small_model, data):
    assert str(sasrec.evaluate(small_model, data)) == str(sasrec.evaluate(small_model, data))


def test_only_what_precedes_a_target_is_shown_to_the_model(log_of):
    log = log_of({"ada": ["x", "y", "z", "w"], "bob": ["w", "z", "y", "x"]})
    data = sasrec.split(log)
    asked = []

    class Recording:
        kind, items, reads_times = "recording", 4, False

        def scores(self, histories):
            asked.extend(histories[row].tolist() for row in range(len(histories)))
            return Popularity.of(Sequences.of([[0, 1, 2, 3]]), items=4).scores(histories)

    sasrec.evaluate(recommender(Recording(), log), data)

    assert [log.items.raw(np.array(history)).to_list() for history in asked] == [["x", "y", "z"], ["w", "z", "y"]]


@pytest.fixture(scope="module")
def described(walks, small_config):
    """A split with items held out, and a model that knows all items by a category."""
    held = sasrec.hold_out_items(sasrec.split(walks), 0.2, seed=4)
    frame = pl.DataFrame({"item_id": walks.items.ids, "third": [str(row % 3) for row in range(25)]})
    features = sasrec.read_features(frame, walks.items, columns=["third"])
    return held, sasrec.train(held, small_config, features=features, progress=False), frame


def test_new_targets_are_told_apart_where_a_model_knows_more_of_items_than_their_ids(described, tmp_path):
    held, model, _ = described

    report = sasrec.evaluate(model, held, k=[5, 10], exclude_seen=False)

    new = ~np.isin(held.test.targets, held.train.items)
    assert [row.model for row in report.rows] == ["SASRec (softmax)", "Content", "Rules", "Markov", "Popularity"]
    assert 0 < new.sum() < len(new)
    for name, some in (("new targets", new), ("other targets", ~new)):
        for row, whole in zip(report.groups()[name], report.rows, strict=True):
            assert row.metrics["NDCG@10"][0] == pytest.approx(ndcg(whole.ranks[some], 10).mean())
            assert row.metrics["HR@5"][0] == pytest.approx(hit_rate(whole.ranks[some], 5).mean())
    assert f"new targets: the {new.sum()} users whose target never occurs in training" in str(report)
    sasrec.write_json(tmp_path / "report.json", report)
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["groups"]["new targets"]["users"] == new.sum()
    assert set(plain["groups"]["other targets"]["models"]) == {row.model for row in report.rows}


def test_targets_are_not_told_apart_where_no_model_could(report):
    assert report.groups() == {}
    assert "new targets" not in str(report)
    assert "groups" not in report.to_dict()


def test_a_model_with_added_items_is_ranked_among_all_of_them(described, walks):
    held, model, frame = described
    more = frame.head(6).with_columns(item_id=pl.concat_str(pl.lit("added "), "item_id"))
    wider = sasrec.add_items(model, more)

    report = sasrec.evaluate(wider, held, exclude_seen=False)

    assert "whole catalogue of 31 items ranked" in report.protocol
    assert not any("another log" in note for note in report.notes)
    place = dict(zip(wider.items.ids, range(31), strict=True))
    ids = [walks.items.raw(held.test.histories[row]).to_list() for row in range(len(held.test))]
    scores = wider.scorer.scores(Sequences.of([[place[one] for one in history] for history in ids]))
    for row, target in enumerate(walks.items.raw(held.test.targets)):
        own = scores[row, place[target]]
        expected = (scores[row] > own).sum() + ((scores[row] == own).sum() - 1) / 2
        assert report.rows[0].ranks[row] == pytest.approx(expected, abs=0.5), "equal scores may differ by rounding"


def test_a_row_that_is_not_there_is_a_key_error(small_model, walks):
    with pytest.raises(KeyError, match="Nobody"):
        sasrec.evaluate(small_model, sasrec.split(walks)).row("Nobody")
