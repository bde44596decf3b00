"""Models that look at times behind a server: its answers are those of the library told the same times."""

import json
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from urllib.error import HTTPError

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.client import Client
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError, ServingError
from sasrec.retrieval.blend import Blend
from sasrec.retrieval.counting import Markov
from sasrec.retrieval.recommender import Recommender
from sasrec.serving.administration import Command, send
from sasrec.serving.api import NewEvent, Recommend

DAY = 86_400
START = 1_000_000_000
LATER = START + 2_000 * DAY  # after every event of the log


@pytest.fixture(scope="module")
def running(serving, timed_model, tmp_path_factory):
    with serving(timed_model, data=tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def post(running):
    """Sends JSON as anybody would; gives status and decoded answer."""

    def send_json(path, **body):
        data = json.dumps({"deadline_ms": 10_000} | body).encode()
        request = urllib.request.Request(running.url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)

    return send_json


def of(answer):
    """Items and scores of an answer of the client."""
    return [(one.item, pytest.approx(one.score, rel=1e-5, abs=1e-6)) for one in answer.items]


def by(frame):
    """The same of one of the library."""
    return list(frame.select("item_id", "score").iter_rows())


def past(model, user):
    """Items and times that a model knows of a user."""
    row = int(model.users.rows([user])[0])
    span = slice(*model.histories.offsets[row : row + 2])
    return model.items.raw(model.histories.items[span]).to_list(), model.histories.times[span].tolist()


# Histories


def test_a_history_with_times_is_answered_as_by_the_library(post, timed_model):
    history, times = ["i03", "i07", "i05"], [START, START + 30, START + 40 * DAY]
    for at in (times[-1], times[-1] + 1, LATER, START + 10 * DAY):  # the last one is before the last event
        asked = {"history": history, "times": times, "time": at}
        expected = timed_model.continue_from(history, times=times, at=at, k=12)

        status, answer = post("/v1/recommend", **asked, k=12)
        _, batch = post("/v1/recommend:batch", requests=[{"user": "u03"}, asked | {"k": 12}])
        _, ranked = post("/v1/rank", **asked, candidates=["i01", "i03", "i02"])

        assert status == 200
        assert [(one["item"], pytest.approx(one["score"], rel=1e-5)) for one in answer["items"]] == by(expected)
        assert [one["item"] for one in batch["answers"][1]["items"]] == expected["item_id"].to_list()
        scores = timed_model.score(history, ["i01", "i03", "i02"], times=times, at=at).sort("rank")
        assert [(one["item"], pytest.approx(one["score"], rel=1e-5)) for one in ranked["items"]] == by(scores)


def test_the_answer_depends_on_both_kinds_of_times(client):
    history = [("i03", START), ("i07", START + 30)]

    answers = [
        client.recommend(history=history, time=START + 60).items,
        client.recommend(history=history, time=START + 60 * DAY).items,
        client.recommend(history=[("i03", START - 900 * DAY), ("i07", START + 30)], time=START + 60).items,
    ]

    assert len({tuple(one.score for one in answer) for answer in answers}) == 3


def test_without_a_time_it_is_now(client, timed_model):
    now = datetime.now(UTC)
    # As long ago that a slow machine is in the same bucket of time.
    times = [now.timestamp() - 90 * DAY, now.timestamp() - 70 * DAY]

    answer = client.recommend(history=[("i03", times[0]), ("i07", times[1])])

    assert of(answer) == by(timed_model.continue_from(["i03", "i07"], times=times, at=now))


def test_items_that_the_model_does_not_know_take_their_times_along(client, timed_model):
    answer = client.recommend(history=[("i03", START), ("what", START + 5), ("i07", START + DAY)], time=LATER)

    assert of(answer) == by(timed_model.continue_from(["i03", "i07"], times=[START, START + DAY], at=LATER))
    assert answer.unknown_items == ["what"]


def test_nobody_known_needs_no_times(client, timed_model):
    popular = timed_model.recommend(["nobody"], unknown="popular", at=LATER)["item_id"].to_list()

    for answer in (client.recommend(), client.recommend("nobody", time=START), client.recommend(history=[("?", 5)])):
        assert [one.item for one in answer.items] == popular
        assert answer.source == "popular"


# Users and events


def test_a_user_of_the_log_has_the_times_of_the_log(client, timed_model):
    for user in ("u00", "u08", "u31"):
        answer = client.recommend(user, time=LATER)

        assert of(answer) == by(timed_model.recommend([user], at=LATER))
        assert answer.used_history == len(past(timed_model, user)[0])


def test_events_that_came_since_count_with_their_times(client, timed_model):
    items, times = past(timed_model, "u08")
    between = (times[2] + times[3]) / 2  # a late event, which belongs among those of the log
    assert times[2] < between < times[3]
    client.add_all(
        [
            NewEvent("since-1", "u08", "i01", LATER),
            NewEvent("since-2", "u08", "i09", between),
            NewEvent("since-3", "u08", "never heard of", LATER + 1),
            NewEvent("since-4", "somebody new", "i04", START + 0.75),
        ]
    )

    known = client.recommend("u08", time=LATER + DAY)
    new = client.recommend("somebody new", time=START + DAY)
    told = client.history("u08").events

    merged = [*items[:3], "i09", *items[3:], "i01"], [*times[:3], between, *times[3:], LATER]
    assert of(known) == by(timed_model.continue_from(merged[0], times=merged[1], at=LATER + DAY))
    assert of(new) == by(timed_model.continue_from(["i04"], times=[START], at=START + DAY))
    assert [(one.item, one.time) for one in told] == [*zip(*merged, strict=True), ("never heard of", LATER + 1)]
    assert [one.id for one in told if one.id] == ["since-2", "since-1", "since-3"]


def test_an_event_without_a_time_has_that_of_its_arrival(client, timed_model):
    client.add("just now", "i04")
    [event] = client.history("just now").events

    answer = client.recommend("just now", time=event.time + 40 * DAY)

    expected = timed_model.continue_from(["i04"], times=[event.time], at=event.time + 40 * DAY)
    assert of(answer) == by(expected)


def test_a_history_follows_what_is_known_of_the_user_and_is_not_before_it(client, timed_model):
    items, times = past(timed_model, "u31")

    after = client.recommend("u31", [("i02", times[-1] + 60), ("i05", times[-1] + DAY)], time=LATER)
    before = client.recommend("u31", [("i02", times[-1] - 5), ("i05", times[-1] + DAY)], time=LATER)

    for answer, first in ((after, times[-1] + 60), (before, times[-1])):
        expected = timed_model.continue_from([*items, "i02", "i05"], times=[*times, first, times[-1] + DAY], at=LATER)
        assert of(answer) == by(expected)


def test_of_a_user_who_was_forgotten_later_events_count_alone(client, timed_model):
    client.forget("u11")
    client.add("u11", "i06", time=START)

    assert of(client.recommend("u11", time=LATER)) == by(timed_model.continue_from(["i06"], times=[START], at=LATER))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_the_log_is_no_business_of_who_asks(serving, timed_rows, timed_config, tmp_path, unit):
    many = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    log = sasrec.read_log(timed_rows.with_columns(pl.col("timestamp") * many), time_unit=unit)
    model = sasrec.train(sasrec.split(log), timed_config, progress=False)
    items, times = past(model, "u08")
    with serving(model, data=tmp_path / "data") as running, Client(running.url) as client:
        client.add("u08", "i01", time=LATER + 0.5)
        client.add("long ago", "i01", time=-1e11)

        known = client.recommend("u08", [("i02", LATER + 1.25)], time=LATER + 60)
        extreme = client.recommend("long ago", [("i02", 1e11)], time=1e11)
        told = client.history("u08").events

    whole = [*times, int((LATER + 0.5) * many), int((LATER + 1.25) * many)]
    expected = model.continue_from([*items, "i01", "i02"], times=whole, at=(LATER + 60) * many)
    assert of(known) == by(expected)
    assert all(np.isfinite(one.score) for one in extreme.items)
    assert [one.time for one in told] == pytest.approx([*(time / many for time in times), LATER + 0.5])


def test_seconds_of_a_log_that_have_fractions_are_rounded_down(serving, timed_rows, timed_config, tmp_path):
    log = sasrec.read_log(timed_rows.with_columns(pl.col("timestamp") + 0.75))
    model = sasrec.train(sasrec.split(log), timed_config, progress=False)
    items, times = past(model, "u08")
    with serving(model, data=tmp_path / "data") as running, Client(running.url) as client:
        client.add("u08", "i01", time=times[-1] + 0.1)  # in the same second, later by a fraction
        answer = client.recommend("u08", time=LATER)

    assert times[0] % 1 == 0.75
    expected = model.continue_from([*items, "i01"], times=[*times, times[-1] + 0.1], at=LATER)
    assert of(answer) == by(expected)


# Why


def test_an_event_is_left_out_with_its_time(client, timed_model):
    history, times = ["i03", "i04", "i05", "i04"], [START, START + 30, START + 5 * DAY, START + 6 * DAY]
    events = list(zip(history, times, strict=True))

    answer = client.explain("i09", history=events, exclude_seen=False, time=LATER)

    def standing(items, when):
        frame = timed_model.continue_from(items, times=when, at=LATER, k=15, exclude_seen=False)
        [(score, rank)] = frame.filter(pl.col("item_id") == "i09").select("score", "rank").rows()
        return pytest.approx(score, rel=1e-5), rank

    assert (answer.score, answer.rank) == standing(history, times)
    for at, one in enumerate(answer.events):
        left = standing(history[:at] + history[at + 1 :], times[:at] + times[at + 1 :])
        assert (one.score_without, one.rank_without) == left
    told = Sequences.of([timed_model.items.rows(history)])
    looked = timed_model.scorer.attention(
        replace(told, times=np.array(times), asked=np.array([LATER]), users=np.array([-1]))
    )
    assert [one.attention for one in answer.events] == pytest.approx(looked.tolist(), abs=1e-5)


def test_python_and_the_server_leave_out_the_same_events_with_their_times(client, timed_model):
    def numbers(answer):
        places = [(one.attention, one.score_without, one.rank_without) for one in answer.events]
        return answer.score, answer.rank, places

    history, times = ["i03", "i04"], [START, LATER - 60]  # the first is before what is known of the user
    events = list(zip(history, times, strict=True))

    unseen = client.explain("i09", history=events, time=LATER)
    known = client.explain("i09", "u33", history=events, time=LATER, events=5)

    assert numbers(timed_model.explain(history, "i09", times=times, at=LATER)) == numbers(unseen)
    assert numbers(timed_model.explain(history, "i09", user="u33", times=times, at=LATER, events=5)) == numbers(known)
    items, when = past(timed_model, "u33")
    by_hand = timed_model.score([*items, *history], ["i09"], times=[*when, when[-1], LATER - 60], at=LATER)
    assert known.score == pytest.approx(by_hand["score"][0], rel=1e-5)


def test_times_are_asked_for_where_there_are_events_to_have_them(timed_model):
    [item] = timed_model.recommend(["u33"], at=LATER, k=1).rows(named=True)

    answer = timed_model.explain([], item["item_id"], user="u33", at=LATER)

    assert (answer.rank, answer.score) == (1, pytest.approx(item["score"], rel=1e-5))
    with pytest.raises(ConfigError, match="times: this model looks at when events happened; give the times"):
        timed_model.explain(["i03"], "i09")
    with pytest.raises(ConfigError, match="times: expected one for each of 0 items, found 1"):
        timed_model.explain([], "i09", user="u33", times=[START])


# What is refused, and what is not looked at


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/rank", "/v1/explain"])
@pytest.mark.parametrize(
    ("asked", "pointer", "words"),
    [
        ({"times": [START]}, "/times", "expected one for each of 2 items, found 1"),
        ({"times": [START + 1, START]}, "/times/1", "is before the time before it, and the oldest event comes first"),
        ({}, "/times", "this model looks at when events happened; give the time of every item"),
        ({"times": [START, START * 1000]}, "/times/1", "Expected float <= 100000000000.0"),
        (
            {"times": ["2024-05-31", START]},
            "/times/0",
            "Expected float, got str; times are numbers, in seconds since 1970",
        ),
        (
            {"times": [START, START], "time": "now"},
            "/time",
            "Expected float | null, got str; times are numbers, in seconds since 1970",
        ),
    ],
)
def test_times_that_cannot_be_right_are_refused_with_their_place(post, path, asked, pointer, words):
    needed = {"/v1/rank": {"candidates": ["i01"]}, "/v1/explain": {"item": "i01"}}.get(path, {})

    status, problem = post(path, history=["i03", "i04"], **asked, **needed)

    assert (status, problem["type"]) == (422, "/problems/invalid")
    [fault] = problem["errors"]
    assert fault["pointer"] == pointer
    assert words in fault["detail"]


def test_a_model_without_times_takes_the_same_requests_and_looks_at_none(serving, small_model, tmp_path):
    with serving(small_model, data=tmp_path / "data") as running, Client(running.url) as client:
        plain = client.recommend("u07", ["i03", "i05"])
        told = client.recommend("u07", [("i03", START), ("i05", START + 9)], time=LATER)
        ranked = client.rank(["i01", "i02"], history=[("i03", START)], time=LATER)

        assert (told, ranked) == (plain, client.rank(["i01", "i02"], history=["i03"]))
        assert not client.model().reads_times
        with pytest.raises(ServingError, match="/times: expected one for each of 1 items, found 2"):
            client.recommend_batch([Recommend(history=["i03"], times=[1, 2])])
        with pytest.raises(ServingError, match="/times/1: is before the time before it"):
            client.recommend(history=[("i03", 2), ("i04", 1)])
        with urllib.request.urlopen(running.url + "/openapi.json", timeout=30) as answer:
            told = json.load(answer)["components"]["schemas"]["Recommend"]["properties"]["times"]["description"]

    assert told.endswith("A model that reads times needs them; others check that they fit, and do not use them.")


def test_a_place_in_a_batch_says_in_which_request(post):
    fine, wrong = {"history": ["i03"], "times": [START]}, {"history": ["i03", "i04"], "times": [START + 1, START]}
    detail = "is before the time before it, and the oldest event comes first"

    status, problem = post("/v1/recommend:batch", requests=[fine, fine, wrong, fine])
    _, alone = post("/v1/recommend:batch", requests=[wrong])

    assert (status, problem["errors"]) == (422, [{"pointer": "/requests/2/times/1", "detail": detail}])
    assert problem["detail"] == f"/requests/2/times/1: {detail}"
    assert alone["errors"][0]["pointer"] == "/requests/0/times/1"


def test_a_history_has_times_everywhere_or_nowhere(client):
    assert client.model().reads_times
    with pytest.raises(ConfigError, match="history: 'i04' has no time, and others have"):
        client.recommend(history=[("i03", START), "i04"])


def test_a_model_whose_times_no_clock_tells_is_refused(serving, timed_rows, timed_config, tmp_path):
    steps = timed_rows.with_columns(timestamp=pl.int_range(pl.len()))
    model = sasrec.train(sasrec.split(sasrec.read_log(steps, time_unit="steps")), timed_config, progress=False)

    with (
        pytest.raises(BundleError, match="those of its log count steps, so no clock tells what is now; use it from"),
        serving(model, data=tmp_path / "data"),
    ):
        pass


# Other models, and other ways to an answer


def test_versions_with_and_without_times_follow_each_other(
    serving, timed_model, timed_rows, timed_config, small_config, tmp_path
):
    plain = sasrec.train(sasrec.split(sasrec.read_log(timed_rows)), small_config, progress=False)
    plain.save(tmp_path / "plain")
    data, asked = tmp_path / "data", {"history": [("i03", START), ("i07", START + DAY)], "time": LATER}
    with serving(timed_model, data=data) as running, Client(running.url) as client:
        client.add("u08", "i01", time=LATER)
        first, known = client.recommend(**asked), client.recommend("u08", time=LATER)

        send(Command("activate", str(tmp_path / "plain")), data)
        second, second_known = client.recommend(**asked), client.recommend("u08", time=LATER)
        history = client.history("u08").events
        send(Command("rollback"), data)

        assert (client.recommend(**asked), client.recommend("u08", time=LATER)) == (first, known)
    assert of(second) == by(plain.continue_from(["i03", "i07"]))
    assert of(second_known) == by(plain.continue_from([*past(timed_model, "u08")[0], "i01"]))
    assert [one.time for one in history] == [None] * (len(history) - 1) + [LATER]


def test_a_blend_and_each_of_its_parts_are_told_the_times(serving, timed_model, timed_rows, tmp_path):
    log = sasrec.read_log(timed_rows)
    markov = Markov.of(log.histories, items=len(log.items))
    blend = Recommender.of_log(Blend({"sasrec": (0.6, timed_model.scorer), "markov": (0.4, markov)}), log, record={})
    history, times = ["i03", "i07"], [START, START + DAY]
    asked = {"history": list(zip(history, times, strict=True)), "time": LATER, "k": 12, "exclude_seen": False}
    with serving(blend, data=tmp_path / "data") as running, Client(running.url) as client:
        assert client.model().reads_times
        for scorer, model in (("blend", blend), ("sasrec", timed_model)):
            expected = model.continue_from(history, times=times, at=LATER, k=12, exclude_seen=False)
            assert of(client.recommend(**asked, scorer=scorer)) == by(expected)
        alone = Recommender(markov, users=log.users, items=log.items, histories=log.histories)
        assert of(client.recommend(**asked, scorer="markov")) == by(
            alone.continue_from(history, k=12, exclude_seen=False)
        )


@pytest.mark.parametrize("overlap", [None, 1.0])
def test_an_index_finds_what_the_model_does(serving, timed_model, tmp_path, monkeypatch, overlap):
    monkeypatch.setattr("sasrec.serving.service.LARGE", 15)
    with (
        serving(timed_model, data=tmp_path / "data", overlap=overlap) as running,
        Client(running.url) as client,
    ):
        for user in ("u08", "u31"):
            assert of(client.recommend(user, time=LATER)) == by(timed_model.recommend([user], at=LATER))
            allowed = client.recommend(user, allow=["i01", "i02", "i03"], time=LATER, exclude_seen=False)
            expected = timed_model.recommend([user], allow=["i01", "i02", "i03"], at=LATER, exclude_seen=False)
            assert of(allowed) == by(expected)
