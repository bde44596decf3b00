"""Servers that share their events in a database: what one was told counts at the other at once."""

import json
import os
import queue
import signal
import threading
import urllib.error
import urllib.request

import pytest

import sasrec
from sasrec import cli
from sasrec.client import Client
from sasrec.errors import ServingError
from sasrec.serving.api import NewEvent
from sasrec.serving.opening import open_store
from sasrec.serving.store import Event

PATIENCE = 60


@pytest.fixture(scope="module")
def saved(tmp_path_factory, small_model):
    path = tmp_path_factory.mktemp("saved") / "walks.sasrec"
    small_model.save(path)
    return path


def test_two_servers_answer_as_one(process, saved, database, tmp_path):
    flags = ("--events", database)
    with (
        process(saved, *flags, data=tmp_path / "a") as (_, one_url),
        process(saved, *flags, data=tmp_path / "b") as (_, other_url),
        Client(one_url, timeout=PATIENCE) as one,
        Client(other_url, timeout=PATIENCE) as other,
    ):
        used = []
        for number in range(20):
            one.add("ada", f"i{number:02}", event=f"e{number}")
            answer = other.recommend("ada", k=25, exclude_seen=True)
            used.append((answer.source, answer.used_history))
            assert f"i{number:02}" not in [found.item for found in answer.items]
        again = other.add_all([NewEvent("e0", "ada", "i00"), NewEvent("e1", "ada", "other")])
        one.add("u19", "i01")
        trained_on = [server.history("u19").events for server in (one, other)]
        erased = [other.forget(user).events for user in ("ada", "u19")]
        after = [
            (server.recommend(user).source, server.history(user).events)
            for server in (one, other)
            for user in ("ada", "u19")
        ]
        latest = [event.user for event in one.latest(limit=100).events]

    assert used == [("model", number + 1) for number in range(20)]
    assert (again.stored, again.duplicates, len(again.rejected)) == (0, 1, 1)
    assert trained_on[0] == trained_on[1]
    assert len(trained_on[0]) > 1
    assert erased == [20, 1]
    assert after == [("popular", [])] * 4
    assert latest == []


def test_a_server_whose_database_is_away_says_so_and_recovers(process, saved, cluster, database, tmp_path):
    with process(saved, "--events", database, data=tmp_path / "data") as (running, url):
        with Client(url, timeout=PATIENCE) as client:
            client.add("ada", "i03", event="1")
            cluster.crash()
            try:
                refused = [
                    status_of(url, *one)
                    for one in (
                        ("POST", "/v1/events", {"events": [{"id": "2", "user": "ada", "item": "i04"}]}),
                        ("POST", "/v1/recommend", {"user": "ada"}),
                        ("POST", "/v1/explain", {"user": "ada", "item": "i03"}),
                        ("GET", "/v1/users/ada/history", None),
                        ("GET", "/v1/events", None),
                        ("DELETE", "/v1/users/ada", None),
                    )
                ]
                without = client.recommend(history=["i03"])
            finally:
                cluster.start()
            while True:  # the database may take a moment until it answers
                try:
                    told = client.add("ada", "i04", event="2")
                    break
                except ServingError as error:
                    assert error.status == 503  # noqa: PT017
            answer = client.recommend("ada")
        running.terminate()
        _, errors = running.communicate(timeout=PATIENCE)

    assert refused == [(503, "/problems/events-away", "1")] * 6
    assert without.source == "model"
    assert told.stored == 1
    assert answer.used_history == 2
    assert "Traceback" not in errors


@pytest.fixture
def still(cluster):
    """Lets every process of the database that serves us stand still, from when it is called to the end of the test."""
    stopped = []

    def stop():
        found = cluster.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'sasrec'")
        for (pid,) in found:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def test_while_the_database_stands_still_what_needs_no_events_goes_on_and_the_server_stops(
    process, saved, database, still, tmp_path
):
    with process(saved, "--events", database, "--drain", "0", data=tmp_path / "data") as (running, url):
        with Client(url, timeout=PATIENCE) as client:
            client.add("ada", "i03")
            still()
            told = {}

            def ask():
                told["user"] = status_of(url, "POST", "/v1/recommend", {"user": "ada", "deadline_ms": 3000})

            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            without = client.recommend(history=["i03"]).source, client.similar("i03").items, client.search("i03").items
            while_asked = "user" not in told
            thread.join(PATIENCE)
        running.terminate()
        _, errors = running.communicate(timeout=PATIENCE)

    assert without[0] == "model"
    assert all(without)
    assert while_asked
    assert told["user"] == (503, "/problems/events-away", "1")
    assert running.returncode == 0
    assert "Traceback" not in errors


