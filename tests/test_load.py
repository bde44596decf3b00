"""The load of the serving benchmark: every request is sent, and what becomes of it is counted."""

import json
import socket
import threading
from urllib.parse import urlsplit

import pytest
from benchmarks.serving.__main__ import Row
from benchmarks.serving.load import Figures, at_rate, saturated
from benchmarks.serving.models import make, overlap

import sasrec
from sasrec.serving.answering import Served
from sasrec.serving.problems import BUSY, Problem


@pytest.fixture
def model(tmp_path):
    """A model of the benchmark, and bodies of requests to it."""
    bodies = [json.loads(body) for body in make(tmp_path / "model.sasrec", items=300)]
    patient = [json.dumps(body | {"deadline_ms": 10_000}).encode() for body in bodies]  # however busy the machine is
    return tmp_path / "model.sasrec", patient


def load(running, bodies):
    address = urlsplit(running.url)
    return at_rate(address.hostname, address.port, bodies, rate=200, seconds=0.2)


def test_every_request_is_answered_and_counted(serving, model):
    path, bodies = model
    with serving(path) as running:
        found = load(running, bodies)

    assert (found.refused, found.failed) == (0, 0)
    assert found.good == found.rate > 0
    assert 0 < found.p50 <= found.p99


def test_the_model_of_the_benchmark_knows_the_histories_that_it_is_asked_about(model):
    path, bodies = model

    asked = json.loads(bodies[0])

    assert len(asked["history"]) == 50
    assert len(sasrec.load(path).continue_from(asked["history"], k=asked["k"])) == 10


@pytest.mark.parametrize(("body", "refused", "failed"), [(None, 40, 0), (b"{", 0, 40)])
def test_refusals_and_failures_are_told_apart(serving, model, monkeypatch, body, refused, failed):
    path, bodies = model
    with serving(path) as running:
        monkeypatch.setattr(Served, "answer", lambda self, requests: [Problem(BUSY, "no")] * len(requests))
        found = load(running, bodies if body is None else [body])

    assert (found.good, found.refused, found.failed) == (0, refused, failed)


def test_nobody_there_is_a_failure():
    found = at_rate("127.0.0.1", 1, [b"{}"], rate=100, seconds=0.05)

    assert (found.refused, found.failed) == (0, 5)


def test_a_saturating_load_is_answered_and_its_answers_are_those_of_a_full_sort(serving, model):
    path, bodies = model
    answers = {}

    with serving(path) as running:
        address = urlsplit(running.url)
        found = saturated(
            address.hostname,
            address.port,
            bodies,
            seconds=0.3,
            told=lambda number, _, body: answers.update({number: body}),
        )

    assert found.good == found.rate > 0
    assert overlap(path, bodies, answers) == 1.0


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure():
    listening = socket.create_server(("127.0.0.1", 0))
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    def answer_each_connection_once():
        for _ in range(5):
            connection, _ = listening.accept()
            connection.recv(65_536)
            connection.sendall(good)  # says nothing of the end that follows
            connection.close()

    server = threading.Thread(target=answer_each_connection_once, daemon=True)
    server.start()
    found = at_rate("127.0.0.1", listening.getsockname()[1], [b"{}"], rate=50, seconds=0.1)
    server.join(30)
    listening.close()

    assert (found.refused, found.failed) == (0, 0)


def test_a_row_shows_the_figures_and_what_was_asked_for():
    figures = Figures(rate=100.0, good=50.0, p50=1.25, p99=9.75, refused=3, failed=0)

    shown = str(Row(12_000, "sasrec", "rate", figures, 1.0, 300.0, {"p50 <= 2": True, "p99 <= 9": False}))

    assert shown.split()[:11] == ["12,000", "sasrec", "rate", "100", "50", "1.2", "9.8", "3", "0", "1.00", "300"]
    assert shown.endswith("p50 <= 2: pass, p99 <= 9: FAIL")
