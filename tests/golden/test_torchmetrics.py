"""Metrics and ranks agree with torchmetrics on random scores of the whole catalogue."""

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import (
    RetrievalHitRate,
    RetrievalMAP,
    RetrievalMRR,
    RetrievalNormalizedDCG,
    RetrievalPrecision,
    RetrievalRecall,
)

from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout
from sasrec.evaluation.metrics import METRICS
from sasrec.evaluation.ranking import rank_targets

THEIRS = {
    "NDCG": RetrievalNormalizedDCG,
    "HR": RetrievalHitRate,
    "MRR": RetrievalMRR,
    "Recall": RetrievalRecall,
    "Precision": RetrievalPrecision,
    "MAP": RetrievalMAP,
}
USERS, ITEMS = 60, 40


class Scores:
    kind, items = "scores", ITEMS

    def __init__(self, values):
        self.values = values

    def scores(self, histories):
        return self.values.numpy().copy()


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(2)
    rng = np.random.default_rng(2)
    histories = [rng.integers(0, ITEMS, rng.integers(1, 12)).tolist() for _ in range(USERS)]
    targets = np.array([rng.choice([item for item in range(ITEMS) if item not in one]) for one in histories])
    holdout = Holdout(np.arange(USERS), Sequences.of(histories), targets.astype(np.int32))
    # Positive, since torchmetrics takes a score of 0 or less for "not retrieved".
    return torch.rand(USERS, ITEMS, generator=generator) + 0.1, holdout


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 5, 10, 39])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_that_of_torchmetrics(case, name, k, exclude_seen):
    values, holdout = case
    relevant = torch.nn.functional.one_hot(torch.from_numpy(holdout.targets).long(), ITEMS).bool()
    shown = torch.ones(USERS, ITEMS, dtype=torch.bool)
    if exclude_seen:
        for row in range(USERS):
            shown[row, holdout.histories[row]] = False
    users = torch.arange(USERS).unsqueeze(1).expand(USERS, ITEMS)

    ours = METRICS[name](rank_targets(Scores(values), holdout, exclude_seen=exclude_seen).ranks, k).mean()
    theirs = THEIRS[name](top_k=k)(values[shown], relevant[shown], indexes=users[shown])

    assert ours == pytest.approx(theirs.item(), rel=1e-6)
