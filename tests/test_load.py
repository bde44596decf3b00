"""The load of the serving benchmark: every request is sent, and what becomes of it is counted."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from benchmarks.serving.__main__ import line, make
from benchmarks.serving.load import Figures, measure

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
    return asyncio.run(measure(address.hostname, address.port, bodies, rate=200, seconds=0.2))


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
    found = asyncio.run(measure("127.0.0.1", 1, [b"{}"], rate=100, seconds=0.05))

    assert (found.refused, found.failed) == (0, 5)


def test_a_line_shows_the_cost_of_an_answer():
    figures = Figures(rate=100.0, good=50.0, p50=1.25, p99=9.75, refused=3, failed=0)

    assert line("sasrec", 100, figures, 0.5, 10.0).split() == ["sasrec", "100", "50", "1.2", "9.8", "3", "0", "1.00"]
