"""The server as its users meet it: requests over a real connection, answers compared with the model's own."""

import http.client
import json
import socket
import threading
from contextlib import suppress
from urllib.parse import quote, urlsplit

import polars as pl
import pytest

from sasrec.serving.app import BODY
from sasrec.serving.metrics import Counter


@pytest.fixture(scope="module")
def titled(tmp_path_factory, small_model):
    """A file with titles of some items, one of which has markup in it."""
    path = tmp_path_factory.mktemp("titles") / "items.csv"
    titles = [("i00", "Alien"), ("i01", "Aliens"), ("i02", '<script>alert("1")</script>'), ("i03", "Das Boot")]
    pl.DataFrame(titles, schema=["item_id", "title"], orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def running(serving, small_model, tmp_path_factory, titled):
    with serving(small_model, data=tmp_path_factory.mktemp("server") / "data", titles=titled) as running:
        yield running


@pytest.fixture
def ask(running):
    """Sends one request; gives status, headers and the decoded answer."""
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=30)

    def send(method, path, body=None, **headers):
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        content = {"content-type": "application/json"} if sent is not None else {}
        connection.request(method, path, sent, content | {name.replace("_", "-"): one for name, one in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        kind = answer.headers.get_content_type()
        return answer.status, answer.headers, json.loads(text) if text and kind.endswith("json") else text.decode()

    yield send
    connection.close()


@pytest.fixture
def get(ask):
    return lambda path: ask("GET", path)[2]


@pytest.fixture
def post(ask):
    def send(path, **body):
        if path in ("/v1/recommend", "/v1/recommend:batch", "/v1/rank"):
            body.setdefault("deadline_ms", 10_000)  # however busy the machine is
        status, _, answer = ask("POST", path, body)
        assert status == 200, answer
        return answer

    return send


def ranked(answer):
    return [(one["item"], pytest.approx(one["score"], abs=1e-6)) for one in answer["items"]]


def offline(frame):
    return list(frame.select("item_id", "score").iter_rows())


# Recommendations


def test_a_known_user_gets_what_the_model_recommends(post, small_model, running):
    for user in ("u07", "u19", "u59"):
        answer = post("/v1/recommend", user=user, k=7)

        assert offline(small_model.recommend([user], k=7)) == ranked(answer)
        assert (answer["source"], answer["model_version"]) == ("model", running.version)
        assert answer["used_history"] == 1 + int(user[1:]) % 20


def test_a_history_gets_what_the_model_recommends_after_it(post, small_model):
    answer = post("/v1/recommend", history=["i03", "i04", "i03"], k=5)

    assert offline(small_model.continue_from(["i03", "i04", "i03"], k=5)) == ranked(answer)


def test_a_history_follows_what_is_known_of_the_user(post, small_model, walks):
    before = [walks.items.ids[int(row)] for row in walks.histories[7]]

    answer = post("/v1/recommend", user="u07", history=["i03"], k=5)

    assert offline(small_model.continue_from([*before, "i03"], k=5)) == ranked(answer)


@pytest.mark.parametrize("asked", [{"user": "nobody"}, {}, {"history": ["nothing"]}, {"user": 7}])
def test_who_is_unknown_gets_popular_items_marked_so(post, small_model, asked):
    answer = post("/v1/recommend", **asked, k=4)

    popular = small_model.recommend(["nobody"], k=4, unknown="popular").drop("user_id")
    assert offline(popular) == ranked(answer)
    assert (answer["source"], answer["used_history"]) == ("popular", 0)


def test_allowed_and_denied_items_are_minded_and_unknown_ones_listed(post, small_model):
    allowed, denied = ["i01", "i02", "i03", "i04"], ["i02"]

    answer = post(
        "/v1/recommend", history=["i09", "what"], allow=[*allowed, "who"], deny=[*denied, "where"], exclude_seen=False
    )

    expected = small_model.continue_from(["i09"], allow=allowed, deny=denied, exclude_seen=False)
    assert offline(expected) == ranked(answer)
    assert sorted(answer["unknown_items"]) == ["what", "where", "who"]


@pytest.mark.parametrize("exclude", [True, False])
def test_seen_items_are_left_out_or_kept_as_asked(post, small_model, exclude):
    answer = post("/v1/recommend", user="u19", k=25, exclude_seen=exclude)

    assert offline(small_model.recommend(["u19"], k=25, exclude_seen=exclude)) == ranked(answer)


def test_more_than_the_catalogue_gives_the_catalogue(post):
    answer = post("/v1/recommend", history=["i00"], k=500, exclude_seen=False)

    assert len(answer["items"]) == 25


def test_nothing_allowed_is_an_answer_without_items(post):
    assert post("/v1/recommend", user="u07", allow=[])["items"] == []


def test_a_batch_answers_each_request_in_its_place(post):
    requests = [{"user": "u07", "k": 3}, {}, {"history": ["i03"], "k": 25}, {"user": "u19", "deny": ["i01"]}]

    answer = post("/v1/recommend:batch", requests=requests)

    alone = [post("/v1/recommend", **request) for request in requests]
    assert [[one["item"] for one in each["items"]] for each in answer["answers"]] == [
        [one["item"] for one in each["items"]] for each in alone
    ]


def test_candidates_are_put_in_the_order_of_their_scores(post, small_model):
    answer = post("/v1/rank", history=["i03"], candidates=["i07", "i03", "i01", "unknown"])

    expected = small_model.score(["i03"], ["i07", "i03", "i01"]).sort("rank")
    assert offline(expected) == ranked(answer)
    assert answer["unknown_items"] == ["unknown"]


def test_similar_items_are_those_of_the_model(get, small_model):
    answer = get("/v1/similar?item=i03&k=4&deadline_ms=10000")

    assert offline(small_model.similar("i03", k=4)) == ranked(answer)


def test_similar_items_of_an_unknown_one_are_a_problem(ask):
    status, _, problem = ask("GET", "/v1/similar?item=none&deadline_ms=10000")

    assert (status, problem["type"]) == (404, "/problems/unknown-item")


def test_titles_stand_beside_ids(post):
    answer = post("/v1/recommend", history=["i09"], allow=["i00", "i02", "i05"], exclude_seen=False)

    assert {one["item"]: one.get("title") for one in answer["items"]} == {
        "i00": "Alien",
        "i02": '<script>alert("1")</script>',
        "i05": None,
    }


def test_items_are_found_by_title_and_id_in_any_case(get):
    assert [one["item"] for one in get("/v1/items/search?q=ALIEN")["items"]] == ["i00", "i01"]
    assert get("/v1/items/search?q=boot")["items"] == [{"item": "i03", "title": "Das Boot"}]
    assert [one["item"] for one in get("/v1/items/search?q=I02&limit=1")["items"]] == ["i02"]
    assert get(f"/v1/items/search?q={quote('%_[*')}")["items"] == []


# Events


def test_an_event_is_in_the_next_recommendation(post, small_model):
    post("/v1/events", events=[{"id": "next-1", "user": "visitor", "item": "i03"}])
    post("/v1/events", events=[{"id": "next-2", "user": "visitor", "item": "i05"}])

    answer = post("/v1/recommend", user="visitor", k=5)

    assert offline(small_model.continue_from(["i03", "i05"], k=5)) == ranked(answer)


def test_a_late_event_is_put_in_its_place(post, get):
    post("/v1/events", events=[{"id": "late-1", "user": "late", "item": "i03", "time": 1_700_000_300}])
    post("/v1/events", events=[{"id": "late-2", "user": "late", "item": "i05", "time": 1_700_000_000.5}])

    assert get("/v1/users/late/history")["events"] == [
        {"item": "i05", "time": 1_700_000_000.5, "id": "late-2"},
        {"item": "i03", "time": 1_700_000_300.0, "id": "late-1", "title": "Das Boot"},
    ]


def test_events_sent_again_are_duplicates_and_other_content_is_rejected(post):
    event = {"id": "again", "user": "repeat", "item": "i03"}
    post("/v1/events", events=[event])

    answer = post("/v1/events", events=[event, event | {"item": "i04"}, event | {"id": "new", "item": "unheard-of"}])

    assert (answer["stored"], answer["duplicates"]) == (1, 1)
    assert [(one["index"], one["id"]) for one in answer["rejected"]] == [(1, "again")]
    assert answer["unknown_items"] == ["unheard-of"]


def test_events_that_all_conflict_are_a_problem(ask, post):
    post("/v1/events", events=[{"id": "conflict", "user": "a", "item": "i03"}])

    status, _, problem = ask("POST", "/v1/events", {"events": [{"id": "conflict", "user": "b", "item": "i03"}]})

    assert (status, problem["type"], problem["errors"][0]["pointer"]) == (409, "/problems/conflict", "/events/0/id")


@pytest.mark.parametrize("when", [9e10, -1e30])
def test_a_time_far_away_is_refused_and_nothing_is_stored(ask, get, when):
    events = [
        {"id": "f1", "user": "future", "item": "i03"},
        {"id": "f2", "user": "future", "item": "i03", "time": when},
    ]

    status, _, problem = ask("POST", "/v1/events", {"events": events})

    assert (status, problem["errors"][0]["pointer"]) == (422, "/events/1/time")
    assert get("/v1/users/future/history")["events"] == []


def test_a_history_is_what_the_model_was_trained_on_and_then_the_events(get, post, walks):
    post("/v1/events", events=[{"id": "h1", "user": "u03", "item": "i20", "time": 1}])

    events = get("/v1/users/u03/history")["events"]

    trained = [walks.items.ids[int(row)] for row in walks.histories[3]]
    assert [one["item"] for one in events] == [*trained, "i20"]
    assert get("/v1/users/u03/history?limit=1")["events"] == [{"item": "i20", "time": 1.0, "id": "h1"}]


def test_a_forgotten_user_is_a_stranger_whose_later_events_count(ask, get, post, small_model):
    post("/v1/events", events=[{"id": "d1", "user": "u11", "item": "i20"}])

    status, _, answer = ask("DELETE", "/v1/users/u11")

    assert (status, answer) == (200, {"user": "u11", "events": 1})
    assert get("/v1/users/u11/history")["events"] == []
    assert post("/v1/recommend", user="u11")["source"] == "popular"
    post("/v1/events", events=[{"id": "d2", "user": "u11", "item": "i03"}])
    expected = offline(small_model.continue_from(["i03"], k=10))
    assert expected == ranked(post("/v1/recommend", user="u11"))


@pytest.mark.parametrize("user", ["a/b", "a/history", "../../etc", "ü 1%2F", "日本", "<b>", " ", "a?b#c", "\n"])
def test_any_text_is_a_user(ask, get, post, user):
    post("/v1/events", events=[{"id": f"odd {user}", "user": user, "item": "i03"}])

    path = f"/v1/users/{quote(user, safe='')}"
    assert get(f"{path}/history")["user"] == user
    assert [one["item"] for one in get(f"{path}/history")["events"]] == ["i03"]
    assert ask("DELETE", path)[2] == {"user": user, "events": 1}


# Operations


def test_the_model_is_described(get, running, small_model):
    answer = get("/v1/model")

    assert (answer["model_version"], answer["kind"]) == (running.version, "sasrec")
    assert (answer["items"], answer["users"]) == (25, 60)
    assert answer["ids"] == {"users": "text", "items": "text"}
    assert answer["trained"]["validation_ndcg"] == small_model.record["best"]["ndcg"]


def test_the_server_is_alive_and_ready(get):
    assert get("/livez") == {"status": "alive"}
    assert get("/readyz") == {"status": "ready"}


def test_metrics_count_requests_and_hold_no_ids(get, post, running):
    before = series(get("/metrics"))
    post("/v1/recommend", user="u07", history=["secret-item"])

    after = series(get("/metrics"))

    name = 'sasrec_requests_total{route="POST /v1/recommend",status="200"}'
    assert after[name] == before.get(name, 0) + 1
    assert after["sasrec_scored_total"] == before["sasrec_scored_total"] + 1
    assert after["sasrec_unknown_items_total"] == before["sasrec_unknown_items_total"] + 1
    assert after[f'sasrec_model_info{{version="{running.version}"}}'] == 1
    assert not [one for one in after if "u07" in one or "secret" in one]


def test_a_count_beyond_a_million_is_exact():
    counter = Counter("many", "Of something.", ("kind",))
    for _ in range(2):
        counter.add("a", amount=1_000_000)
    counter.add("a", amount=True)

    assert counter.lines()[-1] == 'many{kind="a"} 2000001'


def series(text):
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_the_series_are_the_same_however_many_users_ask(get, post):
    post("/v1/recommend", user="first")
    before = set(series(get("/metrics")))

    for number in range(20):
        post("/v1/recommend", user=f"user {number}", history=[f"item {number}"])

    assert set(series(get("/metrics"))) == before


def test_an_answer_bears_the_id_of_its_request(ask):
    assert ask("GET", "/livez", x_request_id="abc-1")[1]["x-request-id"] == "abc-1"
    assert len(ask("GET", "/livez")[1]["x-request-id"]) == 16
    assert ask("GET", "/livez", x_request_id="<b>")[1]["x-request-id"] != "<b>"
    assert ask("GET", "/nowhere", x_request_id="abc-2")[2]["instance"] == "abc-2"


def test_an_answer_is_json_that_no_browser_takes_for_a_page(ask):
    _, headers, _ = ask("POST", "/v1/recommend", {"history": ["i02"], "deadline_ms": 10_000})

    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


# Refusals


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"k": 0}, "/k"),
        ({"k": 501}, "/k"),
        ({"k": "10"}, "/k"),
        ({"k": 2.5}, "/k"),
        ({"k": True}, "/k"),
        ({"user": True}, "/user"),
        ({"user": 1.0}, "/user"),
        ({"user": ""}, "/user"),
        ({"user": "a\0b"}, "/user"),
        ({"user": "x" * 1025}, "/user"),
        ({"user": 2**63}, "/user"),
        ({"history": ["i01", None]}, "/history/1"),
        ({"history": "i01"}, "/history"),
        ({"history": ["i01"] * 1001}, "/history"),
        ({"exclude_seen": 1}, "/exclude_seen"),
        ({"kk": 3}, "/kk"),
        ({"deadline_ms": 0}, "/deadline_ms"),
        ([], ""),
        (None, ""),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_with_its_place(ask, body, pointer):
    status, headers, problem = ask("POST", "/v1/recommend", json.dumps(body).encode())

    assert (status, headers.get_content_type()) == (422, "application/problem+json")
    assert [one["pointer"] for one in problem["errors"]] == [pointer]
    assert problem["type"] == "/problems/invalid"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b'{"k": 3', b'{"k": NaN}', b'{"k": Infinity}', b"{} {}", b"\xff\xfe{}", b'{"user": "\xc3"}'),
        *(b'{"user": "\\ud800"}', b"[" * 100_000, b'{"history":' * 5000, b'{"k": 1e999999}', b'{"k": 01}'),
    ],
)
def test_what_is_no_json_is_refused(ask, body):
    status, _, problem = ask("POST", "/v1/recommend", body)

    assert (status, problem["type"]) in ((400, "/problems/malformed"), (422, "/problems/invalid"))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_body_that_is_not_called_json_is_refused(ask, kind):
    status, _, problem = ask("POST", "/v1/recommend", b"{}", content_type=kind)

    assert (status, problem["type"]) == (415, "/problems/not-json")


