"""`sasrec compare` measures finished trainings alone, and leaves none behind when it is killed."""

import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest

from sasrec import cli
from sasrec.training.steps import Training

SETTINGS = "width = 8\nlength = 10\nblocks = 1\nbatch = 16\npatience = 1000000\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A log of 60 users who walk round 12 items, and settings."""
    rows = [f"u{user:02},{(user + step) % 12}\n" for user in range(60) for step in range(4 + user % 5)]
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(rows))
    (tmp_path / "short.toml").write_text(SETTINGS + "epochs = 3\n")
    (tmp_path / "endless.toml").write_text(SETTINGS + "epochs = 1000000\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """Trains in this process what a comparison would start another for."""

    def run(command, *, stdin, stdout, check):
        with redirect_stdout(StringIO()):
            return subprocess.CompletedProcess(command, cli.main(command[4:]))

    monkeypatch.setattr("sasrec.commands.comparison.subprocess.run", run)


def interrupt_at(monkeypatch, number):
    """Lets SIGTERM come while the training makes this step; an epoch has four."""
    real, made = Training._step, []

    def step(self, batch):
        made.append(batch)
        if len(made) == number:
            signal.raise_signal(signal.SIGTERM)
        return real(self, batch)

    monkeypatch.setattr(Training, "_step", step)


@pytest.mark.filterwarnings("ignore:interrupted, with no state to go on from")  # what the training itself says
@pytest.mark.parametrize("flags", [(), ("--out", "kept")], ids=" ".join)
def test_a_training_that_was_interrupted_is_not_measured_as_if_it_were_finished(
    folder, in_process, monkeypatch, capsys, flags
):
    interrupt_at(monkeypatch, 6)  # the first epoch is validated, so there is a best one to save

    code = cli.main(["compare", "log.csv", "--config", "short.toml", *flags, "--quiet"])

    assert (code, *capsys.readouterr()) == (130, "", "error: interrupted\n")


def test_a_training_that_was_interrupted_before_it_began_interrupts_the_comparison(folder, monkeypatch, capsys):
    monkeypatch.setattr(
        "sasrec.commands.comparison.subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 130)
    )

    code = cli.main(["compare", "log.csv", "--config", "short.toml", "--quiet"])

    assert (code, *capsys.readouterr()) == (130, "", "error: interrupted\n")


def test_a_comparison_that_is_killed_takes_its_training_and_its_scratch_with_it(folder):
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "sasrec", "compare", "log.csv", "--config", "endless.toml"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ | {"TMPDIR": str(scratch)}
    ) as running:
        begun = next((line for line in running.stderr if line.split()[:2] == ["epoch", "1"]), "")
        held = [*scratch.glob("sasrec-compare-*")]
        running.kill()
        running.stderr.read()  # which is the training's too, and ends when both have left

    assert begun
    assert held
    assert not [*scratch.glob("sasrec-compare-*")]


def test_a_model_that_was_refit_is_refused_beside_settings_before_these_are_trained(folder, monkeypatch, capsys):
    assert cli.main(["count", "log.csv", "--model", "markov", "--out", "counted.sasrec"]) == 0
    assert cli.main(["refit", "counted.sasrec", "log.csv", "--out", "again.sasrec"]) == 0
    monkeypatch.setattr("sasrec.commands.comparison.subprocess.run", lambda *_, **__: pytest.fail("trained"))
    capsys.readouterr()

    code = cli.main(["compare", "log.csv", "again.sasrec", "--config", "short.toml"])

    assert code == 2
    assert "'again' was refit on train + validation, and 'short' would not be" in capsys.readouterr().err
