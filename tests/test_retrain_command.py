"""`sasrec retrain`: from a log and a server's events to the version that answers, while the server goes on."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import polars as pl
import pytest

import sasrec
from sasrec import cli
from sasrec.client import Client
from sasrec.commands import retraining
from sasrec.retrieval.neural import Neural
from sasrec.serving.administration import Command, send
from sasrec.serving.api import NewEvent
from sasrec.serving.sqlite import SqliteStore
from sasrec.serving.store import Event
from sasrec.serving.versions import fingerprint

START = 1_700_000_000
# Enough to learn the walk, so that chance does not make the second training look worse.
SETTINGS = "--width 16 --length 10 --blocks 1 --epochs 15 --learning-rate 0.01 --dropout 0 --threads 1 --quiet".split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A log of 60 users who walk round 12 items, and a network trained on it."""
    trained = tmp_path_factory.mktemp("trained")
    events = [
        (f"u{user:02}", f"i{(user + step) % 12:02}", START + 60 * user + step)
        for user in range(60)
        for step in range(4 + user % 5)
    ]
    pl.DataFrame(events, schema=["who", "what", "timestamp"], orient="row").write_csv(trained / "log.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        assert cli.main(["train", "log.csv", "--user", "who", "--item", "what", "--out", "walk.sasrec", *SETTINGS]) == 0
    return trained


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """The same once more, in the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def events(folder):
    """Adds events to the store of a server of the model that does not run."""
    (folder / "walk.sasrec.data").mkdir()

    def add(*some):
        store = SqliteStore(folder / "walk.sasrec.data" / "events.sqlite")
        store.add([Event(str(place), *one) for place, one in enumerate(some)]).result()
        store.close()
        return store

    return add


def rows_of(user):
    return pl.read_csv("log.csv").filter(pl.col("who") == user)["what"].to_list()


def whole_history(client, user):
    return [one.item for one in client.history(user, limit=1000).events]


@pytest.mark.slow
def test_no_event_is_lost_or_doubled_from_before_the_training_to_after_a_rollback(folder, process):
    read = ["--user", "who", "--item", "what"]
    assert cli.main(["count", "log.csv", *read, "--out", "rules.sasrec", "--quiet"]) == 0
    data, told = folder / "data", {"u07": [], "somebody new": []}

    def post(client, name, count):
        """Events of two users that the answer says are stored."""
        for number in range(count):
            user, item = ("u07", "somebody new")[number % 2], (f"i{number % 12:02}", "novel")[number % 5 == 0]
            client.add_all([NewEvent(f"{name}-{number}", user, item)])
            told[user].append(item)

    with process("rules.sasrec", data=data) as (_, url), Client(url, timeout=60) as client:
        first = client.model().model_version
        client.add_all([NewEvent("again", "u08", rows_of("u08")[0], START + 60 * 8), NewEvent("late", "u09", "x", 5)])
        client.add_all([NewEvent("gone", "u10", "i01")])
        client.forget("u10")
        client.add_all([NewEvent("back", "u10", "i05")])
        command = [sys.executable, "-m", "sasrec", "retrain", "rules.sasrec", "log.csv", "--out", "new.sasrec"]
        training = subprocess.Popen(
            [*command, "--data", data, "--activate"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        post(client, "before or after", 100)
        lines = [training.stdout.readline()]  # what is taken stands first, and is taken by then
        post(client, "after", 40)
        out, errors = training.communicate(timeout=60)
        second = client.model().model_version
        after = {user: whole_history(client, user) for user in ("u07", "somebody new", "u08", "u09", "u10")}
        answer = client.recommend("somebody new", k=1)
        back = send(Command("rollback"), data)
        before = {user: whole_history(client, user) for user in after}
        again = send(Command("activate", str(folder / "new.sasrec")), data)
    with process("rules.sasrec", data=data) as (_, url), Client(url) as client:
        restarted = client.model().model_version
        later = {user: whole_history(client, user) for user in after}

    through = sasrec.load("new.sasrec").record["events"]["through"]
    assert training.returncode == 0, errors
    assert lines == [
        f"events: {through - 2} of 5 users, up to place {through}; forgotten and left out: 1 user of the log\n"
    ]
    assert out.endswith(f"version {second} answers now\n")
    assert 5 <= through <= 5 + 100  # of 145 places, so that 40 events at least came afterwards
    assert second == again == restarted == fingerprint(folder / "new.sasrec")
    assert first == back == fingerprint(folder / "rules.sasrec")
    walked = {user: rows_of(user) + told.get(user, []) for user in after}
    assert after == later == walked | {"u09": ["x", *rows_of("u09")], "u10": ["i05"]}
    # As it was before: what the model knows comes first, and a row that was sent as an event counts twice.
    assert before == walked | {
        "u08": rows_of("u08") + rows_of("u08")[:1],
        "u09": [*rows_of("u09"), "x"],
        "u10": ["i05"],
    }
    assert answer.source == "model"


def test_the_new_model_is_that_of_the_log_with_the_events_as_rows(folder, events, capsys):
    store = events(("u03", "i07", (START + 9000) * 10**6), ("new", "novel", 0), ("new", "i01", 1), ("new", "i02", 2))

    code = cli.main(["retrain", "walk.sasrec", "log.csv", "--out", "new.sasrec"])

    out = capsys.readouterr().out
    old, new = pl.read_csv("log.csv"), pl.read_csv("log.csv")
    added = [("u03", "i07", START + 9000), ("new", "novel", 0), ("new", "i01", 0), ("new", "i02", 0)]
    new = pl.concat([old, pl.DataFrame(added, schema=old.schema, orient="row")])
    data = sasrec.split(sasrec.read_log(new, user="who", item="what", time_unit="s"))
    before, found = sasrec.load("walk.sasrec"), sasrec.load("new.sasrec")
    expected = sasrec.train(data, before.scorer.config, progress=False)
    assert code == 0
    assert fingerprint_of(found) == fingerprint_of(expected)
    assert found.record["events"] == {"store": store.id, "through": 4, "taken": 4, "users": 2, "forgotten": 0}
    assert found.record["reading"] == before.record["reading"]
    assert "events: 4 of 2 users, up to place 4" in out
    assert cli.main(["info", "new.sasrec"]) == 0
    assert "log.csv, with 4 events of a server, up to place 4" in capsys.readouterr().out
    for row in str(sasrec.evaluate(expected, data)).splitlines()[1:]:
        if not row.startswith(("note", " ")):
            assert (
                row.split()[-4:] == next(x for x in out.splitlines() if x.startswith(row.split("  ")[0])).split()[-4:]
            )
    assert "served until now" in out
    assert "minus that of the one served until now: " in out
    assert "activate" in out.splitlines()[-1]


def test_a_model_that_looks_at_times_is_retrained_and_served_with_those_of_events(folder, serving, capsys):
    flags = ["--user", "who", "--item", "what", "--times", "both", *SETTINGS]
    assert cli.main(["train", "log.csv", "--out", "timed", *flags]) == 0
    data, later = folder / "data", START + 9_000
    with serving("timed", data=data) as running, Client(running.url) as client:
        client.add_all([NewEvent("1", "u03", "i07", later), NewEvent("2", "new", "i01", later + 60.5)])
        code = cli.main(["retrain", "timed", "log.csv", "--out", "n", "--data", str(data), "--activate"])
        client.add("new", "i02", time=later + 90)
        answers = [client.recommend(user, time=later + 500, k=12) for user in ("u03", "new")]

    model, out = sasrec.load("n"), capsys.readouterr().out
    walked = [START + 60 * 3 + step for step in range(len(rows_of("u03")))]
    expected = [
        model.continue_from([*rows_of("u03"), "i07"], times=[*walked, later], at=later + 500, k=12),
        model.continue_from(["i01", "i02"], times=[later + 60, later + 90], at=later + 500, k=12),
    ]
    assert (code, model.reads_times) == (0, True)
    assert "served until now" in out
    assert [[one.item for one in answer.items] for answer in answers] == [one["item_id"].to_list() for one in expected]
    assert answers[0].model_version == fingerprint(folder / "n")


def fingerprint_of(model):
    config, tensors = model.scorer.to_parts()
    return config, {name: tensor.tolist() for name, tensor in tensors.items()}, model.items.ids.to_list()


def test_what_the_server_has_activated_since_is_what_is_retrained(folder, events):
    events(("u03", "i07"))
    assert cli.main(["count", "log.csv", "--user", "who", "--item", "what", "--out", "rules", "--quiet"]) == 0
    data = folder / "walk.sasrec.data"
    (data / "models").mkdir()
    version = fingerprint(folder / "rules")
    (folder / "rules").rename(data / "models" / version)
    course = {"version": version, "before": [], "given": fingerprint(folder / "walk.sasrec")}

    kinds = []
    for given in (course["given"], "0" * 12):  # the second server was started with another model
        (data / "current.json").write_text(json.dumps(course | {"given": given}))
        assert cli.main(["retrain", "walk.sasrec", "log.csv", "--out", "new", "--quiet", "--replace"]) == 0
        kinds.append(sasrec.load("new").scorer.kind)

    assert kinds == ["rules", "sasrec"]


def test_where_an_export_is_served_a_network_with_its_settings_is_trained_and_can_be_exported(folder, serving, capsys):
    exported, data = folder / "walk.onnx", folder / "data"
    assert cli.main(["export", "walk.sasrec", "--to", "onnx", "--out", str(exported)]) == 0
    with serving("walk.sasrec", data=data) as running, Client(running.url) as client:
        send(Command("activate", str(exported)), data)
        client.add("u03", "i07")
        code = cli.main(["retrain", "walk.sasrec", "log.csv", "--data", "data", "--out", "new", "--activate"])
        answers = client.model().model_version

    assert code == 0
    assert "served until now" in capsys.readouterr().out
    assert answers == fingerprint(folder / "new")
    assert sasrec.load("new").scorer.config == sasrec.load("walk.sasrec").scorer.config
    assert cli.main(["export", "new", "--to", "onnx", "--out", "new.onnx"]) == 0


def test_filters_see_rows_and_events_together_and_nobody_filtered_is_lost_to_the_server(folder, serving):
    flags = ["--user", "who", "--item", "what", "--user-core", "5", "--item-core", "2", *SETTINGS]
    assert cli.main(["train", "log.csv", "--out", "core.sasrec", *flags]) == 0
    data = folder / "data"
    with serving("core.sasrec", data=data) as running, Client(running.url) as client:
        client.add_all([NewEvent("1", "u00", "i06"), NewEvent("2", "short", "i01"), NewEvent("3", "short", "i02")])
        done = cli.main(
            ["retrain", "core.sasrec", "log.csv", "--out", "n", "--data", str(data), "--activate", "--quiet"]
        )
        answer = client.recommend("short", k=1)
        trained = client.model().trained
        histories = {user: whole_history(client, user) for user in ("u00", "short")}

    known = sasrec.load("n").users.ids.to_list()
    assert done == 0
    assert "u00" in known  # four rows and an event
    assert "u05" not in known
    assert "short" not in known
    assert histories == {"u00": [*rows_of("u00"), "i06"], "short": ["i01", "i02"]}
    assert (answer.source, answer.used_history) == ("model", 2)
    assert (trained["events_taken"], trained["events_through"]) == (3, 3)


def save_a_good_one_that_trains_badly(path, **record):
    """A model that has learned the walk, whose settings learn nothing when it is trained again."""
    good = sasrec.train(
        sasrec.split(sasrec.read_log("log.csv", user="who", item="what")),
        sasrec.Config(width=16, length=10, blocks=1, epochs=40, threads=1, learning_rate=0.01, dropout=0.0),
        progress=False,
    )
    scorer = Neural(good.scorer.network, replace(good.scorer.config, initial="small", epochs=1, learning_rate=1e-9))
    record = good.record | record
    sasrec.Recommender(scorer, users=good.users, items=good.items, histories=good.histories, record=record).save(path)


def test_a_model_that_is_worse_is_saved_and_not_activated(folder, serving, capsys):
    save_a_good_one_that_trains_badly("good", reading={"user": "who", "item": "what"})
    with serving("good", data=folder / "data") as running, Client(running.url) as client:
        client.add("u01", "i03")
        code = cli.main(["retrain", "good", "log.csv", "--out", "bad", "--data", "data", "--activate", "--quiet"])
        still = client.model().model_version

    error = capsys.readouterr().err
    assert code == 9
    assert "bad: NDCG@10 is lower than that of the model that is served" in error
    assert "sasrec activate data bad does it all the same" in error
    assert still == running.version
    assert sasrec.load("bad").scorer.kind == "sasrec"


def test_a_version_that_somebody_activates_during_the_training_is_not_taken_back(folder, serving, monkeypatch, capsys):
    data, trained = folder / "data", retraining._made
    assert cli.main(["count", "log.csv", "--user", "who", "--item", "what", "--out", "other", "--quiet"]) == 0

    def meanwhile(*arguments, **options):
        send(Command("activate", str(folder / "other")), data)
        return trained(*arguments, **options)

    monkeypatch.setattr(retraining, "_made", meanwhile)
    with serving("walk.sasrec", data=data) as running, Client(running.url) as client:
        client.add("u01", "i03")
        code = cli.main(["retrain", "walk.sasrec", "log.csv", "--out", "n", "--data", "data", "--activate", "--quiet"])
        still = client.model().model_version

    assert (code, still) == (9, fingerprint(folder / "other"))
    assert "n: another version was activated meanwhile, with which this one was not compared" in capsys.readouterr().err
    assert sasrec.load("n").scorer.kind == "sasrec"


def test_what_a_running_server_answers_with_is_compared_whatever_takes_the_place_of_its_model(folder, serving, capsys):
    save_a_good_one_that_trains_badly("good", reading={"user": "who", "item": "what"})
    with serving("good", data=folder / "data") as running, Client(running.url) as client:
        client.add("u01", "i03")
        flags = ["--user", "who", "--item", "what", "--quiet", "--replace"]
        assert cli.main(["count", "log.csv", "--model", "popularity", "--out", "good", *flags]) == 0
        code = cli.main(["retrain", "good", "log.csv", "--out", "bad", "--data", "data", "--activate", "--quiet"])
        still = client.model().model_version

    assert (code, still) == (9, running.version)
    assert "bad: NDCG@10 is lower than that of the model that is served" in capsys.readouterr().err
    assert sasrec.load("bad").scorer.kind == "sasrec"


def test_nothing_is_taken_for_what_is_served_where_that_is_unknown(folder, events, capsys):
    events(("u03", "i07"))
    (folder / "walk.sasrec.data" / "current.json").write_text("{")

    assert cli.main(["retrain", "walk.sasrec", "log.csv", "--out", "new", "--quiet"]) == 9
    assert "current.json: is damaged, so which version is served is unknown" in capsys.readouterr().err


@pytest.fixture
def described(folder, events):
    """A content model of the walk's items, with three more that nobody has had; events are there to be taken."""
    rows = [(f"i{item:02}", "odd" if item % 2 else "even") for item in range(15)]
    pl.DataFrame(rows, schema=["item_id", "kind"], orient="row").write_csv("items.csv")
    flags = "--user who --item what --model content --features items.csv --feature kind --out walk --quiet".split()
    assert cli.main(["count", "log.csv", *flags]) == 0
    assert cli.main(["add-items", "walk", "items.csv", "--out", "wide", "--quiet"]) == 0
    (folder / "walk.sasrec.data").rename(folder / "wide.data")
    SqliteStore(folder / "wide.data" / "events.sqlite").close()


def test_items_that_were_added_to_what_is_served_are_in_the_new_model_too(described, capsys):
    flags = ["--features", "items.csv", "--feature", "kind", "--quiet"]
    assert cli.main(["retrain", "wide", "log.csv", "--out", "new", *flags]) == 0

    new = sasrec.load("new")
    assert len(new.items) == 15
    assert new.record["added"] == 3
    assert "i14" in new.continue_from(["i02"], k=15, exclude_seen=False)["item_id"].to_list()
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("default")
def test_items_that_are_served_and_not_in_the_new_model_are_named(described, capsys):
    pl.read_csv("items.csv").filter(pl.col("item_id") != "i13").write_csv("fewer.csv")

    flags = ["--features", "fewer.csv", "--feature", "kind", "--quiet"]
    assert cli.main(["retrain", "wide", "log.csv", "--out", "new", *flags]) == 0

    said = capsys.readouterr().err
    assert "1 of the 15 items that are served until now are not in the new model, such as 'i13'" in said
    assert len(sasrec.load("new").items) == 14


def test_how_many_items_of_the_table_were_added_is_told(described, capsys):
    capsys.readouterr()

    assert cli.main("retrain wide log.csv --out new --features items.csv --feature kind".split()) == 0

    assert "\nadded 3 items of items.csv that nobody has had yet\n" in capsys.readouterr().out


def test_a_table_for_a_model_without_features_is_refused_before_anything_is_read(folder, events, capsys):
    flags = ["--features", "missing.csv", "--feature", "kind", "--out", "new"]

    assert cli.main(["retrain", "walk.sasrec", "missing.csv", *flags]) == 2

    assert "--features: the model that is served was trained without; leave the table out" in capsys.readouterr().err


def test_a_model_that_knows_features_asks_for_them_by_the_flags_of_its_table(described, capsys):
    assert cli.main(["retrain", "wide", "missing.csv", "--out", "new", "--quiet"]) == 2
    assert "a table of the items there are now: --features FILE --feature kind" in capsys.readouterr().err


@pytest.fixture
def light(folder):
    """A log whose users end with an event of little weight, which `--min-weight 4` leaves out."""
    rows = [
        (f"u{user:02}", f"i{(user + step) % 12:02}", START + step, 1 if step == 5 else 5)
        for user in range(60)
        for step in range(6)
    ]
    pl.DataFrame(rows, schema=["user", "item", "timestamp", "rating"], orient="row").write_csv("light.csv")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("flags", "compared"),
    [
        ([], True),
        (["--format", "csv", "--bad-rows", "drop"], True),  # hold out the same
        (["--min-weight", "4"], False),
        (["--named", "554"], False),
        (["--duplicates", "first"], False),
        (["--user-core", "2"], False),
        (["--split", "time"], False),
        (["--new-items", "0.2"], False),
        (["--time", ""], False),
    ],
)
def test_a_model_that_was_read_or_split_otherwise_is_said_to_have_seen_the_targets(
    light, folder, capsys, flags, compared
):
    assert cli.main(["count", "light.csv", "--out", "served", "--quiet"]) == 0
    (folder / "data").mkdir()
    SqliteStore(folder / "data" / "events.sqlite").close()

    code = cli.main(["retrain", "served", "light.csv", "--data", "data", "--out", "new", *flags])

    out, errors = capsys.readouterr()
    seen = "may have seen these targets: it was trained with another reading or split, or does not say with which"
    assert code == 0
    assert (f"note: 'served until now' {seen}\n" in out) == (not compared)
    assert (f"warning: the model that is served {seen}, so the two do not compare" in errors) == (not compared)


