"""The harness of the benchmarks: what it starts, counts and says. Nothing is timed here."""

import json
import os
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import child, growth, guard, inputs, measure, million, plot, startup, training, turns
from benchmarks.measure import Case, Sample
from benchmarks.report import Row, Spread, plain, table
from benchmarks.run import Run

CASE = Case("one", "first thing", "startup:importing", limits={"cpu_s": 2.0, "whole_s": 0.5})
MACHINE = {"torch": "2.0", "bfloat16": False}
SIZES = {"users": 3, "items": 2, "events": 9}


def sample(cpu_s, *, whole_s=0.4):
    return Sample(cpu_s, 2 * cpu_s, 0.0, 100.0, {"whole_s": whole_s})


def run_on(folder, *, is_beauty=False):
    return Run(str(folder), str(folder / "log.txt"), is_beauty, threads=1, epochs=1)


@pytest.fixture
def asked(monkeypatch):
    """Answers for processes instead of processes; holds the names of the functions asked for, in order."""
    names = []

    def answer(function, run, settings, **options):
        names.append(function)
        if function == "reading:log":
            raise ChildProcessError("reading:log left with code 3")
        found = {"inputs:describe_machine": MACHINE, "inputs:describe_log": SIZES}
        return found.get(function, {"cpu_s": 9.0, "wall_s": 9.0, "others": 0.0, "peak_mb": 1.0, "facts": {}})

    monkeypatch.setattr(command, "call", answer)
    monkeypatch.setattr(turns, "call", answer)
    monkeypatch.delenv(command.FOLDER, raising=False)
    return names


def test_the_process_that_starts_the_others_stays_small():
    code = "import sys, benchmarks.__main__; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], cwd=measure.ROOT, capture_output=True, text=True, check=True)

    assert "benchmarks.training" in loaded.stdout.split()
    assert not {"sasrec", "torch", "numpy", "polars"} & set(loaded.stdout.split())


def interpreter(folder, *lines):
    """A program that is started in Python's place."""
    program = folder / "python"
    program.write_text("\n".join(("#!/bin/sh", *lines)))
    program.chmod(0o755)
    return str(program)


def test_a_child_is_told_its_threads_and_its_last_answer_counts(tmp_path):
    said = (
        """echo 'RESULT {"a": 1}'; printf 'RESULT ["%s", %s, %s]\n' "$1 $2 $3" $OMP_NUM_THREADS $POLARS_MAX_THREADS"""
    )
    run = Run(str(tmp_path), "log", False, threads=2, epochs=1)

    found = measure.call("some:thing", run, {}, python=interpreter(tmp_path, "echo chatter", said))

    assert found == ["-m benchmarks.child some:thing", 2, 2]


@pytest.mark.parametrize("line", ["echo 'RESULT {}'; exit 1", "echo nothing to say"])
def test_a_child_that_fails_or_is_silent_gives_no_sample(tmp_path, line):
    with pytest.raises(ChildProcessError, match="some:thing left with code"):
        measure.call("some:thing", run_on(tmp_path), {}, python=interpreter(tmp_path, line))


def test_a_child_that_never_ends_is_killed_with_its_helpers(tmp_path):
    held = tmp_path / "held"
    os.mkfifo(held)
    reading = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    hangs = interpreter(tmp_path, f"exec 3> {held}", "sleep 1000 & sleep 1000")

    with pytest.raises(ChildProcessError, match="some:thing did not end within 1 s"):
        measure.call("some:thing", run_on(tmp_path), {}, python=hangs, patience=1)

    assert select.select([reading], [], [], 60)[0], "it ends once nobody holds the other end any more"
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_child_hands_run_and_settings_to_the_function_and_its_sample_back(monkeypatch, tmp_path):
    run = run_on(tmp_path)
    request = json.dumps({"run": vars(run), "settings": {"loss": "bce"}})
    monkeypatch.setattr(startup, "importing", lambda got, *, loss: sample(float(got == run and loss == "bce")))

    line = child.answer("startup:importing", request)

    assert Sample(**json.loads(line.removeprefix("RESULT "))) == sample(1.0)


def test_every_case_names_a_function_that_exists():
    functions = [case.function.partition(":")[::2] for case in command.CASES.values()]

    assert all(callable(getattr(sys.modules[f"benchmarks.{module}"], name)) for module, name in functions)
    assert all(hasattr(inputs, case.inputs) for case in command.CASES.values() if case.inputs)


