"""What people did since the model was trained: what is acknowledged is on the disk, and in every later answer."""

import hashlib
import queue
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, final

from sasrec.errors import ServingError
from sasrec.serving.writeahead import is_damaged

Outcome = Literal["stored", "duplicate", "conflict"]
"""What became of an event: new; there already; or refused, as its id belongs to another event."""

HISTORY = 1_000  # events of one user that are read back at most, the latest

_FORMAT, _APPLICATION = 1, 0x5A5EC
_PAGE = 10_000  # events that are read at a time where all are: a read holds up the writer when it erases somebody
_GROUP = 256  # jobs that share one transaction at most, and so one wait for the disk
_WAITING = 1024  # jobs that wait for the writer at most
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


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody did something.

    Attributes:
        id: Names the event, so that it can be sent again without being stored again.
        user, item: Raw ids as text.
        time: Microseconds since 1970; None is when it arrives.
    """

    id: str
    user: str
    item: str
    time: int | None = None


class Stored(NamedTuple):
    """An event as it is kept.

    Attributes:
        place: Its place in the order of arrival, from 1; never used twice.
    """

    id: str
    user: str
    item: str
    time: int
    place: int


class EventStore(Protocol):
    """Where events are kept. What only reads may be called from any thread; what writes gives a future at once.

    A future ends with `ServingError` where the disk refuses; then nothing of that call is stored.

    Attributes:
        id: Tells this store from every other.
    """

    id: str

    def add(self, events: Sequence[Event]) -> Future[list[Outcome]]:
        """Store events; the future ends when they are durable, with what became of each."""
        ...

    def forget(self, user: str) -> Future[int]:
        """Erase a user's events, and note that earlier knowledge of the user must not be used; gives their number.

        Where the future fails, that may have been noted, while the events are still on the disk; forget once more.
        """
        ...

    def history(self, user: str, *, after: int = 0) -> list[Stored]:
        """A user's latest `HISTORY` events that arrived after a place, by time, those of one time by arrival."""
        ...

    def forgotten(self, user: str) -> int | None:
        """The place at which the user was forgotten, after all earlier events; None for everybody else."""
        ...

    def events(self, *, through: int) -> Iterator[Stored]:
        """Everybody's events up to a place, user by user, each by time."""
        ...

    def last(self) -> int:
        """The latest place that is taken; 0 at the beginning."""
        ...

    def close(self) -> None:
        """Finish what waits, then let go of the files."""
        ...


