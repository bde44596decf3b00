"""The rank of each user's target among the whole catalogue."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout
from sasrec.errors import ScoreError
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.retrieval.scorers import Scoring
from sasrec.retrieval.topk import best, hide, scored_blocks

_ROWS = 16  # histories whose scores stay in the innermost caches from one pass over them to the next


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where a scorer places the targets of a holdout.

    Attributes:
        ranks: Items placed before each user's target, from 0; float64 of shape (users,). Items that tie with the
            target count half, which is their expected number under random order. Infinite where the target is
            left out because the user had it before.
        recommended: For every cut-off asked for, True for items among anybody's first so many; bool of shape (items,).
    """

    ranks: np.ndarray
    recommended: dict[int, np.ndarray]


@torch.inference_mode()
def rank_targets(scorer: Scoring, holdout: Holdout, *, exclude_seen: bool, cuts: Sequence[int] = ()) -> Ranks:
    """Rank the whole catalogue for every user of a holdout.

    Args:
        exclude_seen: Leave out the items of the user's history, as recommendations would.
        cuts: Also note which items are among anybody's first so many.

    Raises:
        ScoreError: A score is NaN or infinite: it would silently count as a good or a bad rank.
    """
    ranks = np.empty(len(holdout))
    recommended = {cut: np.zeros(scorer.items, dtype=bool) for cut in cuts}
    for rows, histories, scores in scored(scorer, holdout):
        targets = torch.from_numpy(holdout.targets[rows].astype(np.int64)).unsqueeze(1)
        own = scores.gather(1, targets)
        if exclude_seen:
            hide(scores.numpy(), histories)
        reachable = scores.gather(1, targets).isfinite()
        ranks[rows] = torch.where(reachable.squeeze(1), _expected_ranks(scores, own), torch.inf).numpy()
        if cuts:
            values, places = best(scores.numpy(), max(cuts))
            for cut, found in recommended.items():
                found[places[:, :cut][values[:, :cut] > -np.inf]] = True
    return Ranks(ranks, recommended)


def validated(scorer: Scoring, valid: Holdout, *, exclude_seen: bool) -> tuple[float, float]:
    """NDCG@10 and HR@10 over the whole catalogue, by which weights and settings are chosen; ScoreError as above."""
    ranks = rank_targets(scorer, valid, exclude_seen=exclude_seen).ranks
    return float(ndcg(ranks, 10).mean()), float(hit_rate(ranks, 10).mean())


def scored(scorer: Scoring, holdout: Holdout) -> Iterator[tuple[np.ndarray, Sequences, Float[Tensor, "B V"]]]:
    """Block by block the rows of a holdout, their histories and the scores of the whole catalogue; see `scored_blocks`.

    Raises:
        ScoreError: A score is NaN or infinite.
    """
    for rows, histories, found in scored_blocks(scorer, holdout.histories):
        scores = torch.from_numpy(found)
        # One pass: a NaN or infinity anywhere leaves the sum NaN or infinite.
        if not bool(scores.sum().isfinite()):
            raise ScoreError("the model gave scores that are NaN or infinite; they cannot be ranked, so train it again")
        yield rows, histories, scores


def _expected_ranks(scores: Float[Tensor, "B V"], own: Float[Tensor, "B 1"]) -> Float[Tensor, "B"]:
    """Items of each row that score above its own one, and half of the others that tie with it.

    With a items above, t others that tie and b below, the sum of the signs of score minus own score is a - b, and
    a + t + b = V - 1; so (V - 1 + a - b) / 2 = a + t / 2. The signs are added up as floats, exactly below 2^24 items.
    """
    counted = torch.empty_like(scores[:_ROWS])
    signs = [
        torch.sub(some, one, out=counted[: len(some)]).sign_().sum(dim=1)
        for some, one in zip(scores.split(_ROWS), own.split(_ROWS), strict=True)
    ]
    return (scores.shape[1] - 1 + torch.cat(signs).double()) / 2