def test_a_write_that_waits_when_the_server_has_to_end_is_told_so(
    serving, saved, database, cluster, tmp_path, monkeypatch, caplog
):
    import psycopg

    monkeypatch.setattr("sasrec.serving.lifetime._GRACE", 1)
    monkeypatch.setattr("sasrec.serving.postgres._LAST_SECONDS", 0.1)
    told = queue.SimpleQueue()
    body = {"events": [{"id": "late", "user": "ada", "item": "i04"}]}

    with (
        psycopg.connect(cluster.address()) as connection,
        serving(saved, data=tmp_path / "data", events=database, drain=0) as running,
    ):
        connection.execute("LOCK TABLE sasrec.facts IN ACCESS EXCLUSIVE MODE")
        ask = threading.Thread(target=lambda: told.put(status_of(running.url, "POST", "/v1/events", body)))
        ask.start()
        while not cluster.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
    ask.join(PATIENCE)

    assert told.get(timeout=PATIENCE) == (503, "/problems/draining", "1")
    assert "Traceback" not in caplog.text


def status_of(url, method, path, body):
    request = urllib.request.Request(url + path, method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    with refused.value as answer:
        return answer.status, json.loads(answer.read())["type"], answer.headers["retry-after"]


def test_the_next_model_is_trained_with_the_events_of_the_database(walks, database, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["user_id,item_id", *(f"{user},{item}" for user, items in raw(walks) for item in items)]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    assert cli.main(["count", "log.csv", "--model", "rules", "--out", "served", "--quiet"]) == 0
    store = open_store(database)
    store.add([Event("1", "u05", "i07"), Event("2", "new", "novel"), Event("3", "gone", "i01")]).result(PATIENCE)
    store.forget("gone").result(PATIENCE)

    code = cli.main(["retrain", "served", "log.csv", "--events", database, "--out", "next", "--quiet"])

    made = sasrec.load("next")
    assert code == 0
    assert made.record["events"] == {"store": store.id, "through": 4, "taken": 2, "users": 2, "forgotten": 0}
    assert "novel" in made.items.ids.to_list()
    assert database not in json.dumps(made.record)
    store.close()


def raw(log):
    return [(user, log.items.raw(log.histories[row]).to_list()) for row, user in enumerate(log.users.ids)]


def test_events_in_the_data_folder_are_not_left_behind(serving, saved, database, tmp_path):
    with serving(saved, data=tmp_path / "data") as running, Client(running.url) as client:
        client.add("ada", "i03")

    with pytest.raises(ServingError, match=r"events\.sqlite: has events that would not be used any more"):
        sasrec.serve(saved, sasrec.Place(port=0, data=tmp_path / "data", events=database))


def test_a_data_folder_that_never_had_an_event_may_go_over_to_a_database(serving, saved, database, tmp_path):
    with serving(saved, data=tmp_path / "data"):
        pass

    with serving(saved, data=tmp_path / "data", events=database) as running, Client(running.url) as client:
        assert client.add("ada", "i03").stored == 1


def test_a_model_that_knows_the_events_of_the_database_adds_what_came_later(serving, small_model, database, tmp_path):
    store = open_store(database)
    store.add([Event("1", "u05", "i07")]).result(PATIENCE)
    model = sasrec.Recommender(
        small_model.scorer,
        users=small_model.users,
        items=small_model.items,
        histories=small_model.histories,
        record=small_model.record | {"events": {"store": store.id, "through": 1, "taken": 1}},
    )
    store.add([Event("2", "u05", "i08")]).result(PATIENCE)
    store.close()

    with serving(model, data=tmp_path / "data", events=database) as running, Client(running.url) as client:
        sent = [one.item for one in client.history("u05").events if one.id is not None]

    assert sent == ["i08"]
    assert not (tmp_path / "data" / "events.sqlite").exists()