@final
class SqliteStore:
    """Events in one SQLite file, with a write-ahead log and one thread that writes.

    Writes that wait together share one transaction, so that many cost one wait for the disk. `synchronous=FULL` makes
    every commit wait until the log is on the disk. Whatever is read is checked against its own checksum.
    """

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        """Open the file, or make it.

        Args:
            writable: False reads a store that a server may be writing to meanwhile, and checks what is read alone.

        Raises:
            ServingError: The file cannot be opened, is damaged, foreign or of a newer format.
        """
        self._path, self._writable = path, writable
        self._local = threading.local()
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._closed = False
        self._connections: list[sqlite3.Connection] = []
        if writable and is_damaged(path.with_name(f"{path.name}-wal")):
            raise ServingError(f"{path}-wal: is damaged; restore it with {path.name}, or move both away")
        try:
            connection = self._connect()
            if writable:
                _prepare(connection, path)
            _recognise(connection, path)
            if writable:
                _check(connection, path)
            self.id = str(connection.execute("SELECT id FROM facts").fetchone()[0])
        except (sqlite3.Error, UnicodeError) as error:  # the latter: SQLite tells of damage by damaged text
            raise ServingError(f"{path}: events cannot be read: {error}; restore the file or move it away") from None
        self._writer = threading.Thread(target=self._write, name="sasrec-events", daemon=True)
        if writable:
            self._writer.start()

    def add(self, events: Sequence[Event]) -> Future[list[Outcome]]:
        """See `EventStore`."""
        return self._submit(lambda connection: _insert(connection, events))

    def forget(self, user: str) -> Future[int]:
        """See `EventStore`. Of a forgotten user a keyed hash of the id remains."""
        return self._submit(lambda connection: _erase(connection, user, self._hashed(user)), scrub=True)

    def history(self, user: str, *, after: int = 0) -> list[Stored]:
        """See `EventStore`."""
        rows = self._read(
            "SELECT id, user, item, time, place, given, checksum FROM events WHERE user = ? AND place > ? "
            "ORDER BY time DESC, place DESC LIMIT ?",
            (user, after, HISTORY),
        )
        return [self._checked(row) for row in reversed(rows)]

    def forgotten(self, user: str) -> int | None:
        """See `EventStore`."""
        found = self._read("SELECT place FROM forgotten WHERE user = ?", (self._hashed(user),))
        return int(found[0][0]) if found else None

    def events(self, *, through: int) -> Iterator[Stored]:
        """See `EventStore`. Who is forgotten meanwhile may be there in part."""
        after = ("", -(2**63), 0)
        while True:
            rows = self._read(
                "SELECT id, user, item, time, place, given, checksum FROM events "
                "WHERE (user, time, place) > (?, ?, ?) AND place <= ? ORDER BY user, time, place LIMIT ?",
                (*after, through, _PAGE),
            )
            yield from map(self._checked, rows)
            if len(rows) < _PAGE:
                return
            after = (rows[-1][1], rows[-1][3], rows[-1][4])

    def last(self) -> int:
        """See `EventStore`."""
        return int(self._read("SELECT last FROM facts", ())[0][0])

    def close(self) -> None:
        """See `EventStore`."""
        if self._writable and not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._writer.join()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _submit(self, work: "Callable[[sqlite3.Connection], Any]", *, scrub: bool = False) -> Future[Any]:
        done: Future[Any] = Future()
        if self._closed or not self._writable:
            raise ServingError(f"{self._path}: the store is closed for writing")
        try:
            self._jobs.put_nowait(_Job(work, done, scrub))
        except queue.Full:
            raise ServingError(f"{self._path}: {_WAITING:,} writes wait for the disk; send it again later") from None
        return done

    def _write(self) -> None:
        """The writer's thread: all jobs that wait, in one transaction, until a None ends it."""
        connection = self._connect()
        ended = False
        while not ended:
            jobs = [self._jobs.get()]
            while len(jobs) < _GROUP and not self._jobs.empty():
                jobs.append(self._jobs.get())
            ended = None in jobs
            _commit(connection, [job for job in jobs if job is not None], self._path)

    def _connect(self) -> sqlite3.Connection:
        mode = "rwc" if self._writable else "ro"
        # Every thread has its own; but it is `close` that closes them all.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=5.0,
            check_same_thread=False,
        )
        self._connections.append(connection)
        return connection

    def _read(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
        try:
            return self._local.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ServingError(f"{self._path}: events cannot be read: {error}") from None

    def _checked(self, row: tuple[Any, ...]) -> Stored:
        if _checksum(*row[:6]) != row[6]:
            raise ServingError(f"{self._path}: is damaged: an event does not match its checksum; restore the file")
        return Stored(*row[:5])

    def _hashed(self, user: str) -> str:
        return hashlib.blake2b(user.encode(), key=bytes.fromhex(self.id)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Job:
    work: "Callable[[sqlite3.Connection], Any]"
    done: Future[Any]
    scrub: bool


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise ServingError(f"{path}: is a database of something else; choose another data folder")
        connection.execute("PRAGMA journal_mode = WAL")
        name = secrets.token_hex(16)
        connection.executescript(
            _SCHEMA.format(name=name, checksum=_checksum(name), application=_APPLICATION, version=_FORMAT)
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
    if more or latest > last or any(_checksum(*row[:-1]) != row[-1] for row in rows):
        raise ServingError(f"{path}: is damaged: a row does not match its checksum; restore the file or move it away")


def _checksum(*row: str | int) -> int:
    # No id holds a NUL, so it parts the values without doubt.
    return zlib.crc32("\0".join([str(one) for one in row]).encode())


def _commit(connection: sqlite3.Connection, jobs: list[_Job], path: Path) -> None:
    """Run jobs as one transaction, then tell each how it ended; all of them fail together."""
    jobs = [job for job in jobs if job.done.set_running_or_notify_cancel()]  # whoever gave up is told nothing
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        results = [job.work(connection) for job in jobs]
        connection.execute("COMMIT")
    except (sqlite3.Error, OverflowError, UnicodeError) as error:  # the last two: what SQLite has no room for
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        for job in jobs:
            job.done.set_exception(ServingError(f"{path}: events cannot be stored: {error}; nothing was", status=507))
        return
    left = _scrub(connection, path) if any(job.scrub for job in jobs) else None
    for job, result in zip(jobs, results, strict=True):
        if job.scrub and left is not None:
            job.done.set_exception(left)
        else:
            job.done.set_result(result)


def _scrub(connection: sqlite3.Connection, path: Path) -> ServingError | None:
    """Fold the log into the file, as what was deleted stands in the log until then; why that could not be done."""
    reason: object = "others read them"
    status = None
    try:
        if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            return None
    except sqlite3.Error as error:
        reason, status = error, 507
    text = f"{path}: events of a forgotten user are used no more but still on the disk: {reason}; forget the user again"
    return ServingError(text, status=status)


def _insert(connection: sqlite3.Connection, events: Sequence[Event]) -> list[Outcome]:
    place = connection.execute("SELECT last FROM facts").fetchone()[0]
    now = time.time_ns() // 1000
    outcomes: list[Outcome] = []
    for event in events:
        given = event.time is not None
        row = (event.id, event.user, event.item, now if event.time is None else event.time, place + 1, int(given))
        added = connection.execute(
            "INSERT INTO events (id, user, item, time, place, given, checksum) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            (*row, _checksum(*row)),
        )
        if added.rowcount:
            place += 1
            outcomes.append("stored")
        else:
            outcomes.append(_compared(connection, event))
    connection.execute("UPDATE facts SET last = ?", (place,))
    return outcomes


def _compared(connection: sqlite3.Connection, event: Event) -> Outcome:
    """Whether an event whose id is taken is the one that has it; a time that was not given is not compared."""
    user, item, when, given = connection.execute(
        "SELECT user, item, time, given FROM events WHERE id = ?", (event.id,)
    ).fetchone()
    return "duplicate" if (user, item, when if given else None) == (event.user, event.item, event.time) else "conflict"


def _erase(connection: sqlite3.Connection, user: str, hashed: str) -> int:
    # A place of its own, so that a model trained on all events before it is told from one trained on all that are left.
    place = connection.execute("UPDATE facts SET last = last + 1 RETURNING last").fetchone()[0]
    connection.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", (hashed, place, _checksum(hashed, place)))
    return connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount
