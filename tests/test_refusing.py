"""What has no room in the queue is refused by its head: with the answer of the application, in order, and counted."""

import http.client
import json
import re
import select
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from sasrec.client import Client
from sasrec.serving.connections import Connection
from sasrec.serving.refusing import Refusals

PATIENCE = 60  # seconds for what takes none on a quiet machine
BODY = json.dumps({"user": "u07", "deadline_ms": 10_000}).encode()


def request(body=BODY, *, method="POST", path="/v1/recommend", version="1.1", **headers):
    """The bytes of a request."""
    own = {"host": "localhost", "content-type": "application/json", "content-length": len(body)}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in (own | headers).items()]
    return f"{method} {path} HTTP/{version}\r\n{''.join(lines)}\r\n".encode() + body


ALIVE = request(b"", method="GET", path="/livez")


class Line:
    """A connection that is written to and read from byte by byte, as no library does it for us."""

    def __init__(self, url, *, receives=None):
        address = urlsplit(url)
        self.socket = socket.socket()
        if receives is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((address.hostname, address.port))
        self.read = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """Status, headers and body of the next answer; None where the connection has ended."""
        status = self.read.readline()
        if not status:
            return None
        headers = {}
        while (line := self.read.readline()) != b"\r\n":
            name, _, value = line.decode().strip().partition(": ")
            headers[name] = value
        body = self.read.read(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, json.loads(body) if body.startswith(b"{") else body.decode()

    def close(self):
        self.read.close()
        self.socket.close()


class Full:
    """A server with one request at the model, which does not end before `go_on`, and one that waits: no more may."""

    def __init__(self, running, go_on):
        self.running, self._go_on, self._lines = running, go_on, []
        self.first, self.second = self.line(), self.line()

    def line(self):
        self._lines.append(Line(self.running.url))
        return self._lines[-1]

    def go_on(self):
        """Let the model answer both; from now on there is room."""
        self._go_on.set()
        assert self.first.answer()[0] == 200
        assert self.second.answer()[0] == 200

    def close(self):
        self._go_on.set()
        for one in self._lines:
            one.close()

    def metrics(self):
        line = self.line()
        line.send(request(b"", method="GET", path="/metrics"))
        text = line.answer()[2]
        return {name: float(value) for name, value in re.findall(r"^(sasrec_.+) (\S+)$", text, re.MULTILINE)}


@pytest.fixture
def full(serving, small_model, held_model, tmp_path, monkeypatch):
    monkeypatch.setattr("sasrec.serving.batching.WAITING", 1)
    go_on, begun = held_model
    with serving(small_model, data=tmp_path / "data", drain=0) as running:
        server = Full(running, go_on)
        server.first.send(request())
        assert begun.wait(PATIENCE)
        server.second.send(request())
        while server.metrics()["sasrec_waiting_requests"] != 1:
            pass
        yield server
        server.close()


def told_of(monkeypatch, whose, name):
    """A semaphore that is released after each call of a method, by objects that come from now on."""
    count, method = threading.Semaphore(0), getattr(whose, name)

    def counted(self, *arguments):
        method(self, *arguments)
        count.release()

    monkeypatch.setattr(whose, name, counted)
    return count


@pytest.fixture
def held(monkeypatch):
    """Nothing is told by the clock; a semaphore is released whenever a refusal is held."""
    monkeypatch.setattr("sasrec.serving.refusing._TICK", 3600.0)
    return told_of(monkeypatch, Refusals, "hold")


def test_a_refused_request_is_told_to_come_again_and_its_connection_goes_on(full):
    line = full.line()

    line.send(request(x_request_id="mine-1"))
    status, headers, problem = line.answer()
    full.go_on()
    line.send(request())

    assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/problem+json", "1")
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert (headers["x-request-id"], problem["instance"]) == ("mine-1", "mine-1")
    assert (problem["type"], problem["status"]) == ("/problems/busy", 503)
    assert "connection" not in headers
    assert line.answer()[0] == 200


def test_a_refusal_by_the_head_and_one_by_the_application_look_alike(full):
    early, late = full.line(), full.line()

    early.send(request(x_request_id="same"))
    late.send(ALIVE + request(x_request_id="same"))  # something is in flight there when its head comes
    late.answer()
    (status, headers, problem), (other_status, other_headers, other) = early.answer(), late.answer()

    assert (status, problem) == (other_status, other)
    assert headers.keys() == other_headers.keys()
    assert {name: one for name, one in headers.items() if name != "date"} == {
        name: one for name, one in other_headers.items() if name != "date"
    }


def test_a_body_that_comes_in_parts_is_read_to_its_end_before_the_next_request(full, held):
    line, body = full.line(), b"GET /livez HTTP/1.1\r\n\r\n" * 100

    line.send(request(body)[: -len(body)])
    for start in range(0, len(body), 1000):
        line.send(body[start : start + 1000])
    line.send(ALIVE)
    answers = [line.answer(), line.answer()]

    assert [status for status, _, _ in answers] == [503, 200]
    assert answers[1][2] == {"status": "alive"}


def test_a_body_in_chunks_is_read_to_its_end_too(full, held):
    line = full.line()
    head = request().partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"

    line.send(head + b"5\r\nhello\r\n")
    line.send(b"3\r\nyou\r\n0\r\n\r\n" + ALIVE)

    assert [line.answer()[0] for _ in range(2)] == [503, 200]


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        ([request(), ALIVE], [503, 200]),
        ([ALIVE, request(), ALIVE], [200, 503, 200]),
        ([request(), request(), request(), ALIVE], [503, 503, 503, 200]),
        ([request(b"", method="GET", path="/v1/similar?item=i01"), ALIVE], [503, 200]),
    ],
)
def test_answers_to_requests_that_come_together_keep_their_order(full, held, sent, statuses):
    line = full.line()
    named = [
        one.replace(b"host: localhost", b"host: localhost\r\nx-request-id: %d" % at) for at, one in enumerate(sent)
    ]

    line.send(b"".join(named))
    answers = [line.answer() for _ in sent]

    assert [status for status, _, _ in answers] == statuses
    assert [headers["x-request-id"] for _, headers, _ in answers] == [str(at) for at in range(len(sent))]


