"""The life of a server: it starts, answers, drains and stops."""

import asyncio
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, final

import uvicorn
import uvloop

from sasrec.serving.administration import listen
from sasrec.serving.app import Application
from sasrec.serving.batching import Batcher
from sasrec.serving.connections import Backlog, Connection
from sasrec.serving.metrics import Metrics
from sasrec.serving.naming import names_of
from sasrec.serving.operations import Desk
from sasrec.serving.refusing import Refusals
from sasrec.serving.service import Service
from sasrec.serving.versions import Folder
from sasrec.words import counted

if TYPE_CHECKING:
    from sasrec.serving.server import Place

_GRACE = 18  # seconds for answers that have begun when the server stops listening
_LAST_SECONDS = 1.0  # for what is scored at the end, which nobody waits for any more


@final
class Lifetime:
    """A server from its model to its end."""

    def __init__(self, model: Path, folder: Folder, place: "Place") -> None:
        """Load the model; errors as `Service`."""
        self.service = Service(
            model, folder, events=place.events, titles=place.titles, threads=place.threads, overlap=place.overlap
        )
        self._drain, self._host, self._known_as = place.drain, place.host, place.known_as
        self._server: _Server | None = None

    def run(self, listening: socket.socket, started: Callable[[], None]) -> None:
        """Answer until told to stop.

        Args:
            listening: The socket to answer on.
            started: Called once it answers.

        Raises:
            OutputError: The socket for commands cannot be made.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(listening, started))

    def facts(self) -> str:
        """What is served, in words."""
        model = self.service.served.model
        return f"{model.kind}, {counted(len(model.items), 'item')}, {counted(len(model.users), 'user')}"

    def index(self) -> str:
        """How the best items are found, in words; empty where every item is scored."""
        index = self.service.served.model.index
        return "" if index is None else index.words()

    def stop(self) -> None:
        """End after the answers that have begun; from any thread."""
        self.service.draining = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Finish writing events."""
        self.service.store.close()

    async def _serve(self, listening: socket.socket, started: Callable[[], None]) -> None:
        metrics = Metrics()
        commands = await listen(self.service, metrics)  # before there is a thread to end where it cannot be
        batcher = Batcher(self.service.answer)
        desk = Desk(self.service, batcher, metrics)
        config = uvicorn.Config(
            Application(desk, names_of(listening.getsockname()[0], self._host, self._known_as)),
            http=partial(Connection, Refusals(desk), Backlog()),  # type: ignore[arg-type]  # makes a connection, as the class does
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config, self.service, drain=self._drain, started=started)
        try:
            await self._server.serve(sockets=[listening])
        finally:
            commands.close()
            desk.reader.close()
            batcher.close(seconds=_LAST_SECONDS)


@final
class _Server(uvicorn.Server):
    """Uvicorn's server, which here begins to drain at SIGTERM and ends without raising the signal again."""

    def __init__(self, config: uvicorn.Config, service: Service, *, drain: float, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._drain, self._started = service, drain, started
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as uvicorn calls it
        first, self._service.draining = not self._service.draining, True
        if sig == signal.SIGTERM and first:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain, self._stop)
        else:
            self.force_exit = self.should_exit
            self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True
