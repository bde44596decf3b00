"""Connections to PostgreSQL: made anew where they are lost, and given up where nothing comes."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, final
from urllib.parse import quote

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from sasrec.errors import ServingError

_T = TypeVar("_T")

# What an address does not say. A server that is gone without a word is noticed after about ten seconds.
_USUAL = {
    "application_name": "sasrec",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# Each of these is what the store relies on, whatever the database or the role has set: a transaction that waited for
# another sees what that one did; a server that stands still holds up the others for ten seconds, no longer; and what is
# committed is on the disk.
_SESSION = """
SET default_transaction_isolation = 'read committed';
SET lock_timeout = '15s';
SET idle_in_transaction_session_timeout = '10s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
_LOOK = 0.1  # seconds after which psycopg looks up from its waiting
_CLOSING = 1.0  # seconds to wait for a link in use, which looks up soon, but while it connects


@final
class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits so long at most: a database that stands still says nothing, and cancels nothing.

    Attributes:
        seconds: For one answer.
        ended: Set to wait no longer.
    """

    seconds = float("inf")
    ended: threading.Event | None = None

    def wait(self, gen: PQGen[_T], interval: float = _LOOK) -> _T:  # type: ignore[override]  # as psycopg 3.2 has it
        """As psycopg's, with an end, after which the connection is closed."""
        return super().wait(self._within(gen), interval)

    def _within(self, steps: PQGen[_T]) -> PQGen[_T]:
        begun = time.monotonic()
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                # Nothing is ready where psycopg looks up from its waiting.
                if not ready and (self._over or time.monotonic() > begun + self.seconds):
                    self.close()
                    raise _Stalled(f"the database has not answered within {time.monotonic() - begun:.0f} s")
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value

    @property
    def _over(self) -> bool:
        return self.ended is not None and self.ended.is_set()


class _Stalled(psycopg.OperationalError):
    """The database did not answer in time."""


@final
class Link:
    """One connection for all threads, in turns; made anew where it was lost."""

    def __init__(self, parameters: dict[str, Any], name: str, *, seconds: float, cancelled: bool = False) -> None:
        """Args: seconds: For one answer. cancelled: Whether the database itself ends a statement that takes longer."""
        self._parameters, self._name, self._seconds, self._cancelled = parameters, name, seconds, cancelled
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._connection: Connection | None = None
        self._pause = 0.0

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """What work on the connection gives. Where the connection is lost meanwhile, work is done once more.

        Raises:
            ServingError: The database cannot be reached (status 503), or has no room for what it is given (507).
        """
        with self._turn:
            try:
                if self._connection is not None:
                    try:
                        return work(self._connection)
                    except psycopg.Error as error:
                        if not self._lost(error) or isinstance(error, _Stalled):
                            raise
                self._connection = self._connected()
                return work(self._connection)
            except (errors.DiskFull, psycopg.DataError, OverflowError, UnicodeError) as error:
                raise ServingError(
                    f"{self._name}: events cannot be stored: {_first_line(error)}; nothing was", status=507
                ) from None
            except psycopg.Error as error:
                self._lost(error)
                raise ServingError(f"{self._name}: cannot be used: {_first_line(error)}", status=503) from None

    def end(self) -> None:
        """Wait for nothing any more."""
        self._ended.set()

    def close(self) -> None:
        """Let go of the connection; of one that is made at this moment, whoever makes it does."""
        self.end()
        if not self._turn.acquire(timeout=_CLOSING):
            return
        try:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            self._turn.release()

    def _lost(self, error: psycopg.Error) -> bool:
        """Whether nothing more can be had from the connection, which is then dropped."""
        # A database that has become the copy of another one refuses to write; the next connection goes to the other.
        if self._connection is not None and (
            self._connection.closed or isinstance(error, errors.ReadOnlySqlTransaction)
        ):
            self._connection.close()
            self._connection = None
            return True
        return False

    def _connected(self) -> Connection:
        begun = time.monotonic()
        if begun < self._pause:
            raise psycopg.OperationalError("the database could not be reached a moment ago")
        if self._ended.is_set():
            raise psycopg.OperationalError("the server has stopped")
        try:
            connection = Connection.connect(**self._parameters, autocommit=True)
            connection.seconds, connection.ended = self._seconds + self._cancelled, self._ended
            connection.execute(_SESSION)
            if self._cancelled:  # a second before it is given up, so that the connection stays
                connection.execute(f"SET statement_timeout = '{self._seconds:.0f}s'")
        except psycopg.Error:
            # At most half of the time is spent waiting for a database that does not answer.
            self._pause = 2 * time.monotonic() - begun
            raise
        return connection


def parameters(given: dict[str, Any], *, writable: bool) -> dict[str, Any]:
    """What is told to libpq of an address that was understood. Args: writable: Go to the one that takes writes."""
    usual = _USUAL | ({"target_session_attrs": "read-write"} if writable else {})
    return usual | given | {"client_encoding": "UTF8"}


def understood(address: str) -> dict[str, Any]:
    """The parts of an address."""
    try:
        return conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        # The message of libpq would quote the part that it does not understand, which may be the password.
        raise ServingError(
            "events: the address of the database cannot be read; write postgresql://USER@HOST:PORT/DATABASE, with "
            "%XX for special characters, and the password in PGPASSWORD or ~/.pgpass"
        ) from None


def shown(given: dict[str, Any]) -> str:
    """An address without user and password."""
    host, port = quote(given.get("host", ""), safe=",:"), given.get("port")
    return f"postgresql://{host}{f':{port}' if port else ''}/{given.get('dbname', '')}"


def _first_line(error: Exception) -> str:
    """What is wrong, without the values that PostgreSQL shows below it."""
    return str(error).strip().partition("\n")[0] or repr(error)
