"""Items that a user never had, counted so that any of them is found at once."""

from typing import final

import numpy as np

from sasrec.data.sequences import Sequences


@final
class Unseen:
    """The items outside each history, in ascending order, without a list of them.

    The r-th unseen item of a user is r plus the number of seen items at or below it, found by one binary search in
    a table made once. So a draw takes the same time whatever the user has seen, and always ends.

    Attributes:
        counts: How many items each user never had; int64 of shape (users,).
    """

    def __init__(self, histories: Sequences, *, items: int) -> None:
        """Args: histories: What each user had; repeats are harmless. items: Catalogue size V."""
        seen = np.unique(histories.owners() * items + histories.items)
        users = seen // items
        had = np.bincount(users, minlength=len(histories))
        self._starts = np.cumsum(had) - had
        # Unseen items below the j-th seen item of its user, made unique per user: ascending within and across users.
        self._keys = users * (items + 1) + seen % items - (np.arange(len(seen)) - self._starts[users])
        self._stride = items + 1
        self.counts = items - had

    def at(self, users: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Unseen items by their place among a user's unseen ones.

        Args:
            users: Rows of the histories, int array of shape (P,).
            places: From 0 to below the user's count, int64 of shape (P, N).

        Returns:
            Item rows, int64 of shape (P, N).
        """
        below = np.searchsorted(self._keys, users[:, None] * self._stride + places, side="right")
        return places + below - self._starts[users][:, None]
