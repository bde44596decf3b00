"""Events in PostgreSQL, for several servers at once."""

import secrets
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby
from operator import itemgetter
from typing import Any, final

from psycopg import errors

from sasrec.errors import ServingError
from sasrec.serving.database import Connection, Link, parameters, shown, understood
from sasrec.serving.store import HISTORY, Event, Gone, Known, Outcome, Row, Stored, arrivals, checksum, hashed, paged
from sasrec.serving.writing import Forget, Write, Writer

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
_KNOWN = """
SELECT asked.number, asked.person, forgotten.place, forgotten.checksum, since.*
FROM unnest(%s::bytea[], %s::bigint[]) WITH ORDINALITY AS asked (person, place, number)
LEFT JOIN sasrec.forgotten USING (person)
LEFT JOIN LATERAL (
    SELECT id, "user", item, time, place, given, checksum FROM sasrec.events
    WHERE events.person = asked.person AND events.place > asked.place
    ORDER BY events.time DESC, events.place DESC LIMIT %s
) AS since ON true
ORDER BY asked.number, since.time, since.place
"""
# Seconds for one answer of the database. A training reads whole pages, and a write waits for what other servers write.
_SERVING, _TRAINING, _WRITING = 5.0, 300.0, 30.0
_LAST_SECONDS = 4.0  # for what still waits to be written at the end


@final
class PostgresStore:
    """Events in the schema `sasrec` of a database, which any number of servers may share.

    Places are given under the lock of one row, which a transaction holds to its end. A sequence would give them before
    the commit, so that a later place could be visible before an earlier one, and whoever then asked for what came
    after it would miss the earlier one for ever. Writes that wait together share one transaction, so that one server
    or several are as fast as the disk takes transactions, each of many writes.

    What was asked of a connection that turns out to be lost is asked once more of a new one. That is right for writes
    too, since none does more when it comes twice. What has no answer for long is given up.
    """

    remote = True

    def __init__(self, address: str, *, writable: bool = True) -> None:
        """Connect, and make the tables where there are none.

        Args:
            address: As libpq takes it, such as `postgresql://host/database`; what it does not say comes from libpq's
                environment and files.
            writable: False needs no more than the right to read.

        Raises:
            ServingError: The database cannot be reached, or holds something else or a newer format.
        """
        given = understood(address)
        self.name = shown(given)
        given = parameters(given, writable=writable)
        reading = _SERVING if writable else _TRAINING
        self._reading = Link(given, self.name, seconds=reading, cancelled=True)
        # A commit must not be cancelled: where it waits for a copy, the database would tell that it succeeded.
        self._writing = Link(given, self.name, seconds=_WRITING)
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
        return Gone(person.hex(), *found[0]).checked(self.name) if found else None

    def known(self, asked: Sequence[tuple[str, int]]) -> list[Known | ServingError]:
        """See `EventStore`. One question for all of them, however many they are."""
        rows = self._read(_KNOWN, ([self._person(user) for user, _ in asked], [after for _, after in asked], HISTORY))
        found: list[Known | ServingError] = []
        for of_one in (list(group) for _, group in groupby(rows, key=itemgetter(0))):
            person, place, expected = of_one[0][1:4]
            try:
                gone = None if place is None else Gone(person.hex(), place, expected).checked(self.name)
                found.append((gone, [Row(*row[4:]).checked(self.name) for row in of_one if row[4] is not None]))
            except ServingError as error:
                found.append(error)
        return found

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
        self._reading.end()
        self._writer.close(seconds=_LAST_SECONDS)
        self._disconnect()

    def _disconnect(self) -> None:
        for link in (self._reading, self._writing):
            link.close()

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        return self._reading.run(lambda connection: connection.execute(query, values).fetchall())

    def _commit(self, writes: list[Write]) -> list[Any]:
        return self._writing.run(lambda connection: self._committed(connection, writes))

    def _committed(self, connection: Connection, writes: list[Write]) -> list[Any]:
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
        self, connection: Connection, calls: list[Sequence[Event]], last: int, now: int
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


def _prepare(connection: Connection, name: str) -> None:
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


def _recognised(connection: Connection, name: str) -> str:
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


def _tables(connection: Connection) -> set[str]:
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


def _erase(connection: Connection, person: bytes, place: int) -> int:
    # A place of its own, so that a model trained on all events before it is told from one trained on all that are left.
    connection.execute(
        "INSERT INTO sasrec.forgotten VALUES (%s, %s, %s) "
        "ON CONFLICT (person) DO UPDATE SET place = excluded.place, checksum = excluded.checksum",
        (person, place, checksum(person.hex(), place)),
    )
    return connection.execute("DELETE FROM sasrec.events WHERE person = %s", (person,)).rowcount
