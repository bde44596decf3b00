"""Connections that are too many, too slow or no HTTP, and requests too many, answered with problem documents."""

import asyncio
from functools import cache
from typing import Any, final

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from sasrec.serving.problems import BUSY, HEADERS, MALFORMED, SLOW, Kind, Problem, id_of
from sasrec.serving.refusing import PROBLEM, Refusal, Refusals

HEAD = 16 * 1024  # bytes of a request's line and headers at most
CONNECTIONS = 1000
_HEAD_SECONDS = 10.0  # for a head to come; for the rest of a body, too, whose request was answered before its end
_SEND_SECONDS = 10.0  # in which the other end has to take something of what waits for it
_PIPELINED = 32  # requests that may wait behind the one that is answered
_UNTAKEN = 256 * 2**20  # bytes of answers that wait to be taken at most, over all connections
_LAST_SECONDS = 0.5  # for what is on the way: a first request when the server stops, the end of one that is refused


@final
class Backlog:
    """Connections whose other ends have not taken their answers yet, the one that waits longest first."""

    def __init__(self) -> None:
        self._slow: dict[Connection, None] = {}

    def add(self, connection: "Connection") -> None:
        """One more; where all of them hold too much, those that have waited longest are given up."""
        self._slow[connection] = None
        held = {one: one.transport.get_write_buffer_size() for one in self._slow}
        over = sum(held.values()) - _UNTAKEN
        for one, size in held.items():
            if over <= 0:
                break
            over -= size
            self.discard(one)
            one.transport.abort()

    def discard(self, connection: "Connection") -> None:
        """One whose answers have been taken, or that is over."""
        self._slow.pop(connection, None)


