"""What is SQLite's alone: its files hold nothing of the forgotten, and are refused when foreign, damaged or full."""

import random
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sasrec.errors import ServingError
from sasrec.serving.problems import AWAY, unwritten
from sasrec.serving.sqlite import SqliteStore
from sasrec.serving.store import Event


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


def run(code, path):
    """What a program prints that is given a path."""
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()


def test_nothing_of_a_forgotten_user_stays_in_the_files(store, path):
    store.add([Event(f"unique-{number}", "somebody", "alien") for number in range(100)]).result()
    store.add([Event("other", "ada", "alien")]).result()

    erased = store.forget("somebody").result()

    assert erased == 100
    assert store.history("somebody") == []
    assert len(store.history("ada")) == 1
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"other" in written
    assert b"somebody" not in written
    assert b"unique-" not in written


def test_a_database_of_something_else_is_refused(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (name)")
    other.close()

    with pytest.raises(ServingError, match="database of something else; choose another data folder"):
        SqliteStore(path)


def test_a_file_that_is_no_database_is_refused(path):
    path.write_bytes(b"user,item\n" * 1000)

    with pytest.raises(ServingError, match="cannot be read"):
        SqliteStore(path)


def test_a_newer_format_is_refused(path):
    SqliteStore(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 2")
    newer.close()

    with pytest.raises(ServingError, match="format 2, this sasrec reads up to 1; update sasrec"):
        SqliteStore(path)


def content(store):
    return [*store.events(through=10**9)], store.forgotten("alan"), store.id


def test_no_flipped_bit_is_accepted_silently(path, tmp_path):
    store = SqliteStore(path)
    store.add([Event(f"event {n}", f"user {n % 7}", f"item {n}", n) for n in range(60)])
    store.forget("alan").result()
    true = content(store)
    store.close()
    whole = path.read_bytes()
    rng = random.Random(3)
    silent = []

    for flip in range(150):
        broken = bytearray(whole)
        place = rng.randrange(len(whole))
        broken[place] ^= 1 << rng.randrange(8)
        copy = tmp_path / f"{flip}.sqlite"
        copy.write_bytes(broken)
        try:
            opened = SqliteStore(copy)
            found = content(opened)
            opened.close()
        except ServingError:
            continue
        silent += [place] if found != true else []

    assert silent == []


DISK_FULL = """
    import resource, sys
    from pathlib import Path
    from sasrec.errors import ServingError
    from sasrec.serving.sqlite import SqliteStore
    from sasrec.serving.store import Event

    store = SqliteStore(Path(sys.argv[1]))
    store.add([Event("before", "ada", "alien")]).result()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        store.add([Event(str(n), "ada", "x" * 1000) for n in range(1000)]).result()
    except ServingError as error:
        print(error.status, error)
    print([one.id for one in store.history("ada")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(store.add([Event("after", "ada", "brazil")]).result())
    store.close()
"""


def test_a_full_disk_is_an_error_that_leaves_the_old_state_whole(path):
    refusal, after, later = run(DISK_FULL, path)

    assert refusal.startswith("507 ")
    assert "events cannot be stored" in refusal
    assert after == "['before']"
    assert later == "['stored']"
    store = SqliteStore(path)
    assert [one.id for one in store.history("ada")] == ["before", "after"]
    store.close()


FORGETTING = """
    import os, resource, sys
    from pathlib import Path
    from sasrec.errors import ServingError
    from sasrec.serving.sqlite import SqliteStore
    from sasrec.serving.store import Event

    path = Path(sys.argv[1])
    store = SqliteStore(path)
    store.add([Event(f"{n}", f"user {n % 5}", "x" * 900) for n in range(600)]).result()
    store.close()
    store = SqliteStore(path)
    # The log may grow for a while, the file not at all.
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path), resource.RLIM_INFINITY))
    late = [store.add([Event(f"late {n}", "ada", "y" * 900)]) for n in range(10)]
    try:
        print(store.forget("user 1").result())
    except ServingError as error:
        print(error.status, error)
    print({one.result()[0] for one in late}, len(store.history("user 1")), len(store.history("ada")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.forget("user 1").result()
    print(b"user 1" in b"".join(file.read_bytes() for file in path.parent.iterdir()))
    store.close()
"""


def test_a_user_who_cannot_be_erased_for_want_of_room_is_told_so_and_nobody_else_is(path):
    refusal, state, left = run(FORGETTING, path)

    assert refusal.startswith("507 ")
    assert "used no more but still on the disk: disk I/O error; forget the user again" in refusal
    assert state == "{'stored'} 0 10"
    assert left == "False"


def test_a_lock_of_another_program_is_told_from_a_full_disk_and_from_a_long_queue(path, monkeypatch):
    monkeypatch.setattr("sasrec.serving.sqlite._LOCK_SECONDS", 0.05)
    store = SqliteStore(path)
    store.add([Event("1", "somebody", "alien")]).result(60)
    other = sqlite3.connect(path, isolation_level=None)

    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServingError, match=r"another program writes to it.*database is locked; nothing was") as locked:
        store.add([Event("2", "somebody", "brazil")]).result(60)
    other.execute("ROLLBACK")
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchall()
    with pytest.raises(ServingError, match="used no more but still on the disk: others read them") as left:
        store.forget("somebody").result(60)
    other.close()
    told = [unwritten(one.value, no_room="none", unsure="unsure") for one in (locked, left)]
    again = store.add([Event("2", "somebody", "brazil")]).result(60)
    store.close()

    assert [(one.kind, one.headers["retry-after"]) for one in told] == [(AWAY, "1")] * 2
    assert told[0].detail == "another program holds the events; nothing was stored; send it again later"
    assert told[1].detail.startswith("the user is forgotten, but others read the events, and remains stay on the disk")
    assert again == ["stored"]


@pytest.mark.slow
def test_a_user_is_not_forgotten_until_nothing_is_left_on_the_disk(store, path):
    store.add([Event("1", "somebody", "alien")]).result()
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()

    with pytest.raises(ServingError, match="used no more but still on the disk: others read them; forget the user"):
        store.forget("somebody").result(timeout=60)
    during = store.history("somebody")
    reader.close()
    store.forget("somebody").result(timeout=60)

    assert during == []
    assert b"somebody" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_reader_refuses_a_place_of_the_forgotten_that_was_changed(store, path):
    store.add([Event("1", "ada", "book", 1)]).result()
    store.forget("ada").result()
    store.add([Event("2", "ada", "film", 2)]).result()
    store.close()
    with sqlite3.connect(path) as changed:
        changed.execute("UPDATE forgotten SET place = place + 64")
    changed.close()

    reader = SqliteStore(path, writable=False)

    with pytest.raises(ServingError, match="is damaged: a place does not match its checksum"):
        reader.forgotten("ada")
    reader.close()


def test_a_file_that_is_refused_is_not_held_open(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE other (one)")
    other.close()

    with pytest.raises(ServingError, match="is a database of something else") as refused:
        SqliteStore(path)

    assert refused.value, "the error, and with it the frame of the refusal, is alive"
    assert not [one for one in Path("/proc/self/fd").iterdir() if one.exists() and one.resolve() == path.resolve()]