def test_epochs_of_one_thread_and_of_two_take_turns_and_the_middle_ratio_by_the_clock_is_told(monkeypatch, tmp_path):
    run = Run(str(tmp_path), str(tmp_path / "log.txt"), False, threads=1, epochs=3)
    Path(run.log).write_text("".join(f"{user} {10 + (user + place) % 7}\n" for user in range(9) for place in range(5)))
    made, walls = [], iter([4.0, 2.0, 4.0, 3.0, 5.0, 3.0])

    def epoch(trained, number):
        made.append((trained.config.threads, torch.get_num_threads(), number))
        watch = measure.Stopwatch()
        watch.wall_s = next(walls)
        return watch

    monkeypatch.setattr(training, "_epoch", epoch)

    found = training.second_thread(run)

    assert made == [(threads, threads, number) for number in (2, 3, 4) for threads in (1, 2)]
    assert found.facts == {"of_one": 0.6}


def test_cases_take_turns_and_their_inputs_are_made_once(asked, tmp_path):
    cases = [Case(name, "", f"x:{name}", inputs="make_model") for name in ("a", "b")]

    rows = turns.measure(cases, run_on(tmp_path), repeats=2)

    assert asked == ["inputs:make_model", "x:a", "x:b", "x:a", "x:b"]
    assert [len(row.samples) for row in rows] == [2, 2]


def test_a_case_that_fails_is_named_and_the_others_go_on(asked, tmp_path):
    rows = turns.measure([command.CASES["read-csv"], CASE], run_on(tmp_path), repeats=2)

    assert asked.count("reading:log") == 1
    assert "left with code 3" in rows[0].fault
    assert rows[0].verdicts() == {"cpu_s": False}
    assert len(rows[1].samples) == 2
    assert "left with code 3" in table(rows)


def test_the_median_decides_about_a_limit_of_a_measure_or_a_fact():
    kept = Row(CASE, (sample(1.0), sample(1.5), sample(9.0)))
    missed = Row(CASE, (sample(1.0), sample(2.5, whole_s=0.6), sample(9.0, whole_s=0.7)))

    assert kept.spreads()["cpu_s"] == Spread(1.5, 1.0, 9.0)
    assert kept.verdicts() == {"cpu_s": True, "whole_s": True}
    assert missed.verdicts() == {"cpu_s": False, "whole_s": False}


def test_the_table_shows_medians_ends_and_verdicts():
    lines = table([Row(CASE, (sample(1.0), sample(1.5), sample(9.0)))]).splitlines()

    assert len(lines) == 2
    assert "1.5 (1-9)" in lines[1]
    assert "cpu_s <= 2: pass" in lines[1]
    assert "whole_s 0.4" in lines[1]


def test_rows_are_json_with_every_sample():
    found = json.loads(json.dumps(plain([Row(CASE, (sample(1.0), sample(3.0)))])))

    assert [one["cpu_s"] for one in found[0]["samples"]] == [1.0, 3.0]
    assert found[0]["limits"]["cpu_s"] == {"most": 2.0, "pass": True}


def test_without_beauty_the_stand_in_is_called_so_and_the_option_named(asked, tmp_path, capsys):
    output = tmp_path / "new" / "out.json"

    code = command.main(["--only", "top10-frame", "--quick", "--json", str(output)])

    shown, result = capsys.readouterr().out, json.loads(output.read_text())
    assert code == 0, "a limit that is missed is no failure"
    assert "Beauty was not found" in shown
    assert "--beauty PATH" in shown
    assert "FAIL" in shown
    assert result["log"]["name"] == "generated"
    assert asked[0] == "inputs:make_log"


def test_results_name_no_path_of_the_machine(asked, tmp_path):
    beauty, output = tmp_path / "Beauty.txt", tmp_path / "out.json"
    beauty.write_text("1 2 3\n")

    command.main(["--beauty", str(beauty), "--only", "top10-frame", "--quick", "--json", str(output)])

    assert json.loads(output.read_text())["log"] == {"name": "Beauty", **SIZES}
    assert str(tmp_path) not in output.read_text()
    assert "sasrec-benchmarks-" not in output.read_text()
    assert "inputs:make_log" not in asked


def test_a_case_that_could_not_be_measured_is_a_failure(asked, tmp_path):
    assert command.main(["--only", "read-csv", "--quick", "--json", str(tmp_path / "out.json")]) == 1