def test_a_refusal_does_not_disturb_the_answer_before_it(full):
    full.first.send(request(x_request_id="behind"))  # whose first request is still at the model

    full.go_on()

    assert full.first.answer()[1]["x-request-id"] == "behind"


def test_a_request_that_is_no_http_comes_after_the_refusal_before_it(full, held):
    line = full.line()

    line.send(request())
    assert held.acquire(timeout=PATIENCE)
    line.send(b"nonsense\r\n\r\n")

    assert [line.answer()[0], line.answer()[0], line.answer()] == [503, 400, None]


@pytest.mark.parametrize("last", [request(connection="close"), request(version="1.0")])
def test_a_connection_that_is_to_end_ends_with_the_refusal(full, last):
    line = full.line()

    line.send(last)
    status, headers, _ = line.answer()

    assert (status, headers["connection"]) == (503, "close")
    assert line.answer() is None


def test_nothing_is_answered_after_a_last_request(full):
    line = full.line()

    line.send(request(connection="close") + request() + ALIVE)

    assert (line.answer()[0], line.answer()) == (503, None)


def test_who_waits_for_leave_to_send_a_body_is_refused_too(full):
    line, whole = full.line(), request(expect="100-continue")

    line.send(whole[: -len(BODY)])
    leave = line.answer()[0]
    line.send(BODY)

    assert (leave, line.answer()[0]) == (100, 503)


def test_a_body_that_does_not_end_ends_the_connection(full, held, monkeypatch):
    monkeypatch.setattr("sasrec.serving.connections._HEAD_SECONDS", 0.05)
    line = full.line()

    line.send(request()[:-1])
    status, headers, _ = line.answer()

    assert (status, headers["connection"], line.answer()) == (503, "close", None)


