"""`sasrec train` leaves nothing half done: it keeps the state of a training, ends when it is told to, and goes on."""

import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

import sasrec
from sasrec import cli
from sasrec.locking import held
from sasrec.training.epochs import EpochResult
from sasrec.training.progress import watched
from sasrec.training.steps import Training

TRAIN = ["train", "log.csv", "--out", "m", "--width", "8", "--length", "10", "--batch", "16", "--epochs", "3"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A log of 60 users who walk round 12 items."""
    rows = [f"u{user:02},{(user + step) % 12}\n" for user in range(60) for step in range(4 + user % 5)]
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command; gives exit code, standard output and standard error."""

    def call(*arguments):
        code = cli.main(list(arguments))
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def interrupted(monkeypatch):
    """Lets SIGTERM come while the training makes its sixth step, the second of the second epoch."""
    real, made = Training._step, []

    def step(self, batch):
        made.append(batch)
        if len(made) == 6:
            signal.raise_signal(signal.SIGTERM)
        return real(self, batch)

    monkeypatch.setattr(Training, "_step", step)


def terminated(*_):
    """Stands for whatever SIGTERM meets."""
    signal.raise_signal(signal.SIGTERM)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_training_that_ended_well_leaves_the_model_alone(run, folder):
    code, out, _ = run(*TRAIN, "--checkpoint-every", "1e-9")

    assert (code, names(folder)) == (0, ["log.csv", "m"])
    assert "not finished" not in out


def test_what_a_killed_training_left_half_saved_goes_with_the_next_and_nothing_else_does(run, folder):
    for name in (".m.a1b2c3d4.tmp", ".m2.a1b2c3d4.tmp"):
        (folder / name).mkdir()
        (folder / name / "weights.safetensors").write_text("half")

    assert run(*TRAIN)[0] == 0

    assert names(folder) == [".m2.a1b2c3d4.tmp", "log.csv", "m"]


def test_a_terminated_training_saves_its_best_and_says_how_to_go_on(run, folder, interrupted):
    code, out, _ = run(*TRAIN)
    model = sasrec.load("m")
    refused = run(*TRAIN, "--resume")
    again, resumed, told = run(*TRAIN, "--resume", "--replace")
    goes_on = sasrec.load("m")
    run(*TRAIN[:3], "whole", *TRAIN[4:])

    assert (code, model.record["stopped"], model.record["epochs"]) == (0, "interrupted", 1)
    assert "not finished: the same command with --resume --replace goes on from m.training" in out
    assert refused[0] == 6
    assert "m: exists already" in refused[2]
    assert (again, goes_on.record["stopped"]) == (0, "all epochs trained")
    assert "going on in epoch 2, after 6 steps\n" in told
    assert "not finished" not in resumed
    assert (folder / "m" / "weights.safetensors").read_bytes() == (
        folder / "whole" / "weights.safetensors"
    ).read_bytes()
    assert names(folder) == ["log.csv", "m", "whole"]


def test_a_training_terminated_while_it_reads_the_log_says_so_and_leaves_nothing(run, folder, monkeypatch):
    monkeypatch.setattr("sasrec.commands.reading.Reading.log", terminated)

    assert run(*TRAIN) == (130, "", "error: interrupted\n")
    assert names(folder) == ["log.csv"]


@pytest.mark.parametrize("command", "demo train count blend refit diagnose tune compare retrain".split())
def test_a_command_that_trains_can_be_terminated_before_anything_is_read(run, monkeypatch, command):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "command_line", lambda _: terminated)

    assert run(command) == (130, "", "error: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("command", "evaluate add-items recommend similar info export serve activate rollback".split())
def test_termination_is_left_to_the_system_where_nothing_is_trained(run, monkeypatch, command):
    before, found = signal.getsignal(signal.SIGTERM), []
    monkeypatch.setattr(cli, "command_line", lambda _: lambda _: found.append(signal.getsignal(signal.SIGTERM)))

    run(command)

    assert found == [before]


def test_the_training_that_was_stopped_is_in_nobodys_way_but_its_own(run, folder, interrupted):
    run(*TRAIN)

    code, _, err = run(*TRAIN, "--replace")

    assert code == 6
    assert err.startswith(
        "error: m.training: holds a training that was stopped, or whose model was not saved; pass --resume to go on "
        "with it, or remove"
    )
    assert run(*TRAIN[:3], "other", *TRAIN[4:])[0] == 0


def test_other_settings_are_refused_with_what_differs(run, folder, interrupted):
    run(*TRAIN)

    code, _, err = run(*TRAIN, "--resume", "--replace", "--dropout", "0.1")

    assert code == 2
    assert err.startswith("error: m.training: settings differ: dropout=0.47 there and 0.1 here; give what m.training")


def test_where_no_training_was_stopped_none_goes_on(run, folder):
    code, _, err = run(*TRAIN, "--resume")

    assert (code, err) == (
        5,
        "error: m.training: there is no stopped training to go on with; start one without --resume\n",
    )


def test_whoever_wants_no_checkpoints_has_none(run, folder, interrupted):
    code, out, _ = run(*TRAIN, "--checkpoint-every", "0")

    assert (code, names(folder)) == (0, ["log.csv", "m"])
    assert "not finished" not in out
    assert run(*TRAIN, "--resume", "--checkpoint-every", "0")[0] == 2


@pytest.mark.parametrize("minutes", ["-1", "nan"])
def test_an_interval_that_is_none_is_named_as_it_was_typed(run, folder, minutes):
    code, _, err = run(*TRAIN, f"--checkpoint-every={minutes}")

    assert (code, err) == (2, f"error: --checkpoint-every: expected minutes >= 0, found {minutes}\n")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("flags", "later"),
    [
        ([], "not finished: the same command with --resume --replace goes on from m.training"),
        (["--checkpoint-every=0"], "interrupted, with no state to go on from"),
    ],
)
def test_a_quiet_training_that_was_interrupted_says_so_in_one_line(run, folder, interrupted, flags, later):
    told = run(*TRAIN, "--quiet", *flags)

    assert told == (0, "", f"warning: {later}\n")


