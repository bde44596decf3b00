"""A model of an earlier catalogue beside models of today's: what it would answer to the same users."""

from dataclasses import replace

import numpy as np
import polars as pl

from sasrec.data.splits import Holdout, Split
from sasrec.data.vocab import Vocabulary
from sasrec.evaluation.metrics import METRICS, mean_and_error
from sasrec.evaluation.protocol import Report, Row
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.recommender import Recommender


def beside(report: Report, model: Recommender, data: Split, *, name: str) -> Report:
    """A report with a row of an earlier model, after its first one.

    The model sees what a server would give it: of each history the items that it knows, and where it knows none its
    popular items are the answer. What it does not know it never recommends. Its own training is not compared with
    `data`; that it was read and split in the same way is for the caller to see to. Then what is tested is as new to a
    model of an earlier state of the log as to one of this: with a split by last item, a user's last event was held out
    then too, unless later ones came.

    Args:
        report: Of `data`, over the whole catalogue.
        name: What the row is called.

    Raises:
        ScoreError: The model gave scores that are not numbers.
    """
    holdout = data.test if report.on == "test" else data.valid
    ranks, shown = np.full(len(holdout), np.inf), {cut: np.zeros(len(model.items), dtype=bool) for cut in report.k}
    items = _rows_there(data.log.items, model.items)
    theirs = _translated(holdout, items, _rows_there(data.log.users, model.users))
    stranger = theirs.histories.lengths == 0
    popular = Popularity.of(model.histories, items=len(model.items))
    for scorer, users in ((model.scorer, np.flatnonzero(~stranger)), (popular, np.flatnonzero(stranger))):
        # Where the target is unknown any other one is ranked: what the user is shown counts for coverage alone.
        some = theirs.take(users)
        asked = replace(some, targets=np.maximum(some.targets, 0))
        found = rank_targets(scorer, asked, exclude_seen=report.exclude_seen, cuts=report.k)
        ranks[users] = np.where(some.targets < 0, np.inf, found.ranks)
        shown = {cut: shown[cut] | found.recommended[cut] for cut in report.k}
    metrics = {f"{metric}@{one}": mean_and_error(of(ranks, one)) for one in report.k for metric, of in METRICS.items()}
    known = items[items >= 0]
    coverage = {f"coverage@{cut}": float(given[known].sum()) / len(items) for cut, given in shown.items()}
    row = Row(name, metrics, coverage, ranks)
    unknown = int((theirs.targets < 0).sum())
    note = f"{unknown:,} of {len(ranks):,} targets are items that {name!r} does not know"
    rows = (report.rows[0], row, *report.rows[1:])
    return replace(report, rows=rows, notes=(*report.notes, *([note] if unknown else ())))


def _rows_there(here: Vocabulary, there: Vocabulary) -> np.ndarray:
    """For each id here its row there, int64; -1 where it has none. An integer is its decimal text."""
    rows = {text: row for row, text in enumerate(there.ids.cast(pl.String).to_list())}
    return np.array([rows.get(text, -1) for text in here.ids.cast(pl.String).to_list()], dtype=np.int64)


def _translated(holdout: Holdout, items: np.ndarray, users: np.ndarray) -> Holdout:
    """The holdout in rows of the other catalogue, without items of the histories that it does not know."""
    mapped = items[holdout.histories.items].astype(np.int32)
    theirs = replace(holdout.histories, items=mapped, users=users[holdout.users]).without(np.array([-1]))
    return Holdout(holdout.users, theirs, items[holdout.targets])
