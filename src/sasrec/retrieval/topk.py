"""The best k of a block of scores.

Axes: B histories, V catalogue, K best.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from sasrec.data.sequences import Sequences
from sasrec.errors import ScoreError
from sasrec.retrieval.scorers import Scoring, has_vectors

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK_BYTES = 8 * 2**20  # scores that stay in a CPU's cache between the passes over them
_PART = 1024  # items a product, of states that are more than a few
_FEW = 16
_NARROW = 256  # scores of a row that are sorted in less time than they are parted in
_GROUP = 5  # scores in a group, of several rows: those of a chosen group lie in as many cache lines
_READ = 16_384  # histories that a factored scorer is asked about at a time


def blocks(count: int, *, items: int) -> Iterator[np.ndarray]:
    """Rows 0 to `count`, as many at a time as keep histories x items of float32 scores small."""
    size = max(1, _BLOCK_BYTES // (4 * max(items, 1)))
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def scored_blocks(
    scorer: Scoring, histories: Sequences
) -> Iterator[tuple[np.ndarray, Sequences, Float[np.ndarray, "B V"]]]:
    """Block by block the rows of histories, these histories and the scores of the whole catalogue after them.

    The scores are the caller's to change until the next block, which may take their memory: products that are written
    where the caches still hold what was there take half the time.
    """
    if len(histories) == 1 or not has_vectors(scorer):  # one gains nothing from what is for many
        for rows in blocks(len(histories), items=scorer.items):
            block = histories if len(rows) == len(histories) else histories.take(rows)
            yield rows, block, scorer.scores(block)
        return
    table, memory = scorer.table().detach(), None
    for start in range(0, len(histories), _READ):
        some = np.arange(start, min(start + _READ, len(histories)))
        states = scorer.states(histories.take(some)).detach()
        for rows in blocks(len(some), items=scorer.items):
            if memory is None or len(memory) < len(rows):
                memory = states.new_empty(len(rows), in_lines(scorer.items))[:, : scorer.items]
            scores = multiply(states[rows[0] : rows[-1] + 1], table, out=memory[: len(rows)])
            yield some[rows], histories.take(some[rows]), scores.cpu().numpy()


def in_lines(columns: int) -> int:
    """So many columns, and up to 15 more: rows that begin with a cache line are written up to twice as fast."""
    return -(-columns // 16) * 16


def multiply(
    states: "Float[Tensor, 'B state']", table: "Float[Tensor, 'V state']", *, out: "Float[Tensor, 'B V']"
) -> "Float[Tensor, 'B V']":
    """The product of every state and every vector of the table, written into `out`."""
    import torch  # what has vectors has torch anyway

    size = _PART if len(states) > _FEW else len(table)
    for part, items in zip(out.split(size, dim=1), table.split(size), strict=True):
        torch.mm(states, items.t(), out=part)
    return out


def hide(scores: Float[np.ndarray, "B V"], histories: Sequences) -> None:
    """Set the score of every item of a history to -inf, in place."""
    scores[histories.owners(), histories.items] = -np.inf


def best(scores: Float[np.ndarray, "B V"], k: int) -> tuple[Float[np.ndarray, "B K"], Int[np.ndarray, "B K"]]:
    """The k highest scores of each row, best first, and where they are; fewer where the catalogue is smaller.

    Of equal scores the lower place comes first, so that neither k nor what else is in the block decides. Only among
    scores of -inf, which mark what is hidden, any may stand.
    """
    values, places = _highest(scores, min(k + 1, scores.shape[1]))
    # Of equal scores any may have been found; they are rare where a network scores, so only their rows are done again.
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -np.inf)
    tied = np.flatnonzero(equal.any(axis=1))
    values, places = values[:, :k], places[:, :k]
    if len(tied):
        places[tied] = _lowest_first(scores[tied], values[tied], places[tied])
    return values, places


def _highest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `best`, with equal scores in any order, at a fraction of the cost where k is far below the number of scores.

    Columns are put into groups. The k highest scores lie in the k groups with the highest maxima, and to find a maximum
    is a plain pass over the scores; only these are sorted out, and found the same way. A NaN is its group's maximum.
    """
    size = min(math.isqrt(scores.shape[1] // (4 * max(k, 1))), _GROUP if len(scores) > 1 else scores.shape[1])
    if size < 2:
        return _sorted_out(scores, k)
    groups, rows = scores.shape[1] // size, np.arange(len(scores))[:, np.newaxis]
    # Group g holds the columns g, g + groups, ...: then the maxima of neighbouring groups are found side by side.
    maxima = scores[:, : groups * size].reshape(len(scores), size, groups).max(axis=1)
    chosen = (_sorted_out if len(scores) == 1 else _highest)(maxima, k)[1]  # one gains nothing from several levels
    columns = np.empty((len(scores), k * size + scores.shape[1] - groups * size), np.int64)
    columns[:, : k * size] = (chosen[:, :, np.newaxis] + groups * np.arange(size)).reshape(len(scores), k * size)
    columns[:, k * size :] = np.arange(groups * size, scores.shape[1])  # what is in no group
    values, places = _sorted_out(scores[rows, columns], k)
    return values, columns[rows, places]


def _sorted_out(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest scores of each row, and where they are. A NaN is the highest."""
    rows, width = np.arange(len(scores))[:, np.newaxis], scores.shape[1]  # a third of what `take_along_axis` takes
    if width > _NARROW:
        some = scores.argpartition(width - k, axis=1)[:, width - k :]
        places = some[rows, scores[rows, some].argsort(axis=1)[:, ::-1]]
    else:
        places = scores.argsort(axis=1)[:, width - k :][:, ::-1].copy()  # torch takes no array backwards
    return scores[rows, places], places


def _lowest_first(scores: np.ndarray, values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where the same best scores are, at the lowest of all places that have them, in ascending order among equals."""
    count, width = values.shape[1], scores.shape[1]
    worst = values[:, -1:]  # those that share it: their lowest places, in ascending order
    sharing = np.where(scores == worst, np.arange(width, dtype=np.int32), np.int32(width))
    lowest = np.sort(np.partition(sharing, count - 1, axis=1)[:, :count], axis=1)
    order = np.arange(count) - (values != worst).sum(axis=1, keepdims=True)  # below 0 for what is above the worst
    places = np.where(order < 0, places, np.take_along_axis(lowest, np.maximum(order, 0), axis=1))
    return np.take_along_axis(places, np.lexsort((places, -values)), axis=1)


def check_finite(scores: Float[np.ndarray, "..."]) -> None:
    """Refuse scores that cannot be ordered; -inf is allowed, it marks what is hidden.

    Raises:
        ScoreError: A score is NaN or +inf.
    """
    if not (scores < np.inf).all():
        raise ScoreError("the model gave scores that are NaN or infinite; train it again, perhaps at a lower rate")
