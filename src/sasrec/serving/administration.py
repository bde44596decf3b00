"""Commands to a running server, over a socket in its data folder that only its owner can open."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from sasrec.errors import ConfigError, OutputError, SasrecError, ServingError
from sasrec.files import in_utf8
from sasrec.serving.answering import LOGGER
from sasrec.serving.metrics import Metrics
from sasrec.serving.service import Service

SOCKET = "control.sock"
_LINE = 64 * 1024
_LINE_SECONDS = 10.0  # for a command to come
_BEAT = 2.0  # seconds after which whoever waits for a reply is told that the server is at work
_PATIENCE = 30.0  # seconds without a word after which nobody waits for a server any more


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a server is told to do, as one line of JSON.

    Attributes:
        do: Activate a model, or go back to the version before.
        model: Absolute path of the model to activate.
    """

    do: Literal["activate", "rollback"]
    model: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What came of it, as one line of JSON.

    Attributes:
        version: The version that answers now.
        error: Why nothing changed; None where it did.
    """

    version: str
    error: str | None = None


async def listen(service: Service, metrics: Metrics) -> asyncio.Server:
    """Take commands until the server that is returned is closed.

    Raises:
        OutputError: The socket cannot be made.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_LINE_SECONDS):
                line = await reader.readline()
            if not line.endswith(b"\n"):  # whoever began it is gone
                return
            work = asyncio.ensure_future(_obeyed(line, service))
            while not (await asyncio.wait([work], timeout=_BEAT))[0]:
                writer.write(b"\n")
            reply = work.result()
            metrics.swaps.add("failed" if reply.error else "done")
            writer.write(msgspec.json.encode(reply) + b"\n")
            await writer.drain()
        except (OSError, ValueError):  # whoever gave the command is gone, or its line does not end or come
            pass
        except asyncio.CancelledError:  # the server stops; nobody waits for this task, and asyncio would print it
            pass
        finally:
            writer.close()

    with _short(service.folder.path) as place:
        return await asyncio.start_unix_server(answer, sock=_bound(place, service.folder.path), limit=_LINE)


def answers(folder: Path) -> bool:
    """Whether the server of a data folder takes commands at this moment."""
    try:
        with _connected(folder):
            return True
    except OSError:
        return False


def send(command: Command, folder: Path) -> str:
    """Give a command to the server of a data folder; gives the version that answers afterwards.

    Raises:
        ConfigError: The path of the model is no text, as the command is.
        ServingError: No server runs on this folder, or it refuses; then the version before goes on. Or it says nothing
            for half a minute.
    """
    try:
        line = msgspec.json.encode(command) + b"\n"
    except UnicodeEncodeError:
        raise ConfigError(f"{in_utf8(command.model)}: a path of bytes that are no UTF-8; rename the folder") from None
    try:
        with _connected(folder) as connection:
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                told = answers.readline()
                while told == b"\n":
                    told = answers.readline()
                reply = msgspec.json.decode(told, type=Reply)
    except TimeoutError:
        raise ServingError(
            f"{folder}: the server of this data folder has said nothing for {_PATIENCE:.0f} s; see whether it stands "
            "still, and which version it answers with"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServingError(
            f"{folder}: no server answers on this data folder ({reason}); start one with sasrec serve"
        ) from None
    if reply.error is not None:
        raise ServingError(f"{reply.error}; version {reply.version} goes on")
    return reply.version


async def _obeyed(line: bytes, service: Service) -> Reply:
    try:
        command = msgspec.json.decode(line, type=Command)
        work: Callable[[], str] = service.rollback
        if command.do == "activate":
            model = Path(command.model)

            def work() -> str:
                return service.activate(model)

        return Reply(await asyncio.to_thread(work))
    except (SasrecError, msgspec.MsgspecError) as error:
        LOGGER.error("a command was refused: %s", error)
        return Reply(service.served.version, str(error))
    except Exception as error:  # noqa: BLE001  # a model that is made to do harm may raise any; whoever asked is told
        LOGGER.exception("a command failed")
        return Reply(
            service.served.version,
            f"the command failed ({type(error).__name__}: {error}), which the log of the server has in full",
        )


@contextmanager
def _connected(folder: Path) -> Iterator[socket.socket]:
    """A connection to the server of a data folder; OSError where none listens."""
    with socket.socket(socket.AF_UNIX) as connection, _short(folder) as place:
        connection.settimeout(_PATIENCE)
        connection.connect(place)
        yield connection


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """An address of the socket that is short: a socket's own may have no more than about a hundred characters."""
    if not os.path.isdir("/proc/self/fd"):
        yield str(folder / SOCKET)
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def _bound(place: str, folder: Path) -> socket.socket:
    """A socket at the place, which only the owner of this process can open."""
    bound = socket.socket(socket.AF_UNIX)
    try:
        if os.path.lexists(place):
            os.unlink(place)  # of a server that was killed: the folder's lock tells that none runs
        before = os.umask(0o177)
        try:
            bound.bind(place)
        finally:
            os.umask(before)
    except OSError as error:
        bound.close()
        raise OutputError(f"{folder / SOCKET}: cannot be made: {error.strerror or error}") from None
    return bound
