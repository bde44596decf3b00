"""The operations as an ASGI application: bodies read within limits, errors as problem documents, requests counted."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, final
from urllib.parse import parse_qsl, unquote

import msgspec

from sasrec.serving import problems
from sasrec.serving.answering import LOGGER
from sasrec.serving.api import BODY
from sasrec.serving.naming import Names, check_host
from sasrec.serving.operations import OPERATIONS, Desk, Operation
from sasrec.serving.pages import FILES, read_page
from sasrec.serving.pages import HEADERS as PAGE_HEADERS
from sasrec.serving.problems import Problem, id_of

_BODY_SECONDS = 10.0

Message = MutableMapping[str, Any]
"""What an ASGI server and an application tell each other."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_Headers = list[tuple[bytes, bytes]]


class _Reply(NamedTuple):
    """An answer, without the headers that all have."""

    status: int
    headers: _Headers
    body: bytes


class _Asked(NamedTuple):
    """A request. `parts` are the fields that its path holds, as they were sent."""

    scope: Message
    receive: Receive
    parts: Mapping[str, str]


_Endpoint = Callable[[_Asked], Awaitable[_Reply]]
_Methods = dict[str, tuple[str, _Endpoint]]
"""By method, what a request is called in the metrics, and what answers it."""


class _Gone(Exception):  # noqa: N818  # nobody's error
    """Whoever asked has closed the connection."""


@final
class Application:
    """What every request passes: it gets an id, is answered, counted, and told when the server is about to stop."""

    def __init__(self, desk: Desk, names: Names | None) -> None:
        """All operations of a desk, and the page that uses them. Args: names: What requests may bear, if not any."""
        self._desk, self._names = desk, names
        paths: dict[str, _Methods] = {}
        for one in OPERATIONS:
            paths.setdefault(one.path, {})[one.method] = one.route, _endpoint(one, desk)
        for name in FILES:
            paths["/" if name == "index.html" else f"/{name}"] = {"GET": ("page", _page(name))}
        self._paths = {path: methods for path, methods in paths.items() if "{" not in path}
        self._patterns = [(_pattern(path), methods) for path, methods in paths.items() if "{" in path]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        started = time.perf_counter()
        request_id = id_of(scope["headers"])
        route, status = "other", "500"
        try:
            try:
                check_host(scope["headers"], scope["http_version"], self._names)
                route, endpoint, parts = self._found(scope)
                reply = await endpoint(_Asked(scope, receive, parts))
            except Problem as problem:
                reply = self._refused(problem, request_id)
            except asyncio.CancelledError:  # of what the server does not wait for any more at its end
                unknown = Problem(problems.DRAINING, "the server stopped before this was done; send it again")
                reply = self._refused(unknown, request_id)
            except _Gone:
                reply = _Reply(400, [], b"")  # nobody is there to read it
            except Exception:  # noqa: BLE001  # whoever asked is told, and the server goes on
                LOGGER.exception("request %s failed", request_id)
                mistake = Problem(problems.INTERNAL, "the log of the server has more, under this id")
                reply = self._refused(mistake, request_id)
            status = str(reply.status)
            headers = [
                *reply.headers,
                (b"content-length", b"%d" % len(reply.body)),
                (b"x-request-id", request_id.encode()),
            ]
            if self._desk.service.draining:
                headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
        finally:
            self._desk.metrics.requests.add(route, status)
            self._desk.metrics.seconds.observe(route, time.perf_counter() - started)

    def _found(self, scope: Message) -> tuple[str, _Endpoint, Mapping[str, str]]:
        """What a request is called in the metrics, what answers it, and the fields of its path.

        Raises:
            Problem: NOT_FOUND or METHOD.
        """
        # Matched as it was sent and decoded afterwards: a user's id may hold a slash, a line break or anything else.
        path = scope["raw_path"].decode("ascii")
        parts: Mapping[str, str] = {}
        methods = self._paths.get(path)
        if methods is None:
            matches = ((pattern.fullmatch(path), methods) for pattern, methods in self._patterns)
            methods, parts = next(((known, match.groupdict()) for match, known in matches if match), (None, {}))
        if methods is None:
            raise Problem(problems.NOT_FOUND, "see /openapi.json for what there is")
        found = methods.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if found is None:
            allowed = ", ".join(sorted({*methods} | ({"HEAD"} if "GET" in methods else set())))
            raise Problem(problems.METHOD, f"the method here is {allowed}", headers={"allow": allowed})
        return *found, parts

    def _refused(self, problem: Problem, request_id: str) -> _Reply:
        if problem.kind.status >= 503:
            self._desk.metrics.refused.add(problem.kind.name)
        return _Reply(problem.kind.status, _lines(problem.headers), problem.document(request_id))


