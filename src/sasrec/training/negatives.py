"""Items that a user never had, drawn without trial and error."""

from typing import final

import numpy as np

from sasrec.data.sequences import Sequences


@final
class UnseenSampler:
    """Uniform draws from the items outside each user's history.

    The r-th unseen item of a user is r plus the number of seen items at or below it, found by one binary search in
    a table made once. So a draw takes the same time whatever the user has seen, and always ends.

    Args:
        histories: What each user had; repeats are harmless.
        items: Catalogue size V.
    """

    def __init__(self, histories: Sequences, *, items: int) -> None:
        seen = np.unique(histories.owners() * items + histories.items)
        users = seen // items
        counts = np.bincount(users, minlength=len(histories))
        self._starts = np.cumsum(counts) - counts
        # Unseen items below the j-th seen item of its user, made unique per user: ascending within and across users.
        self._keys = users * (items + 1) + seen % items - (np.arange(len(seen)) - self._starts[users])
        self._unseen = items - counts
        self._stride = items + 1

    def draw(self, users: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws for each entry of `users`, with replacement.

        Args:
            users: Rows of `histories`, int array of shape (P,).

        Returns:
            Item rows, int64 of shape (P, count); -1 where the user has had every item.
        """
        unseen = self._unseen[users][:, None]
        place = (rng.random((len(users), count)) * unseen).astype(np.int64)
        below = np.searchsorted(self._keys, users[:, None] * self._stride + place, side="right")
        return np.where(unseen > 0, place + below - self._starts[users][:, None], -1)
