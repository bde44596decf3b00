"""Stochastic shared embeddings: ids that become random ones while a network learns."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sasrec.config import Config
from sasrec.training.batches import Batch

_UNKNOWN = 0.1  # share of the swapped users who become the unknown user, so that its vector is learned


def swapped(batch: Batch, config: Config, *, items: int, users: int, rng: np.random.Generator) -> Batch:
    """The batch with some of its users, items and targets replaced by ones drawn evenly.

    Source: Wu et al., NeurIPS 2019 (stochastic shared embeddings) and RecSys 2020 (SSE-PT). Beyond these, one swapped
    user in ten becomes the unknown one, by whose vector new users are served.
    """

    def swap(rows: Tensor, share: float, count: int) -> Tensor:
        drawn = torch.from_numpy(rng.integers(count, size=len(rows)))
        return torch.where(torch.from_numpy(rng.random(len(rows)) < share), drawn, rows)

    if config.swap_items:
        batch = replace(
            batch,
            items=swap(batch.items, config.swap_items, items),
            targets=swap(batch.targets, config.swap_items, items),
        )
    if config.swap_users:
        others = swap(batch.users, config.swap_users, users)
        nobody = torch.from_numpy(rng.random(len(others)) < _UNKNOWN) & (others != batch.users)
        batch = replace(batch, users=others.masked_fill(nobody, -1))
    return batch