def _pattern(path: str) -> re.Pattern[str]:
    """What the addresses of an operation look like, with its fields as groups."""
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))


def _endpoint(operation: Operation, desk: Desk) -> _Endpoint:
    decoder = msgspec.json.Decoder(operation.takes)
    headers = _lines({"content-type": operation.media_type, **problems.ALWAYS})

    async def endpoint(request: _Asked) -> _Reply:
        if operation.method == "POST":
            asked = _decoded(decoder, await _body(request))
        else:
            asked = _parameters(operation, request)
        answer = await operation.handle(desk, asked)
        return _Reply(200, headers, answer.encode() if isinstance(answer, str) else msgspec.json.encode(answer))

    return endpoint


def _page(name: str) -> _Endpoint:
    """Gives one of the page's files, which is read once, now."""
    reply = _Reply(200, _lines({"content-type": FILES[name], **PAGE_HEADERS}), read_page(name))

    async def endpoint(request: _Asked) -> _Reply:  # noqa: ARG001  # it is the same for everybody
        return reply

    return endpoint


def _lines(headers: Mapping[str, str]) -> _Headers:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


async def _body(request: _Asked) -> bytearray:
    """The body, as JSON not yet decoded.

    Raises:
        Problem: It is no JSON by its headers, too large or too slow.
        _Gone: It ends too early.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in request.scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value  # as RFC 9110 puts lines together
    media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(problems.NO_JSON, f"content-type is {media_type!r}; send application/json")
    if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise Problem(problems.NO_JSON, "transfer-encoding: a body may come in chunks, and else as it is")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(problems.NO_JSON, "content-encoding: compressed bodies are not read; send the body as it is")
    length = headers.get(b"content-length", b"0").lstrip(b"0")  # Python reads no number of more than 4,300 digits
    if length.isdigit() and (len(length) > len(str(BODY)) or int(length) > BODY):
        raise _too_large()
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                body += message["body"]
                more = message["more_body"]
                if len(body) > BODY:
                    raise _too_large()
    except TimeoutError:
        raise Problem(problems.SLOW, f"the body was not there after {_BODY_SECONDS:.0f} s") from None
    return body


def _too_large() -> Problem:
    return Problem(problems.TOO_LARGE, f"a body has at most {BODY:,} bytes; send several requests")


def _decoded(decoder: "msgspec.json.Decoder[Any]", body: bytearray) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise problems.invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(problems.MALFORMED, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Problem(problems.MALFORMED, "the body is nested too deeply") from None


def _parameters(operation: Operation, request: _Asked) -> Any:
    """What stands in path and query, as the operation takes it."""
    found: dict[str, str] = {}
    try:
        query = request.scope["query_string"].decode("ascii")
        for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
            if name in found or name in request.parts:
                raise Problem(problems.INVALID, f"{name!r} is given twice")
            found[name] = value
        found |= {name: unquote(value, errors="strict") for name, value in request.parts.items()}
    except UnicodeDecodeError:
        raise Problem(problems.MALFORMED, "the address is not UTF-8, percent-encoded") from None
    except ValueError as error:
        raise Problem(problems.MALFORMED, f"the query cannot be read: {error}") from None
    try:
        return msgspec.convert(found, operation.takes, strict=False)
    except msgspec.ValidationError as error:
        raise problems.invalid(str(error)) from None
