"""Which events of a log stay."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from sasrec.data.formats import row_list
from sasrec.data.sequences import offsets_of, pair_numbers
from sasrec.errors import ConfigError, DataError, is_number, is_whole

Duplicates = Literal["keep", "first", "last"]
BadRows = Literal["refuse", "drop"]

_REASONS = {
    "user": "without a user",
    "item": "without an item",
    "time": "without a readable, finite time",
    "weight": "without a readable, finite weight",
}
# Whole rounds are faster than one event after the other, and end soon; but a chain loses only its ends in each.
_ROUNDS = 50


@dataclass(frozen=True)
class Filters:
    """Which events stay. They apply in the order of the fields, bad rows before all others.

    Attributes:
        min_weight: Least weight (rating) that counts as an event; None counts all.
        duplicates: Of several events of one user with one item, keep all, the first or the last.
        user_core: Least events of a user.
        item_core: Least events of an item; both are repeated until nothing more falls away (the true k-core).
        bad_rows: Rows without a user, item or time, or with one that is not finite or unreadable, and without such a
            weight if its column is named or a least weight set: refuse the log, or drop and count them.
    """

    min_weight: float | None = None
    duplicates: Duplicates = "keep"
    user_core: int = 0
    item_core: int = 0
    bad_rows: BadRows = "refuse"

    def __post_init__(self) -> None:
        for name, allowed in (("duplicates", Duplicates), ("bad_rows", BadRows)):
            if getattr(self, name) not in get_args(allowed):
                words = " or ".join(repr(one) for one in get_args(allowed))
                raise ConfigError(f"{name}: expected {words}, found {getattr(self, name)!r}")
        if self.min_weight is not None and not is_number(self.min_weight):
            raise ConfigError(f"min_weight: expected a number or None, found {self.min_weight!r}")
        for name in ("user_core", "item_core"):
            if not is_whole(getattr(self, name), least=0):
                raise ConfigError(f"{name}: expected a whole number of 0 or more, found {getattr(self, name)!r}")

    @classmethod
    def named(cls, name: str) -> "Filters":
        """What a data set's name in FreeRec stands for, as in "Amazon2014Beauty_550_LOU".

        The digits are the least events of a user, those of an item, and the least rating (0 takes all): 550 is
        (5, 5, all), 554 (5, 5, 4), 1000 (10, none, all), 10100 (10, 10, all). LOU is the split "last-item". The code
        alone ("550") will do too.

        Raises:
            ConfigError: The name has another form or another split.
        """
        found = re.fullmatch(r"(?:[A-Za-z0-9]+_)?(\d+)(?:_([A-Z]+))?", name)
        digits, least = (found[1][:-1], found[1][-1]) if found else ("", "")
        cores = [
            (int(digits[:cut]), int(digits[cut:]))
            for cut in range(1, len(digits))
            if all(re.fullmatch(r"0|5|[1-9][05]", part) for part in (digits[:cut], digits[cut:]))
        ]
        if found is None or len(cores) != 1:
            raise ConfigError(f"named: expected a name like 'Beauty_550_LOU' or '550', found {name!r}")
        if found[2] not in (None, "LOU"):
            raise ConfigError(
                f"named: of the splits only LOU (each user's last item) is known here, found {found[2]!r}"
            )
        return cls(min_weight=float(least) or None, user_core=cores[0][0], item_core=cores[0][1])


@dataclass(frozen=True, eq=False)
class Events:
    """One array entry an event; users and items are rows of their sorted ids, int64."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: np.ndarray) -> "Events":
        """The chosen events, by a mask of shape (events,) or by places."""
        return Events(
            self.users[chosen],
            self.items[chosen],
            None if self.times is None else self.times[chosen],
            None if self.weights is None else self.weights[chosen],
        )


