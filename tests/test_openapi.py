"""The OpenAPI document against the server: every answer to thousands of odd requests is one that it announces."""

import http.client
import json
import random
from urllib.parse import urlsplit

import jsonschema
import pytest
from benchmarks.survival.requests import fault_of, odd_request

from sasrec.serving import openapi
from sasrec.serving.operations import OPERATIONS
from sasrec.serving.problems import KINDS


@pytest.fixture(scope="module")
def document():
    return openapi.document(OPERATIONS)


@pytest.fixture(scope="module", params=["small_model", "timed_model"])
def running(request, serving, tmp_path_factory):
    model = request.getfixturevalue(request.param)
    with serving(model, data=tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def send(running):
    """Sends a request; gives status, media type and body."""
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)

    def ask(method, path, body, headers):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()

    yield ask
    connection.close()


def test_the_server_shows_the_document(send, document):
    status, kind, body = send("GET", "/openapi.json", None, {})

    assert (status, kind, json.loads(body)) == (200, "application/json", json.loads(json.dumps(document)))


def test_every_operation_is_described(document):
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert described == {(one.method, one.path) for one in OPERATIONS}
    for methods in document["paths"].values():
        for described in methods.values():
            assert described["summary"].endswith(".")
            assert {"200", "400", "408", "422", "431", "500", "503"} <= set(described["responses"])


def test_every_reference_leads_somewhere(document):
    def references(node):
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = {one.removeprefix("#/components/schemas/") for one in references(document)}

    assert found
    assert found <= set(document["components"]["schemas"])


def test_every_schema_is_a_schema(document):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_kind_of_problem_is_one_of_some_operation_or_of_none():
    used = {kind for one in OPERATIONS for kind in one.problems}

    # What is not found, or not to be had by this method, belongs to no operation.
    assert {kind.name for kind in set(KINDS) - used} == {"not-found", "method-not-allowed"}
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def check_answers(send, document, requests):
    """No answer is a fault of the server, and each is one that the document announces, of the shape it announces."""
    chances = random.Random(5)
    seen = {}
    for _ in range(requests):
        operation = chances.choice(OPERATIONS)
        asked = odd_request(chances, operation, document)

        status, kind, body = send(*asked)

        assert not fault_of(operation, document, status, kind, body), f"{asked} gave {status} {body[:300]}"
        seen[operation, status] = seen.get((operation, status), 0) + 1
    for operation in OPERATIONS:
        # On a busy machine the deadline of a good request may pass, which is no fault of it.
        assert {(operation, 200), (operation, 504)} & seen.keys(), f"none to {operation.path} was a good one"
    return seen


def test_every_answer_to_odd_requests_is_announced(send, document):
    seen = check_answers(send, document, requests=500)

    assert len(seen) > 25


@pytest.mark.slow
def test_every_answer_to_ten_thousand_odd_requests_is_announced(send, document):
    check_answers(send, document, requests=10_000)
