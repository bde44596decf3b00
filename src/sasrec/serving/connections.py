"""Connections that are too many, too slow or no HTTP, answered with problem documents like everything else."""

import asyncio
import secrets
from http import HTTPStatus
from typing import Any, final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sasrec.serving.problems import BUSY, HEADERS, MALFORMED, MEDIA_TYPE, SLOW, Kind, Problem

HEAD = 16 * 1024  # bytes of a request's line and headers at most
CONNECTIONS = 1000
_HEAD_SECONDS = 10.0
_LAST_SECONDS = 0.5  # for what is on the way: a first request when the server stops, the end of one that is refused


@final
class Connection(HttpToolsProtocol):
    """Uvicorn's protocol with limits on a request's head: its size and the time that it takes to come."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head = 0
        self._fresh = True  # until the head of its first request is whole
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A connection: one too many is told so and closed."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(Problem(BUSY, f"{CONNECTIONS:,} connections are open; try again later"))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; whatever cannot be made sense of is refused, and the connection closed."""
        if not self._refused and not self.transport.is_closing():
            super().data_received(data)

    def shutdown(self) -> None:
        """The server stops: this connection ends after the answer that it waits for."""
        if self._fresh:
            # Its first request may be on the way; the answer to it closes the connection.
            self._stop_timer()
            self._timer = self.loop.call_later(_LAST_SECONDS, self.transport.close)
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._head = 0
        self._expect_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_timer()
        self._fresh = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # as uvicorn calls it
        """Refuse what the parser gave up on."""
        if self._head > HEAD:
            self._refuse(Problem(HEADERS, f"the line and headers of a request have at most {HEAD:,} bytes"))
        else:
            self._refuse(Problem(MALFORMED, "this is no HTTP/1.1"))

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD:
            raise ValueError("headers too large")  # the parser gives up, and calls send_400_response

    def _expect_head(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(_HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._refuse(Problem(SLOW, f"no request came within {_HEAD_SECONDS:.0f} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application, and close."""
        self._stop_timer()
        if self._refused or self.transport.is_closing():
            return
        request_id = secrets.token_hex(8)
        body = problem.document(request_id)
        lines = [
            _status_line(problem.kind),
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            *(["retry-after: 1"] if problem.kind is BUSY else []),
            "connection: close",
            "\r\n",
        ]
        self.transport.write("\r\n".join(lines).encode("ascii") + body)
        # What is closed while bytes of a request are still on the way is reset by the system, and the other end may
        # never see its answer. So only our side ends now; what still comes is thrown away until the other one ends too.
        self._refused = True
        self.connections.discard(self)
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LAST_SECONDS, self.transport.close)


def _status_line(kind: Kind) -> str:
    return f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}"
