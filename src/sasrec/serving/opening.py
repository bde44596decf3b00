"""Which kind of store an address means."""

import os
from pathlib import Path

from sasrec.errors import ServingError
from sasrec.serving.store import EventStore

_SCHEMES = ("postgresql://", "postgres://")


def is_address(place: str) -> bool:
    """Whether a database is meant, rather than a file."""
    return place.startswith(_SCHEMES)


def open_store(place: str | Path, *, writable: bool = True) -> EventStore:
    """Open a store of events, or make it.

    Args:
        place: A file for SQLite; or the address of a database, `postgresql://host/database`.
        writable: False reads a store that is there, which servers may be writing to meanwhile.

    Raises:
        ServingError: As the store itself; or the extra `postgres` is missing; or there is nothing to read.
    """
    if not is_address(str(place)):
        from sasrec.serving.sqlite import SqliteStore

        if not writable and not os.path.isfile(place):
            raise ServingError(
                f"{place}: there is no store of events; say where they are (--events, or --data), "
                "or train on the log alone (sasrec train)"
            )
        return SqliteStore(Path(place), writable=writable)
    try:
        from sasrec.serving.postgres import PostgresStore
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sasrec"):
            raise
        raise ServingError(
            f"events in PostgreSQL need the package {error.name}, which is not installed; "
            "pip install 'sasrec[postgres]'"
        ) from None
    return PostgresStore(str(place), writable=writable)
