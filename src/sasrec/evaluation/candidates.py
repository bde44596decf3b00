"""Targets ranked among a few drawn items, as many papers do: the figures do not compare with whole-catalogue ones.

Source: Krichene & Rendle, KDD 2020, on why sampled figures are higher and may order models otherwise.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sasrec.data.splits import Holdout, Split
from sasrec.data.unseen import Unseen
from sasrec.errors import ConfigError, check_whole, is_whole
from sasrec.evaluation.ranking import scored
from sasrec.retrieval.scorers import Scoring
from sasrec.retrieval.topk import blocks

Candidates = int | Literal["sasrec2018"]

LEGACY = "legacy protocol of 2018, sampled: not comparable with whole-catalogue figures"
_LEGACY_NEGATIVES = 100
_LEGACY_USERS = 10_000


@dataclass(frozen=True, eq=False)
class Sample:
    """What each target is ranked against, drawn once for all models of a table.

    Attributes:
        holdout: The users that are ranked.
        negatives: Item rows drawn against each target, int64 of shape (users, N).
        ties: "expected" counts half of the negatives that tie with the target; "won" counts none.
        rule: How they were drawn, in words.
        note: What to keep in mind when reading the figures.
    """

    holdout: Holdout
    negatives: np.ndarray
    ties: Literal["expected", "won"]
    rule: str
    note: str


def draw_candidates(data: Split, holdout: Holdout, candidates: Candidates, *, seed: int) -> Sample:
    """Draw negatives for every user of a part of a split.

    An integer N draws N different items that the user never had, neither before nor after: the sampled protocol as
    it should be. "sasrec2018" draws as the original code did: 100 items, perhaps the same one twice, from all that
    the user did not have in training, so that the target itself or the validation item may be among them; of more
    than 10,000 users, 10,000 at random; and the target stands before what ties with it.

    Args:
        holdout: The test or the validation part of `data`.

    Raises:
        ConfigError: `candidates` is none of these or more than the catalogue allows, `seed` is negative, or
            "sasrec2018" is asked of a split for which it was not defined.
    Source:
        Kang & McAuley, ICDM 2018, and the `evaluate` of their code (kang205/SASRec, util.py).
    """
    check_whole("seed", seed, least=0)
    unseen = check_candidates(data, holdout, candidates)
    rng = np.random.default_rng(seed)
    if candidates == "sasrec2018":
        users = len(data.log.users)
        everybody = np.arange(len(holdout))
        if users > _LEGACY_USERS:
            # Drawn among all users, as there: those who cannot be tested are drawn too, and passed over.
            chosen = rng.choice(users, _LEGACY_USERS, replace=False)
            everybody = np.flatnonzero(np.isin(holdout.users, chosen))
        places = rng.integers(0, unseen.counts[everybody, None], (len(everybody), _LEGACY_NEGATIVES))
        return Sample(
            holdout.take(everybody),
            unseen.at(everybody, places),
            ties="won",
            rule=f"{LEGACY}: each target ranked among {_LEGACY_NEGATIVES} items outside its user's training part "
            f"(drawn with replacement, seed {seed}), at most {_LEGACY_USERS:,} random users",
            note=LEGACY,
        )
    return Sample(
        holdout,
        unseen.at(np.arange(len(holdout)), _distinct_places(unseen.counts, candidates, rng)),
        ties="expected",
        rule=f"each target ranked among {candidates:,} items that its user never had (drawn without replacement, "
        f"seed {seed})",
        note="sampled candidates: not comparable with whole-catalogue figures, nor with other numbers of candidates; "
        "they may order models otherwise",
    )


def check_candidates(data: Split, holdout: Holdout, candidates: Candidates) -> Unseen:
    """What may be drawn for each user of a holdout; ConfigError as `draw_candidates`."""
    if candidates == "sasrec2018":
        if data.how != "last-item":
            raise ConfigError(
                f"candidates: 'sasrec2018' is a protocol of the last-item split, found a split by {data.how}"
            )
        had, least = data.train, 1
    elif not is_whole(candidates, least=1):
        raise ConfigError(f"candidates: expected an integer >= 1 or 'sasrec2018', found {candidates!r}")
    else:
        had, least = data.log.histories, candidates
    unseen = Unseen(had.take(holdout.users), items=len(data.log.items))
    if len(holdout) and (left := int(unseen.counts.min())) < least:
        user = data.log.users.ids[int(holdout.users[unseen.counts.argmin()])]
        raise ConfigError(
            f"candidates: expected at most {left:,}, as user {user!r} had all but {left:,} of the "
            f"{len(data.log.items):,} items, found {least:,}; rank the whole catalogue instead"
        )
    return unseen


@torch.inference_mode()
def rank_among(scorer: Scoring, sample: Sample, *, exclude_seen: bool) -> np.ndarray:
    """Rank every target among its negatives.

    Args:
        exclude_seen: A target that the user had before is out of reach.

    Returns:
        Negatives placed before each user's target, from 0; float64 of shape (users,). Infinite where out of reach.

    Raises:
        ScoreError: A score is NaN or infinite, be it of a candidate or not.
    """
    holdout = sample.holdout
    ranks = np.empty(len(holdout))
    targets = holdout.targets.astype(np.int64)
    for rows, _, scores in scored(scorer, holdout):
        own = scores.gather(1, torch.from_numpy(targets[rows, None]))
        others = scores.gather(1, torch.from_numpy(sample.negatives[rows]))
        ranks[rows] = _count(others > own) + (_count(others == own) / 2 if sample.ties == "expected" else 0)
    return np.where(holdout.repeated, np.inf, ranks) if exclude_seen else ranks


def _count(true: Tensor) -> np.ndarray:
    return true.sum(dim=1).numpy()


def _distinct_places(counts: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """For each count a uniform set of different integers below it; int64 of shape (counts, number).

    Source: Floyd's algorithm, in Bentley & Floyd, CACM 30(9), 1987; here for a block of rows at once.
    """
    places = np.empty((len(counts), number), dtype=np.int64)
    most = int(counts.max(initial=0))
    for rows in blocks(len(counts), items=most):
        taken = np.zeros((len(rows), most), dtype=bool)
        each = np.arange(len(rows))
        for column in range(number):
            last = counts[rows] - number + column
            drawn = rng.integers(0, last + 1)
            drawn = np.where(taken[each, drawn], last, drawn)
            taken[each, drawn] = True
            places[rows, column] = drawn
    return places
