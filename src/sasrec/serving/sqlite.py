"""Events in a file, for one server."""

import secrets
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, final

from sasrec.errors import ServingError
from sasrec.serving.store import HISTORY, Event, Gone, Known, Outcome, Row, Stored, arrivals, checksum, hashed, paged
from sasrec.serving.writeahead import is_damaged
from sasrec.serving.writing import Forget, Write, Writer

_FORMAT, _APPLICATION = 1, 0x5A5EC
_LOCK_SECONDS = 5.0  # to wait for another program that holds the file
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE facts (id TEXT NOT NULL, checksum INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;
CREATE TABLE events (
    user TEXT NOT NULL, time INTEGER NOT NULL, place INTEGER NOT NULL, item TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    given INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (user, time, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE forgotten (
    user TEXT PRIMARY KEY, place INTEGER NOT NULL, checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO facts VALUES ('{name}', {checksum}, 0);
PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""


@final
class SqliteStore:
    """Events in one SQLite file, with a write-ahead log and one thread that writes.

    Writes that wait together share one transaction, so that many cost one wait for the disk. `synchronous=FULL` makes
    every commit wait until the log is on the disk. Whatever is read is checked against its own checksum.
    """

    remote = False

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        """Open the file, or make it.

        Args:
            writable: False reads a store that a server may be writing to meanwhile, and checks what is read alone.

        Raises:
            ServingError: The file cannot be opened, is damaged, foreign or of a newer format.
        """
        self.name = str(path)
        self._path, self._writable = path, writable
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        if writable:
            _check_log(path)
        try:
            if writable:
                with suppress(OSError):  # it is there; or it cannot be, and SQLite says why
                    path.touch(mode=0o600, exist_ok=False)  # SQLite's files beside it take its mode
            connection = self._connection()
            if writable:
                _prepare(connection, path)
            _recognise(connection, path)
            if writable:
                _check(connection, path)
            self.id = str(connection.execute("SELECT id FROM facts").fetchone()[0])
        except BaseException as error:
            self._disconnect()
            # The latter: SQLite tells of damage by damaged text.
            if not isinstance(error, sqlite3.Error | UnicodeError):
                raise
            raise ServingError(f"{path}: events cannot be read: {error}; restore the file or move it away") from None
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
            "SELECT id, user, item, time, place, given, checksum FROM events WHERE user = ? AND place > ? "
            "ORDER BY time DESC, place DESC LIMIT ?",
            (user, after, HISTORY),
        )
        return [Row(*row).checked(self.name) for row in reversed(rows)]

    def forgotten(self, user: str) -> int | None:
        """See `EventStore`."""
        person = hashed(user, self.id).hex()
        found = self._read("SELECT place, checksum FROM forgotten WHERE user = ?", (person,))
        return Gone(person, *found[0]).checked(self.name) if found else None

    def known(self, asked: Sequence[tuple[str, int]]) -> list[Known | ServingError]:
        """See `EventStore`."""
        found: list[Known | ServingError] = []
        for user, after in asked:
            try:
                found.append((self.forgotten(user), self.history(user, after=after)))
            except ServingError as error:
                found.append(error)
        return found

    def kept(self, ids: Collection[str]) -> set[str]:
        """See `EventStore`."""
        return {one for one in ids if self._read("SELECT 1 FROM events WHERE id = ?", (one,))}

    def events(self, *, through: int) -> Iterator[Stored]:
        """See `EventStore`. Who is forgotten meanwhile may be there in part."""

        def page(after: Row | None, most: int) -> list[Row]:
            place = ("", -(2**63), 0) if after is None else (after.user, after.time, after.place)
            rows = self._read(
                "SELECT id, user, item, time, place, given, checksum FROM events "
                "WHERE (user, time, place) > (?, ?, ?) AND place <= ? ORDER BY user, time, place LIMIT ?",
                (*place, through, most),
            )
            return [Row(*row) for row in rows]

        return paged(page, self.name)

    def last(self) -> int:
        """See `EventStore`."""
        return int(self._read("SELECT last FROM facts", ())[0][0])

    def close(self) -> None:
        """See `EventStore`."""
        self._writer.close()
        self._disconnect()

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        """That of this thread; but it is `close` that closes them all."""
        if not hasattr(self._local, "connection"):
            mode = "rwc" if self._writable else "ro"
            self._local.connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=_LOCK_SECONDS,
                check_same_thread=False,
            )
            self._connections.append(self._local.connection)
        return self._local.connection

    def _read(self, query: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ServingError(f"{self.name}: events cannot be read: {error}") from None

    def _commit(self, writes: list[Write]) -> list[Any]:
        """Called in the writer's thread alone."""
        connection = self._connection()
        try:
            return self._committed(connection, writes)
        except (sqlite3.Error, OverflowError, UnicodeError) as error:  # the last two: what SQLite has no room for
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if _held(error):
                raise ServingError(
                    f"{self.name}: another program writes to it, so events cannot be stored: {error}; nothing was; end "
                    "that program",
                    status=503,
                    told="another program holds the events; nothing was stored; send it again later",
                ) from None
            raise ServingError(f"{self.name}: events cannot be stored: {error}; nothing was", status=507) from None

    def _committed(self, connection: sqlite3.Connection, writes: list[Write]) -> list[Any]:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        results = [
            _erase(connection, one.user, hashed(one.user, self.id).hex())
            if isinstance(one, Forget)
            else _insert(connection, one)
            for one in writes
        ]
        connection.execute("COMMIT")
        if any(isinstance(one, Forget) for one in writes) and (left := _scrub(connection, self._path)):
            return [left if isinstance(one, Forget) else result for one, result in zip(writes, results, strict=True)]
        return results


def _check_log(path: Path) -> None:
    """Refuse a file whose write-ahead log is damaged."""
    try:
        damaged = is_damaged(path.with_name(f"{path.name}-wal"))
    except OSError as error:
        raise ServingError(
            f"{path}-wal: cannot be read: {error.strerror}; make it readable, or move it away with {path.name}"
        ) from None
    if damaged:
        raise ServingError(f"{path}-wal: is damaged; restore it with {path.name}, or move both away")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise ServingError(f"{path}: is a database of something else; choose another data folder")
        connection.execute("PRAGMA journal_mode = WAL")
        name = secrets.token_hex(16)
        connection.executescript(
            _SCHEMA.format(name=name, checksum=checksum(name), application=_APPLICATION, version=_FORMAT)
        )


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is foreign or newer."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        raise ServingError(f"{path}: is not a store of events; choose another data folder")
    if (version := connection.execute("PRAGMA user_version").fetchone()[0]) > _FORMAT:
        raise ServingError(f"{path}: has format {version}, this sasrec reads up to {_FORMAT}; update sasrec")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is damaged."""
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise ServingError(f"{path}: is damaged: {found}; restore the file or move it away")
    (*fact, last), *more = connection.execute("SELECT id, checksum, last FROM facts").fetchall()
    rows = chain(
        [fact],
        connection.execute("SELECT id, user, item, time, place, given, checksum FROM events"),
        connection.execute("SELECT user, place, checksum FROM forgotten"),
    )
    latest = connection.execute("SELECT max(place) FROM events").fetchone()[0] or 0
    if more or latest > last or any(checksum(*row[:-1]) != row[-1] for row in rows):
        raise ServingError(f"{path}: is damaged: a row does not match its checksum; restore the file or move it away")


def _scrub(connection: sqlite3.Connection, path: Path) -> ServingError | None:
    """Fold the log into the file, as what was deleted stands in the log until then; why that could not be done."""
    reason: object = "others read them"
    status, told = 503, "the user is forgotten, but others read the events, and remains stay on the disk; send it again"
    try:
        if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            return None
    except sqlite3.Error as error:
        reason = error
        if not _held(error):
            status = 507
    text = f"{path}: events of a forgotten user are used no more but still on the disk: {reason}; forget the user again"
    return ServingError(text, status=status, told=told)


def _held(error: Exception) -> bool:
    """Whether another program held the file for longer than was waited."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _insert(connection: sqlite3.Connection, events: Sequence[Event]) -> list[Outcome]:
    def known(name: str) -> Row | None:
        found = connection.execute(
            "SELECT id, user, item, time, place, given, checksum FROM events WHERE id = ?", (name,)
        ).fetchone()
        return None if found is None else Row(*found)

    last = connection.execute("SELECT last FROM facts").fetchone()[0]
    outcomes, rows = arrivals(events, last, time.time_ns() // 1000, known=known)
    connection.executemany(
        "INSERT INTO events (id, user, item, time, place, given, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
    )
    connection.execute("UPDATE facts SET last = ?", (last + len(rows),))
    return outcomes


def _erase(connection: sqlite3.Connection, user: str, person: str) -> int:
    # A place of its own, so that a model trained on all events before it is told from one trained on all that are left.
    place = connection.execute("UPDATE facts SET last = last + 1 RETURNING last").fetchone()[0]
    connection.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", (person, place, checksum(person, place)))
    return connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount
