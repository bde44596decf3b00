"""What a log says about itself before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sasrec.data.splits import Split
from sasrec.studies.histories import share_of_unique
from sasrec.words import counted


@dataclass(frozen=True)
class Facts:
    """Figures of a log and its test part; `print` shows them.

    Attributes:
        users, items, events: Size of the log.
        tested: Users with a test target.
        ties: Share of the steps from one event of a user to the next that take no time; None without times.
        repeats: Share of the events with an item that the user had before.
        repeated_targets: Share of the test targets that the user had before.
        cold_targets: Share of the test targets that never occur in training.
        unique: For every length, the number of different test histories per user when only so many of their last
            events are kept. Where it is near 1, a history of this length names its user.
    """

    users: int
    items: int
    events: int
    tested: int
    ties: float | None
    repeats: float
    repeated_targets: float
    cold_targets: float
    unique: dict[int, float]

    @classmethod
    def of(cls, data: Split, lengths: Sequence[int]) -> "Facts":
        """Count them, with `unique` at the given lengths; takes seconds."""
        summary, test = data.log.summary(), data.test
        return cls(
            users=summary.users,
            items=summary.items,
            events=summary.events,
            tested=len(test),
            ties=summary.ties,
            repeats=summary.repeats / summary.events,
            repeated_targets=float(test.repeated.mean()),
            cold_targets=float((~np.isin(test.targets, data.train.items)).mean()),
            unique={length: share_of_unique(test.histories, length) for length in lengths},
        )

    @property
    def size(self) -> str:
        """Users, items and events in words."""
        users = f"{counted(self.users, 'user')} ({self.tested:,} tested)"
        return f"{users}, {counted(self.items, 'item')}, {counted(self.events, 'event')}"

    def __repr__(self) -> str:
        ties = "no times" if self.ties is None else f"{self.ties:.1%} of steps are ties in time"
        unique = ", ".join(f"{share:.1%} at {length}" for length, share in self.unique.items())
        return (
            f"data: {self.size}; {ties}\n"
            f"repeats: {self.repeats:.1%} of events, {self.repeated_targets:.1%} of targets; "
            f"targets never in training: {self.cold_targets:.1%}\n"
            f"different histories when only the last so many items are kept: {unique}"
        )
