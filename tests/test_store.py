"""Events, wherever they are: durable once acknowledged, each once, in order of time, gone when a user is forgotten."""

import signal
import subprocess
import sys
import textwrap
from itertools import permutations

import pytest

from sasrec.errors import ServingError
from sasrec.serving.opening import open_store
from sasrec.serving.store import Event


@pytest.fixture
def store(place):
    store = open_store(place)
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


def test_what_is_known_of_many_users_is_what_is_known_of_each(store, monkeypatch):
    monkeypatch.setattr(f"{type(store).__module__}.HISTORY", 3)
    events = [Event(str(n), "ada" if n % 3 else "grace", f"i{n}", 1000 - n % 4) for n in range(12)]
    store.add(events).result()
    store.forget("grace").result()
    store.add([Event("later", "grace", "i1")]).result()
    asked = [("grace", 0), ("nobody", 0), ("ada", 5), ("ada", 0), ("grace", 99)]

    found = store.known(asked)

    assert found == [(store.forgotten(user), store.history(user, after=after)) for user, after in asked]
    assert [len(since) for _, since in found] == [1, 0, 3, 3, 0]
    assert store.known([]) == []


def test_of_a_long_history_the_latest_are_read(store, monkeypatch):
    monkeypatch.setattr(f"{type(store).__module__}.HISTORY", 3)
    store.add([Event(str(number), "ada", f"item {number}", number) for number in range(9)]).result()

    assert items(store, "ada") == ["item 6", "item 7", "item 8"]


def test_everything_is_there_again_after_the_store_was_closed(place):
    store = open_store(place)
    store.add([Event("1", "ada", "alien", 5)])
    store.forget("grace")
    store.close()

    again = open_store(place)

    assert (items(again, "ada"), again.forgotten("grace"), again.last(), again.id) == (["alien"], 2, 2, store.id)
    again.close()


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


def test_a_second_process_can_read_while_the_first_writes(store, place):
    store.add([Event("1", "ada", "alien")]).result()

    reader = open_store(place, writable=False)
    store.add([Event("2", "ada", "brazil")]).result()

    assert items(reader, "ada") == ["alien", "brazil"]
    with pytest.raises(ServingError, match="closed for writing"):
        reader.add([])
    reader.close()


@pytest.mark.parametrize("text", ["\U0001f4da" * 1024, "it's", "a\\b", "{1,2}", "%s", " ", "\n"])
def test_any_id_is_kept_as_it_is(store, text):
    event = Event(text, text, text, 5)

    outcomes = [store.add([event]).result(timeout=60) for _ in range(2)]

    assert outcomes == [["stored"], ["duplicate"]]
    assert store.history(text) == [(text, text, text, 5, 1)] == list(store.events(through=1))
    assert store.kept([text, "other"]) == {text}
    assert store.forget(text).result(timeout=60) == 1
    assert (store.history(text), store.kept([text]), store.forgotten(text)) == ([], set(), 2)


def test_writes_that_wait_together_count_in_their_order(store):
    first = Event("1", "ada", "alien", 5)
    done = [
        store.add([Event("0", "ada", "x"), first, first]),
        store.add([first]),
        store.forget("ada"),
        store.add([first, Event("1", "ada", "brazil", 5)]),
        store.add([]),
        store.forget("grace"),
        store.forget("ada"),
        store.add([Event("1", "ada", "brazil", 5)]),
    ]

    found = [one.result(timeout=60) for one in done]

    assert found == [
        ["stored", "stored", "duplicate"],
        ["duplicate"],
        2,
        ["stored", "conflict"],
        [],
        0,
        1,
        ["stored"],
    ]
    assert store.history("ada") == [("1", "ada", "brazil", 5, 7)]
    assert (store.last(), store.forgotten("ada"), store.forgotten("grace")) == (7, 6, 5)


def test_there_is_nothing_to_read_before_there_is_a_store(place):
    with pytest.raises(ServingError, match="there is no store of events"):
        open_store(place, writable=False)


WRITER = """
    import os, sys
    from sasrec.serving.opening import open_store
    from sasrec.serving.store import Event

    def say(*words):  # two threads speak, and no line may tear
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    store = open_store(sys.argv[1])
    start = store.last()
    for number in range(start, start + 1_000_000):
        events = [Event(f"{number}-{part}", f"user {number % 5}", f"item {part}") for part in range(3)]
        say("sent", number)
        store.add(events).add_done_callback(lambda done, number=number: say(done.exception() or "kept", number))
        if number % 7 == 0:
            store.add([]).result()
"""


def killed_while_writing(place, lines):
    """Kill a writer after some lines of its ledger; gives the numbers that it sent and that it acknowledged."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(place)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ledger = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    with writer:
        ledger += writer.stdout.readlines()
    said = [line.split() for line in ledger if line.endswith("\n")]
    return (
        {int(words[1]) for words in said if words[0] == "sent"},
        {int(words[1]) for words in said if words[0] == "kept"},
    )


def check_ledger(place, rounds):
    """After each kill: acknowledged is stored, stored was sent, and a call is there once, whole, or not at all."""
    sent, kept = set(), set()
    for number in range(rounds):
        more_sent, more_kept = killed_while_writing(place, 20 + 37 * number % 200)
        sent, kept = sent | more_sent, kept | more_kept

        store = open_store(place)
        ids = [one.id for one in store.events(through=10**9)]
        store.close()
        stored = {int(one.partition("-")[0]) for one in ids}

        assert kept <= stored
        assert stored <= sent
        assert sorted(ids) == sorted(f"{number}-{part}" for number in stored for part in range(3))
    assert len(kept) > 5 * rounds


def test_no_acknowledged_event_is_lost_when_the_process_is_killed(place):
    check_ledger(place, rounds=4)


@pytest.mark.slow
def test_no_acknowledged_event_is_lost_in_thirty_kills(place):
    check_ledger(place, rounds=30)
