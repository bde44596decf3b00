"""How far apart two models are, user by user, and how sure that is."""

from dataclasses import dataclass

import numpy as np

ENOUGH_USERS = 50
"""A bootstrap over fewer users gives intervals that are too narrow, as what they do not show is not in the draws."""


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

    def __str__(self) -> str:
        return f"{self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def paired_interval(
    first: np.ndarray,
    second: np.ndarray,
    *,
    users: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean difference of a metric between two models on the same users.

    What makes a user easy or hard for both models falls out of the difference, so the interval is much narrower than
    two standard errors of either mean suggest. One user tells nothing of others: the interval is all that a difference
    of two metrics can be, -1 to 1.

    Args:
        first: The metric of every user under one model, as `ndcg(ranks, 10)`, in [0, 1]; of shape (users,).
        second: The same users, in the same order, under the other.
        users: Whose each value is, where a user may have several, as in several folds: these are drawn together, for
            a user's values are like each other. None where each has one.
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
    owners = np.arange(len(differences)) if users is None else np.unique(users, return_inverse=True)[1]
    if owners.max() == 0:
        return Interval(float(differences.mean()), -1.0, 1.0, level)
    both = np.stack([np.bincount(owners, differences), np.bincount(owners)], axis=1)  # of each user
    sums, counts = _resampled(both, resamples=resamples, seed=seed).T
    low, high = np.quantile(sums / counts, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences.mean()), float(low), float(high), level)


def paired_intervals(
    differences: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """As `paired_interval` for many differences at once, for all of which the same users are drawn.

    Args:
        differences: Of shape (users, columns).

    Returns:
        Lower and upper ends, float64 of shape (2, columns).
    """
    means = _resampled(differences, resamples=resamples, seed=seed)
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)


def paired_changes(
    values: np.ndarray, base: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """As `paired_intervals` for how far each mean lies from another one, as a share of that: -1 where it is 0.

    Both means are those of the same drawn users. Draws in which the other one is 0 tell nothing and are left out.

    Args:
        values: Not negative, of shape (users, columns).
        base: What the other mean is of, not negative and not all 0; of shape (users,).
    """
    means = _resampled(np.column_stack([values, base]), resamples=resamples, seed=seed)
    means = means[means[:, -1] > 0]
    return np.quantile(means[:, :-1] / means[:, -1:] - 1, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _resampled(values: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """Means of values of shape (users, columns) over users drawn with replacement; of shape (resamples, columns)."""
    rng, users = np.random.default_rng(seed), len(values)
    draws = (np.bincount(rng.integers(users, size=users), minlength=users) for _ in range(resamples))
    # A product of BLAS would take threads, which wait for each other ten times as long where others use the cores.
    return np.stack([np.einsum("u,uc->c", drawn, values) for drawn in draws]) / users
