"""What a store holds at one moment, whatever is written to it meanwhile."""

import polars as pl
import pytest

import sasrec
from sasrec.errors import ServingError
from sasrec.serving.opening import open_store
from sasrec.serving.snapshot import with_events
from sasrec.serving.sqlite import SqliteStore
from sasrec.serving.store import Event


@pytest.fixture
def store(place):
    store = open_store(place)
    yield store
    store.close()


@pytest.fixture
def log():
    rows = [("ada", "a"), ("ada", "b"), ("grace", "c"), ("grace", "a")]
    return sasrec.read_log(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))


def histories(log):
    return {user: log.items.raw(log.histories[row]).to_list() for row, user in enumerate(log.users.ids)}


def test_every_event_is_added_and_the_last_place_is_named(store, log):
    store.add([Event("1", "ada", "x", 5), Event("2", "new", "y", 5), Event("3", "ada", "w", 4)]).result()
    store.add([Event("1", "ada", "x", 5)]).result()  # sent again

    merged, snapshot = with_events(log, store)

    assert histories(merged) == {"ada": ["a", "b", "w", "x"], "grace": ["c", "a"], "new": ["y"]}
    assert snapshot.to_dict() == {"store": store.id, "through": 3, "taken": 3, "users": 2, "forgotten": 0}


def test_who_was_forgotten_keeps_what_came_afterwards(store, log):
    store.add([Event("1", "ada", "x"), Event("2", "grace", "y")]).result()
    store.forget("ada").result()
    store.forget("grace").result()
    store.add([Event("3", "ada", "z")]).result()

    merged, snapshot = with_events(log, store)

    assert histories(merged) == {"ada": ["z"]}
    assert (snapshot.through, snapshot.taken, snapshot.forgotten) == (5, 1, 2)


@pytest.mark.parametrize("page", [1, 2, 5, 100])
def test_what_is_written_while_events_are_read_belongs_to_the_next_time(store, log, monkeypatch, page):
    monkeypatch.setattr("sasrec.serving.store.PAGE", page)
    users = [f"u{number}" for number in range(9)]
    store.add([Event(f"{user}-{at}", user, f"i{at}", at) for at in range(3) for user in users]).result()
    read = type(store).events

    def busy(self, *, through):
        for number, one in enumerate(read(self, through=through)):
            yield one
            if number == 4:  # the second event of u1 was read
                self.add([Event("late", "u0", "late", 1), Event("later", "u8", "later", 1)]).result()
                self.forget("u1").result()
                self.forget("u7").result()
                self.forget("ada").result()
                self.add([Event("back", "u1", "back", 1)]).result()

    monkeypatch.setattr(type(store), "events", busy)

    merged, snapshot = with_events(log, store)

    left = [user for user in users if user not in ("u1", "u7")]
    assert histories(merged) == {"grace": ["c", "a"]} | {user: ["i0", "i1", "i2"] for user in left}
    assert snapshot.through == 27


@pytest.mark.parametrize("page", [1, 2, 3, 7, 100])
def test_events_are_read_page_by_page_in_their_order(store, monkeypatch, page):
    monkeypatch.setattr("sasrec.serving.store.PAGE", page)
    store.add([Event(str(n), f"u{n * 7 % 4}", "i", n * 5 % 3 - 1) for n in range(21)]).result()

    found = list(store.events(through=18))

    users = list(dict.fromkeys(one.user for one in found))
    assert found == sorted(found, key=lambda one: (users.index(one.user), one.time, one.place))
    assert sorted(int(one.id) for one in found) == list(range(18))


def test_a_damaged_event_is_an_error_for_a_reader_too(log, tmp_path):
    import sqlite3

    store = SqliteStore(tmp_path / "events.sqlite")
    store.add([Event("1", "ada", "x")]).result()
    store.close()
    other = sqlite3.connect(tmp_path / "events.sqlite")
    other.execute("UPDATE events SET item = 'y'")
    other.commit()
    other.close()
    reader = SqliteStore(tmp_path / "events.sqlite", writable=False)

    with pytest.raises(ServingError, match="an event does not match its checksum"):
        with_events(log, reader)
    reader.close()
