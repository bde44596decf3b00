"""The command line, used as a person would: what it prints, writes and refuses, and how it leaves."""

import dataclasses
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path

import polars as pl
import pytest

import sasrec
from sasrec import bundle, cli
from sasrec.commands.mistyped import ELSEWHERE
from sasrec.commands.reading import Reading
from sasrec.retrieval.loading import read_bundle

DOCS = Path(__file__).parents[1] / "docs" / "cli.md"

# Small enough to train in a moment.
SETTINGS = ["--width", "8", "--length", "10", "--blocks", "1", "--epochs", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log of 60 users who walk round 12 items, its titles, and a model trained from the command line."""
    folder = tmp_path_factory.mktemp("cli")
    events = [
        (f"u{user:02}", (user + step) % 12 + 1, 1000 + step) for user in range(60) for step in range(4 + user % 5)
    ]
    pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "log.csv")
    titles = [(item, f"Title of {item}, {'which goes on, ' * 8}to the end") for item in range(1, 13)]
    pl.DataFrame(titles, schema=["item_id", "title"], orient="row").write_csv(folder / "items.csv")
    (folder / "space.toml").write_text("[space]\nwidth = [8, 16]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["train", "log.csv", "--out", "walk.model", "--quiet", *SETTINGS]) == 0
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs a command in the folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(folder)
    # As wide as when nobody says otherwise, whatever the terminal that the tests run in.
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        capsys.readouterr()
        code = cli.main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


def test_a_log_whose_rows_are_taken_in_their_order_has_a_note_and_no_warning_beside_it(run, tmp_path):
    rows = "".join(f"a,x{step},{step}\n" for step in range(5))
    (tmp_path / "a.csv").write_text(f"user,item,when\n{rows}")

    code, out, err = run("info", tmp_path / "a.csv")

    assert (code, err) == (0, "")
    assert (
        "note: no column has a usual name of a time, so rows are taken in their order; not used are when"
        in out.replace("\n", " ")
    )


def test_a_training_that_cannot_be_is_refused_before_its_choices_are_printed(run, tmp_path):
    code, out, err = run("train", "log.csv", "--out", tmp_path / "m", "--times", "both", "--time", "")

    assert (code, out) == (3, "")
    assert "needs the time of every event" in err


def test_every_name_of_another_system_stands_for_a_setting_of_ours():
    settings = {field.name.replace("_", "-") for field in dataclasses.fields(sasrec.Config)}

    assert set(ELSEWHERE.values()) <= settings
    assert not settings & set(ELSEWHERE)


def test_a_log_whose_name_is_not_utf8_makes_a_model_that_can_be_loaded(run, tmp_path):
    log, model = tmp_path / "torn\udcff.csv", tmp_path / "rules\udcff"
    log.write_bytes(Path("log.csv").read_bytes())

    made = run("count", log, "--out", model, "--quiet")
    told = run("info", model)

    assert made == (0, "", "")
    assert (told[0], "torn?.csv" in told[1]) == (0, True), told


def test_recommendations_of_everybody_to_a_name_that_is_not_utf8_are_refused(run, tmp_path):
    code, _, err = run("recommend", "walk.model", "--all", "--out", tmp_path / "all\udcff.csv")

    assert (code, "all?.csv: is a path that is not UTF-8 text; choose another name" in err) == (6, True), err
    assert not list(tmp_path.iterdir())


def process(*arguments, cwd, **options):
    """The same in a process of its own."""
    command = [sys.executable, "-m", "sasrec", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# The streams

ENTRY = [sys.executable, "-m", "sasrec"]


@pytest.mark.parametrize("command", ["--version", "info walk.model", "--help"])
def test_a_closed_standard_output_is_one_clear_error(folder, command):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *ENTRY, *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (6, 1, ""), done.stderr
    assert "error: standard output is closed" in done.stderr


@pytest.mark.parametrize("command", ["--version", "info walk.model", "recommend walk.model --user u01"])
def test_a_standard_output_that_is_full_is_one_clear_error(folder, command):
    if not os.path.exists("/dev/full"):
        pytest.skip("no device here that is full")

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*ENTRY, *command.split()], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert (done.returncode, done.stderr.count("\n")) == (6, 1), done.stderr
    assert "error: standard output: cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")])
def test_an_error_of_the_system_elsewhere_is_not_laid_to_standard_output(run, monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr("sasrec.retrieval.loading.load", broken)

    with pytest.raises(OSError, match=error.strerror):
        run("info", "walk.model")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "log.csv", *SETTINGS, "--out"],
        ["count", "log.csv", "--out"],
        ["blend", "log.csv", "walk.model", "--out"],
        ["refit", "walk.model", "log.csv", "--out"],
        ["tune", "log.csv", "--space", "brief.toml", "--trials", "1", "--out"],
        ["compare", "log.csv", "walk.model", "--json"],
        ["recommend", "walk.model", "--all", "--out"],
    ],
    ids=lambda command: command[0],
)
def test_a_result_is_saved_though_nobody_reads_what_is_said_meanwhile(
    folder, tmp_path, monkeypatch, lost, command, stream
):
    monkeypatch.chdir(folder)
    (folder / "brief.toml").write_text("epochs = 1\nlength = 10\n[space]\nwidth = [8]\n")
    lost(stream)

    code = cli.main([*command, str(tmp_path / "result")])

    assert (code, os.path.exists(tmp_path / "result")) == (0, True)


@pytest.fixture
def lost(monkeypatch):
    """Makes a standard stream a pipe whose reader has gone."""

    with ExitStack() as opened:

        def lose(name):
            reader, writer = os.pipe()
            os.close(reader)
            stream = opened.enter_context(open(writer, "w", buffering=1))
            monkeypatch.setattr(sys, name, stream)

        yield lose
        monkeypatch.undo()


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", ">/dev/full"])
def test_a_result_is_saved_though_a_stream_takes_nothing(folder, tmp_path, redirected):
    if not os.path.exists("/dev/full"):
        pytest.skip("no device here that is full")
    out = tmp_path / "m"

    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *ENTRY, "count", "log.csv", "--out", out],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    told = re.search("warning: standard output: cannot be written: No space left on device; what was", done.stderr)
    assert (done.returncode, sasrec.load(out).record["counted"]) == (0, "rules")
    assert (f"saved to {out}" in done.stdout, told is None) == (not redirected.startswith(">"),) * 2


def test_what_a_model_records_does_not_steer_a_terminal(run, tmp_path):
    model = sasrec.load("walk.model")
    model.record = {**model.record, "log": "a\x1b[2J\x9b31m.csv", "split": "b\rc"}
    model.save(tmp_path / "m")

    told = run("info", tmp_path / "m")
    refused = run("info", "no\x1b[2Jmodel")

    assert (told[0], refused[0]) == (0, 3)
    assert "a�[2J�31m.csv" in told[1]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "".join(told[1:] + refused[1:]))


def test_what_programs_read_is_handed_over_as_it_is(run, tmp_path):
    rows = [(f"u{user}", item) for user in range(20) for item in ("a\x1b", "b", "c", "a\x1b")]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(tmp_path / "log.csv")
    assert run("count", tmp_path / "log.csv", "--model", "popularity", "--out", tmp_path / "m", "--quiet")[0] == 0

    csv = run("recommend", tmp_path / "m", "--user", "u1", "--format", "csv", "--no-exclude-seen")[1]
    table = run("recommend", tmp_path / "m", "--user", "u1", "--no-exclude-seen")[1]

    assert "a\x1b" in csv
    assert "\x1b" not in table


@pytest.fixture(params=["long", "locked"])
def unreachable(request, tmp_path):
    """A path that the system refuses to look at."""
    if request.param == "long":
        yield tmp_path / ("a" * 300)
        return
    locked = tmp_path / "locked"
    (locked / "deep").mkdir(parents=True)
    locked.chmod(0o000)
    before = os.geteuid()
    if before == 0:  # root may enter every folder
        os.seteuid(65534)
    yield locked / "deep"
    os.seteuid(before)
    locked.chmod(0o700)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("info PATH", 3),
        ("evaluate PATH log.csv", 5),
        ("demo --out PATH", 6),
        ("count log.csv --out PATH", 6),
        ("train log.csv --out m --config PATH", 2),
        ("compare log.csv --preset paper --out PATH", 6),
        ("compare log.csv PATH", 5),
        ("retrain walk.model log.csv --out MODEL --data PATH", 9),
        ("retrain walk.model log.csv --out MODEL --data PATH --activate", 9),
        ("retrain walk.model log.csv --out MODEL --events PATH", 9),
    ],
)
def test_a_path_that_must_not_be_looked_at_is_one_clear_error(run, unreachable, command, code):
    typed = command.replace("MODEL", "walk.model --replace").replace("PATH", str(unreachable)).split()

    left, out, err = run(*typed)

    # Nobody may enter the folder of the model either.
    assert left in ((code, 5) if unreachable.name == "deep" else (code,)), err
    assert (out, err.count("\n")) == ("", 1), err


@pytest.mark.parametrize(
    "command",
    [
        "train log.csv --out new --history LOG",
        "train log.csv --out new --features items.csv --feature title --history ./items.csv",
        "train log.csv --out new --config settings.toml --history settings.toml",
        "train log.csv --out log.csv",
        "evaluate walk.model log.csv --json log.csv",
        "evaluate walk.model log.csv --json walk.model/config.json",
        "evaluate walk.model log.csv --titles items.csv --html items.csv",
        "compare log.csv walk.model --html LOG",
        "compare log.csv walk.model --json walk.model/new",
        "diagnose log.csv --model walk.model --html log.csv",
        "tune log.csv --space space.toml --out space.toml",
        "tune log.csv --space space.toml --study log.csv",
        "recommend walk.model --all --out walk.model/new.csv",
    ],
)
def test_nothing_is_written_in_the_place_of_what_is_read(run, folder, tmp_path, command):
    (tmp_path / "link.csv").symlink_to(folder / "log.csv")
    (folder / "settings.toml").write_text("epochs = 1\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    typed = command.replace("LOG", str(tmp_path / "link.csv")).split()
    code, out, err = run(*typed, *([] if "--study" in typed else ["--replace"]))

    assert (code, out, err.count("\n"), "is read from, or inside it; choose another name" in err) == (6, "", 1, True), (
        err
    )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# Help


def test_help_names_every_command_and_loads_nothing_heavy():
    code = "import sys; from sasrec.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert [line.split()[1] for line in done.stdout.splitlines() if re.match("│ [a-z]", line)] == list(cli.COMMANDS)
    assert not {"torch", "polars", "numpy", "narwhals", "msgspec", "markdown_it"} & set(done.stderr.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_summary_is_the_first_line_of_the_command_s_docstring(name):
    module, summary = cli.COMMANDS[name]

    command = getattr(importlib.import_module(f"sasrec.commands.{module}"), name.replace("-", "_"))

    assert summary == inspect.getdoc(command).splitlines()[0]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_flag_of_a_command_is_explained(name, run):
    code, out, _ = run(name, "--help")

    entries = re.findall(r"^│ ([* ] )? ?(--[a-z-]+|[A-Z]+)(.*)│$", out, re.MULTILINE)
    assert code == 0
    assert entries
    assert "[default: None]" not in out


def test_training_takes_every_setting_as_a_flag_with_its_documentation_and_default(run):
    _, out, _ = run("train", "--help")
    words = " ".join(out.replace("│", " ").split())

    for name, value in sasrec.Config().to_dict().items():
        assert f"--{name.replace('_', '-')} " in words
        if value is not False:  # that a switch is off goes without saying
            assert f"[default: {value}]" in words
    assert "Most recent events of a history that the network looks at (the paper's n); " in words


def test_the_documentation_shows_the_help_that_the_program_prints(run, monkeypatch):
    """To bring it up to date: UPDATE_DOCS=1 python -m pytest tests/test_cli.py -k documentation."""
    monkeypatch.setenv("COLUMNS", "100")
    shown = DOCS.read_text(encoding="utf-8")

    def printed(block):
        _, out, _ = run(*shlex.split(block["command"]))
        lines = "\n".join(line.rstrip() for line in out.strip().splitlines())
        return f"```text\n$ sasrec {block['command']}\n{lines}\n```"

    true = re.sub(r"```text\n\$ sasrec (?P<command>[^\n]*--help)\n.*?```", printed, shown, flags=re.DOTALL)
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(true, encoding="utf-8")

    assert set(re.findall(r"^\$ sasrec (.*)--help$", true, re.MULTILINE)) == {
        "",
        *(f"{name} " for name in cli.COMMANDS),
    }
    assert shown == true or os.environ.get("UPDATE_DOCS")


def test_the_version_is_printed(run):
    assert run("--version")[:2] == (0, f"sasrec {sasrec.__version__}\n")


# Errors


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("trian log.csv", 2, ["trian", 'Did you mean "train"']),
        ("train log.csv --out new --widht 8", 2, ["--widht", "Did you mean --width?"]),
        ("train log.csv", 2, ["--out is missing: folder to save the model to; see sasrec train --help"]),
        ("train --out new", 2, ["LOG is missing: file of interactions; see sasrec train --help"]),
        ("tune log.csv", 2, ["--space is missing: TOML file; see sasrec tune --help"]),
        ("train log.csv --ot new", 2, ["Did you mean --out instead of --ot?"]),
        ("train log.csv --out", 2, ["--out requires an argument"]),
        ("train log.csv --out new --lr 0.01", 2, ["--lr", "Here it is called --learning-rate"]),
        ("train log.csv --out new --embedding_dim=64", 2, ["--embedding_dim", "Here it is called --width"]),
        ("count log.csv --out new --batch-size 64", 2, ["Unknown option: --batch-size"]),
        ("recommend walk.model --user u01 --out f.csv", 2, ["--out goes with --all alone", "--format csv > FILE.csv"]),
        ("info items.csv --format pairs", 3, ["line 1 has 1 field, where", "`user item`, parted by spaces or tabs"]),
        ("train log.csv --out new --width eight", 2, ["--width", "eight"]),
        ("train log.csv --out new --width 0", 2, ["width", "found 0"]),
        ("train log.csv --out new --width 10 --heads 3", 2, ["heads", "attention", "10"]),
        ("train log.csv --out new --norm psot", 2, ["--norm", "psot", "post"]),
        ("train log.csv --out new --split item", 2, ["--split", "last-item"]),
        ("train log.csv --out new --split time --share 0.9", 2, ["share", "0.9"]),
        ("train log.csv --out new --user uid", 3, ["log.csv", "uid", "user_id", "pass --user user_id"]),
        ("train lgo.csv --out new", 3, ["lgo.csv", "did you mean log.csv"]),
        ("train . --out new", 3, ["directory"]),
        ("train log.csv --out new --user-core 99", 3, ["log.csv", "no event is left", "outside the core"]),
        ("train log.csv --out new --min-weight 4", 3, ["log.csv", "weights", "pass --weight"]),
        ("train log.csv --out walk.model", 6, ["walk.model", "exists already", "--replace"]),
        ("train log.csv --out items.csv --replace", 6, ["items.csv", "not a sasrec model"]),
        ("train log.csv --out new --history items.csv", 6, ["items.csv", "exists already"]),
        ("train log.csv --out new --history new", 6, ["new", "where new is to be written"]),
        ("train log.csv --out walk.model --replace --history walk.model/losses", 6, ["losses", "or inside it"]),
        *[
            (f"{command} {flags}", 6, ["nothing takes the place of", "NAME"])
            for command in ("train log.csv", "count log.csv", "export walk.model --to onnx")
            for flags in ("--out .", "--out ./ --replace", "--out /", "--out ''", "--out .. --replace")
        ],
        ("train log.csv --out missing/new", 6, ["missing", "does not exist"]),
        ("train log.csv --out new --config space.toml", 2, ["space.toml", "sasrec tune", "--out"]),
        ("compare log.csv --config space.toml", 2, ["space.toml", "sasrec tune", "--out"]),
        ("train log.csv --out new --config missing.toml", 2, ["missing.toml", "cannot be read"]),
        ("evaluate walk.model log.csv -k 0", 2, ["k: expected an integer >= 1 or several, found 0"]),
        ("evaluate walk.model log.csv --on train", 2, ["--on", "train", "valid"]),
        ("evaluate walk.model log.csv --candidates 0", 2, ["candidates", "found 0"]),
        ("evaluate walk.model log.csv --candidates some", 2, ["--candidates", "some"]),
        ("evaluate walk.model log.csv --candidates 12", 2, ["candidates", "expected at most 4, as user"]),
        ("evaluate walk.model log.csv --candidates sasrec2018 --exclude-seen", 2, ["exclude_seen", "sasrec2018"]),
        ("evaluate walk.model log.csv --user uid", 3, ["log.csv", "uid", "pass --user user_id"]),
        ("evaluate walk.model items.csv", 3, ["items.csv", "user"]),
        ("evaluate walk.model log.csv --item-core 61", 3, ["log.csv", "no event is left"]),
        ("evaluate walk.model log.csv --json items.csv", 6, ["items.csv", "exists already"]),
        ("evaluate walk.model log.csv --json new --html ./new", 6, ["where new is to be written"]),
        ("compare log.csv --preset paper --html walk.model --replace", 6, ["walk.model", "is a folder"]),
        ("evaluate walk.model log.csv --titles items.csv", 2, ["--titles", "--html"]),
        ("evaluate walk.model log.csv --html new --titles log.csv", 3, ["log.csv", "titles"]),
        ("evaluate walk.model log.csv --html new --shown-user nobody", 4, ["'nobody'"]),
        ("evaluate missing log.csv", 5, ["missing", "does not exist"]),
        ("compare log.csv", 2, ["models", "at least one"]),
        ("compare log.csv walk.model walk.model", 2, ["'walk.model' is taken"]),
        ("compare log.csv --config missing.toml", 2, ["missing.toml", "cannot be read"]),
        ("compare log.csv walk.model --seeds 0", 2, ["seeds", "found 0"]),
        ("compare log.csv walk.model --seeds 3", 2, ["--seeds is for what --config and --preset train; leave it out"]),
        ("compare log.csv walk.model --out new", 2, ["--out", "--config"]),
        ("compare log.csv walk.model --folds 2", 2, ["'walk.model' was trained on one split"]),
        ("compare log.csv walk.model --folds 1", 2, ["folds", "found 1"]),
        ("compare log.csv walk.model --candidates 99", 2, ["candidates", "found 99"]),
        ("compare log.csv walk.model --json items.csv", 6, ["items.csv", "exists already"]),
        ("compare log.csv missing", 5, ["missing", "does not exist"]),
        ("compare items.csv walk.model", 3, ["items.csv", "user"]),
        ("diagnose log.csv --model missing", 5, ["missing", "does not exist"]),
        ("diagnose log.csv --json items.csv", 6, ["items.csv", "exists already"]),
        ("diagnose log.csv --config missing.toml", 2, ["missing.toml", "cannot be read"]),
        ("diagnose log.csv --model walk.model --user-core 6", 3, ["log.csv", "another log or split"]),
        ("count log.csv --out new --model trends", 2, ["--model", "trends", "rules"]),
        ("count log.csv", 2, ["--out"]),
        ("count no-such-log.csv --out walk.model", 6, ["walk.model", "exists already"]),
        ("blend log.csv walk.model --user-core 6 --out new", 3, ["log.csv", "another log or split"]),
        ("refit walk.model log.csv --user-core 6 --out new", 3, ["log.csv", "another log or split"]),
        ("refit missing log.csv --out new", 5, ["missing", "does not exist"]),
        ("recommend log.csv --user u01", 5, ["log.csv", "is not a folder"]),
        ("recommend . --user u01", 5, ["manifest.json"]),
        ("recommend walk.model", 2, ["--user", "--history", "--all"]),
        ("recommend walk.model --user u01 --history 1", 2, ["--user", "--history", "--all"]),
        ("recommend walk.model --all", 2, ["--all", "--out"]),
        ("recommend walk.model --user u01 --out new.parquet", 2, ["--all", "--out"]),
        ("recommend walk.model --all --out new.parquet --format json", 2, ["--all", "--format"]),
        ("recommend walk.model --all new.parquet", 2, ["nothing takes new.parquet", "sasrec recommend --help"]),
        ("recommend missing --all --out all.csv.gz", 6, ["all.csv.gz", "end in .gz", ".csv or .parquet"]),
        ("recommend walk.model --all --out log.csv", 6, ["log.csv", "exists already"]),
        ("recommend walk.model --all --out walk.model --replace", 6, ["walk.model", "is a folder"]),
        ("recommend walk.model --user nobody", 4, ["'nobody'", "known are 60"]),
        ("recommend walk.model --history 99", 4, ["99", "known are 12"]),
        ("recommend walk.model --user u01 --allow 99", 4, ["99"]),
        ("recommend walk.model --user u01 -k 0", 2, ["k", "found 0"]),
        ("recommend walk.model --user u01 --titles log.csv", 3, ["log.csv", "titles", "user_id, item_id, timestamp"]),
        ("similar walk.model", 2, ["ITEM"]),
        ("similar walk.model 99", 4, ["99"]),
        ("explain walk.model --user u01", 2, ["--item"]),
        ("explain walk.model --item 4", 2, ["--user", "--history"]),
        ("explain walk.model --item 4 --user u01 --times 9", 2, ["--times goes with --history alone"]),
        ("explain walk.model --item 4 --user u01 --at 9", 2, ["at: this model does not look at times"]),
        ("explain walk.model --item 4 --user u01 --events 0", 2, ["events", "found 0"]),
        ("explain walk.model --item 99 --user u01", 4, ["1 unknown item: 99", "known are 12"]),
        ("explain walk.model --item x --user u01", 4, ["1 unknown item: 'x'", "integers", "such as 1"]),
        ("explain walk.model --item 4 --user nobody", 4, ["'nobody'", "known are 60"]),
        ("explain walk.model --item 4 --history 1 99", 4, ["1 unknown item: 99"]),
        ("explain walk.model --item 4 --history 99 --unknown ignore", 4, ["history: no item of it is known"]),
        ("explain walk.model --item 4 --user u01 --titles log.csv", 3, ["log.csv", "titles"]),
        ("explain walk.model --itme 4 --user u01", 2, ["--itme"]),
        ("explain missing --item 4 --user u01", 5, ["missing", "does not exist"]),
        ("serve missing --port 0", 5, ["missing", "does not exist"]),
        ("serve log.csv --port 0 --data new", 5, ["log.csv", "is not a folder"]),
        ("serve walk.model --port 0 --data log.csv/new", 6, ["log.csv/new", "cannot be written", "--data"]),
        ("serve walk.model --port 70000", 2, ["port", "found 70000"]),
        ("serve walk.model --host no.such.host.invalid", 9, ["no.such.host.invalid", "no address"]),
        ("activate walk.model", 2, ["MODEL"]),
        ("activate missing walk.model", 9, ["missing", "no server answers", "sasrec serve"]),
        ("rollback missing", 9, ["missing", "no server answers"]),
        ("info .", 5, ["manifest.json"]),
        ("info missing", 3, ["missing", "no such file"]),
        ("info walk.model --split time", 2, ["--split=time: walk.model is no log but a model"]),
        ("info log.csv --share 0.1", 2, ["--share is of the split by time; add --split time"]),
        ("info log.csv --named B_000_LOU --split time", 2, ["--split contradicts --named", "LOU", "leave one out"]),
        ("train log.csv --out new --new-seed 3", 2, ["--new-seed draws new items; add --new-items"]),
        ("evaluate walk.model log.csv --seed 0", 2, ["--seed draws candidates; add --candidates"]),
        ("compare log.csv walk.model --seed 3", 2, ["--seed draws candidates; add --candidates"]),
        ("compare log.csv --preset paper --folds 2 --split last-item", 2, ["--split", "--folds are by time"]),
        ("compare log.csv --preset paper --folds 2 --new-items 0.2", 2, ["--new-items", "--folds are several"]),
        (
            "train log.csv --out new --warmup 0.1",
            2,
            ["--warmup is read beside --schedule cosine or --schedule one-cycle"],
        ),
        ("train log.csv --out new --loss bce --calibration 0.5", 2, ["beside --loss gbce alone", "found --loss bce"]),
        ("train log.csv --out new --shortest 3", 2, ["beside --windows rolling alone, found --windows auto"]),
        ("train log.csv --out new --branch-share 0.2", 2, ["--branch-share is read", "found --branch none"]),
        ("info log.csv --bad-rows mend", 2, ["--bad-rows", "mend", "drop"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_mend(command, code, words, run, folder):
    before = sorted(folder.iterdir())

    found, out, err = run(*shlex.split(command))

    assert (found, out) == (code, "")
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert not [word for word in words if word not in err]
    assert sorted(folder.iterdir()) == before


def test_a_taken_name_is_refused_before_anything_is_read(run):
    code, _, err = run("train", "no-such-log.csv", "--out", "walk.model")

    assert (code, "walk.model" in err, "no-such-log" in err) == (6, True, False)


def test_a_folder_that_is_no_model_is_refused_before_anything_is_read_even_with_replace(run, tmp_path):
    (tmp_path / "mine.txt").write_text("dear")

    code, _, err = run("train", "no-such-log.csv", "--out", tmp_path, "--replace")

    assert (code, "is not a sasrec model" in err) == (6, True)
    assert (tmp_path / "mine.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ('no column; pass user="user_id"', "no column; pass --user user_id"),
        ("nobody can be tested with how='time'", "nobody can be tested with --split time"),
        ('use filters=Filters(bad_rows="drop") or time="" now', "use --bad-rows drop or --time '' now"),
        ("set learning_rate='a b'", "set --learning-rate 'a b'"),
        ("or pass format= with one of csv", "or pass --format with one of csv"),
        ("pass replace=True to replace it", "pass --replace to replace it"),
        ("share_negatives=True needs", "--share-negatives needs"),
        ("heads=3 and 'width'", "heads=3 and 'width'"),
        ("one\n  line", "one line"),
        ("the log's are; pass user='who' and frame='polars'", "the log's are; pass --user who and frame='polars'"),
        ("unknown: \"user='Blue' shirt\", 'replace=True', 'it\\'s \"item=\\'x\\'\"'", None),
    ],
)
def test_advice_about_arguments_of_python_is_given_in_flags(message, line):
    assert cli._in_flags(message, "train") == (line or message)


def test_advice_about_what_is_no_flag_of_the_command_stays_as_it_is():
    assert cli._in_flags("pass user='who' or replace=True", "similar") == "pass user='who' or replace=True"
    assert cli._in_flags("pass user='who' or replace=True", "no-command") == "pass user='who' or replace=True"


def test_ids_that_look_like_advice_are_shown_as_they_are(run):
    _, _, err = run("recommend", "walk.model", "--user", "user='Blue' shirt", "all=True")

    assert "unknown users: \"user='Blue' shirt\", 'all=True'" in err


def test_a_fault_of_ours_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr("sasrec.commands.information.Reading.log", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run("info", "log.csv")


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_soon_sleep_unless_told_otherwise(run, monkeypatch, before, after):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that what is set below is taken back afterwards
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)

    run("--version")

    assert os.environ.get("GOMP_SPINCOUNT") == after


def test_ctrl_c_leaves_with_130(run, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sasrec.commands.information.Reading.log", interrupt)

    assert run("info", "log.csv") == (130, "", "error: interrupted\n")


def test_a_reader_who_has_read_enough_is_no_error(folder):
    running = process("recommend", "walk.model", "--user", "u01", cwd=folder)
    running.stdout.close()

    assert (running.wait(), running.stderr.read()) == (0, "")
    running.stderr.close()


def test_a_process_leaves_with_the_exit_code_and_without_a_traceback(folder):
    _, err = (running := process("info", "missing.csv", cwd=folder)).communicate()

    assert (running.returncode, err.count("\n")) == (3, 1)


# Training


def test_layers_are_shown_with_shapes_and_parameters(run, folder):
    code, out, _ = run("info", "walk.model", "--layers")
    network = sasrec.load(folder / "walk.model").scorer.network
    rows = [line.split() for line in out[out.index("layer ") :].splitlines()[1:]]

    assert code == 0
    assert ["items", "ItemVectors", "12", "x", "8", "96"] in rows
    assert rows[-1][:2] == ["all", "SASRec"]
    counts = [int(row[-1].replace(",", "")) for row in rows]
    assert counts[-1] == sum(counts[:-1]) == sum(one.numel() for one in network.parameters())


def test_what_a_model_was_read_with_stands_in_one_order(run, tmp_path):
    flags = ["--bad-rows", "drop", "--item-core", "2", "--user-core", "1", "--time", "timestamp"]
    flags += ["--split", "time", "--share", "0.2"]
    run("count", "log.csv", "--model", "markov", "--out", tmp_path / "m", *flags)

    _, out, _ = run("info", tmp_path / "m")

    expected = "read with bad_rows=drop, item_core=2, share=0.2, split=time, time=timestamp, user_core=1 split"
    assert expected in " ".join(out.split())


def test_what_a_record_says_is_no_flag_that_was_typed(run, tmp_path):
    model = sasrec.load("walk.model")
    model.record |= {"reading": model.record["reading"] | {"share": 0.2, "new_seed": 3, "named": "B_000_LOU"}}
    model.save(tmp_path / "m")

    assert run("evaluate", tmp_path / "m", "log.csv")[0] == 0
    assert Reading(share=0.2, new_seed=3, user="-u").flags() == ["--user=-u"]


FIGURES = {"ndcg": 0.25, "hit_rate": 0.5}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "validation NDCG@10 0.2500, HR@10 0.5000"),
        ({"counted": "rules"}, "counted; validation NDCG@10 0.2500, HR@10 0.5000"),
        ({"counted": "rules", "seconds": 2, "tried": [{}, {}]}, "counted in 2.0 s, the best of 2 settings; validation"),
        ({"parts": []}, "validation NDCG@10 0.2500"),
        ({"epochs": 2, "steps": 7, "stopped": "early"}, "validation NDCG@10 0.2500"),
        (
            {"epochs": 2, "steps": 7, "stopped": "early", "best": {**FIGURES, "epoch": 1}},
            "trained 2 epochs (7 steps), early; best is epoch 1 with validation NDCG@10 0.2500",
        ),
        ({"epochs": 2, "best": {**FIGURES, "epoch": 1}}, "validation NDCG@10 0.2500"),
        ({"request_time": "the clock's"}, "validation NDCG@10 0.2500"),
        ({"request_time": "the clock's", "time_unit": "s"}, "in 's'; the time of a request is the clock's"),
    ],
    ids=str,
)
def test_info_and_a_page_say_what_a_record_has_whatever_it_lacks(run, folder, tmp_path, record, words):
    read = read_bundle(folder / "walk.model")
    bundle.save(dataclasses.replace(read, record={"best": FIGURES} | record), tmp_path / "m")

    code, out, err = run("info", tmp_path / "m")
    page = run("evaluate", tmp_path / "m", "log.csv", "--html", tmp_path / "page.html")

    assert (code, err, page[0]) == (0, "", 0), page
    assert words in " ".join(out.split())


def test_a_log_has_no_layers(run):
    assert run("info", "log.csv", "--layers")[0] == 2


def test_training_shows_log_split_settings_progress_and_outcome(run, tmp_path):
    code, out, err = run("train", "log.csv", "--out", tmp_path / "m", *SETTINGS, "--history", tmp_path / "h.jsonl")

    assert code == 0
    for words in (
        "log.csv (csv): user 'user_id', item 'item_id', time 'timestamp'",
        "60 users, 12 items, 360 events",
        "split: each user's last event is the test",
        "settings: width=8, length=10, blocks=1, heads=1, dropout=0.47,",
        "dropout: 0.47, as items have 20.0 training events on average",
        "best is epoch 2 with validation NDCG@10",
        "; as it is the last, more epochs may get further",
        f"saved to {tmp_path / 'm'}",
    ):
        assert words in out
    assert re.findall("^epoch +([0-9]+) +loss", err, re.MULTILINE) == ["1", "2"]
    assert [json.loads(line)["epoch"] for line in (tmp_path / "h.jsonl").read_text().splitlines()] == [1, 2]
    assert "\x1b" not in out + err


def test_training_says_whether_seen_items_stay_recommendable_and_why(run, tmp_path):
    rows = ["user,item", *(f"u{user},{item}" for user in range(30) for item in ("a", "b", "c", "b", "d"))]
    (tmp_path / "again.csv").write_text("\n".join(rows))

    said = [
        run("train", log, "--out", tmp_path / "m", "--replace", *SETTINGS)[1]
        for log in ("log.csv", tmp_path / "again.csv")
    ]

    words = "of validation targets are items that the user had before"
    assert f"seen items: left out of recommendations, as 0.0% {words}" in " ".join(said[0].split())
    assert f"seen items: may be recommended again, as 100.0% {words}" in " ".join(said[1].split())


def test_training_says_of_a_network_without_blocks_and_positions_nothing_that_only_others_have(run, tmp_path):
    flags = ["--network", "stamp", "--learn", "last", "--width", 8, "--length", 10, "--epochs", 1, "--threads", 1]

    code, trained, _ = run("train", "log.csv", "--out", tmp_path / "m", *flags)
    told = run("info", tmp_path / "m")[1]

    assert code == 0
    for shown in (trained, told):
        assert "network=stamp" in shown
        assert "positions=none" in shown
        assert re.findall(r"(?:blocks|heads|norm)=|learned", shown) == []
    assert "positions: none, as stamp has no place for them" in trained


def test_training_trains_as_the_library_does(folder):
    config = sasrec.Config(width=8, length=10, blocks=1, epochs=2, threads=1)
    data = sasrec.split(sasrec.read_log(folder / "log.csv"))

    ours, theirs = sasrec.load(folder / "walk.model"), sasrec.train(data, config, progress=False)

    assert ours.recommend(["u07"]).equals(theirs.recommend(["u07"]))


@pytest.mark.parametrize("name", ["popularity", "recent", "markov", "rules", "knn", "ease"])
def test_counting_counts_as_the_library_does(run, folder, tmp_path, name):
    code, out, err = run("count", "log.csv", "--model", name, "--out", tmp_path / "counts")

    found = sasrec.load(tmp_path / "counts")
    expected = sasrec.count(sasrec.split(sasrec.read_log(folder / "log.csv")), name, progress=False)
    assert code == 0
    assert found.record["tried"] == expected.record["tried"]
    assert f"validation NDCG@10 {expected.record['best']['ndcg']:.4f}" in out
    assert err.count(f"{name}: ") == len(expected.record["tried"])


def test_a_model_of_the_latest_events_says_so_and_how_many_they_are(run, tmp_path):
    run("count", "log.csv", "--model", "recent", "--out", tmp_path / "recent", "--quiet")

    code, out, _ = run("info", tmp_path / "recent")

    share = sasrec.load(tmp_path / "recent").record["best"]["recent"]
    lines = out.splitlines()
    assert code == 0
    assert any(line.startswith("kind        recent, ") for line in lines)
    assert f"settings    recent={share}" in lines


def test_a_network_is_blended_refit_and_evaluated_in_three_commands(run, folder, tmp_path):
    blended, release = tmp_path / "blend", tmp_path / "release"

    assert run("blend", "log.csv", "walk.model", "--counts", "rules", "markov", "--out", blended)[0] == 0
    assert run("refit", blended, "log.csv", "--out", release, "--quiet") == (0, "", "")
    code, out, _ = run("evaluate", release, "log.csv")

    parts = [part["name"] for part in sasrec.load(blended).record["parts"]]
    assert code == 0
    assert parts == ["sasrec", "rules", "markov"]
    assert "refit on train + validation" in out
    assert "Blend (this model)" in out
    assert "refit on train + validation" in " ".join(run("info", release)[1].split())


def test_a_blend_says_what_each_part_is_worth(run, tmp_path):
    _, out, err = run("blend", "log.csv", "walk.model", "--out", tmp_path / "blend")

    for name in ("sasrec", "rules", "knn"):
        assert re.search(rf"^{name} \({name}\): weight .*(to the others|left out)", err, re.MULTILINE)
        assert f"{name} " in out
    assert "to the others" in " ".join(run("info", tmp_path / "blend")[1].split())


@pytest.mark.parametrize(
    ("given", "asked", "parts"),
    [
        ("rules", ["rules", "knn"], ["sasrec", "rules", "knn"]),
        ("recent", ["recent"], ["sasrec", "recent"]),
        ("recent", ["popularity"], ["sasrec", "recent", "popularity"]),  # which are not the same
    ],
)
def test_a_blend_counts_nothing_twice(run, tmp_path, given, asked, parts):
    run("count", "log.csv", "--model", given, "--out", tmp_path / "counted")

    command = ["blend", "log.csv", "walk.model", tmp_path / "counted", "--counts", *asked]
    assert run(*command, "--out", tmp_path / "blend")[0] == 0

    assert [part["name"] for part in sasrec.load(tmp_path / "blend").record["parts"]] == parts


def test_a_page_about_a_blend_that_was_refit_is_written(run, tmp_path):
    assert run("blend", "log.csv", "walk.model", "--out", tmp_path / "blend", "--quiet")[0] == 0
    assert run("refit", tmp_path / "blend", "log.csv", "--out", tmp_path / "again", "--quiet")[0] == 0

    page = tmp_path / "page.html"
    code, _, err = run("evaluate", tmp_path / "again", "log.csv", "--html", page)

    assert (code, err) == (0, "")
    assert "refit on train + validation" in page.read_text(encoding="utf-8")


def test_quiet_training_prints_nothing(run, tmp_path):
    assert run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS) == (0, "", "")


def test_a_model_is_replaced_when_that_is_asked_for(run, tmp_path):
    run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS)

    code, _, _ = run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS, "--seed", "4", "--replace")

    assert code == 0
    assert sasrec.load(tmp_path / "m").scorer.config.seed == 4


def test_the_commands_that_training_suggests_work(run, tmp_path, monkeypatch):
    _, out, _ = run("train", "log.csv", "--out", tmp_path / "my model", *SETTINGS)
    suggested = [shlex.split(line) for line in out.partition("next, try:\n")[2].splitlines()]

    codes = [(program, command[0], run(*command)[0]) for program, *command in suggested]

    assert codes == [("sasrec", name, 0) for name in ("evaluate", "recommend", "similar", "info")]


@pytest.mark.parametrize("odd", ["-u", "--user", "\x07"])
def test_commands_are_suggested_with_ids_that_can_be_pasted(run, tmp_path, odd):
    rows = [(f"{odd}{who}", f"-i{step}", step) for who in "12" for step in range(4)]
    rows += [(user, f"-i{step}", step) for user in ("\x07", "z") for step in range(2, 6)]
    log = tmp_path / "log.parquet"
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(log)

    _, out, _ = run("train", log, "--out", tmp_path / "m", *SETTINGS)
    suggested = [shlex.split(line) for line in out.partition("next, try:\n")[2].splitlines()]

    assert "\ufffd" not in out.partition("next, try:\n")[2]
    assert [(command[0], run(*command)[0]) for _, *command in suggested] == [
        (name, 0) for name in ("evaluate", "recommend", "similar", "info")
    ]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "recommend walk.model --user -u",
            "Unknown option: -u. If it is a value, write it as --OPTION=-u, or after --.",
        ),
        ("similar walk.model -i", "Unknown option: -i. If it is a value, write it as --OPTION=-i, or after --."),
        (
            "explain walk.model --user u01 --item -i",
            "requires an argument. If it begins with -, write it as --item=VALUE.",
        ),
    ],
)
def test_an_id_that_looks_like_an_option_is_told_how_to_be_written(run, command, told):
    code, _, err = run(*command.split())

    assert code == 2
    assert err.rstrip("\n").endswith(told)


def test_a_suggestion_calls_the_program_as_it_was_called(monkeypatch, tmp_path):
    from sasrec.commands.output import program

    (tmp_path / "sasrec").touch(mode=0o755)
    found = {}
    for called in (tmp_path / "sasrec", ".venv/bin/sasrec", "lib/sasrec/__main__.py"):
        monkeypatch.setattr(sys, "argv", [str(called)])
        monkeypatch.setenv("PATH", str(tmp_path))
        found[str(called)] = program()

    assert list(found.values()) == ["sasrec", ".venv/bin/sasrec", f"{shlex.quote(sys.executable)} -m sasrec"]


def test_flags_go_before_the_settings_file_and_the_file_before_defaults(run, tmp_path):
    (tmp_path / "run.toml").write_text('width = 12\nblocks = 1\nepochs = 1\nlength = 5\nnorm = "pre"\n')

    code, _, err = run(
        *("train", "log.csv", "--out", tmp_path / "m", "--quiet", "--threads", "1", "--heads", "3"),
        *("--config", tmp_path / "run.toml", "--width", "6", "--norm", "paper"),
    )

    config = sasrec.load(tmp_path / "m").scorer.config
    assert (code, err) == (0, "")
    assert (config.width, config.norm, config.heads, config.length, config.beta2) == (6, "paper", 3, 5, 0.98)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("widht = 8", ["unknown setting 'widht'", "did you mean 'width'"]),
        ("replace = true", ["unknown setting 'replace'"]),
        ('width = "8"', ["width", "found '8'"]),
        ("width 8", ["is not TOML"]),
    ],
)
def test_a_settings_file_with_a_mistake_is_refused(text, words, run, tmp_path):
    (tmp_path / "run.toml").write_text(text)

    code, _, err = run("train", "log.csv", "--out", tmp_path / "m", "--config", tmp_path / "run.toml")

    assert code == 2
    assert not [word for word in ["run.toml", *words] if word not in err]


# Evaluation


def test_an_evaluation_prints_the_report_of_the_library(run, folder):
    data = sasrec.split(sasrec.read_log(folder / "log.csv"))
    report = sasrec.evaluate(sasrec.load(folder / "walk.model"), data, k=(5, 10), exclude_seen=False, on="valid")

    code, out, _ = run(*"evaluate walk.model log.csv -k 5 10 --no-exclude-seen --on valid".split())

    assert (code, out) == (0, f"{report}\n")
    assert run(*"evaluate walk.model log.csv --k 5 --k 10 --no-exclude-seen --on valid".split())[1] == out


@pytest.mark.parametrize("candidates", [3, "sasrec2018"])
def test_candidates_are_those_of_the_library(run, folder, candidates):
    data = sasrec.split(sasrec.read_log(folder / "log.csv"))
    report = sasrec.evaluate(sasrec.load(folder / "walk.model"), data, candidates=candidates, seed=5)

    assert run("evaluate", "walk.model", "log.csv", "--candidates", candidates, "--seed", 5)[:2] == (0, f"{report}\n")


def test_an_evaluation_is_saved_as_json(run, tmp_path):
    run("evaluate", "walk.model", "log.csv", "--json", tmp_path / "report.json")

    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["models"]) == {"SASRec (softmax)", "Rules", "Markov", "Popularity"}
    assert 0 <= report["models"]["SASRec (softmax)"]["NDCG@10"]["mean"] <= 1


def test_an_evaluation_is_saved_as_a_page(run, folder, tmp_path):
    data, model = sasrec.split(sasrec.read_log(folder / "log.csv")), sasrec.load(folder / "walk.model")
    sasrec.write_page(
        tmp_path / "here.html", sasrec.evaluate(model, data), model=model, data=data, user="u07", titles="items.csv"
    )

    code, _, _ = run(
        *("evaluate walk.model log.csv --titles items.csv --shown-user u07 --html".split()), tmp_path / "there.html"
    )

    assert code == 0
    assert (tmp_path / "there.html").read_bytes() == (tmp_path / "here.html").read_bytes()
    assert "Title of 3" in (tmp_path / "here.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["compare log.csv walk.model", "diagnose log.csv --model walk.model"])
def test_a_study_is_saved_as_a_page(run, tmp_path, command):
    code, out, err = run(*command.split(), "--quiet", "--html", tmp_path / "page.html")

    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (code, err) == (0, "")
    assert next(line for line in out.splitlines() if line.startswith("protocol: ")) in text
    assert "on log.csv</h1>" in text


def test_a_taken_name_of_a_page_is_refused_before_anything_is_read(run, tmp_path):
    (tmp_path / "page.html").write_text("mine")

    code, _, err = run(
        "evaluate", "walk.model", "no.csv", "--json", tmp_path / "a.json", "--html", tmp_path / "page.html"
    )

    assert (code, "page.html: exists already" in err) == (6, True), err


def test_an_evaluation_reads_the_log_as_training_did_unless_told_otherwise(run, tmp_path):
    odd = pl.read_csv("log.csv").rename({"user_id": "who", "item_id": "what"}).with_columns(rating=pl.col("what") % 2)
    odd.write_csv(tmp_path / "odd.log", separator="\t")
    flags = ["--user", "who", "--item", "what", "--format", "tsv", "--time-unit", "s", "--weight", "rating"]
    flags += ["--min-weight", "0.0", "--user-core", "6", "--split", "time", "--share", "0.3"]
    run("train", tmp_path / "odd.log", "--out", tmp_path / "m", "--quiet", *SETTINGS, *flags)

    remembered = run("evaluate", tmp_path / "m", tmp_path / "odd.log")
    otherwise = run("evaluate", tmp_path / "m", tmp_path / "odd.log", "--split", "last-item")

    assert (remembered[0], "time split" in remembered[1], "another log" in remembered[1]) == (0, True, False)
    assert (otherwise[0], "last-item split" in otherwise[1], "another log" in otherwise[1]) == (0, True, True)


EVALUATE, COMPARE, DIAGNOSE = "evaluate MODEL log.csv", "compare log.csv MODEL", "diagnose log.csv --model MODEL"


@pytest.mark.parametrize(
    ("place", "command", "flags"),
    [
        ("record", EVALUATE, {"json": "VICTIM", "replace": True}),
        ("record", "refit MODEL log.csv --out VICTIM", {"replace": True, "quiet": True}),
        ("record", "retrain MODEL log.csv --out new", {"events": "VICTIM"}),
        ("record", COMPARE, {"json": "VICTIM", "replace": True}),
        ("record", "blend log.csv MODEL --out VICTIM", {"replace": True}),
        ("record", DIAGNOSE, {"json": "VICTIM", "replace": True}),
        ("config", DIAGNOSE, {"json": "VICTIM", "replace": True}),
    ],
)
def test_a_model_sets_no_flag_of_the_command_that_it_is_given_to(run, folder, tmp_path, place, command, flags):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    flags = {name: str(victim) if value == "VICTIM" else value for name, value in flags.items()}
    hostile = tmp_path / "hostile"
    read = read_bundle(folder / "walk.model")
    reading = read.record["reading"]
    changed = {"record": read.record | {"reading": reading | flags}} if place == "record" else {"config": flags}
    bundle.save(dataclasses.replace(read, **changed), hostile)

    given = {"MODEL": hostile, "VICTIM": victim}
    code, out, err = run(*(given.get(part, part) for part in command.split()))

    assert (code, out) == (5, ""), err
    assert f"{hostile}: " in err
    assert victim.read_text() == "mine"


def test_a_log_without_times_stays_one_in_evaluation(run, tmp_path):
    run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS, "--time", "")

    code, out, _ = run("evaluate", tmp_path / "m", "log.csv")

    assert (code, "another log" in out) == (0, False)
    assert sasrec.load(tmp_path / "m").record["reading"]["time"] == ""


# Comparison


@pytest.fixture
def settings(tmp_path):
    """Two files of settings, a folder for what is made of them, and the settings themselves."""
    common = "width = 8\nlength = 10\nblocks = 1\nepochs = 1\n"
    (tmp_path / "narrow.toml").write_text(common)
    (tmp_path / "bce.toml").write_text(common + 'loss = "bce"\n')
    return [tmp_path / "narrow.toml", tmp_path / "bce.toml"]


@pytest.fixture
def in_process(monkeypatch):
    """Trains in this process what a comparison would start others for, which takes seconds each."""

    def run(command, *, stdin, stdout, check):
        assert (command[1:3], command[4]) == (["-m", "sasrec.commands.attached"], "train")
        with redirect_stdout(StringIO()):
            return subprocess.CompletedProcess(command, cli.main(command[4:]))

    monkeypatch.setattr("sasrec.commands.comparison.subprocess.run", run)


def test_a_comparison_trains_in_a_process_of_its_own_and_keeps_the_model(run, folder, settings, tmp_path):
    flags = ["--config", settings[1], "--out", tmp_path / "kept", "--json", tmp_path / "found.json", "-k", 5, "--quiet"]

    code, out, err = run("compare", "log.csv", "walk.model", *flags)

    assert (code, err) == (0, "")
    kept = sasrec.load(tmp_path / "kept/bce.sasrec")
    data = sasrec.split(sasrec.read_log(folder / "log.csv"))
    found = sasrec.compare(data, {"walk.model": sasrec.load(folder / "walk.model"), "bce": kept}, k=5)
    assert out == f"{found}\n"
    assert json.loads((tmp_path / "found.json").read_text()) == found.to_dict()
    assert (found["bce"].cost.epochs, kept.scorer.config.loss) == (1, "bce")
    assert sys.platform != "linux" or found["bce"].cost.peak_memory > 50 * 2**20


def test_a_comparison_of_settings_is_that_of_the_library(run, folder, settings, in_process):
    data = sasrec.split(sasrec.read_log(folder / "log.csv", time=""))
    configs = {file.stem: sasrec.Config.from_toml(file) for file in settings}
    found = sasrec.compare(data, configs, seeds=2, progress=False, candidates=3)

    flags = ["--config", *settings, "--seeds", 2, "--candidates", 3, "--time", ""]
    code, out, err = run("compare", "log.csv", *flags)

    def figures(text):
        return [re.split(r"  +", line)[:6] for line in text.splitlines() if "±" in line]

    assert code == 0
    assert figures(out) == figures(str(found))
    assert re.findall("^training (.*)$", err, re.MULTILINE) == [
        *("narrow, 1 of 2", "bce, 1 of 2", "narrow, 2 of 2", "bce, 2 of 2")
    ]


def test_a_comparison_trains_presets_with_what_is_changed_in_all_of_them(run, tmp_path, in_process):
    (tmp_path / "small.toml").write_text("width = 8\nlength = 10\nheads = 1\nattention_width = 8\nepochs = 1\n")
    flags = ["--preset", "paper", "rectools", "--change", tmp_path / "small.toml", "--out", tmp_path / "kept"]

    code, out, _ = run("compare", "log.csv", *flags, "--quiet")

    assert code == 0
    assert re.search("^paper +SASRec .bce.", out, re.MULTILINE)
    for name in ("paper", "rectools"):
        expected = dataclasses.replace(
            sasrec.preset(name), width=8, length=10, heads=1, attention_width=8, epochs=1
        ).to_dict()
        kept = sasrec.load(tmp_path / f"kept/{name}.sasrec").scorer.config.to_dict()
        assert {field for field in expected if kept[field] != expected[field]} <= {"feed_forward", "precision"}


@pytest.mark.parametrize("flags", [("--preset", "papre"), ("--change", "run.toml", "--config", "run.toml")])
def test_a_comparison_of_presets_that_are_unknown_or_missing_is_refused(run, tmp_path, monkeypatch, flags):
    (tmp_path / "run.toml").write_text("width = 8\n")

    code, out, err = run("compare", "log.csv", *(str(tmp_path / one) if one == "run.toml" else one for one in flags))

    assert (code, out) == (2, "")
    assert "preset" in err


def test_models_of_several_seeds_are_kept_by_their_seeds(run, settings, tmp_path, in_process):
    run("compare", "log.csv", "--config", settings[0], "--seeds", 2, "--out", tmp_path / "kept", "--quiet")

    kept = {path.name: sasrec.load(path).scorer.config.seed for path in (tmp_path / "kept").iterdir()}
    assert kept == {"narrow-seed0.sasrec": 0, "narrow-seed1.sasrec": 1}


def test_a_comparison_reads_the_log_as_the_first_model_was_trained(run, tmp_path):
    run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS, "--split", "time", "--share", "0.3")

    code, out, _ = run("compare", "log.csv", tmp_path / "m")

    assert (code, "time split" in out, "another log" in out) == (0, True, False)


def test_a_comparison_over_folds_is_that_of_the_library(run, folder, settings):
    log = sasrec.read_log(folder / "log.csv")
    configs = {file.stem: sasrec.Config.from_toml(file) for file in settings}
    found = sasrec.compare(sasrec.folds(log, 2, share=0.2), configs, progress=False)

    code, out, _ = run("compare", "log.csv", "--config", *settings, "--folds", 2, "--share", 0.2, "--quiet")

    assert code == 0
    assert [line[:60] for line in out.splitlines()] == [line[:60] for line in str(found).splitlines()]


def test_kept_models_are_not_overwritten_unasked(run, settings, tmp_path, in_process):
    flags = ["compare", "log.csv", "--config", settings[0], "--out", tmp_path / "kept", "--quiet"]
    run(*flags)

    code, _, err = run(*flags)
    again, _, _ = run(*flags, "--replace")

    assert (code, "narrow.sasrec" in err, "exists already" in err, again) == (6, True, True, 0)


def test_a_training_that_fails_ends_the_comparison(run, settings, tmp_path, in_process):
    (tmp_path / "short.csv").write_text("user_id,item_id\nada,x\nada,y\nada,z\n")

    code, out, err = run("compare", tmp_path / "short.csv", "--config", *settings, "--quiet")

    assert (code, out) == (7, "")
    assert err.splitlines() == [
        "error: short.csv: no user has two events to train on; give a log with longer histories",
        "error: narrow: was not trained, its process left with exit code 3",
    ]


def test_all_events_are_read_with_the_weights_that_filters_will_need(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating\nada,x,1\nada,y,\nada,z,5\n")
    kept = sasrec.Filters(min_weight=4, bad_rows="drop")

    log = Reading(filters=kept).unfiltered().log(tmp_path / "log.csv")

    assert log.histories.weights.tolist() == [1.0, 5.0]


# Diagnosis


def test_a_diagnosis_prints_and_saves_that_of_the_library(run, folder, tmp_path):
    data = sasrec.split(sasrec.read_log(folder / "log.csv"))
    expected = sasrec.diagnose(data, model=sasrec.load(folder / "walk.model"), progress=False)

    code, out, err = run("diagnose", "log.csv", "--model", "walk.model", "--json", tmp_path / "d.json", "--quiet")

    assert (code, out, err) == (0, f"{expected}\n", "")
    assert json.loads((tmp_path / "d.json").read_text()) == expected.to_dict()


def test_a_diagnosis_trains_with_the_settings_of_flags_then_file_then_model(run, tmp_path, monkeypatch):
    from sasrec.studies import diagnose

    found = []
    monkeypatch.setattr(diagnose, "diagnose", lambda data, config, **rest: found.append(config))
    (tmp_path / "run.toml").write_text("width = 12\nblocks = 3\n")

    run("diagnose", "log.csv", "--model", "walk.model", "--seed", "9")
    run("diagnose", "log.csv", "--model", "walk.model", "--config", tmp_path / "run.toml", "--blocks", "1")

    assert [(one.width, one.length, one.blocks, one.seed) for one in found] == [(8, 10, 1, 9), (12, "auto", 1, 0)]


def test_a_diagnosis_reads_the_log_as_its_model_was_trained(run, tmp_path):
    run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS, "--user-core", "6", "--time", "")

    code, out, _ = run("diagnose", "log.csv", "--model", tmp_path / "m", "--quiet")

    assert (code, "data: 36 users" in out, "no times" in out) == (0, True, True)


def test_a_diagnosis_of_a_model_with_features_trains_with_them(run, tmp_path, monkeypatch):
    from sasrec.studies import diagnose

    trained, train = [], diagnose.train
    monkeypatch.setattr(
        diagnose, "train", lambda *given, **rest: trained.append(str(rest["features"])) or train(*given, **rest)
    )
    kinds = pl.DataFrame({"item_id": range(1, 13), "kind": ["odd", "even"] * 6})
    kinds.write_csv(tmp_path / "kinds.csv")
    features = ["--features", tmp_path / "kinds.csv", "--feature", "kind"]
    assert run("train", "log.csv", "--out", tmp_path / "m", "--quiet", *SETTINGS, *features)[0] == 0

    refused, _, said = run("diagnose", "log.csv", "--model", tmp_path / "m", "--quiet")
    code, _, _ = run("diagnose", "log.csv", "--model", tmp_path / "m", "--quiet", *features)

    assert (refused, "pass --features as then (kind (2 values)" in said) == (2, True)
    assert (code, trained) == (0, ["features: kind (2 values); 0 of 12 items have none"] * 2)


# Recommendations


@pytest.mark.filterwarnings("ignore:nothing is left")
def test_answers_for_programs_are_those_of_the_library(run, folder):
    model = sasrec.load(folder / "walk.model")
    for flags, answer in (
        ("--user u03 u14 -k 3", model.recommend(["u03", "u14"], k=3)),
        ("--user u03 --user u14 --no-exclude-seen", model.recommend(["u03", "u14"], exclude_seen=False)),
        ("--user u03 --deny 1 2 --allow 1 2 9 10", model.recommend(["u03"], allow=[1, 2, 9, 10], deny=[1, 2])),
        ("--history 5 6 7 -k 2", model.continue_from([5, 6, 7], k=2)),
        ("--user u03 nobody --unknown popular", model.recommend(["u03", "nobody"], unknown="popular")),
    ):
        _, as_json, _ = run("recommend", "walk.model", *flags.split(), "--format", "json")
        _, as_csv, _ = run("recommend", "walk.model", *flags.split(), "--format", "csv")

        assert pl.DataFrame(json.loads(as_json), schema=answer.schema).equals(answer)
        assert pl.read_csv(as_csv.encode(), schema=answer.schema).equals(answer)


def test_a_model_that_looks_at_times_is_told_them(run, folder, tmp_path):
    code, _, err = run("train", "log.csv", "--out", tmp_path / "m", "--quiet", "--times", "both", *SETTINGS)
    assert (code, err) == (0, "")
    model = sasrec.load(tmp_path / "m")
    for flags, answer in (
        ("--user u03 --at 1010", model.recommend(["u03"], at=1010)),
        ("--history 5 6 --times 1000 1001 --at 1003", model.continue_from([5, 6], times=[1000, 1001], at=1003)),
    ):
        _, out, _ = run("recommend", tmp_path / "m", *flags.split(), "--format", "csv")
        assert pl.read_csv(out.encode(), schema=answer.schema).equals(answer)

    assert "the time of each target is known as that of the request" in run("evaluate", tmp_path / "m", "log.csv")[1]
    assert "in 'steps'; the time of a request is that of the event to predict" in " ".join(
        run("info", tmp_path / "m")[1].split()
    )
    for flags, said in (
        ("--user u03", "the log's times count steps, so nobody knows what is now"),
        ("--user u03 --times 1000", "--times goes with --history alone"),
        ("--history 5 6 --at 1003", "give the times (steps) too"),
    ):
        code, _, err = run("recommend", tmp_path / "m", *flags.split())
        assert (code, said in " ".join(err.split())) == (2, True)


def test_similar_items_are_those_of_the_library(run, folder):
    answer = sasrec.load(folder / "walk.model").similar(4, k=3)

    code, out, _ = run("similar", "walk.model", "4", "-k", "3", "--format", "csv")

    assert code == 0
    assert pl.read_csv(out.encode(), schema=answer.schema).equals(answer)


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ("--history 5 6 7 --item 8", {"history": [5, 6, 7], "item": 8}),
        ("--user u03 --item 8 --events 2", {"history": [], "item": 8, "user": "u03", "events": 2}),
        (
            "--user u03 --history 5 6 --item 5 --no-exclude-seen",
            {"history": [5, 6], "item": 5, "user": "u03", "exclude_seen": False},
        ),
        ("--history 5 --item 8", {"history": [5], "item": 8}),
        ("--history 99 --item 8 --unknown popular", {"history": [99], "item": 8, "unknown": "popular"}),
    ],
)
def test_an_explanation_is_that_of_the_library_in_every_format(run, folder, flags, asked):
    answer = sasrec.load(folder / "walk.model").explain(**asked)

    _, table, _ = run("explain", "walk.model", *flags.split())
    _, as_json, _ = run("explain", "walk.model", *flags.split(), "--format", "json")
    _, as_csv, _ = run("explain", "walk.model", *flags.split(), "--format", "csv")

    rows = [dataclasses.asdict(one) for one in answer.events]
    assert json.loads(as_json) == {**answer.to_dict(), "events": rows}
    head, *lines = as_csv.splitlines()
    assert head == "event,item_id,attention,score_without,rank_without,score,rank"
    told = [(*row.values(), answer.score, answer.rank) for row in rows or [dict.fromkeys(head.split(",")[:5])]]
    assert lines == [",".join("" if one is None else str(one) for one in each) for each in told]
    assert [line.split() for line in table.splitlines()] == [line.split() for line in str(answer).splitlines()]


def test_titles_stand_beside_every_item_of_an_explanation(run):
    command = ["explain", "walk.model", "--history", 5, 6, "--item", 8, "--titles", "items.csv"]

    _, table, _ = run(*command)
    _, as_json, _ = run(*command, "--format", "json")
    _, as_csv, _ = run(*command, "--format", "csv")

    told = json.loads(as_json)
    assert table.startswith("8  Title of 8, which goes on, ")
    assert [line[line.index("Title") :][:10] for line in table.splitlines()[2:]] == ["Title of 5", "Title of 6"]
    assert [one["title"].split(",")[0] for one in (told, *told["events"])] == [f"Title of {one}" for one in (8, 5, 6)]
    assert list(told["events"][0])[:3] == ["event", "item_id", "title"]
    assert as_csv.splitlines()[0].startswith("event,item_id,title,attention,")


def test_a_model_that_looks_at_times_explains_with_them(run, folder, tmp_path):
    assert run("train", "log.csv", "--out", tmp_path / "m", "--quiet", "--times", "both", *SETTINGS)[0] == 0
    answer = sasrec.load(tmp_path / "m").explain([5, 6], 8, times=[1000, 1001], at=1003)

    flags = ["--history", 5, 6, "--times", 1000, 1001, "--at", 1003, "--item", 8]
    code, out, _ = run("explain", tmp_path / "m", *flags, "--format", "json")

    assert (code, json.loads(out)["score"]) == (0, answer.score)
    assert [one["score_without"] for one in json.loads(out)["events"]] == [one.score_without for one in answer.events]
    assert run("explain", tmp_path / "m", "--history", 5, "--item", 8)[0] == 2


def test_recommendations_for_everybody_are_those_of_the_library(run, folder, tmp_path):
    model = sasrec.load(folder / "walk.model")
    answer = model.recommend(model.users.ids, k=4, exclude_seen=False)

    flags = ["--all", "--out", tmp_path / "all.parquet", "-k", 4, "--no-exclude-seen"]
    code, out, _ = run("recommend", "walk.model", *flags)

    assert (code, f"{len(answer):,} recommendations for 60 users" in out) == (0, True)
    assert pl.read_parquet(tmp_path / "all.parquet").equals(answer)


@pytest.mark.filterwarnings("default")
def test_recommendations_for_everybody_keep_to_what_is_allowed(run, folder, tmp_path):
    model = sasrec.load(folder / "walk.model")
    out = tmp_path / "all.parquet"
    flags = ["--all", "--out", out, "--allow", "1", "5", "9", "99", "--deny", "9"]

    refused = run("recommend", "walk.model", *flags)
    code, _, err = run("recommend", "walk.model", *flags, "--unknown", "skip")

    assert refused[0] == 4
    assert (code, "skipped 1 unknown item: 99" in err) == (0, True)
    assert pl.read_parquet(out).equals(model.recommend(model.users.ids, allow=[1, 5], deny=[9]))


def test_a_file_of_recommendations_is_replaced_when_that_is_asked_for(run, tmp_path):
    for flags, expected in ([], 0), ([], 6), (["--replace"], 0):
        assert run("recommend", "walk.model", "--all", "--out", tmp_path / "all.parquet", *flags)[0] == expected


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("flags", ["--allow 5 99", "--deny 99"])
def test_unknown_items_of_a_rule_are_left_out_with_a_warning_where_that_is_asked_for(run, flags):
    known = flags.removesuffix(" 99").removesuffix("--deny")

    code, out, err = run(*f"recommend walk.model --history 1 2 --unknown skip {flags}".split())

    assert (code, out) == run(*f"recommend walk.model --history 1 2 {known}".split())[:2]
    assert re.fullmatch(r"warning: skipped 1 unknown item: 99[^\n]*\n", err)


@pytest.mark.filterwarnings("default")
def test_users_that_are_left_out_are_said_in_one_line(run):
    code, out, err = run("recommend", "walk.model", "--user", "nobody", "u03", "--unknown", "skip", "-k", 2)

    assert (code, len(out.splitlines())) == (0, 3)
    assert re.fullmatch(r"warning: skipped 1 unknown user: 'nobody'[^\n]*\n", err)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("flags", "whom"), [("--user u03 u04 --deny", " to u03, u04"), ("--history 1 2 --deny", "")])
def test_who_gets_nothing_is_said(run, flags, whom):
    code, out, err = run("recommend", "walk.model", *flags.split(), *range(1, 13))

    assert (code, len(out.splitlines())) == (0, 1)
    assert re.fullmatch(f"warning: nothing is left to recommend{whom}; see [^\n]*\n", err)


@pytest.mark.filterwarnings("error")
def test_who_gets_something_is_not_warned_of(run):
    assert run("recommend", "walk.model", "--user", "u03", "nobody", "--unknown", "popular")[0] == 0


def test_titles_stand_beside_the_ids_whole_and_in_line(run, folder):
    titles = dict(pl.read_csv(folder / "items.csv").iter_rows())

    _, table, _ = run("recommend", "walk.model", "--user", "u03", "--titles", "items.csv")
    _, rows, _ = run("similar", "walk.model", 4, "--titles", "items.csv", "--format", "json")

    header, *lines = table.splitlines()
    assert header.split() == ["user_id", "rank", "item_id", "title", "score"]
    for line in lines:
        assert titles[int(line.split()[2])].strip() in line
        assert line.index("Title of") == header.index("title")
    assert [row["title"] for row in json.loads(rows)] == [titles[row["item_id"]] for row in json.loads(rows)]


def test_a_table_shows_neither_line_breaks_nor_control_characters(capsys):
    from sasrec.commands.output import in_columns

    table = in_columns(pl.DataFrame({"item_id": ["a\nb", "\x1b[31m"], "score": [0.5, 1.0], "rank": [1, 2]}))

    assert table.splitlines() == ["rank  item_id   score", "   1  a�b      0.5000", "   2  �[31m    1.0000"]


# Information


def test_info_says_what_a_model_is(run):
    code, out, _ = run("info", "walk.model")

    assert code == 0
    for words in (
        "every byte verified",
        "12, such as 1, 2, 3",
        "60, such as u00",
        "width=8",
        "log.csv",
        "epoch",
        "NDCG",
    ):
        assert words in out
    assert len(max(out.splitlines(), key=len)) <= 110


def test_info_finds_a_flipped_bit(run, folder, tmp_path):
    (tmp_path / "m").mkdir()
    for file in (folder / "walk.model").iterdir():
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "m" / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "m" / "weights.safetensors").write_bytes(weights)

    code, _, err = run("info", tmp_path / "m")

    assert (code, "is damaged" in err) == (5, True)


def test_info_says_what_a_log_is_and_how_it_would_be_split(run, folder):
    log = sasrec.read_log(folder / "log.csv", filters=sasrec.Filters(user_core=6))

    code, out, _ = run("info", "log.csv", "--user-core", 6)

    assert (code, out) == (0, f"{log.summary()}\n\n{sasrec.split(log)}\n")
