"""Events in PostgreSQL, for several servers at once."""

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, final
from urllib.parse import quote

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from sasrec.errors import ServingError
from sasrec.serving.store import HISTORY, Event, Outcome, Row, Stored, arrivals, checksum, hashed, paged
from sasrec.serving.writing import Forget, Write, Writer

_T = TypeVar("_T")
_Connection = psycopg.Connection[tuple[Any, ...]]

_FORMAT = 1
_PREPARING = 0x5A5EC  # the advisory lock under which the tables are made
_SCHEMA = """
CREATE TABLE sasrec.facts (format integer NOT NULL, id text NOT NULL, checksum bigint NOT NULL, last bigint NOT NULL);
CREATE TABLE sasrec.events (
    person bytea NOT NULL, time bigint NOT NULL, place bigint NOT NULL, id text COLLATE "C" NOT NULL,
    "user" text NOT NULL, item text NOT NULL, given integer NOT NULL, checksum bigint NOT NULL,
    PRIMARY KEY (person, time, place), EXCLUDE USING hash (id WITH =)
);
CREATE TABLE sasrec.forgotten (person bytea PRIMARY KEY, place bigint NOT NULL, checksum bigint NOT NULL);
"""
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


@final
class PostgresStore:
    """Events in the schema `sasrec` of a database, which any number of servers may share.

    Places are given under the lock of one row, which a transaction holds to its end. A sequence would give them before
    the commit, so that a later place could be visible before an earlier one, and whoever then asked for what came
    after it would miss the earlier one for ever. Writes that wait together share one transaction, so that one server
    or several are as fast as the disk takes transactions, each of many writes.

    What was asked of a connection that turns out to be lost is asked once more of a new one. That is right for writes
    too, since none does more when it comes twice.
    """

    def __init__(self, address: str, *, writable: bool = True) -> None:
        """Connect, and make the tables where there are none.

        Args:
            address: As libpq takes it, such as `postgresql://host/database`; what it does not say comes from libpq's
                environment and files.
            writable: False needs no more than the right to read.

        Raises:
            ServingError: The database cannot be reached, or holds something else or a newer format.
        """
        given = _understood(address)
        self.name = _shown(given)
        usual = _USUAL | ({"target_session_attrs": "read-write"} if writable else {})
        self._links = [_Link(usual | given | {"client_encoding": "UTF8"}, self.name) for _ in range(2)]
        self._reading, self._writing = self._links
        try:
            if writable:
                self._writing.run(lambda connection: _prepare(connection, self.name))
            self.id = self._reading.run(lambda connection: _recognised(connection, self.name))
        except BaseException:
            self._disconnect()
            raise
        self._writer = Writer(self._commit, name=self.name, closed=not writable)

    def add(self, events: Sequence[Event]) -> Future[list[Outcome]]:
        """See `EventStore`."""
        return self._writer.submit(events)

    def forget(self, user: str) -> Future[int]:
        """See `EventStore`. Of a forgotten user a keyed hash of the id remains."""
        return self._writer.submit(Forget(user))

    def history(self, user: str, *, after: int = 0) -> list[Stored]:
        """See `EventStore`."""
        rows = self._read(
            'SELECT id, "user", item, time, place, given, checksum FROM sasrec.events '
            "WHERE person = %s AND place > %s ORDER BY time DESC, place DESC LIMIT %s",
            (self._person(user), after, HISTORY),
        )
        return [Row(*row).checked(self.name) for row in reversed(rows)]

    def forgotten(self, user: str) -> int | None:
        """See `EventStore`."""
        person = self._person(user)
        found = self._read("SELECT place, checksum FROM sasrec.forgotten WHERE person = %s", (person,))
        if found and checksum(person.hex(), found[0][0]) != found[0][1]:
            raise ServingError(f"{self.name}: is damaged: a place does not match its checksum; restore it from a copy")
        return int(found[0][0]) if found else None

    def kept(self, ids: Collection[str]) -> set[str]:
        """See `EventStore`."""
        return {row[0] for row in self._read("SELECT id FROM sasrec.events WHERE id = ANY(%s)", (list(ids),))}

    def events(self, *, through: int) -> Iterator[Stored]:
        """See `EventStore`. Who is forgotten meanwhile may be there in part."""

        def page(after: Row | None, most: int) -> list[Row]:
            place = (b"", 0, 0) if after is None else (self._person(after.user), after.time, after.place)
            rows = self._read(
                'SELECT id, "user", item, time, place, given, checksum FROM sasrec.events '
                "WHERE (person, time, place) > (%s, %s, %s) AND place <= %s ORDER BY person, time, place LIMIT %s",
                (*place, through, most),
            )
            return [Row(*row) for row in rows]

        return paged(page, self.name)

    def last(self) -> int:
        """See `EventStore`."""
        return int(self._read("SELECT last FROM sasrec.facts", ())[0][0])

    def close(self) -> None:
        """See `EventStore`."""
        self._writer.close()
        self._disconnect()

    def _disconnect(self) -> None:
        for link in self._links:
            link.close()

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        return self._reading.run(lambda connection: connection.execute(query, values).fetchall())

    def _commit(self, writes: list[Write]) -> list[Any]:
        return self._writing.run(lambda connection: self._committed(connection, writes))

    def _committed(self, connection: _Connection, writes: list[Write]) -> list[Any]:
        with connection.transaction():
            # The database's clock, so that servers agree on what came first.
            ((last, now),) = connection.execute(
                "SELECT last, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM sasrec.facts FOR UPDATE"
            ).fetchall()
            results: list[Any] = []
            for run in _runs(writes):
                if isinstance(run, Forget):
                    last += 1
                    results.append(_erase(connection, self._person(run.user), last))
                else:
                    outcomes, added = self._insert(connection, run, last, now)
                    last += added
                    results += outcomes
            connection.execute("UPDATE sasrec.facts SET last = %s", (last,))
        return results

    def _insert(
        self, connection: _Connection, calls: list[Sequence[Event]], last: int, now: int
    ) -> tuple[list[list[Outcome]], int]:
        """Add the events of several calls; gives the outcomes of each, and how many are new."""
        events = [one for call in calls for one in call]
        earlier = connection.execute(
            'SELECT id, "user", item, time, place, given, checksum FROM sasrec.events WHERE id = ANY(%s)',
            ([one.id for one in events],),
        )
        outcomes, rows = arrivals(events, last, now, known={row[0]: Row(*row) for row in earlier}.get)
        if rows:
            connection.execute(
                'INSERT INTO sasrec.events (person, id, "user", item, time, place, given, checksum) '
                "SELECT * FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], "
                "%s::integer[], %s::bigint[])",
                ([self._person(row.user) for row in rows], *map(list, zip(*rows, strict=True))),
            )
        told = iter(outcomes)
        return [[next(told) for _ in call] for call in calls], len(rows)

    def _person(self, user: str) -> bytes:
        # An index of PostgreSQL takes about 2,700 bytes, and an id may be longer.
        return hashed(user, self.id)[:16]


