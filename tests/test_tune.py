"""A search by validation alone, the same whether it is stopped and gone on with or not."""

import dataclasses
import errno
import io
import json
import shlex

import pytest

import sasrec
from sasrec.cli import main
from sasrec.data.splits import Split
from sasrec.errors import ConfigError, OutputError, ScoreError, TrainingError
from sasrec.locking import held
from sasrec.studies import tune as module
from sasrec.studies.tune import Range, Trial, Tuning, read_space, tune

SPACE = {"width": (4, 8), "learning_rate": Range(1e-4, 1e-1, log=True), "blocks": Range(0, 2)}


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def base(small_config):
    return dataclasses.replace(small_config, epochs=2)


@pytest.fixture(scope="module")
def found(data, base):
    return tune(data, SPACE, base=base, trials=4)


def test_the_best_settings_are_those_of_the_trial_with_the_highest_validation_ndcg(found, data, base):
    values = []
    for trial in found.trials:
        record = sasrec.train(data, dataclasses.replace(base, **trial.settings)).record
        values.append(record["best"]["ndcg"])
        assert trial.ndcg == record["best"]["ndcg"]

    assert found.best == dataclasses.replace(base, **found.trials[values.index(max(values))].settings)


def test_settings_stay_within_their_ranges_and_choices(found):
    for trial in found.trials:
        assert trial.settings["width"] in (4, 8)
        assert 1e-4 <= trial.settings["learning_rate"] <= 1e-1
        assert trial.settings["blocks"] in (0, 1, 2)


def test_a_study_that_was_stopped_goes_on_as_if_it_had_not_been(found, data, base, tmp_path):
    tune(data, SPACE, base=base, trials=2, study=tmp_path / "study")
    again = tune(data, SPACE, base=base, trials=4, study=tmp_path / "study")

    assert [one.settings for one in again.trials] == [one.settings for one in found.trials]
    assert [one.ndcg for one in again.trials] == [one.ndcg for one in found.trials]


def test_finished_trials_are_not_trained_again(data, base, tmp_path, monkeypatch):
    tune(data, SPACE, base=base, trials=2, study=tmp_path / "study")
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("trained again"))

    assert len(tune(data, SPACE, base=base, trials=2, study=tmp_path / "study").trials) == 2


def test_the_test_part_is_never_looked_at(data, base, monkeypatch):
    monkeypatch.setattr(Split, "test", property(lambda _: pytest.fail("looked at the test part")))

    tune(data, SPACE, base=base, trials=1)


@pytest.mark.parametrize("what", ["space", "seed", "base"])
def test_a_study_of_another_search_is_refused(data, base, tmp_path, what):
    asked = {"space": SPACE, "seed": 0, "base": base, "trials": 1, "study": tmp_path / "study"}
    tune(data, **asked)
    other = {"space": {"width": (4,)}, "seed": 1, "base": dataclasses.replace(base, batch=8)}[what]

    with pytest.raises(ConfigError, match=f"is a study of another {what}; choose another file"):
        tune(data, **asked | {what: other})


def test_a_study_of_another_log_is_refused(data, base, tmp_path, log_of):
    tune(data, {"width": (4,)}, base=base, trials=1, study=tmp_path / "study")
    other = sasrec.split(log_of({"a": ["x", "y", "z"], "b": ["z", "x", "y"]}))

    with pytest.raises(ConfigError, match="is a study of another data"):
        tune(other, {"width": (4,)}, base=base, trials=1, study=tmp_path / "study")


def test_a_trial_that_cannot_be_trained_is_told_and_does_not_end_the_search(data, base):
    found = tune(data, {"heads": (2, 3)}, base=base, trials=6)

    failed = [one for one in found.trials if one.settings["heads"] == 3]
    assert failed
    assert all(one.ndcg is None and "heads: must divide" in one.failure for one in failed)
    assert found.best.heads == 2
    assert "failed" in str(found)


def test_a_trial_whose_scores_are_no_numbers_is_told_and_does_not_end_the_search(data, base, monkeypatch, tmp_path):
    train = module.train

    def diverging(data, config, **options):
        if config.width == 8:
            raise ScoreError("scores are not numbers")
        return train(data, config, **options)

    monkeypatch.setattr(module, "train", diverging)
    found = tune(data, {"width": (4, 8)}, base=base, trials=6, study=tmp_path / "study")

    failed = [one for one in found.trials if one.settings["width"] == 8]
    assert failed
    assert {one.failure for one in failed} == {"scores are not numbers"}
    assert found.best.width == 4


def test_an_error_that_speaks_of_an_interrupt_is_none(data, base, monkeypatch):
    def broken(*_, **__):
        raise TrainingError("a log of interrupted events")

    monkeypatch.setattr(module, "train", broken)

    with pytest.raises(TrainingError, match="no trial could be trained: a log of interrupted events"):
        tune(data, {"width": (4,)}, base=base, trials=2)


