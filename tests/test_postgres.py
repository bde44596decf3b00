"""What is PostgreSQL's alone: several servers share it, it may go and come back, and holds something else at times."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from sasrec.errors import ConfigError, ServingError
from sasrec.serving.opening import open_store
from sasrec.serving.server import Place
from sasrec.serving.store import Event

PATIENCE = 60


@pytest.fixture
def stores(database):
    """Opens stores on one database, as several servers do."""
    opened = []

    def open_another(**options):
        opened.append(open_store(database, **options))
        return opened[-1]

    yield open_another
    for store in opened:
        store.close()


@pytest.fixture
def stopping(cluster):
    """The cluster, for a test that ends it; it runs again afterwards."""
    yield cluster
    if not (cluster.folder / "data" / "postmaster.pid").exists():
        cluster.start()


def together(*works):
    """Run all at the same time; gives what they give."""
    given, failed = [None] * len(works), []

    def work(at):
        try:
            given[at] = works[at]()
        except BaseException as error:  # noqa: BLE001  # raised below
            failed.append(error)

    threads = [threading.Thread(target=work, args=[at]) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if failed:
        raise failed[0]
    return given


def test_servers_that_start_at_once_make_one_store(stores):
    ids = together(*[lambda: stores().id for _ in range(6)])

    assert len(set(ids)) == 1


def test_what_one_server_has_acknowledged_the_other_knows(stores):
    one, other = stores(), stores()

    outcomes = one.add([Event("1", "ada", "alien", 5)]).result(PATIENCE)
    again = other.add([Event("1", "ada", "alien", 5), Event("2", "ada", "brazil", 4)]).result(PATIENCE)
    seen = [event.item for event in one.history("ada")]
    erased = other.forget("ada").result(PATIENCE)

    assert (outcomes, again, seen, erased) == (["stored"], ["duplicate", "stored"], ["brazil", "alien"], 2)
    assert (one.forgotten("ada"), one.history("ada"), one.kept(["1", "2"]), one.last()) == (3, [], set(), 3)


def test_no_place_comes_to_light_after_a_later_one(stores):
    writers, reader, sent = [stores() for _ in range(3)], stores(), threading.Event()

    def write(store, part):
        for step in range(100):
            store.add([Event(f"{part} {step} {at}", f"u{part}", "i") for at in range(2)])
        store.add([]).result(PATIENCE)

    def write_all():
        together(*[lambda at=at, store=store: write(store, at) for at, store in enumerate(writers)])
        sent.set()

    def follow():
        holes, last = [], 0
        while last < 600:
            over, last = sent.is_set(), reader.last()
            places = sorted(one.place for one in reader.events(through=last))
            holes += [last] if places != list(range(1, last + 1)) else []
            assert last == 600 or not over
        return holes

    _, holes = together(write_all, follow)

    assert holes == []


def test_a_server_that_stands_still_does_not_hold_up_the_others(stores, monkeypatch):
    from sasrec.serving import database

    monkeypatch.setattr(database, "_SESSION", database._SESSION.replace("'10s'", "'100ms'"))
    still, other, holds, released, tries = stores(), stores(), threading.Event(), threading.Event(), 0

    def stand_still(connection):
        nonlocal tries
        tries += 1
        with connection.transaction():
            connection.execute("SELECT last FROM sasrec.facts FOR UPDATE")
            holds.set()
            assert released.wait(PATIENCE)

    def go_on():
        assert holds.wait(PATIENCE)
        outcomes = other.add([Event("1", "ada", "alien")]).result(PATIENCE)
        released.set()
        return outcomes

    def asleep():
        still._writing.run(stand_still)

    _, outcomes = together(asleep, go_on)

    assert outcomes == ["stored"]
    assert tries == 2  # the first was ended by the database
    assert still.add([Event("1", "ada", "alien")]).result(PATIENCE) == ["duplicate"]


@pytest.fixture
def backends(cluster):
    """Sends a signal to every process of the database that serves us; all go on at the end."""

    def send(number):
        for (pid,) in cluster.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'sasrec'"):
            os.kill(pid, number)

    yield send
    send(signal.SIGCONT)


def test_a_database_that_stands_still_is_given_up_and_a_new_connection_goes_on(stores, backends, monkeypatch):
    monkeypatch.setattr("sasrec.serving.postgres._SERVING", 0.0)  # and a second more, which the database has for itself
    store = stores()
    store.add([Event("1", "ada", "alien")]).result(PATIENCE)
    monkeypatch.setattr(store._reading._connection, "seconds", 0.3)

    backends(signal.SIGSTOP)
    with pytest.raises(ServingError, match="cannot be used: the database has not answered within 0 s") as refused:
        store.history("ada")

    assert refused.value.status == 503
    assert [event.item for event in store.history("ada")] == ["alien"]


def test_a_table_that_is_locked_is_not_waited_for_without_end_and_the_connection_stays(stores, cluster, monkeypatch):
    import psycopg

    monkeypatch.setattr("sasrec.serving.postgres._SERVING", 1.0)
    store = stores()
    before = store._reading._connection

    with psycopg.connect(cluster.address()) as connection:
        connection.execute("LOCK TABLE sasrec.events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ServingError, match="statement timeout") as refused:
            store.history("ada")

    assert refused.value.status == 503
    assert store.history("ada") == []
    assert store._reading._connection is before


def test_a_store_is_closed_while_the_database_stands_still(stores, backends, monkeypatch):
    monkeypatch.setattr("sasrec.serving.postgres._LAST_SECONDS", 0.1)
    store = stores()

    def read():
        with suppress(ServingError):
            store.history("ada")

    reading = threading.Thread(target=read, daemon=True)

    backends(signal.SIGSTOP)
    written = store.add([Event("1", "ada", "alien")])
    reading.start()
    store.close()
    reading.join(PATIENCE)

    assert not reading.is_alive()
    with pytest.raises(ServingError, match="cannot be used") as unknown:
        written.result(PATIENCE)
    assert unknown.value.status == 503


def test_a_connection_that_was_lost_is_made_anew(stores, cluster):
    store = stores()
    store.add([Event("1", "ada", "alien")]).result(PATIENCE)

    cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sasrec'")

    assert store.add([Event("2", "ada", "brazil")]).result(PATIENCE) == ["stored"]
    assert [event.item for event in store.history("ada")] == ["alien", "brazil"]


def test_while_the_database_is_away_nothing_is_acknowledged_and_then_all_goes_on(stores, stopping, database):
    store = stores()
    store.add([Event("1", "ada", "alien")]).result(PATIENCE)

    stopping.crash()
    with pytest.raises(ServingError, match="cannot be used") as refused:
        store.add([Event("2", "ada", "brazil")]).result(PATIENCE)
    with pytest.raises(ServingError, match="cannot be used") as unread:
        store.history("ada")
    with pytest.raises(ServingError, match=r"postgresql://.*: cannot be used: connection .*"):
        open_store(database)
    stopping.start()
    outcomes = [after_a_while(store, [Event(name, "ada", "x")]) for name in ("2", "3")]

    assert (refused.value.status, unread.value.status) == (503, 503)
    assert outcomes == [["stored"], ["stored"]]
    assert [event.id for event in store.history("ada")] == ["1", "2", "3"]


def after_a_while(store, events):
    """The outcomes, once the database is there again: a store asks no more often than it is answered."""
    while True:
        try:
            return store.add(events).result(PATIENCE)
        except ServingError as error:
            assert error.status == 503  # noqa: PT017


def check_crashes(stores, cluster, rounds):
    """Crash the database while two servers write; what was acknowledged is there, once, and they go on."""
    writers, kept, begun = [stores() for _ in range(2)], set(), threading.Semaphore(0)
    steps = 100 * rounds

    def write(store, part):
        for step in range(steps):
            events = [Event(f"{part} {step} {at}", f"u{part}", "i") for at in range(3)]
            after_a_while(store, events)
            kept.update(event.id for event in events)
            begun.release()

    def crash():
        for _ in range(rounds):
            for _ in range(60):
                assert begun.acquire(timeout=PATIENCE)
            cluster.crash()
            cluster.start()

    together(crash, *[lambda at=at, store=store: write(store, at) for at, store in enumerate(writers)])

    stored = list(writers[0].events(through=10**9))
    assert len(kept) == 2 * steps * 3
    assert sorted(one.id for one in stored) == sorted(kept)
    assert sorted(one.place for one in stored) == list(range(1, len(kept) + 1))


def test_no_acknowledged_event_is_lost_when_the_database_crashes(stores, stopping):
    check_crashes(stores, stopping, rounds=1)


@pytest.mark.slow
def test_no_acknowledged_event_is_lost_when_the_database_crashes_five_times(stores, stopping):
    check_crashes(stores, stopping, rounds=5)


def test_the_disk_of_the_database_is_waited_for(stores, cluster):
    cluster.execute("ALTER ROLE tests SET synchronous_commit = off")
    cluster.execute("ALTER ROLE tests SET default_transaction_isolation = 'serializable'")
    try:
        one, other = stores(), stores()
        (found,) = one._writing.run(lambda connection: connection.execute("SHOW synchronous_commit").fetchall())
        together(
            *[lambda at=at: (one, other)[at % 2].add([Event(str(at), "ada", "x")]).result(PATIENCE) for at in range(40)]
        )
    finally:
        cluster.execute("ALTER ROLE tests RESET ALL")

    assert found == ("on",)
    assert one.last() == 40


def test_an_event_that_was_changed_is_not_given(stores, cluster):
    store = stores()
    store.add([Event("1", "ada", "alien"), Event("2", "grace", "alien")]).result(PATIENCE)
    store.forget("alan").result(PATIENCE)

    cluster.execute("UPDATE sasrec.events SET item = 'brazil' WHERE id = '1'")
    cluster.execute("UPDATE sasrec.forgotten SET place = 1")

    with pytest.raises(ServingError, match="an event does not match its checksum"):
        store.history("ada")
    with pytest.raises(ServingError, match="a place does not match its checksum"):
        store.forgotten("alan")
    assert len(store.history("grace")) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("CREATE SCHEMA sasrec; CREATE TABLE sasrec.things (name text)", "the schema sasrec holds something else"),
        ("CREATE SCHEMA sasrec; CREATE TABLE sasrec.facts (name text)", "the schema sasrec holds something else"),
        ("CREATE SCHEMA sasrec; CREATE TABLE sasrec.facts (format int)", "the schema sasrec holds something else"),
        (None, "has format 2, this sasrec reads up to 1; update sasrec"),
        ("UPDATE sasrec.facts SET id = 'other'", "its id does not match its checksum"),
    ],
)
def test_what_is_foreign_newer_or_damaged_is_refused(database, cluster, change, words):
    if change is None or change.startswith("UPDATE"):
        open_store(database).close()
    cluster.execute(change or "ALTER TABLE sasrec.facts DROP COLUMN id; UPDATE sasrec.facts SET format = 2")

    for writable in (True, False):
        with pytest.raises(ServingError, match=words):
            open_store(database, writable=writable)


def test_a_database_that_cannot_hold_every_id_is_refused(cluster):
    cluster.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")

    with pytest.raises(ServingError, match=r"has the encoding LATIN1.*ENCODING 'UTF8'"):
        open_store(cluster.address("latin"))


def test_few_rights_are_enough(database, cluster):
    for role in ("serving", "training"):
        cluster.execute(f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    cluster.execute("CREATE SCHEMA sasrec AUTHORIZATION serving")
    serving = open_store(cluster.address(user="serving"))
    serving.add([Event("1", "ada", "alien")]).result(PATIENCE)
    cluster.execute("GRANT USAGE ON SCHEMA sasrec TO training")
    cluster.execute("GRANT SELECT ON ALL TABLES IN SCHEMA sasrec TO training")

    training = open_store(cluster.address(user="training"), writable=False)

    assert [event.item for event in training.history("ada")] == ["alien"]
    with pytest.raises(ServingError, match="closed for writing"):
        training.add([])
    for store in (serving, training):
        store.close()


def test_no_message_holds_the_password(cluster, small_model, tmp_path):
    cluster.execute("DROP ROLE IF EXISTS locked")
    cluster.execute("CREATE ROLE locked LOGIN PASSWORD 'true-secret'")
    whole = cluster.address(user="locked:wrong-secret")
    small_model.save(tmp_path / "model")

    for address in (whole, whole.replace("wrong", "%zzwrong"), whole.replace("@", "@:none:", 1)):
        command = [sys.executable, "-m", "sasrec", "serve", str(tmp_path / "model"), "--port", "0", "--events", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (9, "", 1)
        assert "secret" not in done.stderr
    assert "secret" not in repr(Place(events=whole))
    with pytest.raises(ConfigError, match="expected the address of a database") as refused:
        Place(events=f"http{whole}")
    assert "secret" not in str(refused.value)


def test_the_password_comes_from_the_environment(cluster, monkeypatch):
    cluster.execute("DROP SCHEMA IF EXISTS sasrec CASCADE")
    cluster.execute("DROP ROLE IF EXISTS locked")
    cluster.execute("CREATE ROLE locked SUPERUSER LOGIN PASSWORD 'true-secret'")
    for name, value in {"HOST": str(cluster.folder), "USER": "locked", "PASSWORD": "true-secret"}.items():
        monkeypatch.setenv(f"PG{name}", value)

    store = open_store("postgresql:///postgres")

    assert store.add([Event("1", "ada", "alien")]).result(PATIENCE) == ["stored"]
    assert store.name == "postgresql:///postgres"
    store.close()
    cluster.execute("DROP OWNED BY locked; DROP ROLE locked")


def test_an_address_says_how_to_connect(database, cluster):
    store = open_store(f"{database}?application_name=shop&client_encoding=LATIN1&connect_timeout=9")

    names = cluster.execute("SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = 'postgres'")

    assert ("shop",) in names
    assert store.add([Event("1", "ada", "\U0001f4da")]).result(PATIENCE) == ["stored"]
    assert [event.item for event in store.history("ada")] == ["\U0001f4da"]
    store.close()


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "sasrec.serving.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ServingError, match=r"need the package psycopg.*pip install 'sasrec\[postgres\]'"):
        open_store("postgresql:///events")