@final
class _Link:
    """One connection for all threads, in turns; made anew where it was lost."""

    def __init__(self, parameters: dict[str, Any], name: str) -> None:
        self._parameters, self._name = parameters, name
        self._turn = threading.Lock()
        self._connection: _Connection | None = None
        self._pause = 0.0

    def run(self, work: Callable[[_Connection], _T]) -> _T:
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
                        if not self._lost(error):
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

    def close(self) -> None:
        """Let go of the connection."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

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

    def _connected(self) -> _Connection:
        begun = time.monotonic()
        if begun < self._pause:
            raise psycopg.OperationalError("the database could not be reached a moment ago")
        try:
            connection = psycopg.connect(**self._parameters, autocommit=True)
            connection.execute(_SESSION)
        except psycopg.Error:
            # At most half of the time is spent waiting for a database that does not answer.
            self._pause = 2 * time.monotonic() - begun
            raise
        return connection


def _understood(address: str) -> dict[str, Any]:
    """The parts of an address."""
    try:
        return conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        # The message of libpq would quote the part that it does not understand, which may be the password.
        raise ServingError(
            "events: the address of the database cannot be read; write postgresql://USER@HOST:PORT/DATABASE, with "
            "%XX for special characters, and the password in PGPASSWORD or ~/.pgpass"
        ) from None


def _shown(given: dict[str, Any]) -> str:
    """An address without user and password."""
    host, port = quote(given.get("host", ""), safe=",:"), given.get("port")
    return f"postgresql://{host}{f':{port}' if port else ''}/{given.get('dbname', '')}"


def _first_line(error: Exception) -> str:
    """What is wrong, without the values that PostgreSQL shows below it."""
    return str(error).strip().partition("\n")[0] or repr(error)


def _prepare(connection: _Connection, name: str) -> None:
    """Make the tables of a database that has none; one of several servers that start at once does it."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PREPARING,))
        if _tables(connection):
            return
        ((encoding,),) = connection.execute("SHOW server_encoding").fetchall()
        if encoding != "UTF8":
            raise ServingError(
                f"{name}: the database has the encoding {encoding}, which cannot hold every id; make one with "
                "ENCODING 'UTF8'"
            )
        # Whoever may not make a schema can be given one that is empty.
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'sasrec'").fetchall():
            connection.execute("CREATE SCHEMA sasrec")
        connection.execute(_SCHEMA)
        own = secrets.token_hex(16)
        connection.execute("INSERT INTO sasrec.facts VALUES (%s, %s, %s, 0)", (_FORMAT, own, checksum(own)))


def _recognised(connection: _Connection, name: str) -> str:
    """The id of the store; a schema that is foreign or newer is refused."""
    tables = _tables(connection)
    if not tables:
        raise ServingError(f"{name}: there is no store of events; start a server with it first")
    foreign = ServingError(f"{name}: the schema sasrec holds something else; choose another database")
    if "facts" not in tables:
        raise foreign
    try:
        ((version,),) = connection.execute("SELECT format FROM sasrec.facts").fetchall()
        if version > _FORMAT:
            raise ServingError(f"{name}: has format {version}, this sasrec reads up to {_FORMAT}; update sasrec")
        ((own, expected),) = connection.execute("SELECT id, checksum FROM sasrec.facts").fetchall()
    except (errors.UndefinedColumn, ValueError):
        raise foreign from None
    if checksum(own) != expected:
        raise ServingError(f"{name}: is damaged: its id does not match its checksum; restore it from a copy")
    return str(own)


def _tables(connection: _Connection) -> set[str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'sasrec'")
    return {row[0] for row in found}


def _runs(writes: list[Write]) -> Iterator[Forget | list[Sequence[Event]]]:
    """Writes in their order, what is added between two users who are forgotten as one."""
    adds: list[Sequence[Event]] = []
    for one in writes:
        if not isinstance(one, Forget):
            adds.append(one)
            continue
        if adds:
            yield adds
            adds = []
        yield one
    if adds:
        yield adds


def _erase(connection: _Connection, person: bytes, place: int) -> int:
    # A place of its own, so that a model trained on all events before it is told from one trained on all that are left.
    connection.execute(
        "INSERT INTO sasrec.forgotten VALUES (%s, %s, %s) "
        "ON CONFLICT (person) DO UPDATE SET place = excluded.place, checksum = excluded.checksum",
        (person, place, checksum(person.hex(), place)),
    )
    return connection.execute("DELETE FROM sasrec.events WHERE person = %s", (person,)).rowcount