class _Wire:
    """What an answer is written to: the transport, whose end leaves time for a body that is on its way."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.write, self.is_closing = connection.transport.write, connection.transport.is_closing

    def close(self) -> None:
        self._connection.finish()


@final
class Connection(HttpToolsProtocol):
    """Uvicorn's protocol with limits on a request's head, and refusals that cost the application nothing.

    A head has to be small and to come soon. Where the queue has no room for a request, its body is read to the end and
    thrown away, and the answer is held for `Refusals`; the connection then goes on. Answers keep their order: a request
    is refused here only if nothing is in flight on its connection, and the next one makes what is held be sent. What
    cannot be made sense of behind a request in flight gets no answer: the connection ends with the one before it.

    An offer of another protocol is ignored, as RFC 9110 allows (section 7.8): the request is answered in HTTP/1.1.
    Whoever does not take its answers, or does not send the rest of a body after its answer, loses the connection.
    """

    def __init__(
        self,
        refusals: Refusals,
        backlog: Backlog,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._refusals, self._backlog = refusals, backlog
        self._refusal: Refusal | None = None
        self._head = 0
        self._fresh = True  # until the head of its first request is whole
        self._coming = False  # more of a head, or of a body that is thrown away
        self._over = False
        self._halved = False  # our side has ended, and what still comes is thrown away
        self._offered = False  # another protocol, in the head that was just read
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A connection: one too many is told so and closed."""
        super().connection_made(transport)
        self._wire = _Wire(self)
        if len(self.connections) > CONNECTIONS:
            self._end(Problem(BUSY, f"{CONNECTIONS:,} connections are open; try again later"))
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._stop_timer()
        self._stop_watch()
        self._backlog.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; whatever cannot be made sense of is refused, and the connection closed."""
        if self._over or self.transport.is_closing():
            return
        begun = self._coming
        self._unset_keepalive_if_required()
        self._parse(data)
        # Nearly always all of it came at once, and what follows would cost as much as many headers.
        if not self._coming or self._over:
            return
        if self._refusal is None:
            self._head = self._head + len(data) if begun else self._gathered()
            if self._head > HEAD:
                self.send_400_response("what has come of the head alone is too large")
                return
        if self._timer is None:
            self._start_timer()

    def pause_writing(self) -> None:
        """More waits for the other end than it should."""
        super().pause_writing()
        self._start_watch()
        self._backlog.add(self)

    def resume_writing(self) -> None:
        """The other end has taken nearly all of it."""
        super().resume_writing()
        self._backlog.discard(self)
        if not self.transport.is_closing():
            self._stop_watch()

    def timeout_keep_alive_handler(self) -> None:
        """No request has come for a while."""
        self._close()

    def shutdown(self) -> None:
        """The server stops: this connection ends after the answer that it waits for."""
        if self._refusal is not None:
            self._tell()
        elif self._fresh:
            # Its first request may be on the way; the answer to it closes the connection.
            self._stop_timer()
            self._timer = self.loop.call_later(_LAST_SECONDS, self._close)
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._refusal is not None:
            self._tell()  # the one before it
            self._unset_keepalive_if_required()
        if self._over:
            raise ValueError("a request after the last one")  # the parser gives up
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests at once")
        self._stop_timer()
        self._head, self._coming = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_timer()
        self._fresh = False
        self._head = self._gathered()
        if self._head > HEAD:
            raise ValueError("headers too large")  # the parser gives up, and calls send_400_response
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("no proxy")  # what followed would be no HTTP
        self._offered = self.parser.should_upgrade()
        if self._offered:
            return
        self._refusal = self._refused()
        self._coming = self._refusal is not None
        if self._refusal is None:
            super().on_headers_complete()
            self.cycle.transport = self._wire  # type: ignore[assignment]  # it has what a cycle calls

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._offered:
            return  # its body is still to come
        self._stop_timer()
        if self._refusal is None:
            super().on_message_complete()
            self.cycle.more_body = False  # even if it was answered before
            return
        self._coming, self._refusal.whole = False, True
        self._refusals.hold(self._due)

    def on_response_complete(self) -> None:
        """An answer is written."""
        if self._halved:
            return
        last = self._over and not self.pipeline
        super().on_response_complete()  # the next one leaves the pipeline
        if last or self.transport.is_closing():
            self._close()
        elif self.cycle is not None and self.cycle.response_complete and self.cycle.more_body:
            self._stop_timer()
            self._timer = self.loop.call_later(_HEAD_SECONDS, self._close)

    def finish(self) -> None:
        """The last answer is written."""
        if self.cycle.more_body and not self.transport.is_closing():
            self.flow.resume_reading()
            self._halve()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # as uvicorn calls it
        """Refuse what the parser gave up on."""
        if self._head > HEAD:
            self._end(Problem(HEADERS, f"the line and headers of a request have at most {HEAD:,} bytes"))
        else:
            self._end(Problem(MALFORMED, "this is no HTTP/1.1"))

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._parsed(rest) :]
        except HttpParserError:
            self.send_400_response("this is no HTTP")

    def _parsed(self, data: memoryview) -> int:
        """How many bytes the parser has taken: all, or a head with an offer of another protocol."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            # The parser takes what follows for another protocol, and would go on with a body as if it were a request.
            self.parser.feed_data(self._head_without_offer())
            return int(offer.args[0])
        return len(data)

    def _head_without_offer(self) -> bytes:
        self._offered = False
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        return b"".join(
            (line, *(b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"), b"\r\n")
        )

    def _gathered(self) -> int:
        """Bytes of the parts of a head that are whole."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(_HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        if self._refusal is None:
            self._end(Problem(SLOW, f"no request came within {_HEAD_SECONDS:.0f} s"))
        else:
            self._tell()  # that its body is slow as well changes nothing

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        """End once the other end has taken what waits for it, or does not take it."""
        if not self.transport.is_closing():
            self.transport.close()
        self._start_watch()

    def _start_watch(self) -> None:
        if self._watch is None:
            self._watch = self.loop.call_later(_SEND_SECONDS, self._look, self.transport.get_write_buffer_size())

    def _look(self, before: int) -> None:
        """Give the other end up where it has taken nothing; only what waited before waits, for nothing was written."""
        self._watch = None
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._start_watch()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _refused(self) -> Refusal | None:
        """What becomes of the request whose head is whole, where the application need not see it."""
        answered = self.cycle is None or self.cycle.response_complete
        # Who waits for leave to send a body, or does not read answers, is left to uvicorn, which knows how to wait.
        if not answered or self.expect_100_continue or self.flow.write_paused:
            return None
        route = self._refusals.route(self.parser.get_method(), self.url)
        if route is None:
            return None
        last = not self.parser.should_keep_alive() or self.parser.get_http_version() == "1.0"
        return Refusal(route, id_of(self.headers), last)

    def _due(self) -> None:
        """Send the refusal that is held, unless it is a later one, whose body is on its way."""
        if self._refusal is not None and self._refusal.whole:
            self._tell()

    def _tell(self) -> None:
        """Send the refusal that is held, if one is."""
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            return
        self._refusals.count(refusal)
        if self.transport.is_closing():
            return
        if refusal.last or not refusal.whole or self._refusals.draining:
            self._end(PROBLEM, refusal.request_id)
        else:
            self.transport.write(self._answer(PROBLEM, refusal.request_id))
            self.on_response_complete()

    def _end(self, problem: Problem, request_id: str | None = None) -> None:
        """Answer without the application, and close; behind a request in flight only close, after its answer."""
        if self._over or self.transport.is_closing():
            return
        self._stop_timer()
        self._due()
        if self._over or self.transport.is_closing():
            return
        running = self.cycle
        if running is not None and not running.response_complete:
            if self.pipeline or running.response_started or not running.more_body:
                if self.pipeline and running.more_body:
                    self.pipeline.popleft()  # it is this one that cannot be read; those before it are answered
                else:
                    running.keep_alive = False
                self._over = True
                return
            # It is this request's own body that cannot be read: the application is told that nobody waits for it.
            running.disconnected = True
            running.message_event.set()
        self.transport.write(self._answer(problem, request_id or id_of(()), b"connection: close\r\n"))
        self._halve()

    def _halve(self) -> None:
        # What is closed while bytes of a request are still on the way is reset by the system, and the other end may
        # never see its answer. So only our side ends now; what still comes is thrown away until the other one ends too.
        self._over = self._halved = True
        self.connections.discard(self)
        self.transport.write_eof()
        self._stop_timer()
        self._timer = self.loop.call_later(_LAST_SECONDS, self._close)

    def _answer(self, problem: Problem, request_id: str, more: bytes = b"") -> bytes:
        body = problem.document(request_id)
        date = b"".join([b"%b: %b\r\n" % one for one in self.server_state.default_headers])
        own = b"content-length: %d\r\nx-request-id: %b\r\n" % (len(body), request_id.encode())
        return b"".join((_head(problem.kind), date, own, more, b"\r\n", body))


@cache
def _head(kind: Kind) -> bytes:
    """What all answers of a kind begin with."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in kind.headers.items() if name != "connection")
    return STATUS_LINE[kind.status] + lines.encode("ascii")
