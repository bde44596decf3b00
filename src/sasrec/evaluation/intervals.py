"""How far apart two models are, user by user, and how sure that is."""

from dataclasses import dataclass

import numpy as np

_BLOCK = 2**22  # draws at a time


@dataclass(frozen=True)
class Interval:
    """A difference of means and where it lies.

    Attributes:
        difference: Mean of first minus second over the users.
        low: Lower end.
        high: Upper end.
        level: Share of such intervals that hold the true difference.
    """

    difference: float
    low: float
    high: float
    level: float

    @property
    def tells_apart(self) -> bool:
        """True where 0 lies outside."""
        return self.low > 0 or self.high < 0


def paired_interval(
    first: np.ndarray, second: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean difference of a metric between two models on the same users.

    What makes a user easy or hard for both models falls out of the difference, so the interval is much narrower than
    two standard errors of either mean suggest.

    Args:
        first: The metric of every user under one model, as `ndcg(ranks, 10)`; of shape (users,).
        second: The same users, in the same order, under the other.
        level: In (0, 1).
        resamples: How often as many users are drawn with replacement.
        seed: Fixes the draws.

    Raises:
        ValueError: The two are not of the same users, or of none.
    Source:
        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"expected two metrics of the same users, found shapes {first.shape} and {second.shape}")
    differences = first - second
    users = len(differences)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    size = max(_BLOCK // users, 1)
    for start in range(0, resamples, size):
        part = means[start : start + size]
        part[:] = differences[rng.integers(0, users, (len(part), users), dtype=np.int32)].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences.mean()), float(low), float(high), level)