def test_what_does_not_wait_for_the_model_is_not_refused(full):
    connection = http.client.HTTPConnection(urlsplit(full.running.url).netloc, timeout=PATIENCE)

    for path in ("/livez", "/readyz", "/v1/model", "/v1/items/search?q=i", "/v1/users/u07/history", "/"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, path
    connection.request("GET", "/v1/recommend")
    assert connection.getresponse().status == 405
    connection.close()


def test_refusals_are_counted_as_the_application_counts_them(full):
    line, before = full.line(), full.metrics()

    for sent in (request(), request(), request(path="/v1/rank"), request(b"", method="GET", path="/v1/similar?k=2")):
        line.send(sent)
        assert line.answer()[0] == 503
    after = full.metrics()

    assert after['sasrec_refused_total{reason="busy"}'] == before.get('sasrec_refused_total{reason="busy"}', 0) + 4
    for route, count in {"POST /v1/recommend": 2, "POST /v1/rank": 1, "GET /v1/similar": 1}.items():
        assert after[f'sasrec_requests_total{{route="{route}",status="503"}}'] == count
        assert after[f'sasrec_request_seconds_count{{route="{route}"}}'] == count


def test_refusals_that_are_held_are_told_when_the_server_stops(full, held):
    whole, begun = full.line(), full.line()

    whole.send(request())
    assert held.acquire(timeout=PATIENCE)
    begun.send(request() + request()[:-1])  # the second of which is never whole
    assert held.acquire(timeout=PATIENCE)
    assert begun.answer()[0] == 503
    full.running.stop()

    for line in (whole, begun):
        status, headers, _ = line.answer()
        assert (status, headers["connection"], line.answer()) == (503, "close", None)


def test_a_client_that_goes_while_its_refusal_is_held_disturbs_nobody(full, held):
    gone, stays = full.line(), full.line()

    gone.send(request())
    assert held.acquire(timeout=PATIENCE)
    gone.close()
    stays.send(request() + ALIVE)

    assert [stays.answer()[0] for _ in range(2)] == [503, 200]


def test_a_refusal_that_is_due_does_not_end_the_connection_of_the_next_whose_body_is_on_its_way(full, monkeypatch):
    monkeypatch.setattr("sasrec.serving.refusing._TICK", 0.01)
    ticked = told_of(monkeypatch, Refusals, "_tell")
    line, whole = full.line(), request()

    line.send(whole + whole[: -len(BODY)])
    first = line.answer()[0]
    assert ticked.acquire(timeout=PATIENCE)
    line.send(BODY + ALIVE)
    (second, headers, _), third = line.answer(), line.answer()

    assert (first, second, third[0]) == (503, 503, 200)
    assert "connection" not in headers


def test_a_refused_body_that_is_no_body_is_told_apart_from_a_large_head(full, held, monkeypatch):
    read = told_of(monkeypatch, Connection, "data_received")
    line = full.line()
    head = request().partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"

    for part in (head, b"4000\r\n" + b"x" * 0x4000 + b"\r\n", b"zz\r\n"):
        line.send(part)
        assert read.acquire(timeout=PATIENCE)  # one by one

    assert (line.answer()[0], line.answer()) == (400, None)


@pytest.mark.parametrize("behind", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n"])
def test_what_is_no_request_does_not_take_the_answer_of_the_one_before_it(full, behind):
    full.first.send(behind)  # its first request is still at the model
    full.second.send(behind)

    full.go_on()

    assert (full.first.answer(), full.second.answer()) == (None, None)


def test_a_head_that_is_too_large_is_refused_before_its_end_even_if_it_comes_at_once(full):
    line = full.line()

    line.send(b"GET /livez HTTP/1.1\r\n" + b"ab:cd\r\n" * 6000)

    assert (line.answer()[0], line.answer()) == (431, None)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", b"nonsense\r\n\r\n"])
def test_a_connection_that_was_refused_is_closed_even_if_the_other_end_stays(full, sent, monkeypatch):
    lost = told_of(monkeypatch, Connection, "connection_lost")
    line, resets = full.line(), select.poll()

    line.send(sent)
    assert line.answer()[0] in (400, 431)

    assert lost.acquire(timeout=PATIENCE)
    line.send(b"x")
    resets.register(line.socket, 0)
    assert resets.poll(1000 * PATIENCE), "nobody reads it"


# Whole requests that a server has room for


@pytest.fixture
def open_line(serving, small_model, tmp_path):
    """Opens connections to a server that has nothing to do."""
    with serving(small_model, data=tmp_path / "data", drain=0) as running:
        lines = []

        def connect(**options):
            lines.append(Line(running.url, **options))
            return lines[-1]

        connect.url = running.url
        yield connect
        for one in lines:
            one.close()


UPGRADE = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
FORGET = request(b"", method="DELETE", path="/v1/users/victim")


@pytest.mark.parametrize("parts", [1, 2, 1000])
@pytest.mark.parametrize("more", [{}, {"x-empty": ""}, {"expect": "100-continue"}])
def test_an_offer_of_another_protocol_is_ignored_and_the_request_answered(open_line, parts, more, monkeypatch):
    read = told_of(monkeypatch, Connection, "data_received")
    line, whole = open_line(), request(**UPGRADE | more) + ALIVE
    size = -(-len(whole) // parts) if parts != 2 else len(whole) - len(BODY) - len(ALIVE)

    for start in range(0, len(whole), size):
        line.send(whole[start : start + size])
        assert read.acquire(timeout=PATIENCE)
    answers = [line.answer() for _ in range(2 + ("expect" in more))]

    assert [status for status, _, _ in answers if status != 100] == [200, 200]
    assert "items" in answers[-2][2]
    assert answers[-1][2] == {"status": "alive"}


@pytest.mark.parametrize("framing", ["content-length", "transfer-encoding"])
@pytest.mark.parametrize("offered", ["h2c", "websocket", "h2c, websocket"])
def test_the_body_of_a_request_that_offers_another_protocol_is_no_request(open_line, framing, offered, monkeypatch):
    read = told_of(monkeypatch, Connection, "data_received")
    line = open_line()
    head, body = request(FORGET, connection="Upgrade", upgrade=offered)[: -len(FORGET)], FORGET
    if framing == "transfer-encoding":
        head = head.partition(b"content-length")[0] + b"connection: upgrade\r\nupgrade: x\r\n"
        head, body = head + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(FORGET), FORGET)
    with Client(open_line.url) as client:
        client.add("victim", "i01")

        line.send(head)
        assert read.acquire(timeout=PATIENCE)
        line.send(body + ALIVE)
        answers = [line.answer(), line.answer()]

        assert [answers[0][0], answers[1][2]] == [400, {"status": "alive"}]
        assert len(client.history("victim").events) == 1


def test_many_offers_of_another_protocol_are_answered_one_by_one(open_line):
    line = open_line()

    line.send(request(b"", method="GET", path="/livez", **UPGRADE) * 5 + request(**UPGRADE | {"connection": "close"}))

    assert [line.answer()[0] for _ in range(6)] == [200] * 6
    assert line.answer() is None


@pytest.mark.parametrize("target", ["localhost:80", "/"])
def test_a_tunnel_is_refused_and_what_follows_is_no_request(open_line, target):
    line = open_line()

    line.send(request(b"", method="CONNECT", path=target) + ALIVE)

    assert (line.answer()[0], line.answer()) == (400, None)


def test_a_refused_request_may_offer_another_protocol(full, held):
    line = full.line()

    line.send(request(**UPGRADE) + ALIVE)

    assert [line.answer()[0] for _ in range(2)] == [503, 200]


@pytest.fixture
def lost(monkeypatch):
    """A semaphore that is released whenever a connection is over."""
    return told_of(monkeypatch, Connection, "connection_lost")


@pytest.mark.parametrize("last", [{}, {"connection": "close"}])
def test_who_does_not_take_answers_loses_the_connection(lost, open_line, monkeypatch, last):
    monkeypatch.setattr("sasrec.serving.connections._SEND_SECONDS", 0.05)
    batch = json.dumps({"requests": [{"user": "u07", "k": 25, "exclude_seen": False}] * 256, "deadline_ms": 10_000})
    deaf = open_line(receives=4096)

    for _ in range(8):  # each answer has 200 KB
        deaf.send(request(batch.encode(), path="/v1/recommend:batch", **last))

    assert lost.acquire(timeout=PATIENCE)


def test_answers_that_are_not_taken_hold_so_much_at_most_over_all_connections(lost, open_line, monkeypatch):
    monkeypatch.setattr("sasrec.serving.connections._SEND_SECONDS", 3600.0)
    monkeypatch.setattr("sasrec.serving.connections._UNTAKEN", 500_000)
    batch = json.dumps({"requests": [{"user": "u07", "k": 25, "exclude_seen": False}] * 256, "deadline_ms": 10_000})
    whole = request(batch.encode(), path="/v1/recommend:batch")

    for _ in range(6):
        deaf = open_line(receives=4096)
        for _ in range(8):  # each answer has 200 KB
            deaf.send(whole)
    given_up = lost.acquire(timeout=PATIENCE)
    hears = open_line()
    hears.send(whole)

    assert given_up
    assert hears.answer()[0] == 200


def test_a_rest_of_a_body_that_does_not_end_after_its_answer_ends_the_connection(lost, open_line, monkeypatch):
    line = open_line()
    line.send(ALIVE)
    assert line.answer()[0] == 200
    monkeypatch.setattr("sasrec.serving.connections._HEAD_SECONDS", 0.05)

    line.send(request(b"x", **{"content-type": "text/plain", "content-length": 10**9}))
    status = line.answer()[0]
    for _ in range(100 * PATIENCE):
        if lost.acquire(timeout=0.01):
            break
        with suppress(OSError):
            line.send(b"x")
    else:
        pytest.fail("the connection stays")

    assert status == 415


@pytest.mark.parametrize("sent", [request(**{"content-type": "text/plain"}), request(path="/nowhere")])
def test_a_body_that_comes_after_its_answer_is_read_and_the_connection_goes_on(open_line, sent):
    line = open_line()

    line.send(sent[:-3])
    first = line.answer()[0]
    line.send(sent[-3:] + ALIVE + request())

    assert (first, line.answer()[2], line.answer()[0]) == (first, {"status": "alive"}, 200)
    assert first in (404, 415)


def test_of_requests_that_come_together_so_many_are_answered_and_the_connection_ends(full, monkeypatch):
    monkeypatch.setattr("sasrec.serving.connections._PIPELINED", 3)

    full.first.send(ALIVE * 100)  # its first request is still at the model
    full.go_on()

    assert [full.first.answer()[0] for _ in range(3)] == [200] * 3
    assert full.first.answer() is None


def test_a_body_that_cannot_be_read_does_not_take_the_answers_of_the_requests_before_it(full):
    head = request().partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"

    full.first.send(ALIVE + head + b"zz\r\n")  # its first request is still at the model
    full.go_on()

    assert (full.first.answer()[2], full.first.answer()) == ({"status": "alive"}, None)
