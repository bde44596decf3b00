"""Events: durable once acknowledged, each once, in order of time, and gone when a user is forgotten."""

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from itertools import permutations

import pytest

from sasrec.errors import ServingError
from sasrec.serving.store import Event, SqliteStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


def items(store, user, **which):
    return [one.item for one in store.history(user, **which)]


def test_an_event_is_in_the_history_as_soon_as_it_is_acknowledged(store):
    outcomes = store.add([Event("1", "ada", "alien", 5), Event("2", "grace", "brazil")]).result()

    assert outcomes == ["stored", "stored"]
    assert items(store, "ada") == ["alien"]
    assert items(store, "grace") == ["brazil"]
    assert items(store, "alan") == []


@pytest.mark.parametrize("event", [Event("1", "ada", "alien", -(10**30)), Event("1", "ada", "\ud800")])
def test_an_event_that_has_no_room_is_refused_and_the_next_is_stored(store, event):
    with pytest.raises(ServingError, match="nothing was"):
        store.add([Event("0", "ada", "brazil"), event]).result(timeout=60)

    assert store.add([Event("2", "ada", "alien")]).result(timeout=60) == ["stored"]
    assert items(store, "ada") == ["alien"]


def test_an_event_sent_again_is_stored_once(store):
    store.add([Event("1", "ada", "alien"), Event("2", "ada", "brazil", 7)]).result()

    again = store.add([Event("2", "ada", "brazil", 7), Event("1", "ada", "alien"), Event("3", "ada", "x")]).result()

    assert again == ["duplicate", "duplicate", "stored"]
    assert len(store.history("ada")) == 3


@pytest.mark.parametrize(
    "other",
    [
        Event("1", "grace", "alien", 5),
        Event("1", "ada", "brazil", 5),
        Event("1", "ada", "alien", 6),
        Event("1", "ada", "alien"),
    ],
)
def test_an_id_with_other_content_is_a_conflict_and_changes_nothing(store, other):
    store.add([Event("1", "ada", "alien", 5)]).result()
    before = store.history("ada")

    outcomes = store.add([other, Event("2", "alan", "crash", 1)]).result()

    assert outcomes == ["conflict", "stored"]
    assert store.history("ada") == before
    assert items(store, "grace") == []


def test_events_are_in_order_of_time_in_whatever_order_they_arrive(store):
    events = [("first", 10), ("second", 20), ("third", 30), ("fourth", 40)]

    for number, order in enumerate(permutations(events)):
        for item, time in order:
            store.add([Event(f"{number} {item}", f"user {number}", item, time)])
    store.add([]).result()

    histories = {tuple(items(store, f"user {number}")) for number in range(24)}
    assert histories == {("first", "second", "third", "fourth")}


def test_events_of_one_time_are_in_order_of_arrival(store):
    store.add([Event("z", "ada", "first", 5), Event("a", "ada", "second", 5)]).result()

    assert items(store, "ada") == ["first", "second"]


def test_events_up_to_a_place_can_be_left_out(store):
    store.add([Event("1", "ada", "old", 90)]).result()
    place = store.last()
    store.add([Event("2", "ada", "new", 10)]).result()

    assert items(store, "ada", after=place) == ["new"]
    assert [one.item for one in store.events(through=place)] == ["old"]


def test_of_a_long_history_the_latest_are_read(store, monkeypatch):
    monkeypatch.setattr("sasrec.serving.store.HISTORY", 3)
    store.add([Event(str(number), "ada", f"item {number}", number) for number in range(9)]).result()

    assert items(store, "ada") == ["item 6", "item 7", "item 8"]


def test_everything_is_there_again_after_the_store_was_closed(path):
    store = SqliteStore(path)
    store.add([Event("1", "ada", "alien", 5)])
    store.forget("grace")
    store.close()

    again = SqliteStore(path)

    assert (items(again, "ada"), again.forgotten("grace"), again.last(), again.id) == (["alien"], 2, 2, store.id)
    again.close()


def test_nothing_of_a_forgotten_user_stays_in_the_files(store, path):
    store.add([Event(f"unique-{number}", "somebody", "alien") for number in range(100)]).result()
    store.add([Event("other", "ada", "alien")]).result()

    erased = store.forget("somebody").result()

    assert erased == 100
    assert items(store, "somebody") == []
    assert items(store, "ada") == ["alien"]
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"other" in written
    assert b"somebody" not in written
    assert b"unique-" not in written