@pytest.mark.filterwarnings("default")
def test_figures_of_a_model_that_may_have_seen_the_targets_do_not_decide_on_activation(folder, serving, capsys):
    save_a_good_one_that_trains_badly("silent")  # and does not say how its log was read
    read = ["--user", "who", "--item", "what", "--data", "data"]
    with serving("silent", data=folder / "data") as running, Client(running.url) as client:
        client.add("u01", "i03")
        code = cli.main(["retrain", "silent", "log.csv", *read, "--out", "new", "--activate", "--quiet"])
        answers = client.model().model_version

    assert code == 0
    assert "the model that is served may have seen these targets" in capsys.readouterr().err
    assert answers == fingerprint(folder / "new")


@pytest.mark.parametrize("flags", [["--refit"], []])
def test_a_release_is_made_when_asked_for_or_when_the_one_before_was_one(folder, events, capsys, flags):
    events(("u03", "i07"))
    before = "walk.sasrec"
    if not flags:
        assert cli.main(["refit", "walk.sasrec", "log.csv", "--out", "release", "--quiet"]) == 0
        before, flags = "release", ["--data", "walk.sasrec.data"]

    code = cli.main(["retrain", before, "log.csv", "--out", "new", *flags])

    out = capsys.readouterr().out
    content = sasrec.load("new")
    assert code == 0
    assert "refit" in content.record
    # What the one before has seen as well decides which of the two is measured beside it.
    assert ("refit on train + validation; 60 users" in " ".join(out.split())) == (before == "release")
    assert "served until now" in out


