"""Metrics from ranks, one value a user. Every user has one target.

`ranks`, of shape (users,), counts from 0: the number of items placed before the target. It is fractional where scores
tie and infinite where the target could not be recommended at all. Values are in [0, 1], float64 of the same shape.
"""

import math
from collections.abc import Iterable

import numpy as np


def hit_rate(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k, else 0."""
    return (ranks < k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(rank + 2) where the target is among the first k, else 0; with one target the ideal gain is 1.

    Source: Järvelin & Kekäläinen, ACM TOIS 2002.
    """
    return np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)


def mrr(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / (rank + 1) where the target is among the first k, else 0. Source: Voorhees, TREC 1999."""
    return np.where(ranks < k, 1.0 / (ranks + 1.0), 0.0)


def precision(ranks: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k that are targets; with one target the hit rate divided by k."""
    return hit_rate(ranks, k) / k


# With one target a user, recall is the hit rate, and average precision the reciprocal rank.
METRICS = {"NDCG": ndcg, "HR": hit_rate, "MRR": mrr, "Recall": hit_rate, "Precision": precision, "MAP": mrr}


def in_tables(metrics: Iterable[str]) -> list[str]:
    """Those that tables show, of metrics such as "HR@10": the rest follow from these where a user has one target."""
    return [name for name in metrics if name.startswith(("NDCG", "HR", "MRR"))]


def mean_in_words(mean: float, error: float) -> str:
    """A mean with its standard error, and alone where one user tells no error."""
    return f"{mean:.4f}" if math.isnan(error) else f"{mean:.4f} ± {error:.4f}"


def mean_and_error(values: np.ndarray, users: np.ndarray | None = None) -> tuple[float, float]:
    """Mean over users and its standard error; the error of a single user is NaN.

    Args:
        values: Of shape (users,), or several of a user.
        users: Whose each value is, where a user may have several; these do not count as independent.
    """
    mean = values.mean()
    apart = values - mean if users is None else np.bincount(np.unique(users, return_inverse=True)[1], values - mean)
    if len(apart) < 2:
        return float(mean), float("nan")
    # Without several values of a user it is the standard deviation over the root of their number.
    return float(mean), float(np.sqrt((apart**2).sum() * len(apart) / (len(apart) - 1)) / len(values))
