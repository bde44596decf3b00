"""Stochastic shared embeddings: ids that become random ones while a network learns."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sasrec.config import Config
from sasrec.training.batches import Batch

_UNKNOWN = 0.1  # share of the swapped users who become the unknown user, so that its vector is learned


def swapped(batch: Batch, config: Config, *, items: int, users: np.ndarray, rng: np.random.Generator) -> Batch:
    """The batch with some of its users, items and targets replaced by ones drawn evenly.

    Source: Wu et al., NeurIPS 2019 (stochastic shared embeddings) and RecSys 2020 (SSE-PT). Beyond these, one swapped
    user in ten becomes the unknown one, by whose vector new users are served.

    Args:
        items: Catalogue size V.
        users: Rows of the users who train; int64 of shape (trainable,).
    """
    if config.swap_items:
        chosen, others = _swaps(batch.items, config.swap_items, items, rng)
        inputs, targets, lasts = torch.where(chosen, others, batch.items), batch.targets, batch.layout.lasts
        if config.learn == "last":
            chosen = chosen[lasts]
        else:  # as in the code of SSE-PT, a swapped item is also what the position before it has to predict
            targets = inputs.roll(-1).index_copy(0, lasts, targets[lasts])
        drawn = torch.from_numpy(rng.integers(items, size=len(targets))).to(targets.device)
        batch = replace(batch, items=inputs, targets=torch.where(chosen, drawn, targets))
    if config.swap_users:
        chosen, places = _swaps(batch.users, config.swap_users, len(users), rng)
        others = torch.from_numpy(users).to(places.device)[places]
        nobody = chosen & torch.from_numpy(rng.random(len(others)) < _UNKNOWN).to(others.device)
        batch = replace(batch, users=torch.where(chosen, others, batch.users).masked_fill(nobody, -1))
    return batch


def _swaps(rows: Tensor, share: float, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Which of these are swapped, and for what each would be."""
    chosen, drawn = rng.random(len(rows)) < share, rng.integers(count, size=len(rows))
    return torch.from_numpy(chosen).to(rows.device), torch.from_numpy(drawn).to(rows.device)
