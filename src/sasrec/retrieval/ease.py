"""EASE: the links that best tell every item of a user from the others, in closed form.

Axes: V catalogue.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError
from sasrec.retrieval.linked import Linked, Linking

_ITEMS = 16_384  # beyond, a table of items x items takes more than 1 GB, and three are held at once
_MOST = 1000  # links kept of an item: the strongest
_BLOCK = 2**25  # numbers of users x items that are held at once

EASE = Linking(kind="ease", decay=0.9)
"""Where to start from."""


def ease(train: Sequences, *, items: int, settings: Linking = EASE) -> Linked:
    """The model that follows the links of `ease_links`, with popularity where there are none; ConfigError likewise."""
    counts = np.bincount(train.items, minlength=items).astype(np.float32)
    return Linked(settings, ease_links(train, items=items, l2=settings.l2), torch.from_numpy(counts))


def ease_links(train: Sequences, *, items: int, l2: float) -> Sequences:
    """Weights from each item to every other, which minimise the squared error of telling who had what.

    Takes memory of three tables of items x items, and time that grows with the cube of the items.

    Args:
        train: Training histories; order and repetition do not matter.
        items: Catalogue size V.
        l2: Penalty on the squares of the weights.

    Returns:
        A row for each item: the 1,000 strongest weights to others, of either sign, in ascending order of items.

    Raises:
        ConfigError: The catalogue is too large.
    Source:
        Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, arXiv:1905.03375. Weak weights are left
        out here.
    """
    if items > _ITEMS:
        raise ConfigError(
            f"model: EASE of {items:,} items would hold {3 * 4 * items**2 / 1e9:.0f} GB, so it is for at most "
            f"{_ITEMS:,}; take 'knn' or 'rules'"
        )
    shared = _shared(train, items)
    shared.diagonal().add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(shared))
    weights = inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0)
    kept = min(_MOST, items)
    linked = weights.abs().topk(kept, dim=1).indices.sort(dim=1).values
    offsets = np.arange(items + 1, dtype=np.int64) * kept
    return Sequences(linked.to(torch.int32).numpy().ravel(), offsets, weights=weights.gather(1, linked).numpy().ravel())


def _shared(train: Sequences, items: int) -> Float[Tensor, "V V"]:
    """How many users had both of two items."""
    pairs = np.unique(train.items.astype(np.int64) * len(train) + train.owners())  # a user once with an item; by items
    had, users = pairs // max(len(train), 1), pairs % max(len(train), 1)
    ones = torch.ones(len(pairs))
    places = torch.from_numpy(np.stack([had, users]))
    table = torch.sparse_coo_tensor(places, ones, (items, len(train)), is_coalesced=True, check_invariants=False)
    shared = torch.empty(items, items)
    width = max(_BLOCK // max(len(train), 1), 1)
    for start in range(0, items, width):
        own = slice(*np.searchsorted(had, [start, start + width]))
        part = torch.zeros(len(train), min(width, items - start))
        part[torch.from_numpy(users[own]), torch.from_numpy(had[own] - start)] = 1.0
        shared[:, start : start + width] = torch.sparse.mm(table, part)
    return shared