def test_a_compressed_body_is_refused(ask):
    assert ask("POST", "/v1/recommend", b"{}", content_encoding="gzip")[0] == 415


def test_json_may_name_its_charset(ask):
    body = b'{"deadline_ms": 10000}'

    assert ask("POST", "/v1/recommend", body, content_type="application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/index.html", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/recommend/", 404),
        ("GET", "/v1/recommend", 405),
        ("PUT", "/v1/events", 405),
        ("GET", "/v1/users/a", 405),
        ("TRACE", "/livez", 405),
        ("GET", "/livez?x=1", 422),
        ("GET", "/v1/similar", 422),
        ("GET", "/v1/similar?item=i01&k=x", 422),
        ("GET", "/v1/similar?item=i01&item=i02", 422),
        ("GET", "/v1/similar?item=%ff", 400),
        ("GET", "/v1/users/%ff/history", 400),
        ("GET", "/v1/users//history", 404),
        ("GET", "/v1/users/%00/history", 422),
        ("GET", "/v1/users/a/history?user=b", 422),
        ("GET", "/v1/users/a/history?limit=0", 422),
    ],
)
def test_other_addresses_and_methods_are_problems(ask, method, path, status):
    found, headers, problem = ask(method, path)

    assert (found, problem["status"], headers.get_content_type()) == (status, status, "application/problem+json")
    if status == 405:
        assert headers["allow"]


