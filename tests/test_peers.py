"""The side-by-side benchmark: the work that all are given, which steps count, gaps and tables. No other system runs."""

import ast
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks import measure, turns
from benchmarks.measure import Case, Sample
from benchmarks.peers import __main__ as command
from benchmarks.peers import checkouts, environments, epoch, pace, quality, systems, tables, work
from benchmarks.peers.drivers import sasrec as ours
from benchmarks.peers.environments import ENVIRONMENTS, Environment, GapError
from benchmarks.peers.pace import Pace
from benchmarks.peers.work import Work
from benchmarks.report import Row
from benchmarks.run import Run

PEERS = Path(command.__file__).parent
PYTHON_3_7 = ["measure.py", "run.py", "child.py"] + [
    f"peers/{name}.py" for name in ("work", "pace", "epoch", "quality", "checkouts", "drivers/authors")
]
SMALL = Work([(1, 2, 3, 4), (2, 1, 5), (3, 4, 1, 2, 5, 6, 7)], 7)
FACTS = {
    "timed_steps": 165,
    "epoch_steps": 175,
    "targets": 128031.0,
    "us_per_target": 50.0,
    "top10_cpu_s": 1.5,
    "top10_wall_s": 1.5,
    "ndcg10": 0.0123,
    "hr10": 0.02,
}


@pytest.fixture(scope="module")
def configs():
    return systems.settings(Run("", "", False, threads=1, epochs=1))


@pytest.fixture
def small_run(tmp_path):
    """Sixty users who walk around a circle of 24 items."""
    rng = np.random.default_rng(0)
    log = tmp_path / "log.txt"
    with open(log, "w") as file:
        for user, start in enumerate(rng.integers(24, size=60)):
            print(f"u{user:02}", *(f"i{(start + step) % 24}" for step in range(rng.integers(4, 12))), file=file)
    run = Run(str(tmp_path), str(log), False, threads=1, epochs=1)
    work.prepare(run)
    return run


def row(name, cpu_s=None, *, fault="", title="some system", **facts):
    case = Case(name, title, "peers.epoch:sample", {"config": {"loss": "bce"}, "steps": 0})
    samples = () if cpu_s is None else (Sample(cpu_s, 2 * cpu_s, 0.0, 100.0, FACTS | facts),)
    return Row(case, samples, fault)


# The work


def test_every_system_reads_the_same_dense_ids(small_run):
    found = Work.read(str(small_run.histories))
    lines = [line.split()[1:] for line in Path(small_run.log).read_text().splitlines()]

    names = {}
    for raw, dense in zip(lines, found.histories, strict=True):
        assert len(raw) == len(dense)
        assert all(names.setdefault(one, number) == number for one, number in zip(raw, dense, strict=True))
    assert sorted(names.values()) == list(range(1, found.items + 1))


def test_the_last_item_is_tested_and_the_one_before_it_is_not_trained_on():
    assert SMALL.train() == [(1, 2), (2,), (3, 4, 1, 2, 5)]
    assert SMALL.known() == [(1, 2, 3), (2, 1), (3, 4, 1, 2, 5, 6)]
    assert SMALL.padded(4) == [[0, 1, 2, 3], [0, 0, 2, 1], [1, 2, 5, 6]]


def test_targets_of_windows_are_counted_by_hand():
    assert work.last_windows(SMALL, 3) == [1, 3]
    assert work.last_windows(SMALL, 3, first_too=True) == [2, 1, 3]
    assert work.rolling_windows(SMALL) == [1] * 5


def test_a_whole_epoch_must_hold_exactly_what_is_expected():
    expected = [1, 3, 2, 2]

    work.check_targets(8, 4, expected)

    with pytest.raises(ValueError, match=r"1\.7500 real targets a window; expected 2\.0000"):
        work.check_targets(7, 4, expected)


def test_a_part_of_an_epoch_may_differ_by_chance_alone():
    expected = [1, 3] * 5000  # one standard error of a hundred windows is 0.1

    work.check_targets(240, 100, expected)

    with pytest.raises(ValueError, match=r"at most 0\.5000 off"):
        work.check_targets(260, 100, expected)