def test_one_study_is_searched_by_one_at_a_time(data, base, tmp_path):
    with (
        held(tmp_path / "study", doing="somebody searches"),
        pytest.raises(OutputError, match="study: another search tries the same settings at this moment; wait until"),
    ):
        tune(data, {"width": (4,)}, base=base, trials=1, study=tmp_path / "study")

    assert not (tmp_path / "study").exists()
    assert len(tune(data, {"width": (4,)}, base=base, trials=1, study=tmp_path / "study").trials) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_search_holds_its_study_while_it_trains(data, base, monkeypatch, tmp_path):
    def other(*_, **__):
        with pytest.raises(OutputError, match="at this moment"), held(tmp_path / "study", doing="a second one"):
            pass
        raise TrainingError("ended", interrupted=True)

    monkeypatch.setattr(module, "train", other)

    with pytest.raises(TrainingError, match="interrupted before the first trial was done"):
        tune(data, {"width": (4,)}, base=base, trials=1, study=tmp_path / "study")


def test_a_search_in_which_nothing_can_be_trained_says_why(data, base):
    with pytest.raises(TrainingError, match="no trial could be trained: heads: must divide"):
        tune(data, {"heads": (3,)}, base=base, trials=2)


def test_an_interrupt_before_the_first_step_of_a_trial_keeps_the_finished_trials(data, base, monkeypatch):
    trained = []

    def interrupted(*arguments, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(sasrec.train(*arguments, **options))
        return trained[-1]

    monkeypatch.setattr(module, "train", interrupted)

    assert len(tune(data, SPACE, base=base, trials=5).trials) == 2


def test_what_nobody_can_read_any_more_ends_no_search(data, base, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sys.stderr", Gone())

    assert len(tune(data, SPACE, base=base, trials=1, progress=True).trials) == 1


def test_a_seed_below_0_is_refused_and_a_large_one_is_none_too_large(data, base):
    with pytest.raises(ConfigError, match="seed: expected an integer >= 0, found -1"):
        tune(data, SPACE, base=base, trials=1, seed=-1)

    assert len(tune(data, SPACE, base=base, trials=2, seed=2**32 - 1).trials) == 2


def test_an_interrupt_keeps_the_finished_trials(data, base, monkeypatch, tmp_path):
    train, calls = module.train, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise TrainingError("ended before the first epoch was validated", interrupted=True)
        return train(*arguments, **options)

    monkeypatch.setattr(module, "train", interrupted)
    found = tune(data, SPACE, base=base, trials=5, study=tmp_path / "study")

    assert len(found.trials) == 2
    monkeypatch.setattr(module, "train", train)
    assert [one.ndcg for one in tune(data, SPACE, base=base, trials=2, study=tmp_path / "study").trials] == [
        one.ndcg for one in found.trials
    ]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({}, "names no setting"),
        ({"widht": (1, 2)}, "unknown setting 'widht'; did you mean 'width'"),
        ({"width": (0, 8)}, "width: .* found 0"),
        ({"width": ()}, "width has no values"),
        ({"dropout": Range(0.5, 0.2)}, "low must be at most high"),
        ({"learning_rate": Range(0.0, 0.1, log=True)}, "with log above 0"),
        ({"dropout": Range(0.0, 1.5)}, "dropout: .* found 1.5"),
        ({"dropout": Range(float("nan"), 0.5)}, "low must be at most high"),
        ({"dropout": Range(-float("inf"), 0.5, step=0.1)}, "low must be at most high"),
        ({"width": Range(8, 16, log="false")}, 'log must be true or false, found {low = 8, high = 16, log = "false"}'),
        ({"width": Range(8, 16, step=-1)}, "step must be above 0, .* found {low = 8, high = 16, step = -1}"),
        ({"width": Range(8, 16, step=0)}, "step must be above 0, .* step = 0}"),
        ({"width": Range(8, 16, step=3)}, "step must .* divide the range, .* step = 3}"),
        ({"width": Range(8, 16, step=0.5)}, "step must .* be whole between integers, .* step = 0.5}"),
        ({"width": Range(8, 16, step=True)}, "step must .* step = true}"),
        ({"blocks": Range(0, 2, step=False)}, "step must .* found {low = 0, high = 2, step = false}"),
        ({"dropout": Range(0.1, 0.5, step="x")}, 'step must .* step = "x"}'),
        ({"dropout": Range(0.1, 0.5, step=0.3)}, "step must .* step = 0.3}"),
        ({"dropout": Range(0.1, 0.5, step=float("nan"))}, "step must .* step = NaN}"),
        ({"dropout": Range(0.1, 0.5, step=float("inf"))}, "step must .* step = Infinity}"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(data, space, words):
    with pytest.raises(ConfigError, match=words):
        tune(data, space, trials=1)


def test_steps_that_divide_a_range_as_it_is_written_are_searched(data, base):
    # As floats, 0.4 is no multiple of 0.1, and 4.0 is no integer.
    space = {"dropout": Range(0.1, 0.5, step=0.1), "width": Range(8, 16, step=4.0), "blocks": Range(1, 1, step=2)}

    found = tune(data, space, base=base, trials=1).trials[0].settings

    assert round(found["dropout"], 6) in (0.1, 0.2, 0.3, 0.4, 0.5)
    assert (found["width"] in (8, 12, 16), found["blocks"]) == (True, 1)


def test_a_file_that_is_no_study_is_refused(data, base, tmp_path):
    (tmp_path / "study").write_text("dear diary\n")

    with pytest.raises(ConfigError, match="is not a study of sasrec"):
        tune(data, SPACE, base=base, trials=1, study=tmp_path / "study")
    with pytest.raises(OutputError, match="does not exist or cannot be entered; make it first"):
        tune(data, SPACE, base=base, trials=1, study=tmp_path / "no" / "study")


def test_a_space_is_read_from_toml(tmp_path):
    (tmp_path / "space.toml").write_text(
        "epochs = 3\n[space]\ndropout = [0.2, 0.5]\nlearning_rate = {low = 1e-4, high = 1e-2, log = true}\n"
        "width = {low = 32, high = 128, step = 32}\n"
    )

    space, base = read_space(tmp_path / "space.toml")

    assert base == sasrec.Config(epochs=3)
    assert space == {
        "dropout": (0.2, 0.5),
        "learning_rate": Range(1e-4, 1e-2, log=True),
        "width": Range(32, 128, step=32),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = 3\n", r"has no \[space\]"),
        ("[space]\nwidth = 3\n", "width: expected a list or"),
        ("[space]\nwidth = {low = 3}\n", "width: expected a list or .* found {low = 3}"),
        ("epoch = 3\n[space]\nwidth = [3]\n", "unknown setting 'epoch'; did you mean 'epochs'"),
        (
            "width = 8\n[space]\nwidth = [8, 16]\n",
            r"width is both kept above \[space\] and searched under it; leave one",
        ),
        ("[space\n", "is not TOML"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, words):
    (tmp_path / "space.toml").write_text(text)

    with pytest.raises(ConfigError, match=words):
        read_space(tmp_path / "space.toml")


def test_the_command_line_searches_goes_on_and_writes_settings_that_train(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"u{user},i{(user + step) % 9}" for user in range(30) for step in range(5)]
    (tmp_path / "log.csv").write_text("the user,item_id\n" + "\n".join(rows) + "\n")
    (tmp_path / "space.toml").write_text("width = 8\nepochs = 1\n[space]\ndropout = [0.1, 0.3]\n")
    typed = ["tune", "log.csv", "--space", "space.toml", "--study", "study", "--out", "best.toml"]
    typed += ["--user", "the user", "--item-core", "2"]

    assert main([*typed, "--trials", "1"]) == 0
    assert main([*typed, "--trials", "2"]) == 6, "the settings are there already"
    assert main([*typed, "--trials", "2", "--replace"]) == 0

    shown = capsys.readouterr()
    assert "2 trials by validation NDCG@10 (the test part was not looked at)" in shown.out
    assert "2 of 2: " in shown.err
    _, *suggested = shlex.split(shown.out.rpartition("next, try:\n")[2])
    assert main(suggested) == 0
    assert sasrec.load("best.sasrec").scorer.config.dropout in (0.1, 0.3)
    assert sasrec.load("best.sasrec").record["reading"].items() >= {"user": "the user", "item_core": 2}.items()
    assert all(json.loads(line) for line in (tmp_path / "study").read_text().splitlines())


def test_a_notebook_shows_the_trials_of_a_search(base):
    found = Tuning(base, (Trial({"width": 9}, 0.25, 1, 0.1, ""),), "data")

    assert repr(found) == str(found)
    assert repr(found).startswith("1 trial by validation NDCG@10")


def test_a_trial_that_found_nothing_stands_above_one_that_failed(base):
    trials = (Trial({"width": 8}, None, 0, 0.1, "no"), Trial({"width": 9}, 0.0, 1, 0.1, ""))

    lines = str(Tuning(base, trials, "data")).splitlines()

    assert ["0.0000" in line for line in lines[1:]] == [True, False]


@pytest.mark.parametrize("trials", [0, 1.5, "3", True])
def test_trials_are_a_whole_number(data, base, trials):
    with pytest.raises(ConfigError, match="trials: expected an integer >= 1, found"):
        tune(data, SPACE, base=base, trials=trials)
