"""What sasrec survives: the claims of `python -m benchmarks.survival`, a few tries of each here and all where asked."""

import json
import sys
import threading
from types import SimpleNamespace

import pytest
from benchmarks.survival import __main__ as command
from benchmarks.survival import disk, writing
from benchmarks.survival.claims import Claim, Try, table
from benchmarks.survival.ground import PATIENCE, Ground
from benchmarks.survival.load import Clients

ALL = [pytest.param(name, id=name) for name in command.CLAIMS]
FEW = [pytest.param(name, id=name) for name, claim in command.CLAIMS.items() if claim.few]


@pytest.fixture(scope="session")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("survival"))


@pytest.mark.parametrize("name", FEW)
def test_it_is_survived_a_few_times(ground, name):
    tries = command.CLAIMS[name].few

    verdict = command.CLAIMS[name].judge(ground, tries)

    assert (verdict.survived, verdict.failures) == (tries, ())


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_it_is_survived_every_time(ground, name, capsys):
    tries = command.CLAIMS[name].tries

    verdict = command.CLAIMS[name].judge(ground, tries)

    with capsys.disabled():
        # Not to standard output, which nobody sees of a worker of pytest-xdist.
        sys.stderr.write(f"\n{verdict.survived:,} of {tries:,}: {verdict.claim.title} ({verdict.seconds:.0f} s)\n")
    assert (verdict.survived, verdict.failures) == (tries, ())


@pytest.mark.parametrize("tries", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_server_loses_no_acknowledged_event_in_a_database_either(ground, database, tries):
    found = [*writing.killed(ground, tries, database=database)]

    assert [one.failed for one in found] == [""] * tries


def test_a_disk_that_nobody_may_make_is_a_limit_on_files(ground):
    limited = disk.LimitedFiles(ground.fresh("limit"))

    found = [*disk.saved(ground, 4, limited), *disk.stored(ground, 1, limited)]

    assert [one.failed for one in found] == [""] * 5


def test_clients_that_all_break_off_are_not_waited_for(serving, small_model, tmp_path):
    with serving(small_model, data=tmp_path / "data") as running:
        clients = Clients(running.url, right={})  # no version is known, so that no answer can be judged
        waiting = threading.Thread(target=clients.wait, args=[1], daemon=True)
        waiting.start()
        waiting.join(PATIENCE)
        clients.end()

    assert not waiting.is_alive()
    assert clients.faults


# How it is counted


def claim_of(*fates, tries=None):
    """A claim whose tries end so: a text for a failure, an error to be raised."""

    def tried(ground, number):
        for one in fates:
            if isinstance(one, Exception):
                raise one
            yield Try(one, {"things": 2})

    return Claim("one", "first thing", tries or len(fates), 1, tried)


def test_a_claim_holds_where_every_try_was_survived():
    verdict = claim_of("", "").judge(None, 2)

    assert (verdict.holds, verdict.survived, verdict.counted) == (True, 2, {"things": 4})


@pytest.mark.parametrize(
    ("fates", "survived", "told"),
    [
        (["", "lost", ""], 2, ("try 2: lost",)),
        (["", ZeroDivisionError("none"), ""], 1, ("ended by ZeroDivisionError: none",)),
        ([""], 1, ()),
    ],
)
def test_a_claim_fails_with_a_try_that_failed_broke_off_or_was_not_made(fates, survived, told):
    verdict = claim_of(*fates).judge(None, 3)

    assert (verdict.holds, verdict.survived, verdict.failures) == (False, survived, told)
    assert f"{survived} of 3 FAIL" in table([verdict])


def test_the_command_prints_every_claim_and_fails_with_any(monkeypatch, tmp_path, capsys):
    claims = {"good": claim_of("", ""), "bad": claim_of("", "lost")}
    monkeypatch.setattr(command, "CLAIMS", claims)
    monkeypatch.setattr(command, "Ground", lambda folder: SimpleNamespace())

    good = command.main(["--only", "good", "--json", str(tmp_path / "a.json")])
    both = command.main(["--json", str(tmp_path / "b.json")])
    out, written = capsys.readouterr().out, json.loads((tmp_path / "b.json").read_text())

    assert (good, both) == (0, 1)
    assert "2 of 2 " in out
    assert "1 of 2 FAIL" in out
    assert "one: try 2: lost" in out
    assert "1 of 2 claims held every time" in out
    assert [(one["tries"], one["survived"]) for one in written["claims"]] == [(2, 2), (2, 1)]
    assert written["machine"]["torch"]
