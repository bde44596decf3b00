"""The best k of a block of scores.

Axes: B histories, V catalogue, K best.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.errors import ScoreError
from sasrec.retrieval.scorers import Factored, Scoring

_BLOCK_BYTES = 8 * 2**20  # scores that stay in a CPU's cache between the passes over them
_PART = 1024  # items a product; whole rows of a length that no 16 divides take MKL twice as long
_READ = 16_384  # histories that a factored scorer is asked about at a time


def blocks(count: int, *, items: int) -> Iterator[np.ndarray]:
    """Rows 0 to `count`, as many at a time as keep histories x items of float32 scores small."""
    size = max(1, _BLOCK_BYTES // (4 * max(items, 1)))
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


@torch.inference_mode()
def scored_blocks(
    scorer: Scoring, histories: Sequences
) -> Iterator[tuple[np.ndarray, Sequences, Float[Tensor, "B V"]]]:
    """Block by block the rows of histories, these histories and the scores of the whole catalogue after them.

    The scores are the caller's to change until the next block, which may take their memory: products that are written
    where the caches still hold what was there take half the time.
    """
    if len(histories) == 1 or not isinstance(scorer, Factored):  # one gains nothing from what is for many
        for rows in blocks(len(histories), items=scorer.items):
            block = histories.take(rows)
            yield rows, block, scorer.scores(block)
        return
    table, memory = scorer.table(), torch.empty(0)
    for some in np.split(np.arange(len(histories)), range(_READ, len(histories), _READ)):
        states = scorer.states(histories.take(some)) if len(some) else memory
        for rows in blocks(len(some), items=scorer.items):
            if len(memory) < len(rows):
                memory = states.new_empty(len(rows), scorer.items)
            scores = multiply(states[rows[0] : rows[-1] + 1], table, out=memory[: len(rows)])
            yield some[rows], histories.take(some[rows]), scores.cpu()


def multiply(
    states: Float[Tensor, "B state"], table: Float[Tensor, "V state"], *, out: Float[Tensor, "B V"]
) -> Float[Tensor, "B V"]:
    """The product of every state and every vector of the table, written into `out`."""
    size = _PART if len(states) > 1 else len(table)
    for part, items in zip(out.split(size, dim=1), table.split(size), strict=True):
        torch.mm(states, items.t(), out=part)
    return out


def hide(scores: Float[Tensor, "B V"], histories: Sequences) -> None:
    """Set the score of every item of a history to -inf, in place."""
    rows = torch.from_numpy(histories.owners())
    scores[rows, torch.from_numpy(histories.items.astype(np.int64))] = float("-inf")


def hide_items(scores: Float[Tensor, "B V"], items: Int[Tensor, "hidden"]) -> None:
    """Set the scores of the same item rows to -inf for everybody, in place."""
    if len(items):
        scores.index_fill_(1, items, float("-inf"))


def best(scores: Float[Tensor, "B V"], k: int) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """The k highest scores of each row, best first, and where they are; fewer where the catalogue is smaller.

    Of equal scores the lower place comes first, so that neither k nor what else is in the block decides. Only among
    scores of -inf, which mark what is hidden, any may stand.
    """
    count = min(k, scores.shape[1])
    values, places = _highest(scores, min(count + 1, scores.shape[1]))
    # Torch orders equal scores as it likes; they are rare where a network scores, so only their rows are done again.
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > float("-inf"))
    tied = equal.any(dim=1).nonzero().squeeze(1)
    values, places = values[:, :count], places[:, :count]
    if len(tied):
        values[tied], places[tied] = _lowest_first(scores[tied], values[tied], places[tied])
    return values, places


def _highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` of every row, at most half as costly where k is far below the number of scores.

    Columns are put into groups. The k highest scores lie in the k groups with the highest maxima, and to find a maximum
    is a plain pass over the scores; only these few groups are sorted out. A NaN is its group's maximum.
    """
    size = math.isqrt(scores.shape[1] // (4 * max(k, 1)))  # about the best of six tried at 12,101 scores and k = 10
    if size < 2:
        return torch.topk(scores, k, dim=1)
    groups = scores.shape[1] // size
    # Group g holds the columns g, g + groups, ...: then the maxima of neighbouring groups are found side by side.
    maxima = scores[:, : groups * size].unflatten(1, (size, groups)).amax(dim=1)
    chosen = torch.topk(maxima, k, dim=1, sorted=False).indices
    columns = (chosen.unsqueeze(2) + groups * torch.arange(size, device=scores.device)).flatten(1)
    rest = torch.arange(groups * size, scores.shape[1], device=scores.device)
    columns = torch.cat([columns, rest.expand(len(scores), -1)], dim=1)
    values, places = torch.topk(scores.gather(1, columns), k, dim=1)
    return values, columns.gather(1, places)


def _lowest_first(scores: Tensor, values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The same best scores with the lowest of all places that have them, in ascending order among equals."""
    worst = values[:, -1:]
    places_of_all = torch.arange(scores.shape[1], dtype=torch.int32)
    # Those that share the worst of the best scores: their lowest places are the highest of the negative ones.
    lowest = torch.topk(
        torch.where(scores == worst, -places_of_all, -len(places_of_all)), values.shape[1], dim=1
    ).indices
    above = (values != worst).sum(dim=1, keepdim=True)
    order = torch.arange(values.shape[1]).expand_as(places)
    places = torch.where(order < above, places, lowest.gather(1, (order - above).clamp_min(0)))
    places = places.sort(dim=1).values
    values, order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)


def check_finite(scores: Float[Tensor, "..."]) -> None:
    """Refuse scores that cannot be ordered; -inf is allowed, it marks what is hidden.

    Raises:
        ScoreError: A score is NaN or +inf.
    """
    if bool(scores.isnan().any()) or bool(scores.isposinf().any()):
        raise ScoreError("the model gave scores that are NaN or infinite; train it again, perhaps at a lower rate")