def test_a_blend_is_retrained_as_a_whole(folder, events):
    events(("u03", "i07"))
    command = ["blend", "log.csv", "walk.sasrec", "--counts", "rules", "markov", "--out", "blend", "--quiet"]
    assert cli.main(command) == 0

    code = cli.main(["retrain", "blend", "log.csv", "--data", "walk.sasrec.data", "--out", "new", "--quiet"])

    assert code == 0
    assert "i07" in sasrec.load("new").items.raw(sasrec.load("new").histories[3]).to_list()
    assert "parts" in sasrec.load("new").record or len(sasrec.load("blend").scorer.parts) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "new"], "walk.sasrec.data/events.sqlite: there is no store of events; say where"),
        (["--out", "new", "--events", "copy.sqlite"], "copy.sqlite: there is no store of events"),
        (["--out", "new", "--activate"], "walk.sasrec.data: no server runs on this data folder; start it, or leave"),
        (["--out", "walk.sasrec"], "walk.sasrec: exists already"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(folder, capsys, flags, words):
    code = cli.main(["retrain", "walk.sasrec", "log.csv", *flags])

    shown = capsys.readouterr()
    assert code in (6, 9)
    assert words in shown.err
    assert shown.out == ""


@pytest.mark.filterwarnings("default")
def test_events_of_another_store_that_the_model_holds_are_named(folder, events, capsys):
    model = sasrec.load("walk.sasrec")
    model.record["events"] = {"store": "0" * 32, "through": 9, "taken": 8}
    model.save("walk.sasrec", replace=True)
    events(("u03", "i07"))

    code = cli.main(["retrain", "walk.sasrec", "log.csv", "--out", "new", "--quiet"])

    assert code == 0
    assert "warning: the model that is served holds 8 events of another store" in capsys.readouterr().err
