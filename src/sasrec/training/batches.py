"""From training histories to steps, gathered from flat arrays and never padded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.model.attention import Layout


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's work; P real positions, one after the other.

    Attributes:
        items: Item row at each position.
        targets: The item that followed it.
        layout: Which positions belong together.
        users: For every position, its row in the training histories; int64 of shape (P,).
    """

    items: Int[Tensor, "P"]
    targets: Int[Tensor, "P"]
    layout: Layout
    users: np.ndarray


def trainable(train: Sequences) -> np.ndarray:
    """Rows of the histories that hold at least one step to learn from: two events or more."""
    return np.flatnonzero(train.lengths >= 2)


def epoch_batches(train: Sequences, *, length: int, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Every trainable history once, in random order, `size` at a time.

    Args:
        train: Training histories.
        length: Most recent positions that are learned from.
        size: Histories a batch; the last one may hold fewer.
        rng: Draws the order.
    """
    rows = rng.permutation(trainable(train))
    lengths = train.lengths
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        windows = train.slices(some, np.maximum(lengths[some] - length - 1, 0), lengths[some])
        positions = windows.lengths - 1
        yield Batch(
            items=torch.from_numpy(np.delete(windows.items, windows.offsets[1:] - 1).astype(np.int64)),
            targets=torch.from_numpy(np.delete(windows.items, windows.offsets[:-1]).astype(np.int64)),
            layout=Layout.of(positions),
            users=np.repeat(some, positions),
        )
