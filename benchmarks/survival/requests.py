"""Odd requests, from those that nearly fit the schema to bytes that are no HTTP: no fault of the server, ever."""

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jsonschema

from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import PATIENCE, Ground, served
from sasrec.client import Client
from sasrec.errors import ServingError
from sasrec.serving import openapi
from sasrec.serving.app import BODY
from sasrec.serving.operations import OPERATIONS, Operation

Document = dict[str, Any]
Asked = tuple[str, str, bytes | None, dict[str, str]]

ODD = ["", " ", "a" * 1025, "\0", "ü/?#%", "<b>", "😀", "-1", "1e5", "null", "\n", "' OR 1=1 --"]
KNOWN = ["i03", "i04", "u07", "markov"]
NUMBERS = [0, 1, -1, 10, 500, 501, 2**31, 2**63, -(2**63) - 1, 10**400, 1.5, 1e300, -0.0, 1_700_000_000, 10**11]
TIMES = [-1e11, -1, 0.5, 1_000_000_000, 1_700_000_000.25, 1e11]
MISSING = 0.2  # seconds without an answer after which a request is taken for one that waits for more
SLOW = 10.0  # seconds that the server gives a request to come
HEAD = b"POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"


def odd_request(chances: random.Random, operation: Operation, document: Document) -> Asked:
    """A request to an operation that mostly nearly fits, as method, path, body and headers."""
    described = document["paths"][operation.path][operation.method.lower()]
    path, query = operation.path, []
    for one in described.get("parameters", ()):
        given = str(_value(chances, one["schema"], document))
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", quote(given or "x", safe=""))
        elif one["required"] or chances.random() < 0.5:
            query.append((one["name"], given))
    if chances.random() < 0.05:
        query.append((chances.choice(["x", "k", "item"]), chances.choice(ODD)))
    if operation.method != "POST":
        return operation.method, f"{path}?{urlencode(query)}" if query else path, None, {}
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    body = json.dumps(_value(chances, schema, document)).encode()
    if chances.random() < 0.1:
        place = chances.randrange(len(body) + 1)
        body = body[:place] + chances.choice([b"\xff", b"{", b'"', b"", b"\\u", b"NaN", b"\0"]) + body[place + 1 :]
    kind = "application/json" if chances.random() < 0.95 else chances.choice(["text/plain", "application/xml"])
    return "POST", path, body, {"content-type": kind}


