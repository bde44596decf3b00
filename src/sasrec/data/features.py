"""What is known of items beside who had them: categories (genre, brand, maker) and vectors given by the user."""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np

from sasrec.data.sequences import Sequences
from sasrec.errors import check_kind
from sasrec.words import counted


@dataclass(frozen=True)
class Recipe:
    """How a table of items was read, so that a later one is read alike.

    Attributes:
        columns: The features taken from it.
        separator: What parts several values in one text.
        item: Column of the item ids; None where it has a usual name.
        values: Distinct (feature, value) pairs, sorted.
        vector: Column of the vectors, or the name that numbered columns begin with; None where there are none.
        centre: Mean of the items' vectors, which is taken from each.
        scale: What each is then divided by: the root of their mean squared length.
    """

    columns: tuple[str, ...] = ()
    separator: str | None = None
    item: str | None = None
    values: tuple[tuple[str, str], ...] = ()
    vector: str | None = None
    centre: tuple[float, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Features:
    """The features of every item of a catalogue.

    Attributes:
        rows: Row of each value in `recipe.values`, one item after the other; int64.
        offsets: Item i has `rows[offsets[i]:offsets[i + 1]]`; int64 of shape (items + 1,).
        vectors: Vector of every item, centred and scaled, 0 where it has none; float32 of shape (items, numbers).
            None where no vectors were given.
        known: Whether an item has a vector; bool of shape (items,). None where no vectors were given.
        recipe: How they were read.
    """

    rows: np.ndarray
    offsets: np.ndarray
    vectors: np.ndarray | None
    known: np.ndarray | None
    recipe: Recipe

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """Distinct (feature, value) pairs, sorted."""
        return self.recipe.values

    @property
    def bare(self) -> np.ndarray:
        """Whether an item has neither a value nor a vector; bool of shape (items,)."""
        without = np.diff(self.offsets) == 0
        return without if self.known is None else without & ~self.known

    @property
    def digest(self) -> str:
        """sha256 of all that a network learns from them."""
        found = hashlib.sha256(repr(self.recipe.values).encode())
        for array in (self.rows, self.offsets, self.vectors):
            if array is not None:
                found.update(f"{array.shape}".encode())
                found.update(array.tobytes())
        return found.hexdigest()

    def record(self) -> dict[str, object]:
        """What a model says of them in its record."""
        return {"features": str(self), "item_table": asdict(self.recipe) | {"sha256": self.digest}}

    def take(self, items: np.ndarray) -> "Features":
        """Those of the given item rows, an int array of shape (taken,), in the given order."""
        values = Sequences(self.rows, self.offsets).take(items)
        vectors = None if self.vectors is None else self.vectors[items]
        known = None if self.known is None else self.known[items]
        return Features(values.items, values.offsets, vectors, known, self.recipe)

    def __repr__(self) -> str:
        said = []
        if self.values:
            names: dict[str, int] = {}
            for name, _ in self.values:
                names[name] = names.get(name, 0) + 1
            said.append(", ".join(f"{name} ({counted(count, 'value')})" for name, count in names.items()))
        if self.vectors is not None:
            said.append(f"vectors of {self.vectors.shape[1]:,} numbers ({self.recipe.vector})")
        return f"features: {', '.join(said)}; {int(self.bare.sum()):,} of {counted(len(self), 'item')} have none"


def check_features(features: object) -> None:
    """Refuse what is neither None nor features, such as the file that they are in; ConfigError."""
    advice = "read them with sasrec.read_features(table, log.items)"
    check_kind("features", features, Features | None, called="Features", advice=advice)