def test_bfloat16_is_left_out_and_said_where_the_processor_has_none(asked, tmp_path, capsys):
    command.main(["--only", "epoch-softmax-bfloat16", "import", "--quick", "--json", str(tmp_path / "out.json")])

    assert "training:epoch" not in asked
    assert "epoch-softmax-bfloat16: not measured" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_said_before_anything_is_measured(asked, capsys):
    assert command.main(["--beauty", "nowhere.txt"]) == 2
    assert "nowhere.txt: no such file" in capsys.readouterr().err
    assert not asked


def test_beauty_is_the_named_file_or_the_one_below_the_folder(tmp_path):
    below = tmp_path / "some" / "Beauty.txt"
    below.parent.mkdir()
    below.write_text("1 2 3\n")
    other = tmp_path / "other.txt"
    other.write_text("1 2 3\n")

    assert inputs.find_beauty(str(other), str(tmp_path)) == other
    assert inputs.find_beauty(None, str(tmp_path)) == below
    assert inputs.find_beauty(None, None) is None
    with pytest.raises(FileNotFoundError, match="SASREC_BENCH_DATA"):
        inputs.find_beauty(None, str(other.parent / "empty"))


def test_another_log_under_the_name_of_beauty_is_refused(tmp_path):
    (tmp_path / "log.txt").write_text("a x y z\nb x y\n")

    with pytest.raises(ValueError, match=r"expected users, items, events \(22363, 12101, 198502\), got \(2, 3, 5\)"):
        inputs.read(run_on(tmp_path, is_beauty=True))


def test_targets_are_counted_by_hand(tmp_path, log_of):
    import sasrec

    # Training parts of 1, 3 and 60 events: none, two and fifty targets at length 50.
    data = sasrec.split(log_of({"a": range(3), "b": range(5), "c": range(62)}))

    assert training.real_targets(data, run_on(tmp_path)) == 52
    with pytest.raises(ValueError, match="128,031"):
        training.real_targets(data, run_on(tmp_path, is_beauty=True))


def test_the_stand_in_has_beautys_users_and_is_the_same_in_every_run(tmp_path):
    logs = [run_on(tmp_path / name) for name in ("a", "b")]
    for run in logs:
        Path(run.folder).mkdir()
        inputs.make_log(run)

    lines = [Path(run.log).read_text() for run in logs]
    found = inputs.describe_log(logs[0])

    assert lines[0] == lines[1]
    assert found["users"] == inputs.BEAUTY[0]
    assert 0.9 < found["events"] / inputs.BEAUTY[2] < 1.1


@pytest.mark.parametrize(("asked", "code"), [("--help", 0), ("--steps", 2)])
def test_the_guard_measures_nothing_when_it_is_asked_for_help_or_anything_else(asked, code, monkeypatch):
    monkeypatch.setattr(guard, "jobs", lambda: pytest.fail("it measured"))

    with pytest.raises(SystemExit) as left:
        guard.main([asked])

    assert left.value.code == code


def test_a_guarded_job_is_compared_with_its_products_by_the_least_of_each(monkeypatch):
    costs = iter([2.0, 9.0, 1.0, 8.0, 3.0, 7.0] + [5.0, 50.0] * 4)
    monkeypatch.setattr(guard, "_cost", lambda job: next(costs))

    assert guard.Job("job", lambda: None, lambda: None, most=2.0).ratio() == 7.0


# Growth