def test_the_methods_of_an_address_are_told_to_whoever_takes_another(ask):
    assert ask("PUT", "/v1/events")[1]["allow"] == "GET, HEAD, POST"
    assert ask("GET", "/v1/recommend")[1]["allow"] == "POST"


def test_the_head_of_an_answer_can_be_had_alone(ask):
    headers = ask("GET", "/v1/items/search?q=i")[1]
    found = ask("HEAD", "/v1/items/search?q=i")

    assert (found[0], found[1]["content-length"], found[2]) == (200, headers["content-length"], "")


def test_a_user_may_be_called_as_the_field_of_the_address_is(get):
    assert get("/v1/users/{user}/history")["user"] == "{user}"


HEAD = "POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def raw(running, data):
    """The beginning of the answer to bytes as they are."""
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(data)
        return connection.recv(65536).decode()


def test_an_id_with_nul_is_refused_in_words(ask):
    status, _, problem = ask("POST", "/v1/recommend", {"history": ["i1", "i\0"]})

    assert status == 422
    assert problem["errors"] == [{"pointer": "/history/1", "detail": "Expected a text without NUL"}]


def test_a_body_that_is_too_large_is_refused_by_its_length_alone(running):
    answer = raw(running, f"{HEAD}content-length: {BODY + 1}\r\n\r\n".encode())  # and none of the body

    assert answer.startswith("HTTP/1.1 413 ")
    assert "connection: close" in answer


