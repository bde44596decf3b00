"""The operations as an ASGI application: bodies read within limits, errors as problem documents, requests counted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sasrec.serving import problems
from sasrec.serving.answering import LOGGER
from sasrec.serving.operations import OPERATIONS, Desk, Operation
from sasrec.serving.pages import page_routes
from sasrec.serving.problems import Problem, id_of

BODY = 2**20  # bytes of a request's body at most
_BODY_SECONDS = 10.0

_Endpoint = Callable[[Request], Awaitable[Response]]


def application(desk: Desk) -> ASGIApp:
    """The ASGI application of all operations, and of the page that uses them."""
    routes = [Route(one.path, _endpoint(one, desk), methods=[one.method]) for one in OPERATIONS]
    inner = Starlette(routes=[*routes, *page_routes()], exception_handlers={HTTPException: _no_such_place})
    inner.router.redirect_slashes = False  # an address with one slash more is another address
    return _Gate(inner, desk)


@final
class _Gate:
    """What every request passes: it gets an id, is counted, and is told when the server is about to stop."""

    def __init__(self, inner: ASGIApp, desk: Desk) -> None:
        self._inner, self._desk = inner, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = id_of(scope["headers"])
        scope["state"]["request_id"] = request_id
        # Matched as it was sent and decoded afterwards: a user's id may hold a slash, a line break or anything else.
        scope["path"] = scope["raw_path"].decode("ascii")
        status = "500"

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"].append((b"x-request-id", request_id.encode()))
                if self._desk.service.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._inner(scope, receive, answer)
        finally:
            route = scope["state"].get("route", "other")
            self._desk.metrics.requests.add(route, status)
            self._desk.metrics.seconds.observe(route, time.perf_counter() - started)


def _endpoint(operation: Operation, desk: Desk) -> _Endpoint:
    decoder = msgspec.json.Decoder(operation.takes)

    async def endpoint(request: Request) -> Response:
        request.state.route = operation.route
        try:
            if operation.method == "POST":
                asked = _decoded(decoder, await _body(request))
            else:
                asked = _parameters(operation, request)
            answer = await operation.handle(desk, asked)
        except Problem as problem:
            if problem.kind.status >= 503:
                desk.metrics.refused.add(problem.kind.name)
            return _refusal(problem, request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception:  # noqa: BLE001  # whoever asked is told, and the server goes on
            LOGGER.exception("request %s failed", request.state.request_id)
            return _refusal(Problem(problems.INTERNAL, "the log of the server has more, under this id"), request)
        body = answer.encode() if isinstance(answer, str) else msgspec.json.encode(answer)
        return Response(body, media_type=operation.media_type, headers=problems.ALWAYS)

    return endpoint


async def _body(request: Request) -> bytes:
    """The body, as JSON not yet decoded.

    Raises:
        Problem: It is no JSON by its headers, too large or too slow.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(problems.NO_JSON, f"content-type is {media_type!r}; send application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(problems.NO_JSON, "content-encoding: compressed bodies are not read; send the body as it is")
    too_large = Problem(problems.TOO_LARGE, f"a body has at most {BODY:,} bytes; send several requests")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY:
                    raise too_large
    except TimeoutError:
        raise Problem(problems.SLOW, f"the body was not there after {_BODY_SECONDS:.0f} s") from None
    return bytes(body)


def _decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise problems.invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(problems.MALFORMED, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Problem(problems.MALFORMED, "the body is nested too deeply") from None


def _parameters(operation: Operation, request: Request) -> Any:
    """What stands in path and query, as the operation takes it."""
    found: dict[str, str] = {}
    try:
        query = request.scope["query_string"].decode("ascii")
        for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
            if name in found or name in request.path_params:
                raise Problem(problems.INVALID, f"{name!r} is given twice")
            found[name] = value
        found |= {name: unquote(value, errors="strict") for name, value in request.path_params.items()}
    except UnicodeDecodeError:
        raise Problem(problems.MALFORMED, "the address is not UTF-8, percent-encoded") from None
    except ValueError as error:
        raise Problem(problems.MALFORMED, f"the query cannot be read: {error}") from None
    try:
        return msgspec.convert(found, operation.takes, strict=False)
    except msgspec.ValidationError as error:
        raise problems.invalid(str(error)) from None


def _refusal(problem: Problem, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        problem.document(request.state.request_id),
        status_code=problem.kind.status,
        headers={**problem.kind.headers, **(headers or {})},
    )


def _no_such_place(request: Request, error: Exception) -> Response:
    """Starlette's own errors: no such path, or no such method there."""
    if isinstance(error, HTTPException) and error.status_code == problems.METHOD.status:
        headers = dict(error.headers or {})
        allowed = headers.get("Allow", "another one")
        return _refusal(Problem(problems.METHOD, f"the method here is {allowed}"), request, headers)
    return _refusal(Problem(problems.NOT_FOUND, "see /openapi.json for what there is"), request)