def _value(chances: random.Random, schema: Document, document: Document, depth: int = 0) -> object:
    """Something that may or may not fit a schema, and mostly nearly does."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return _value(chances, chances.choice(schema["anyOf"]), document, depth)
    kind = schema.get("type")
    if chances.random() < 0.04:
        kind = chances.choice(["string", "integer", "number", "boolean", "null", "array", "object"])
    if kind == "object" and "properties" in schema:
        fields = {
            name: _value(chances, field, document, depth + 1)
            for name, field in schema["properties"].items()
            if chances.random() < (0.95 if name in schema.get("required", ()) else 0.5)
        }
        if isinstance(fields.get("history"), list) and chances.random() < 0.8:
            # By chance alone there would hardly ever be one time for each item, the oldest first.
            fields["times"] = sorted(chances.choices(TIMES, k=len(fields["history"])))
        return fields | ({chances.choice(ODD): 1} if chances.random() < 0.05 else {})
    if kind == "array":
        count = chances.choice([0, 1, 2, 3, 300, 1001]) if depth < 2 else chances.choice([0, 1, 2])
        return [_value(chances, schema.get("items", {"type": "string"}), document, depth + 1) for _ in range(count)]
    few = min(schema.get("maximum", 9), 9) if chances.random() < 0.8 else None
    return {
        "string": chances.choice(KNOWN if chances.random() < 0.7 else ODD),
        "integer": chances.choice(NUMBERS) if few is None else chances.randint(1, max(int(few), 1)),
        "number": chances.choice(NUMBERS if few is None else TIMES),  # every number that may be given is a time
        "boolean": chances.random() < 0.5,
        "object": {},
    }.get(kind)


def fault_of(operation: Operation, document: Document, status: int, kind: str, body: bytes) -> str:
    """Why an answer is one that is not announced, or that no request may bring about; empty if neither."""
    described = document["paths"][operation.path][operation.method.lower()]["responses"]
    if status >= 500 and status not in (503, 504):
        return f"status {status}"
    if str(status) not in described:
        return f"status {status}, which is not announced"
    content = described[str(status)]["content"]
    if kind not in content:
        return f"{kind}, which is not announced"
    if b"Traceback" in body or b"sasrec/" in body:
        return "the inside of the server"
    if kind.endswith("json"):
        schema = {**content[kind]["schema"], "components": document["components"]}
        error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(body)))
        return f"an answer of another shape: {error.message}" if error else ""
    return ""


def odd(ground: Ground, tries: int) -> Iterator[Try]:
    """Ask all operations, and compare the answers with what the OpenAPI document announces."""
    chances, document = random.Random(5), openapi.document(OPERATIONS)
    with served(ground.models["one"], data=ground.fresh("requests") / "data") as (_, url):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
        for _ in range(tries):
            operation = chances.choice(OPERATIONS)
            asked = odd_request(chances, operation, document)
            connection.request(*asked)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
            fault = fault_of(operation, document, status, answer.headers.get_content_type(), body)
            yield Try(f"{asked} gave {fault}: {body[:200]!r}" if fault else "", {f"answered {status}": 1})
        connection.close()


# What is no proper request


def _good(chances: random.Random) -> bytes:
    body = json.dumps({"user": chances.choice(KNOWN), "history": ["i03", "i04"], "k": 5}).encode()
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


def _changed(chances: random.Random) -> bytes:
    """A good request with a few bytes changed, lost, added or repeated."""
    data = bytearray(_good(chances))
    for _ in range(chances.randrange(1, 9)):
        place = chances.randrange(len(data))
        end = place + chances.randrange(1, 20)
        match chances.randrange(4):
            case 0:
                data[place] = chances.randrange(256)
            case 1:
                del data[place:end]
            case 2:
                data[place:place] = chances.randbytes(end - place)
            case _:
                data[place:place] = data[place:end]
    return bytes(data)


def _with_body(body: bytes) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


_CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
MALFORMED: tuple[Callable[[random.Random], bytes], ...] = (
    *[_changed] * 12,
    lambda chances: chances.randbytes(chances.randrange(1, 2000)),
    lambda chances: _good(chances)[: chances.randrange(1, 200)],
    lambda chances: _with_body(chances.randbytes(chances.randrange(1, 500))),
    lambda chances: _with_body(b"[" * chances.randrange(10, 200_000)),
    lambda chances: _with_body(b'{"k": ' + b"9" * chances.randrange(1, 5000) + b"}"),
    lambda chances: _with_body(b'{"user": "' + b"x" * (BODY + chances.randrange(9)) + b'"}'),
    lambda chances: HEAD + b"content-length: %d\r\n\r\n" % (BODY + chances.randrange(1, 10**12)),
    lambda chances: HEAD + b"transfer-encoding: chunked\r\n\r\n" + _CHUNK * chances.randrange(17, 40),
    lambda chances: HEAD + b"long: " + b"x" * chances.randrange(9_000, 200_000) + b"\r\n\r\n",
    lambda chances: b"GET /livez?" + b"x" * chances.randrange(9_000, 200_000) + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
)


def malformed(ground: Ground, tries: int) -> Iterator[Try]:
    """Send bytes as they are, each time over a connection of its own; now and then, see whether all is well."""
    chances = random.Random(6)
    with served(ground.models["one"], data=ground.fresh("requests") / "data") as (_, url):
        place = urlsplit(url)
        for number in range(tries):
            data = chances.choice(MALFORMED)(chances)
            answer = _exchanged((place.hostname, place.port), data)
            status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else None
            fault = (status or 0) >= 500 and status not in (503, 504)
            fault |= b"Traceback" in answer or answer[:9] not in (b"", b"HTTP/1.1 ")
            if number % 50 == 0 or number == tries - 1:
                with Client(url, timeout=PATIENCE) as client:
                    fault |= client.recommend("u07").source != "model"
            said = f"answered {status}" if status else "waited for more"
            yield Try(f"{data[:300]!r} gave {answer[:300]!r}" if fault else "", {said: 1})


def _exchanged(address: tuple[str | None, int | None], data: bytes) -> bytes:
    """The answer to some bytes; nothing where the server waits for more of them."""
    answer = b""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        with suppress(OSError):  # it may be refused before it is all sent
            connection.sendall(data)
        connection.settimeout(MISSING)
        with suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    return answer


def slow(ground: Ground, tries: int) -> Iterator[Try]:
    """Begin requests and let a byte a second follow; the server ends each, and answers everybody else meanwhile."""
    begun = (b"", b"GET /livez HTTP/1.1\r\nhost", HEAD + b"x: ", HEAD + b"content-length: 999\r\n\r\n{")
    with served(ground.models["one"], data=ground.fresh("requests") / "data") as (_, url):
        place = urlsplit(url)
        opened = [socket.create_connection((place.hostname, place.port), timeout=PATIENCE) for _ in range(tries)]
        for number, connection in enumerate(opened):
            connection.sendall(begun[number % len(begun)])
        with _dripping([one for number, one in enumerate(opened) if number % len(begun)]):
            answers, fault = _answered(url, seconds=SLOW / 2)
            for connection in opened:
                ended = _ended(connection)
                fault = fault if ended.startswith(b"HTTP/1.1 408 ") else f"it ended with {ended[:100]!r}"
                yield Try(fault, {"answers to others": answers})
                answers, fault = 0, ""


@contextmanager
def _dripping(connections: Sequence[socket.socket]) -> Iterator[None]:
    """Inside the block a byte a second comes over each."""
    done = threading.Event()

    def drip() -> None:
        while not done.wait(1.0):
            for connection in connections:
                with suppress(OSError):  # it may have been ended
                    connection.send(b"a")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _answered(url: str, *, seconds: float) -> tuple[int, str]:
    """How many requests are answered one after the other, and what came of the one that was not, if any."""
    answers, until = 0, time.monotonic() + seconds
    with Client(url, timeout=PATIENCE) as client:
        while time.monotonic() < until:
            try:
                client.recommend("u07")
            except ServingError as error:
                return answers, f"others were not answered: {error}"
            answers += 1
    return answers, ""


def _ended(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError as error:
        return repr(error).encode()
    finally:
        connection.close()


CLAIMS = (
    Claim("odd-requests", "a request that nearly fits: an announced answer, no 5xx but 503 and 504", 1000, 60, odd),
    Claim(
        "malformed",
        "bytes that are no proper request, bodies and heads too large: no 5xx, and all is well after it",
        1000,
        60,
        malformed,
    ),
    Claim(
        "slow", "a client that sends a byte a second: ended with 408, everybody else answered meanwhile", 100, 0, slow
    ),
)