def test_a_model_that_cannot_be_saved_in_the_end_is_saved_by_going_on(run, folder, monkeypatch):
    run(*TRAIN[:3], "whole", *TRAIN[4:])
    real = Training._step
    monkeypatch.setattr(Training, "_step", lambda self, batch: (Path("m").write_text("taken"), real(self, batch))[1])

    code, _, err = run(*TRAIN)
    Path("m").unlink()
    monkeypatch.setattr(Training, "_step", lambda *_: pytest.fail("it was trained already"))
    again = run(*TRAIN, "--resume")

    assert (code, again[0], names(folder)) == (6, 0, ["log.csv", "m", "whole"])
    assert err.endswith("choose another name; what was trained is kept: --resume goes on from m.training\n")
    assert weights("m") == weights("whole")


def weights(model):
    return (Path(model) / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "count log.csv",
        "blend log.csv",
        "refit rules log.csv",
        "retrain rules log.csv",
        "export rules --to onnx",
        "add-items rules log.csv",
        "demo",
    ],
)
def test_what_saves_a_model_is_refused_where_another_command_is_about_to(run, folder, command):
    assert run("count", "log.csv", "--out", "rules", "--quiet")[0] == 0

    with held(Path("m"), doing="we train there"):
        code, out, err = run(*command.split(), "--out", "m")

    told = "error: m: another command writes there at this moment; wait until it ends, or choose another name\n"
    assert (code, out, err.replace(f"{folder}/", "")) == (6, "", told)
    assert names(folder) == ["log.csv", "rules"]


@pytest.mark.parametrize("command", ["train log.csv", "count log.csv", "export rules --to onnx"])
def test_a_folder_by_no_name_of_its_own_is_refused_before_anything_is_made(run, folder, monkeypatch, command):
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *_, **__: pytest.fail("something was made"))

    code, _, err = run(*command.split(), "--out", ".")

    assert (code, "nothing takes the place of" in err) == (6, True), err


def test_a_job_in_the_background_ignores_ctrl_c_and_ends_well_at_sigterm(folder):
    command = [sys.executable, "-m", "sasrec", *TRAIN[:-1], "1000000", "--patience", "1000000"]
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    running = subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with closing(running.stderr), closing(running.stdout):
        while not running.stderr.readline().startswith("epoch   2"):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        for _ in range(3):
            assert running.stderr.readline().startswith("epoch")
        running.terminate()
        running.stderr.read()
        out = running.stdout.read()
        running.wait()

    assert running.returncode == 0
    assert "interrupted; best is epoch" in out
    assert sasrec.load("m").record["stopped"] == "interrupted"
    assert names(folder) == ["log.csv", "m", "m.training"]


@pytest.mark.parametrize("flags", [[], ["--checkpoint-every", "1e-9"]], ids=["no-state-yet", "with-state"])
def test_two_trainings_never_meet_and_a_killed_one_is_in_nobodys_way(run, folder, flags):
    command = [sys.executable, "-m", "sasrec", *TRAIN[:-1], "1000000", "--patience", "1000000", *flags]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    with closing(running.stderr):
        while not running.stderr.readline().startswith("epoch   1"):
            assert running.poll() is None
        meanwhile = [
            run(*TRAIN),
            run(*TRAIN, "--replace"),
            run(*TRAIN, "--resume"),
            run(*TRAIN, "--checkpoint-every=0"),
        ]
        goes_on = running.stderr.readline()
        running.kill()
        running.wait()
    after = run(*TRAIN[:-2], "--epochs", "1000000", "--patience", "1", "--resume") if flags else run(*TRAIN)

    told = "error: m: another command writes there at this moment; wait until it ends, or choose another name\n"
    assert meanwhile == [(6, "", told)] * 4
    assert goes_on.startswith("epoch")
    assert after[0] == (2 if flags else 0), "with other settings it is refused, but no longer for the other's sake"
    assert names(folder) == (["log.csv", "m.training"] if flags else ["log.csv", "m"])


def test_two_trainings_of_python_never_share_a_checkpoint(folder):
    data = sasrec.split(sasrec.read_log("log.csv"))
    config, checkpoint = sasrec.Config(width=8, length=10, batch=16, epochs=1), sasrec.Checkpoint("m.training")

    with checkpoint.held(), pytest.raises(sasrec.OutputError, match=r"m\.training: another training writes there at"):
        sasrec.train(data, config, checkpoint=checkpoint)

    assert sasrec.train(data, config, checkpoint=checkpoint).record["epochs"] == 1


def test_the_bar_of_a_training_that_goes_on_begins_where_that_is(monkeypatch):
    screen = StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")

    with watched(None, epochs=4, steps=10, done=25, best=EpochResult(2, 1.0, 0.5, 0.6, 1.0, True)):
        pass

    assert "epoch 3/4" in screen.getvalue()
    assert "25/40" in screen.getvalue()
    assert "best 0.5000" in screen.getvalue()
