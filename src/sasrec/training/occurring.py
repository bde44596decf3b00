"""Items that nobody has had yet: a network with features learns without them, and is told of them afterwards.

In a catalogue of all items they would be what is never the right answer: every step would push them down, and what
their features say with them.
"""

from dataclasses import replace

import numpy as np

from sasrec.data.sequences import Sequences
from sasrec.training.negatives import Draw


def occurring_in(train: Sequences) -> np.ndarray:
    """Rows of the items of these histories, ascending and each once; int64 of shape (known,)."""
    return np.unique(train.items).astype(np.int64)


def among(known: np.ndarray, train: Sequences, draw: Draw | None, *, items: int) -> tuple[Sequences, Draw | None]:
    """The same histories and sampler in a catalogue of these items alone.

    Args:
        known: Item rows as of `occurring_in`; every item of the histories is among them.
        draw: A sampler of rows of the whole catalogue; what it draws beyond the known items is nothing to draw.
        items: Size of the whole catalogue.
    """
    places = np.full(items + 1, -1, dtype=np.int64)  # the last one stands for -1, nothing drawn
    places[known] = np.arange(len(known))
    within = replace(train, items=places[train.items].astype(np.int32))
    if draw is None:
        return within, None
    return within, lambda rows, count, rng: places[draw(rows, count, rng)]