@pytest.mark.parametrize(("length", "status"), [("0" * 5000 + "2", 200), ("0" * 5000 + str(BODY + 1), 413)])
def test_a_length_with_thousands_of_zeros_is_a_length(running, length, status):
    answer = raw(running, f"{HEAD}content-length: {length}\r\n\r\n".encode() + b"{}")

    assert answer.startswith(f"HTTP/1.1 {status} ")


def test_a_body_that_grows_too_large_in_chunks_is_refused(running):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    answer = raw(
        running, f"{HEAD}transfer-encoding: chunked\r\n\r\n".encode() + chunk * (BODY // 0x10000) + b"1\r\n \r\n"
    )

    assert answer.startswith("HTTP/1.1 413 ")


def test_whoever_sends_a_body_that_is_too_large_in_one_piece_sees_its_answer(running):
    address = urlsplit(running.url)
    body = b" " * (8 * BODY)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(f"{HEAD}content-length: {len(body)}\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    assert answer.startswith("HTTP/1.1 413 ")
    assert "connection: close" in answer
    assert '"title":"The body is too large"' in answer


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked"])
def test_a_body_that_is_compressed_on_the_way_is_refused(running, coding):
    answer = raw(running, f"{HEAD}transfer-encoding: {coding}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode())

    assert answer.startswith("HTTP/1.1 415 ")
    assert "transfer-encoding" in answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (HEAD.encode() + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD.encode() + b"content-length: -1\r\n\r\n", 400),
        (HEAD.encode() + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx", 400),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nlong: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /livez?" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n", 431),
    ],
)
def test_what_is_no_proper_http_is_a_problem_too(running, data, status):
    answer = raw(running, data)

    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "content-type: application/problem+json" in answer


@pytest.mark.parametrize(
    "lines",
    [
        ["content-type: text/plain", "content-type: application/json"],
        ["content-type: application/json", "content-type: text/plain"],
        ["content-type: application/json", "content-encoding: gzip", "content-encoding: identity"],
        ["content-type: application/json", "content-encoding: identity", "content-encoding: gzip"],
    ],
)
def test_of_a_header_in_two_lines_neither_is_overlooked(running, lines):
    head = "\r\n".join(["POST /v1/recommend HTTP/1.1", "host: localhost", "content-length: 2", *lines])

    answer = raw(running, f"{head}\r\n\r\n{{}}".encode())

    assert answer.startswith("HTTP/1.1 415 ")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nhost", HEAD.encode() + b"content-length: 9\r\n\r\n{"])
def test_a_request_that_comes_too_slowly_is_refused(serving, small_model, tmp_path, monkeypatch, sent):
    monkeypatch.setattr("sasrec.serving.connections._HEAD_SECONDS", 0.05)
    monkeypatch.setattr("sasrec.serving.app._BODY_SECONDS", 0.05)
    with serving(small_model, data=tmp_path / "data") as running:
        answer = raw(running, sent)

    assert answer.startswith("HTTP/1.1 408 ")


def test_a_connection_too_many_is_told_so(serving, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("sasrec.serving.connections.CONNECTIONS", 2)
    with serving(small_model, data=tmp_path / "data") as running:
        address = urlsplit(running.url)
        others = [socket.create_connection((address.hostname, address.port), timeout=30) for _ in range(2)]
        answer = raw(running, b"")
        for one in others:
            one.close()

    assert answer.startswith("HTTP/1.1 503 ")
    assert "retry-after: 1" in answer


def test_a_connection_too_many_is_told_so_even_while_its_request_is_on_the_way(
    serving, small_model, tmp_path, monkeypatch
):
    monkeypatch.setattr("sasrec.serving.connections.CONNECTIONS", 0)
    request = b"POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n" + b"x" * 60_000
    answers = []
    with serving(small_model, data=tmp_path / "data") as running:
        address = urlsplit(running.url)
        for _ in range(20):
            with socket.create_connection((address.hostname, address.port), timeout=30) as one:
                first = one.recv(1)  # it is refused already
                one.sendall(request)
                one.sendall(request)  # to an end that is closed this would break the connection
                answers.append((first + one.recv(65_536))[:12])

    assert answers == [b"HTTP/1.1 503"] * 20


def test_requests_at_once_are_answered_each_with_its_own(running, small_model):
    expected = {f"u{u:02}": small_model.recommend([f"u{u:02}"], k=3)["item_id"].to_list() for u in range(40, 60)}
    wrong = []

    def work(user):
        connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)
        for _ in range(10):
            body = json.dumps({"user": user, "k": 3, "deadline_ms": 10_000})
            connection.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            if [one["item"] for one in answer.get("items", [])] != expected[user]:
                wrong.append((user, answer))
        connection.close()

    threads = [threading.Thread(target=work, args=[user]) for user in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
