"""The OpenAPI document against the server: every answer to thousands of odd requests is one that it announces."""

import http.client
import json
import random
from urllib.parse import quote, urlencode, urlsplit

import jsonschema
import pytest

from sasrec.serving import openapi
from sasrec.serving.operations import OPERATIONS
from sasrec.serving.problems import KINDS

ODD = ["", " ", "a" * 1025, "\0", "ü/?#%", "<b>", "😀", "-1", "1e5", "null", "\n", "' OR 1=1 --"]
KNOWN = ["i03", "i04", "u07", "markov"]
NUMBERS = [0, 1, -1, 10, 500, 501, 2**31, 2**63, -(2**63) - 1, 10**400, 1.5, 1e300, -0.0, 1_700_000_000, 10**11]


@pytest.fixture(scope="module")
def document():
    return openapi.document(OPERATIONS)


@pytest.fixture(scope="module")
def running(serving, small_model, tmp_path_factory):
    with serving(small_model, data=tmp_path_factory.mktemp("server") / "data") as running:
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


def schema_of(document, part):
    return {**part, "components": document["components"]}


def value(rng, schema, document, depth=0):
    """Something that may or may not fit a schema, and mostly nearly does."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return value(rng, rng.choice(schema["anyOf"]), document, depth)
    kind = schema.get("type")
    if rng.random() < 0.06:
        kind = rng.choice(["string", "integer", "number", "boolean", "null", "array", "object"])
    if kind == "object" and "properties" in schema:
        fields = {
            name: value(rng, field, document, depth + 1)
            for name, field in schema["properties"].items()
            if rng.random() < (0.95 if name in schema.get("required", ()) else 0.5)
        }
        return fields | ({rng.choice(ODD): 1} if rng.random() < 0.05 else {})
    if kind == "array":
        count = rng.choice([0, 1, 2, 3, 300, 1001]) if depth < 2 else rng.choice([0, 1, 2])
        return [value(rng, schema.get("items", {"type": "string"}), document, depth + 1) for _ in range(count)]
    few = min(schema.get("maximum", 9), 9) if rng.random() < 0.7 else None
    return {
        "string": rng.choice(KNOWN if rng.random() < 0.5 else ODD),
        "integer": rng.choice(NUMBERS) if few is None else rng.randint(1, max(int(few), 1)),
        "number": rng.choice(NUMBERS),
        "boolean": rng.random() < 0.5,
        "object": {},
    }.get(kind)


def odd_request(rng, operation, document):
    """A request to an operation, as method, path, body and headers."""
    described = document["paths"][operation.path][operation.method.lower()]
    path, query = operation.path, []
    for one in described.get("parameters", ()):
        given = str(value(rng, one["schema"], document))
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", quote(given or "x", safe=""))
        elif one["required"] or rng.random() < 0.5:
            query.append((one["name"], given))
    if rng.random() < 0.05:
        query.append((rng.choice(["x", "k", "item"]), rng.choice(ODD)))
    if operation.method != "POST":
        return operation.method, f"{path}?{urlencode(query)}" if query else path, None, {}
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    body = json.dumps(value(rng, schema, document)).encode()
    if rng.random() < 0.1:
        place = rng.randrange(len(body) + 1)
        body = body[:place] + rng.choice([b"\xff", b"{", b'"', b"", b"\\u", b"NaN", b"\0"]) + body[place + 1 :]
    kind = "application/json" if rng.random() < 0.95 else rng.choice(["text/plain", "application/xml"])
    return "POST", path, body, {"content-type": kind}


def check_answers(send, document, requests):
    """No answer is a fault of the server, and each is one that the document announces, of the shape it announces."""
    rng = random.Random(5)
    seen = {}
    for _ in range(requests):
        operation = rng.choice(OPERATIONS)
        asked = odd_request(rng, operation, document)

        status, kind, body = send(*asked)

        described = document["paths"][operation.path][operation.method.lower()]["responses"]
        where = f"{asked} gave {status} {body[:300]}"
        assert status < 500 or (status == 504 and "deadline_ms" in str(asked)), where
        assert str(status) in described, where
        content = described[str(status)]["content"]
        assert kind in content, where
        if kind.endswith("json"):
            jsonschema.validate(json.loads(body), schema_of(document, content[kind]["schema"]))
        assert b"Traceback" not in body
        assert b"sasrec/" not in body
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
