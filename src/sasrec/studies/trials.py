"""Several ways to predict the same targets, each beside the first: ranked, averaged and told apart."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from sasrec.data.splits import Holdout
from sasrec.evaluation.intervals import paired_changes, paired_interval, paired_intervals
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.scorers import Scorer
from sasrec.studies.verdict import ENOUGH_HITS, Change, Estimate
from sasrec.training.progress import Tell

METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NDCG@10": lambda ranks: ndcg(ranks, 10),
    "HR@1": lambda ranks: hit_rate(ranks, 1),
    "HR@10": lambda ranks: hit_rate(ranks, 10),
}
"""For every metric its values from ranks."""

Part = Literal["whole", "shuffled", "shown", "counted", "retrained"]


@dataclass(frozen=True)
class Line:
    """One way to predict the test targets, beside the whole network.

    Attributes:
        name: What it is, in words.
        part: "whole" is the network as it is; "shuffled" and "shown" the same one with changed histories; "counted" a
            model that counts; "retrained" a network trained on less.
        length: Recent items that it sees; None for as many as the whole network.
        metrics: "NDCG@10", "HR@1" and "HR@10".
    """

    name: str
    part: Part
    length: int | None
    metrics: dict[str, Estimate]


@final
class Trials:
    """Ranks one holdout in several ways; seen items are left out, or kept, in all of them alike."""

    def __init__(self, holdout: Holdout, *, exclude_seen: bool, tell: Tell) -> None:
        """Args: tell: Is told what is being ranked, and how well that went."""
        self.holdout, self.exclude_seen, self.tell = holdout, exclude_seen, tell
        self._tried: list[tuple[Line, np.ndarray]] = []

    def run(
        self,
        name: str,
        part: Part,
        scorer: Scorer,
        *,
        length: int | None = None,
        histories: Callable[[Holdout], Holdout] | None = None,
        times: int = 1,
    ) -> None:
        """Rank for one line.

        Args:
            histories: Changes the holdout first.
            times: How often; a user's value is the mean.
        """
        self.tell(f"ranking: {name}" + (f", {times} times" if times > 1 else ""))
        several = []
        for _ in range(times):
            holdout = self.holdout if histories is None else histories(self.holdout)
            ranks = rank_targets(scorer, holdout, exclude_seen=self.exclude_seen).ranks
            several.append(np.stack([metric(ranks) for metric in METRICS.values()], axis=1))
        values = np.mean(several, axis=0)
        self.tell("  ".join(f"{metric} {mean:.4f}" for metric, mean in zip(METRICS, values.mean(axis=0), strict=True)))
        self._tried.append((Line(name, part, length, {}), values))

    def lines(self, seed: int) -> tuple[Line, ...]:
        """Every line with its means, and their differences from the first line's.

        Args:
            seed: Draws the users of the intervals.
        """
        values = np.stack([each for _, each in self._tried], axis=1)
        users, count, _ = values.shape
        differences = values - values[:, :1]
        ends = paired_intervals(differences.reshape(users, -1), seed=seed).reshape(2, count, -1)
        # Axes: lines; metrics; mean, difference, low, high.
        table = np.stack([values.mean(axis=0), differences.mean(axis=0), *ends], axis=-1).tolist()
        differ = (ends[0] > 0) | (ends[1] < 0)
        changes = [_changes(values[:, :, place], differ[:, place], seed=seed) for place in range(len(METRICS))]

        def estimate(at: int, place: int) -> Estimate:
            mean, difference, low, high = table[at][place]
            return Estimate(mean, difference, low, high, changes[place][at])

        return tuple(
            replace(line, metrics={name: estimate(at, place) for place, name in enumerate(METRICS)})
            for at, (line, _) in enumerate(self._tried)
        )

    def from_line(self, name: str, *, seed: int) -> Change | None:
        """How far the first line's NDCG@10 lies from that of another, by name; None where that is 0."""
        first = self._tried[0][1][:, 0]
        other = next(values for line, values in self._tried if line.name == name)[:, 0]
        apart = paired_interval(first, other, seed=seed)
        differ = np.array([False, apart.low > 0 or apart.high < 0])
        return _changes(np.stack([other, first], axis=1), differ, seed=seed)[1]


def _changes(values: np.ndarray, differ: np.ndarray, *, seed: int) -> list[Change] | list[None]:
    """For values of shape (users, lines) how far each line's mean is from the first one's.

    Args:
        differ: Whether each line surely does, bool of shape (lines,).
    """
    whole = values[:, 0]
    if not whole.any():
        return [None] * values.shape[1]
    shares = values.mean(axis=0) / whole.mean() - 1
    low, high = paired_changes(values, whole, seed=seed)
    sure = int(np.count_nonzero(whole)) >= ENOUGH_HITS
    told = zip(*(each.tolist() for each in (shares, low, high, differ)), strict=True)
    return [Change(share, least, most, differs, sure) for share, least, most, differs in told]
