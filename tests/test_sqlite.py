"""What is SQLite's alone: its files hold nothing of the forgotten, and are refused when foreign, damaged or full."""

import random
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from sasrec.errors import ServingError
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
    command = [sys.executable, "-c", textwrap.dedent(DISK_FULL), str(path)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    refusal, after, later = done.stdout.splitlines()
    assert refusal.startswith("507 ")
    assert "events cannot be stored" in refusal
    assert after == "['before']"
    assert later == "['stored']"
    store = SqliteStore(path)
    assert [one.id for one in store.history("ada")] == ["before", "after"]
    store.close()