def without_bad_rows(
    fields: pl.DataFrame, *, blank: pl.Series, filters: Filters, name: str
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows that can be used, and the number of the others by reason.

    Args:
        fields: Columns `user`, `item`, `time`, `weight`; null is a fault.
        blank: Rows that say nothing and are left out without being a fault.
        name: What messages call the log.

    Raises:
        DataError: There are bad rows, and they are not to be dropped.
    """
    bad, dropped = blank, {"blank": int(blank.sum())}
    faults, remedy = [], 'mend them, or pass filters=Filters(bad_rows="drop") to leave them out'
    for role in fields.columns:
        fault = fields[role].is_null() & ~bad
        reason = _REASONS[role]
        if fault.any():
            dropped[reason] = int(fault.sum())
            faults.append(f"{dropped[reason]:,} {reason} ({row_list(fault.arg_true())})")
            remedy += f', or {role}="" to do without {role}s' if role in ("time", "weight") else ""
        bad = bad | fault
    if faults and filters.bad_rows == "refuse":
        raise DataError(
            f"{name}: {(bad & ~blank).sum():,} of {len(fields):,} rows cannot be used: {', '.join(faults)}; {remedy}"
        )
    return fields.filter(~bad), {reason: count for reason, count in dropped.items() if count}


def apply_filters(events: Events, filters: Filters, *, name: str) -> tuple[Events, dict[str, int]]:
    """The events that stay, and the number of the others by reason.

    Args:
        events: Sorted by user and then time.
        name: What messages call the log.

    Raises:
        DataError: `min_weight` is asked of a log without weights.
    """
    if filters.min_weight is not None and events.weights is None:
        # Of a model that is retrained, the bound stands for later and any weight will do now.
        bound = "" if filters.min_weight == -math.inf else f"={filters.min_weight:g}"
        raise DataError(f"{name}: min_weight{bound} needs weights; pass weight= with their column")
    heavy = _heavy(events, filters.min_weight)
    single = _single(heavy, filters.duplicates)
    core = _core(single, filters.user_core, filters.item_core)
    counts = {
        f"with a weight below {filters.min_weight}": len(events) - len(heavy),
        f"not the {filters.duplicates} of their user and item": len(heavy) - len(single),
        f"outside the core of {filters.user_core} a user and {filters.item_core} an item": len(single) - len(core),
    }
    return core, {reason: count for reason, count in counts.items() if count}


def _heavy(events: Events, least: float | None) -> Events:
    if least is None or events.weights is None:
        return events
    return events.take(events.weights >= least)


def _single(events: Events, duplicates: Duplicates) -> Events:
    if duplicates == "keep":
        return events
    # `np.unique` finds the first of equal entries, which is the last event when read backwards.
    step = 1 if duplicates == "first" else -1
    _, places = np.unique(pair_numbers(events.users, events.items)[::step], return_index=True)
    chosen = np.zeros(len(events), dtype=bool)
    chosen[::step][places] = True
    return events.take(chosen)


def _core(events: Events, user_core: int, item_core: int) -> Events:
    for _ in range(_ROUNDS):
        # Users that leave may take items below the least, and the other way round.
        chosen = np.bincount(events.users)[events.users] >= user_core
        chosen &= np.bincount(events.items)[events.items] >= item_core
        if chosen.all():
            return events
        events = events.take(chosen)
    return events.take(_chosen_one_by_one(events, user_core, item_core))


def _chosen_one_by_one(events: Events, user_core: int, item_core: int) -> np.ndarray:
    """Which events are in the core, bool of shape (events,); every event that is not is looked at once."""
    users = int(events.users.max(initial=-1)) + 1
    ends = np.concatenate([events.users, users + events.items])  # users and items as places in one list
    counts = np.bincount(ends)
    least = np.where(np.arange(len(counts)) < users, user_core, item_core)
    chosen, events_of, offsets = np.ones(len(events), dtype=bool), np.argsort(ends, kind="stable"), offsets_of(counts)
    waiting = np.flatnonzero(counts < least).tolist()
    # Single values of a memoryview are had sooner than those of an array.
    stays, end_of, left, least_of = chosen.data, ends.data, counts.data, least.data
    while waiting:
        place = waiting.pop()
        for event in (events_of[offsets[place] : offsets[place + 1]] % len(events)).tolist():
            if stays[event]:
                stays[event] = False
                for end in (end_of[event], end_of[event + len(events)]):
                    left[end] -= 1
                    if left[end] == least_of[end] - 1:
                        waiting.append(end)
    return chosen
