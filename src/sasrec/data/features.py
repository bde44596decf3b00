"""Categories of items (genre, brand, maker), whose vectors a network adds to those of the items."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Features:
    """The values of every item of a catalogue.

    Attributes:
        rows: Row of each value in `values`, one item after the other; int64.
        offsets: Item i has `rows[offsets[i]:offsets[i + 1]]`; int64 of shape (items + 1,).
        values: Distinct (feature, value) pairs, sorted.
    """

    rows: np.ndarray
    offsets: np.ndarray
    values: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        names: dict[str, int] = {}
        for name, _ in self.values:
            names[name] = names.get(name, 0) + 1
        bare = int((np.diff(self.offsets) == 0).sum())
        counted = ", ".join(f"{name} ({count:,} values)" for name, count in names.items())
        return f"features: {counted}; {bare:,} of {len(self.offsets) - 1:,} items have none"
