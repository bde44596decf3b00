"""Users in groups of like size: where a model is good, and where it is not."""

import math
from dataclasses import dataclass

import numpy as np

from sasrec.evaluation.metrics import mean_and_error, ndcg
from sasrec.report.elements import Content, tag

INTERVAL = 1.96
"""Standard errors on either side of a mean that make an interval of 95 %, by the normal approximation."""

MEANS = f"Mean ± standard error over users; below it the 95 % interval, ± {INTERVAL} standard errors, within 0 and 1."
"""What `mean_cell` shows."""


def interval(mean: float, error: float) -> tuple[float, float]:
    """The 95 % interval of a mean of numbers from 0 to 1, which it does not leave; NaN where there is no error."""
    if math.isnan(error):
        return math.nan, math.nan
    return max(mean - INTERVAL * error, 0.0), min(mean + INTERVAL * error, 1.0)


def mean_cell(mean: float, error: float, *, more: str = "") -> Content:
    """A mean with its error, and its interval below; the mean alone of a single user. Args: more: Added below."""
    if math.isnan(error):
        return f"{mean:.4f}"
    low, high = interval(mean, error)
    return tag("span", f"{mean:.4f} ± {error:.4f}", tag("small", f"{low:.4f} to {high:.4f}{more}"))


@dataclass(frozen=True, eq=False)
class Group:
    """Users whose quantity lies between two bounds.

    Attributes:
        low, high: The least and the greatest quantity in the group.
        members: Places of its users, int64.
    """

    low: int
    high: int
    members: np.ndarray

    @property
    def name(self) -> str:
        """Its bounds in words."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"


def quantile_groups(quantities: np.ndarray, *, count: int = 6) -> list[Group]:
    """Users by a quantity, in at most `count` groups of about as many users each.

    Users of an equal quantity are never parted, so that groups may be fewer and of unequal size.

    Args:
        quantities: Integer of each user, shape (users,).
    """
    values, sizes = np.unique(quantities, return_counts=True)
    # A value belongs to the quantile in which the middle one of its users lies.
    middles = np.cumsum(sizes) - sizes / 2
    numbers = np.minimum((middles * count / len(quantities)).astype(np.int64), count - 1)
    of_user = numbers[np.searchsorted(values, quantities)]
    groups = [np.flatnonzero(of_user == one) for one in np.unique(numbers)]
    return [Group(int(quantities[one].min()), int(quantities[one].max()), one) for one in groups]


def ndcg_of(ranks: np.ndarray, groups: list[Group], k: int) -> tuple[list[float], list[tuple[float, float]]]:
    """Mean NDCG@k of each group, by ranks from 0, and the ends of its 95 % interval; NaN for a single user."""
    found = [mean_and_error(ndcg(ranks[group.members], k)) for group in groups]
    return [mean for mean, _ in found], [interval(mean, error) for mean, error in found]


def hit_curve(ranks: np.ndarray, depths: np.ndarray) -> list[float]:
    """Share of the users, by ranks from 0, whose target is among the first so many items, for each of `depths`."""
    return [float((ranks < depth).mean()) for depth in depths]
