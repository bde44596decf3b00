"""The one honest protocol: whole catalogue, every user, counting models beside the network, errors beside means."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from sasrec.data.sequences import Sequences
from sasrec.data.splits import Part, Split
from sasrec.errors import ConfigError, DataError
from sasrec.evaluation.metrics import METRICS, mean_and_error
from sasrec.evaluation.ranking import rank_targets
from sasrec.files import durable_file
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer


@dataclass(frozen=True, eq=False)
class Row:
    """One model's line of a report.

    Attributes:
        model: Its name.
        metrics: For every metric at every k, as "NDCG@10": mean over users and standard error.
        coverage: For every k, the share of the catalogue that anybody was recommended among the first k.
        ranks: Rank of each user's target, from 0; float64 of shape (users,), in the order of the holdout's users.
    """

    model: str
    metrics: dict[str, tuple[float, float]]
    coverage: dict[str, float]
    ranks: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation; `print` shows it as a table with its protocol.

    Attributes:
        protocol: How the numbers were made, in one line.
        notes: What to keep in mind when reading them.
        rows: The evaluated model first, then the counting models.
        k: The cut-offs.
        users: Rows of the users that were ranked, int64 of shape (users,).
        on: The part that was predicted.
        exclude_seen: Whether what a user had before was left out.
    """

    protocol: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    k: tuple[int, ...]
    users: np.ndarray
    on: Part
    exclude_seen: bool

    def __getitem__(self, metric: str) -> float:
        """The evaluated model's mean, as `report["NDCG@10"]`."""
        means = {name: mean for name, (mean, _) in self.rows[0].metrics.items()} | self.rows[0].coverage
        if metric not in means:
            raise KeyError(f"no metric {metric!r}; the report has {', '.join(means)}")
        return means[metric]

    def __str__(self) -> str:
        lines = [self.protocol]
        # Recall and Precision follow from the hit rate with one target a user, so the table leaves them out.
        names = [name for name in self.rows[0].metrics if not name.startswith(("Recall", "Precision"))]
        shares = list(self.rows[0].coverage)
        width = max(len(row.model) for row in self.rows)
        lines.append("  ".join([" " * width, *(f"{name:>15}" for name in names), *(f"{name:>12}" for name in shares)]))
        for row in self.rows:
            cells = [f"{mean:.4f} ± {error:.4f}".rjust(15) for mean, error in (row.metrics[name] for name in names)]
            lines.append("  ".join([row.model.ljust(width), *cells, *(f"{row.coverage[n]:>12.1%}" for n in shares)]))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, object]:
        """Plain values, without the ranks; the error of a single user is None."""
        models = {
            row.model: {
                name: {"mean": mean, "error": None if math.isnan(error) else error}
                for name, (mean, error) in row.metrics.items()
            }
            | {name: {"mean": share} for name, share in row.coverage.items()}
            for row in self.rows
        }
        return {"protocol": self.protocol, "notes": list(self.notes), "models": models}

    def save_json(self, path: str | Path, *, replace: bool = False) -> None:
        """Write `to_dict` as JSON, whole or not at all; OutputError where the path is taken."""
        with durable_file(Path(path), replace=replace) as draft:
            draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def evaluate(
    model: Recommender,
    data: Split,
    *,
    k: int | Sequence[int] = 10,
    exclude_seen: bool | None = None,
    on: Part = "test",
) -> Report:
    """Rank the whole catalogue for every held-out user, with popularity and Markov counted from the same training.

    Args:
        model: A recommender of the same catalogue.
        data: The split it was trained on.
        k: Cut-off or cut-offs.
        exclude_seen: Leave out what the user had before; None does as the model was trained.
        on: "test", or "valid" for the part that chose the weights.

    Raises:
        DataError: The model's catalogue is not that of `data`.
        ConfigError: `k` or `on` is out of range.
        ScoreError: The model gave scores that are not numbers.
    """
    cuts = tuple(k) if isinstance(k, Sequence) else (k,)
    if not cuts or any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in cuts):
        raise ConfigError(f"k: expected an integer >= 1 or several, found {k!r}")
    if on not in get_args(Part):
        raise ConfigError(f"on: expected 'test' or 'valid', found {on!r}")
    if not model.items.ids.equals(data.log.items.ids):
        raise DataError(
            f"the model knows {len(model.items):,} items, the log {data.log.source.name} holds {len(data.log.items):,} "
            "others; evaluate on the log that the model was trained on"
        )
    seen = model.exclude_seen if exclude_seen is None else exclude_seen
    holdout = data.test if on == "test" else data.valid
    if not len(holdout):
        raise DataError(f"{data.log.source.name}: the split holds no {on} user")
    items = len(model.items)
    train = data.train
    # A counting model that is evaluated itself may have counted more than the training part.
    own = "SASRec" if model.scorer.kind == "sasrec" else f"{model.scorer.kind.title()} (this model)"
    scorers: dict[str, Scorer] = {
        own: model.scorer,
        "Markov": Markov.of(train, items=items),
        "Popularity": Popularity.of(train, items=items),
    }
    rows = []
    for name, scorer in scorers.items():
        found = rank_targets(scorer, holdout, exclude_seen=seen, cuts=cuts)
        values = {f"{metric}@{one}": of(found.ranks, one) for one in cuts for metric, of in METRICS.items()}
        metrics = {metric: mean_and_error(each) for metric, each in values.items()}
        coverage = {f"coverage@{one}": float(given.mean()) for one, given in found.recommended.items()}
        rows.append(Row(name, metrics, coverage, found.ranks))
    protocol = (
        f"protocol: {data.how} split, {on}; {len(holdout):,} users, whole catalogue of {items:,} items ranked, "
        f"exclude_seen={seen}, ties at their expected rank; mean ± standard error over users"
    )
    return Report(
        protocol, _notes(model, data, train, rows[0].ranks, holdout.targets), tuple(rows), cuts, holdout.users, on, seen
    )


def _notes(
    model: Recommender, data: Split, train: Sequences, ranks: np.ndarray, targets: np.ndarray
) -> tuple[str, ...]:
    notes = []
    unreachable = int(np.isinf(ranks).sum())
    if unreachable:
        notes.append(
            f"{unreachable:,} of {len(ranks):,} targets were seen before and cannot be hit with exclude_seen=True"
        )
    trained = np.zeros(len(model.items), dtype=bool)
    trained[train.items] = True
    cold = int((~trained[targets]).sum())
    if cold:
        notes.append(f"{cold:,} of {len(ranks):,} targets never occur in training")
    made = model.record.get("data")
    if made is not None and made != data.fingerprint:
        notes.append("the model was trained on another log or split: it may have seen these targets")
    return tuple(notes)