def test_a_user_is_forgotten_after_all_earlier_events_and_before_all_later_ones(store):
    store.add([Event("1", "ada", "alien")]).result()
    before = store.last()
    store.forget("ada").result()
    forgotten = store.forgotten("ada")
    store.add([Event("2", "ada", "brazil")]).result()

    assert before < forgotten < store.last()
    assert items(store, "ada") == ["brazil"]
    assert store.forgotten("grace") is None


def test_who_gives_up_waiting_does_not_stop_the_writer(store):
    given_up = [store.add([Event(f"{number}", "ada", "alien")]) for number in range(200)]

    cancelled = sum(future.cancel() for future in given_up)

    assert store.add([Event("after", "ada", "brazil")]).result(timeout=60) == ["stored"]
    assert len(store.history("ada")) == 1 + 200 - cancelled


@pytest.mark.slow
def test_a_user_is_not_forgotten_until_nothing_is_left_on_the_disk(store, path):
    store.add([Event("1", "somebody", "alien")]).result()
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()

    with pytest.raises(ServingError, match="used no more but still on the disk: others read them; forget the user"):
        store.forget("somebody").result(timeout=60)
    during = items(store, "somebody")
    reader.close()
    store.forget("somebody").result(timeout=60)

    assert during == []
    assert b"somebody" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_second_process_can_read_while_the_first_writes(store, path):
    store.add([Event("1", "ada", "alien")]).result()

    reader = SqliteStore(path, writable=False)
    store.add([Event("2", "ada", "brazil")]).result()

    assert items(reader, "ada") == ["alien", "brazil"]
    with pytest.raises(ServingError, match="closed for writing"):
        reader.add([])
    reader.close()


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


def run(code, path, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


DISK_FULL = """
    import resource, sys
    from pathlib import Path
    from sasrec.errors import ServingError
    from sasrec.serving.store import Event, SqliteStore

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
    out, _ = run(DISK_FULL, path).communicate(timeout=60)

    refusal, after, later = out.splitlines()
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
    from sasrec.serving.store import Event, SqliteStore

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
    out, _ = run(FORGETTING, path).communicate(timeout=60)

    refusal, state, left = out.splitlines()
    assert refusal.startswith("507 ")
    assert "used no more but still on the disk: disk I/O error; forget the user again" in refusal
    assert state == "{'stored'} 0 10"
    assert left == "False"


WRITER = """
    import os, sys
    from pathlib import Path
    from sasrec.serving.store import Event, SqliteStore

    def say(*words):  # two threads speak, and no line may tear
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    store = SqliteStore(Path(sys.argv[1]))
    start = store.last()
    for number in range(start, start + 1_000_000):
        events = [Event(f"{number}-{part}", f"user {number % 5}", f"item {part}") for part in range(3)]
        say("sent", number)
        store.add(events).add_done_callback(lambda done, number=number: say(done.exception() or "kept", number))
        if number % 7 == 0:
            store.add([]).result()
"""


def killed_while_writing(path, lines):
    """Kill a writer after some lines of its ledger; gives the numbers that it sent and that it acknowledged."""
    writer = run(WRITER, path)
    ledger = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    with writer:
        ledger += writer.stdout.readlines()
    said = [line.split() for line in ledger if line.endswith("\n")]
    return (
        {int(words[1]) for words in said if words[0] == "sent"},
        {int(words[1]) for words in said if words[0] == "kept"},
    )


def check_ledger(path, rounds):
    """After each kill: acknowledged is stored, stored was sent, and a call is there once, whole, or not at all."""
    sent, kept = set(), set()
    for number in range(rounds):
        more_sent, more_kept = killed_while_writing(path, 20 + 37 * number % 200)
        sent, kept = sent | more_sent, kept | more_kept

        store = SqliteStore(path)
        ids = [one.id for one in store.events(through=10**9)]
        store.close()
        stored = {int(one.partition("-")[0]) for one in ids}

        assert kept <= stored
        assert stored <= sent
        assert sorted(ids) == sorted(f"{number}-{part}" for number in stored for part in range(3))
    assert len(kept) > 5 * rounds


def test_no_acknowledged_event_is_lost_when_the_process_is_killed(path):
    check_ledger(path, rounds=4)