def test_recommendations_are_scored_by_hand():
    catalogue = Work([(1, 2, 3), (4, 5, 6), (7, 8, 9)], 30)
    lists = [[3, *range(11, 20)], [*range(11, 15), 6, *range(15, 20)], list(range(11, 21))]

    found = work.score(catalogue, lists)
    valid = work.score(catalogue, [[2, *range(11, 20)], *lists[1:]], held_out=2)

    assert found["hr10"] == pytest.approx(2 / 3)
    assert found["ndcg10"] == pytest.approx((1 + 1 / math.log2(6)) / 3)
    assert valid["ndcg10"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("wrong", [list(range(11, 20)), [11] * 10, [1, *range(11, 20)]])
def test_a_list_that_is_short_or_repeats_or_names_a_seen_item_is_refused(wrong):
    with pytest.raises(ValueError, match="user 1: not 10 different items"):
        work.score(Work([(1, 2, 3)], 30), [wrong])


def test_a_system_that_answers_for_some_users_alone_is_refused():
    with pytest.raises(ValueError, match="lists for 1 users; there are 3"):
        work.score(SMALL, [list(range(10))])


def test_the_best_unseen_items_are_those_of_a_sort():
    scores = np.random.default_rng(0).normal(size=(4, 40))
    known = [(1, 2, 3), (40,), (7, 8), (1,)]

    wanted = [
        [item for item in (np.argsort(-line) + 1).tolist() if item not in seen][:10]
        for line, seen in zip(scores, known, strict=True)
    ]

    assert work.best_unseen(scores.copy(), known) == wanted


# The steps


def test_steps_that_warm_up_are_made_and_not_timed(monkeypatch):
    clock = []
    monkeypatch.setattr(pace, "timed", lambda: SimpleNamespace(__enter__=None))
    monkeypatch.setattr(pace.ExitStack, "enter_context", lambda _stack, _context: clock.append("on"))
    monkeypatch.setattr(pace.ExitStack, "close", lambda _stack: clock.append("off"))
    some = Pace(warmup=2, steps=3)

    for _ in some.through(range(100), lambda batch: (4, batch)):
        clock.append("step")  # noqa: PERF401 (the clock is told of other things in between)

    assert clock == ["step", "step", "on", "step", "step", "step", "off"]
    assert (some.made, some.windows, some.targets, some.timed_targets) == (5, 20, 0 + 1 + 2 + 3 + 4, 2 + 3 + 4)


def test_an_epoch_that_ends_early_is_noticed():
    some = Pace(warmup=1, steps=5)
    list(some.through(range(3), lambda _batch: (1, 1)))

    with pytest.raises(ValueError, match="3 steps of the 6"):
        epoch.scaled(some, 100)


def test_a_part_of_an_epoch_is_scaled_to_the_whole():
    some = Pace(warmup=2, steps=8)
    for _ in range(10):
        some.step(128, 700)
    some.watch.cpu_s, some.watch.wall_s = 4.0, 6.0

    found = epoch.scaled(some, 160)

    assert (found.cpu_s, found.wall_s) == (80.0, 120.0)
    assert found.facts["targets"] == 160 * 700
    assert found.facts["us_per_target"] == pytest.approx(4e6 / (8 * 700))
    assert (found.facts["timed_steps"], found.facts["epoch_steps"]) == (8, 160)


@pytest.mark.parametrize(
    ("whole", "steps", "warmup", "timed"), [(175, 0, 10, 165), (5, 0, 1, 4), (175, 20, 2, 20), (6, 20, 2, 4)]
)
def test_a_whole_epoch_is_timed_but_for_its_first_steps(whole, steps, warmup, timed):
    some = epoch.paced(whole, steps)

    assert (some.warmup, some.steps) == (warmup, timed)


# A sample, with the system that is here


def test_a_sample_of_our_own_holds_every_figure_of_the_tables(small_run, configs):
    config = configs["softmax"] | {"width": 8, "batch": 16, "length": 5}
    expected = sum(work.last_windows(Work.read(str(small_run.histories)), 5))

    found = epoch.sample(small_run, driver="sasrec", config=config, steps=0)

    assert found.facts.keys() == FACTS.keys()
    assert found.facts["epoch_steps"] == 4
    assert found.facts["targets"] == expected


@pytest.mark.parametrize("name", ["stamp", "recohut"])
def test_rolling_windows_count_one_target_each(small_run, configs, name):
    config = configs[name] | {"width": 8, "batch": 16}
    expected = len(work.rolling_windows(Work.read(str(small_run.histories))))

    found = epoch.sample(small_run, driver="sasrec", config=config, steps=0)

    assert found.facts["targets"] == expected


def test_a_system_that_learns_from_something_else_is_refused(small_run, configs, monkeypatch):
    monkeypatch.setattr(
        epoch, "check_targets", lambda counted, windows, _expected: work.check_targets(counted, windows, [9] * windows)
    )

    with pytest.raises(ValueError, match=r"expected 9\.0000"):
        epoch.sample(small_run, driver="sasrec", config=configs["bce"] | {"width": 8, "batch": 16}, steps=1)


def test_training_goes_on_until_the_figure_is_reached(small_run, configs):
    config = configs["softmax"] | {"width": 16, "batch": 16, "dropout": 0.0}

    found = quality.sample(small_run, driver="sasrec", config=config, ndcg=0.8)

    assert found.facts["valid_ndcg10"] >= 0.8
    assert 1 < found.facts["epochs"] <= quality.MOST_EPOCHS


def test_what_is_judged_is_the_average_of_the_weights_as_in_training(small_run, configs):
    config = configs["softmax"] | {"width": 16, "batch": 16, "average": 0.999}
    system = ours.System(Work.read(str(small_run.histories)), config, 1)
    system.epoch(Pace(warmup=1, steps=system.steps))

    judged = system.best("valid")

    with system.training.judged() as network:
        average = {name: one.clone() for name, one in network.named_parameters()}
    system.training.average = None
    assert judged != system.best("valid")
    system.training.network.load_state_dict(average, strict=False)
    assert judged == system.best("valid")


def test_a_figure_that_is_never_reached_is_said(small_run, configs, monkeypatch):
    monkeypatch.setattr(quality, "MOST_EPOCHS", 1)

    with pytest.raises(ValueError, match=r"after 1 epochs; 1\.1 was asked for"):
        quality.sample(small_run, driver="sasrec", config=configs["softmax"] | {"width": 8}, ndcg=1.1)


# Systems and their environments


def test_every_preset_stands_beside_its_own_system(configs):
    from sasrec.presets import PRESETS

    found = systems.cases(configs)

    for name, preset in PRESETS.items():
        ours, theirs = found[f"preset.{name}.sasrec"], found[f"preset.{name}.{name}"]
        assert ours.settings["config"] == theirs.settings["config"]
        assert ours.settings["config"] | {"negatives": preset.config.negatives} == preset.config.to_dict()
        assert ours.settings["config"]["negatives"] == (256 if name == "esasrec" else 1)


def test_everybody_is_compared_with_the_same_settings(configs):
    chosen = [case for case in systems.cases(configs).values() if case.name.startswith("same.")]

    for case in chosen:
        config = case.settings["config"]
        assert (config["width"], config["blocks"], config["length"], config["batch"]) == (64, 2, 50, 128)
        assert (config["dropout"], config["feed_forward"]) == (0.2, 64)
    formats = [case.name for case in chosen if case.settings["config"]["precision"] != "auto"]
    assert formats == ["same.float32.sasrec"]
    assert len(chosen) == len(systems.SAME) + len(formats)


def test_every_system_has_a_driver_and_pinned_packages():
    for system in systems.SYSTEMS.values():
        assert (PEERS / "drivers" / f"{system.driver}.py").is_file()
        assert bool(system.environment) == (system.title != "sasrec")
        assert bool(system.checkout) == bool(system.home)
        assert all(system.versions().values())
    for environment in ENVIRONMENTS.values():
        assert all("==" in line for line in environment.requirements.splitlines())
    assert {one.stem for one in (PEERS / "requirements").iterdir()} == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", PYTHON_3_7)
def test_what_runs_beside_tensorflow_1_can_be_read_by_python_3_7(name):
    code = (PEERS.parent / name).read_text(encoding="utf-8")

    assert ast.parse(code, feature_version=(3, 7))
    assert "from __future__ import annotations" in code or " | " not in code


def test_a_missing_python_is_a_gap(monkeypatch):
    monkeypatch.setattr(environments.shutil, "which", lambda _name: None)

    with pytest.raises(GapError, match=r"needs Python 2\.9, and no python2\.9 runs here"):
        environments.interpreter("2.9")


def test_packages_that_cannot_be_installed_are_a_gap_with_what_pip_said(monkeypatch, tmp_path):
    def run(arguments, **options):
        if "pip" in arguments:
            options["stdout"].write("Collecting x\nERROR: no matching distribution\nmore\n")
            options["stdout"].flush()
        return SimpleNamespace(returncode=int("pip" in arguments))

    monkeypatch.setattr(environments.subprocess, "run", run)

    with pytest.raises(GapError, match="cannot be installed: ERROR: no matching distribution"):
        environments.build(ENVIRONMENTS["torch"], tmp_path)


def test_an_environment_is_built_once_and_again_when_its_packages_change(monkeypatch, tmp_path):
    started = []

    def run(arguments, **_options):
        started.append([str(one) for one in arguments])
        (tmp_path / "torch").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(environments, "interpreter", lambda _version: "python")

    first = environments.build(ENVIRONMENTS["torch"], tmp_path)
    made = len(started)
    again = environments.build(ENVIRONMENTS["torch"], tmp_path)

    assert first == again == str(tmp_path / "torch" / "bin" / "python")
    assert made == len(started) == 2
    (tmp_path / "torch" / "installed.txt").write_text("other==1\n")
    environments.build(ENVIRONMENTS["torch"], tmp_path)
    assert len(started) == 4


def test_a_checkout_that_is_not_there_is_a_gap_that_names_its_repository(monkeypatch, tmp_path):
    pmixer = systems.SYSTEMS["pmixer"]
    (tmp_path / "there" / "SASRec.pytorch" / "python").mkdir(parents=True)
    (tmp_path / "there" / "SASRec.pytorch" / "python" / "model.py").touch()

    monkeypatch.delenv(checkouts.FOLDER, raising=False)
    nowhere = pmixer.gap()
    monkeypatch.setenv(checkouts.FOLDER, str(tmp_path))
    elsewhere = pmixer.gap()
    monkeypatch.setenv(checkouts.FOLDER, str(tmp_path / "there"))
    there = pmixer.gap()

    assert nowhere == "SASREC_BENCH_PEERS names no folder of checkouts; clone github.com/pmixer/SASRec.pytorch there"
    assert elsewhere.startswith("SASRec.pytorch/python/model.py is not in the folder")
    assert not there


# Tables


def test_a_preset_that_costs_more_than_its_system_fails():
    rows = [row("preset.a.sasrec", 2.0), row("preset.a.a", 20.0), row("preset.b.sasrec", 3.0), row("preset.b.b", 2.0)]

    lines = tables.tables(rows).splitlines()

    assert "| `a` | some system | 2 | 20 | 10 pass |" in lines[4]
    assert "| `b` | some system | 3 | 2 | 0.7 FAIL |" in lines[5]
    assert (
        tables.verdict(rows) == "Of 2 presets, 2 were measured beside their systems; cost more than their systems: b."
    )


def test_a_gap_keeps_its_row_and_says_why():
    rows = [
        row("preset.a.sasrec", 2.0),
        row("preset.a.a", fault="it needs Python 3.7"),
        row("same.bce.replay", fault="why"),
    ]

    found = tables.tables(rows)

    assert "| `a` | some system | 2 | not measured: it needs Python 3.7 |" in found
    assert not tables.verdict(rows)
    assert "| some system | binary cross-entropy, 1 negative | not measured: why |" in found
    assert len({line.count("|") for line in found.splitlines() if line.startswith(("| `a`", "| preset"))}) == 1


def test_time_until_it_is_good_is_compared_at_the_same_settings():
    reached = {"epochs": 5, "valid_ndcg10": 0.061}
    rows = [
        row("quality.softmax.sasrec", 30.0, title="ours", **reached),
        row("quality.soon.sasrec", 10.0, title="ours", **reached),
        row("quality.softmax.freerec", 90.0, title="theirs", **reached),
        row("quality.soon.freerec", 80.0, title="theirs", **reached),
    ]

    lines = tables.tables(rows).splitlines()

    assert [line.split("|")[4].strip() for line in lines[-4:]] == ["1.0", "1.0", "3.0", "8.0"]
    assert "the same as above" in lines[-2]
    assert "learning rate 0.003" in lines[-1]


def test_the_comparison_says_how_many_times_ours_and_which_part_was_timed():
    rows = [row("same.bce.sasrec", 2.0), row("same.bce.rectools", 23.0, timed_steps=6)]

    lines = tables.tables(rows).splitlines()

    assert lines[-2].startswith("| some system | binary cross-entropy, 1 negative | 2 | 1.0 | 50 |")
    assert "| 23, 6 of 175 steps timed | 12 |" in lines[-1]


# The command


@pytest.fixture
def asked(monkeypatch, configs):
    """Answers for processes; holds what was asked for, with which Python, and how long it is waited for."""
    seen = []

    def answer(function, _run, chosen, *, python=None, errors=None, patience=None):
        seen.append((function, chosen.get("steps"), python, patience))
        if chosen.get("driver") == "replay":
            raise ChildProcessError("replay left with code 1: ValueError: something else")
        machine = {"processor": "some", "bfloat16": False}
        sizes = {"users": 3, "items": 2, "events": 9}
        fixed = {"inputs:describe_machine": machine, "peers.work:prepare": sizes, "peers.systems:settings": configs}
        return fixed.get(function, {"cpu_s": 9.0, "wall_s": 9.0, "others": 0.1, "peak_mb": 1.0, "facts": FACTS})

    monkeypatch.setattr(command, "call", answer)
    monkeypatch.setattr(turns, "call", answer)
    monkeypatch.setattr(command, "build", lambda environment, _folder: _built(environment))
    monkeypatch.delenv(command.FOLDER, raising=False)
    monkeypatch.delenv(checkouts.FOLDER, raising=False)
    return seen


def _built(environment: Environment) -> str:
    if environment.name == "recbole":
        raise GapError("its packages cannot be installed: ERROR: none")
    return f"{environment.name}/bin/python"


def test_gaps_are_rows_of_the_table_and_no_failure(asked, tmp_path, capsys):
    output = tmp_path / "new" / "out.json"

    code = command.main(["--only", "same.softmax", "ml1m", "--repeats", "1", "--json", str(output)])

    shown, result = capsys.readouterr().out, json.loads(output.read_text())
    faults = {one["case"]: one["fault"] for one in result["rows"]}
    assert code == 1, "RePlay is there and failed"
    assert "could not be measured" in faults["same.softmax.replay"]
    assert "ERROR: none" in faults["same.softmax.recbole"]
    assert "clone github.com/MTandHJ/RecBoard there" in faults["same.softmax.freerec"]
    assert "give --ml1m" in faults["ml1m.softmax.sasrec"]
    assert all(fault in shown for fault in faults.values())
    assert str(tmp_path) not in output.read_text()
    assert result["systems"]["rectools"]["RecTools"] == "0.19.0"


def test_without_a_failure_gaps_alone_leave_with_success(asked, tmp_path):
    assert command.main(["--only", "same.softmax.recbole", "--json", str(tmp_path / "out.json")]) == 0


def test_each_sample_is_taken_by_the_python_of_its_environment(asked, tmp_path):
    command.main(["--only", "same.softmax.sasrec", "preset.rectools", "--quick", "--json", str(tmp_path / "out.json")])

    samples = [(steps, python) for function, steps, python, _ in asked if function == "peers.epoch:sample"]
    assert samples == [(2, sys.executable), (2, sys.executable), (2, "rectools/bin/python")]


@pytest.mark.parametrize(("options", "seconds"), [([], 7200), (["--patience", "3"], 180)])
def test_a_system_that_hangs_is_waited_for_as_long_as_was_asked(asked, tmp_path, options, seconds):
    command.main(["--only", "same.softmax.sasrec", "--quick", "--json", str(tmp_path / "out.json"), *options])

    assert [patience for function, _, _, patience in asked if function == "peers.epoch:sample"] == [seconds]


def test_fewer_steps_shorten_whole_epochs_and_nothing_that_is_shorter(configs):
    known = systems.cases(configs)

    short = [command._shortened(known[name], 5).settings for name in ("same.bce.paper", "preset.rectools.rectools")]
    untouched = command._shortened(known["quality.softmax.sasrec"], 5)

    assert [one["steps"] for one in short] == [5, 3]
    assert untouched == known["quality.softmax.sasrec"]


def test_a_case_that_nobody_knows_is_said(asked):
    with pytest.raises(SystemExit, match="--only presets: there is no such case; known are same"):
        command.main(["--only", "presets"])


def test_training_to_a_figure_is_measured_only_when_it_is_asked_for(configs):
    options = command._options([])

    chosen = {case.name for case in command._chosen(systems.cases(configs), options)}

    assert "preset.stamp.stamp" in chosen
    assert not {name for name in chosen if name.startswith("quality")}


def test_a_log_that_is_not_there_is_said_before_anything_is_measured(asked, capsys):
    assert command.main(["--ml1m", "nowhere.parquet"]) == 2
    assert "nowhere.parquet: no such file" in capsys.readouterr().err
    assert not asked


def test_what_a_failing_process_said_last_is_the_reason(tmp_path):
    run = replace(Run(str(tmp_path), "nowhere", False, threads=1, epochs=1))

    with pytest.raises(ChildProcessError, match="left with code 1: FileNotFoundError"):
        measure.call(
            "peers.epoch:sample", run, {"driver": "sasrec", "config": {}, "steps": 1}, errors=tmp_path / "said.txt"
        )


def test_helper_processes_count_as_the_systems_own_work():
    code = "sum(range(10**7))"
    with measure.timed() as watch:
        subprocess.run([sys.executable, "-c", code], check=True)

    assert watch.cpu_s > 0.01


def test_the_process_that_starts_the_others_stays_small():
    code = "import sys, benchmarks.peers.__main__; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], cwd=measure.ROOT, capture_output=True, text=True, check=True)

    assert not {"sasrec", "torch", "numpy", "polars"} & set(loaded.stdout.split())