@pytest.mark.parametrize(("power", "factor"), [(0.0, 5.0), (1.0, 0.1), (0.5, 3.0), (2.0, 1e-6)])
def test_the_exponent_of_a_power_is_the_power(power, factor):
    sizes = [10, 30, 100, 5_000]

    assert growth.exponent(sizes, [factor * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


def test_points_that_could_not_be_measured_leave_the_exponent_to_the_others():
    assert growth.exponent([1, 10, 100], [2.0, None, 200.0]) == pytest.approx(1.0)
    assert growth.exponent([1, 10], [2.0, None]) is None


@pytest.fixture
def grown(monkeypatch, tmp_path):
    """What the command writes where every process answers with CPU seconds as many as its items or users."""
    asked = []

    def answer(function, run, settings):
        if function == "inputs:describe_machine":
            return MACHINE
        if function == "plot:draw":
            return plot.draw(run, **settings)
        asked.append((function, settings))
        if settings["items"] == 30_000 and function == "growth:ranking":
            raise ChildProcessError("growth:ranking left with code 9")
        return {"cpu_s": float(settings["users"]), "wall_s": 1.0, "others": 0.0, "peak_mb": 500.0, "facts": {}}

    monkeypatch.setattr(growth, "call", answer)
    options = ["--only", "items", "users", "--items", "5000000", "--json", str(tmp_path / "growth.json")]
    code = growth.main([*options, "--plot", str(tmp_path / "growth.svg")])
    return SimpleNamespace(code=code, asked=asked, folder=tmp_path)


def test_growth_measures_one_size_at_a_time_and_says_what_failed(grown, capsys):
    result = json.loads((grown.folder / "growth.json").read_text())
    items, users = (result["growths"][name]["work"] for name in ("items", "users"))

    assert grown.code == 1
    assert items["softmax"]["sizes"] == [10_000, 30_000, 100_000]
    assert items["sampled-softmax"]["sizes"] == [10_000, 30_000, 100_000, 300_000, 1_000_000, 5_000_000]
    assert items["ranking"]["cpu_ms"][1] is None
    assert items["softmax"]["cpu_ms"] == [128_000.0] * 3  # of one step
    assert items["softmax"]["cpu_exponent"] == pytest.approx(0.0)
    assert users["softmax"]["cpu_ms"] == [1_000_000.0, 3_000_000.0, 9_000_000.0]  # of an epoch
    assert users["ranking"]["cpu_exponent"] == pytest.approx(1.0)
    assert all(settings["width"] == 64 for _, settings in grown.asked)


def test_the_picture_of_growth_has_a_line_and_an_exponent_for_everything_measured(grown):
    root = ElementTree.parse(grown.folder / "growth.svg").getroot()
    lines = [one for one in root.iter("{http://www.w3.org/2000/svg}path") if "line" in one.get("class", "")]
    points = [*root.iter("{http://www.w3.org/2000/svg}circle")]
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]

    assert len(lines) == 3 + 2 * 2 * 3  # the legend, and two panels for each of two sizes
    assert len(points) == (3 + 6 + 5) + (3 + 6 + 5) + 2 * 9
    assert texts.count("1.00") == 3


@pytest.mark.parametrize("loss", ["softmax", "sampled-softmax"])
def test_a_point_of_growth_trains_and_ranks_what_it_says(tmp_path, loss):
    sizes = {"items": 300, "users": 40, "length": 4, "width": 8}
    histories = growth.generated(**{name: sizes[name] for name in ("items", "users", "length")})

    samples = growth.training(run_on(tmp_path), loss=loss, **sizes), growth.ranking(run_on(tmp_path), **sizes)

    assert {*histories.lengths.tolist()} == {5}
    assert len(histories) == 40
    assert 100 < histories.items.max() < 300
    assert all(one.cpu_s > 0 and one.peak_mb > 0 for one in samples)


def test_vectors_of_titles_keep_the_likeness_of_their_words(tmp_path):
    from benchmarks import titles

    names = ["red nail polish", "nail polish, RED", "green soap", "Soap green", "hand cream", None]
    pl.DataFrame({"item_id": range(6), "title": names}).write_parquet(tmp_path / "items.parquet")

    titles.main([str(tmp_path / "items.parquet"), str(tmp_path / "vectors.parquet"), "--width", "2"])

    found = pl.read_parquet(tmp_path / "vectors.parquet")
    rows = found["vector"].to_numpy()
    assert found["item_id"].to_list() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows[2], rows[3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 1, 0], atol=1e-6)
    assert abs(rows[0] @ rows[2]) < 1e-6


@pytest.mark.slow
def test_the_log_of_many_items_goes_on_where_it_was_and_every_way_is_measured(tmp_path):
    sizes = {"items": 1_000, "users": 400, "events": 12}
    histories = million.generated(**sizes)
    follows = Counter(zip(histories.items[:-1].tolist(), histories.items[1:].tolist(), strict=True))

    lines = [line.split(" | ") for line in million.measured(run_on(tmp_path), **sizes)]

    assert histories.lengths.tolist() == [12] * 400
    assert max(follows.values()) > 5  # 4,799 steps drawn evenly among a million pairs would seldom have one twice
    assert [line[4] for line in lines] == ["all scored", "exact index", "coarse index"]
    assert [line[-1] for line in lines[:2]] == ["0.0000 |"] * 2
