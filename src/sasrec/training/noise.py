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
    if config.swap_items:
        batch = _with_other_items(batch, config.swap_items, items, rng)
    if config.swap_users:
        chosen, others = _swaps(batch.users, config.swap_users, users, rng)
        nobody = chosen & torch.from_numpy(rng.random(len(others)) < _UNKNOWN)
        batch = replace(batch, users=torch.where(chosen, others, batch.users).masked_fill(nobody, -1))
    return batch


def _with_other_items(batch: Batch, share: float, items: int, rng: np.random.Generator) -> Batch:
    """Some positions with another item, and, drawn apart, another target.

    As in the code of SSE-PT, a swapped item is also what the position before it has to predict, unless that position
    is swapped itself.
    """
    chosen, others = _swaps(batch.items, share, items, rng)
    swapped_items = torch.where(chosen, others, batch.items)
    if len(batch.targets) == len(batch.items):
        targets = swapped_items.roll(-1)
        targets[batch.layout.lasts] = batch.targets[batch.layout.lasts]
    else:
        targets, chosen = batch.targets, chosen[batch.layout.lasts]
    drawn = torch.from_numpy(rng.integers(items, size=len(targets)))
    return replace(batch, items=swapped_items, targets=torch.where(chosen, drawn, targets))


def _swaps(rows: Tensor, share: float, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Which of these are swapped, and for what each would be."""
    return torch.from_numpy(rng.random(len(rows)) < share), torch.from_numpy(rng.integers(count, size=len(rows)))
