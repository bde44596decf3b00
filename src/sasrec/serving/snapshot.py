"""What a store of events holds at one moment, added to the log that came before it."""

from dataclasses import asdict, dataclass

import polars as pl

from sasrec.data.filters import Filters
from sasrec.data.log import Log
from sasrec.data.merging import merge
from sasrec.serving.store import EventStore
from sasrec.words import counted


@dataclass(frozen=True)
class Snapshot:
    """Which events of which store were taken, as the record of a model says it under "events".

    Attributes:
        store: The store's id.
        through: The latest place in its order of arrival; a server that holds this store adds what came later.
        taken: Number of events.
        users: Users that they are of.
        forgotten: Users of the log that were left out, as they were forgotten.
    """

    store: str
    through: int
    taken: int
    users: int
    forgotten: int

    def to_dict(self) -> dict[str, str | int]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        left = f"; forgotten and left out: {counted(self.forgotten, 'user')} of the log" if self.forgotten else ""
        return f"events: {self.taken:,} of {counted(self.users, 'user')}, up to place {self.through:,}{left}"


def with_events(log: Log, store: EventStore, *, filters: Filters = Filters()) -> tuple[Log, Snapshot]:
    """Add all events that a store holds now to a log; whoever was forgotten keeps what came afterwards alone.

    A server may add events and forget users meanwhile.

    Args:
        log: Read without filters, before the store is looked at: what it holds of later events would be counted twice.
        filters: Which rows and events stay.

    Raises:
        ServingError: An event is damaged.
        DataError: Nothing is left.
    """
    through = store.last()
    rows = pl.DataFrame(
        [(one.user, one.item, one.time, one.place) for one in store.events(through=through)],
        schema={"user": pl.String, "item": pl.String, "time": pl.Int64, "place": pl.Int64},
        orient="row",
    )
    own = log.users.ids.cast(pl.String)
    # Asked after the events were read, so that nobody who is forgotten meanwhile slips through.
    asked = pl.concat([own, rows["user"]]).unique().to_list()
    forgotten = {user: place for user in asked if (place := store.forgotten(user)) is not None}
    places = pl.Series([forgotten.get(user, 0) for user in rows["user"]], dtype=pl.Int64)
    rows = rows.filter(rows["place"] > places)
    merged = merge(log, rows.drop("place"), without=forgotten, filters=filters)
    gone = int(own.is_in(list(forgotten)).sum())
    return merged, Snapshot(store.id, through, len(rows), rows["user"].n_unique(), gone)
