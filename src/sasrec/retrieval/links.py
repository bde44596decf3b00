"""What is counted of pairs of items that stand near each other in histories, and what a history makes of it.

Links are a table of items by item, see `sasrec.retrieval.counting`. Nothing here takes items x items of memory.

Axes: B histories, V catalogue.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sasrec.data.sequences import Sequences, offsets_of, places_of
from sasrec.errors import BundleError
from sasrec.retrieval.counting import strengths, tensors_of

_PAIRS = 2**20  # pairs that are counted, or links that are followed, at once
_MOST = 1000  # links kept of an item: the strongest
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sources, targets and weights."""
_NEGLIGIBLE = 1e-4  # events that weigh less than this beside the last one are not followed


def count_links(train: Sequences, *, items: int, window: int, fade: float, backward: float) -> Sequences:
    """How strongly items are linked: for every pair of events at most `window` apart, gap ** -fade.

    Args:
        train: Training histories.
        items: Catalogue size V.
        window: Greatest gap of two events of a history; 1 counts neighbours alone.
        fade: How fast a pair weighs less with its gap; 0 weighs all alike, 1 as one over the gap.
        backward: Weight of a link from the later item to the earlier one, beside 1 for that to the later.

    Returns:
        A row for each item: linked items in ascending order, of more than 1,000 the strongest; weights float32.
    """
    ages = train.ages()
    places = np.repeat(train.lengths, train.lengths) - 1 - ages

    def near(events: np.ndarray) -> Pairs:
        pairs: list[Pairs] = []
        for gap in range(1, window + 1):
            for step, weight, reach in ((gap, 1.0, ages), (-gap, backward, places)):
                some = events[reach[events] >= gap] if weight else events[:0]
                pairs.append((train.items[some], train.items[some + step], np.full(len(some), weight * gap**-fade)))
        return _together(pairs)

    found: list[Pairs] = []
    order, firsts = np.argsort(train.items, kind="stable"), offsets_of(np.bincount(train.items, minlength=items))
    most = max(_PAIRS // (2 * window), 1)
    for part in _parts(firsts, most=most):
        events = order[firsts[part.start] : firsts[part.stop]]  # those of neighbouring items, all of each
        totals = [_totals(*near(events[at : at + most]), items=items) for at in range(0, max(len(events), 1), most)]
        if len(totals) > 1:  # of an item that occurs more often than pairs are counted at once
            totals = [_totals(*_together(totals), items=items)]
        found += [_strongest(*one) for one in totals]
    sources, targets, weights = _together(found)
    offsets = offsets_of(np.bincount(sources, minlength=items))
    return Sequences(targets.astype(np.int32), offsets, weights=weights.astype(np.float32))


def follow(
    links: Sequences, histories: Sequences, *, decay: float, worth: np.ndarray | None = None
) -> Float[Tensor, "B V"]:
    """Sum of the links of a history's items, each event weighing `decay` times what the one after it does.

    Args:
        decay: In (0, 1].
        worth: What the links of each item are multiplied by; float32 of shape (V,), None for 1.
    """
    items = len(links)
    if decay < 1:
        histories = histories.last(1 + int(math.log(_NEGLIGIBLE) / math.log(decay)))
    sources, owners = histories.items, histories.owners()
    weights = decay ** histories.ages()
    weights = (weights if worth is None else weights * worth[sources]).astype(np.float32)
    scores = torch.zeros(len(histories) * items)
    for part in _parts(offsets_of(links.lengths[sources]), most=_PAIRS):
        linked = links.take(sources[part])
        places = np.repeat(owners[part] * items, linked.lengths) + linked.items
        values = np.repeat(weights[part], linked.lengths) * strengths(linked)
        scores.index_add_(0, torch.from_numpy(places), torch.from_numpy(values))
    return scores.view(len(histories), items)


def to_tensors(links: Sequences) -> dict[str, Tensor]:
    """The table as arrays to save."""
    return tensors_of({"offsets": links.offsets, "linked": links.items, "weights": strengths(links)})


def from_tensors(tensors: dict[str, Tensor], *, items: int) -> Sequences:
    """The table that `to_tensors` took apart.

    Raises:
        BundleError: The arrays do not fit the catalogue or each other.
    """
    rows = len(tensors.get("linked", ()))
    expected = {
        "offsets": ((items + 1,), torch.int64),
        "linked": ((rows,), torch.int32),
        "weights": ((rows,), torch.float32),
    }
    if {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} != expected:
        raise BundleError("the links do not fit the catalogue")
    offsets, linked, weights = (tensors[name] for name in expected)
    links = Sequences(linked.numpy(), offsets.numpy(), weights=weights.numpy())
    if not links.fit(items):
        raise BundleError("the links point beyond the catalogue")
    if not weights.isfinite().all():
        raise BundleError("the links are not finite numbers")
    return links


def _parts(offsets: np.ndarray, *, most: int) -> Iterator[slice]:
    """Stretches of rows, given where each begins, that hold no more than so many together, or single rows beyond it."""
    start = 0
    while start < len(offsets) - 1:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + most, side="right")) - 1)
        yield slice(start, stop)
        start = stop


def _together(pairs: Sequence[Pairs]) -> Pairs:
    sources, targets, weights = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return sources, targets, weights


def _totals(sources: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, items: int) -> Pairs:
    """Each pair once with its total, in ascending order."""
    if not len(sources):
        return sources, targets, weights
    first = int(sources.min())
    keys = (sources.astype(np.int64) - first) * items + targets
    rows = int(sources.max()) - first + 1
    if rows * items <= 8 * len(keys):  # a table is faster than sorting where it is not mostly empty
        table = np.bincount(keys, weights, minlength=rows * items)
        pairs = np.flatnonzero(table)
        totals = table[pairs]
    else:
        pairs, places = np.unique(keys, return_inverse=True)
        totals = np.bincount(places, weights)
    return pairs // items + first, pairs % items, totals


def _strongest(sources: np.ndarray, targets: np.ndarray, totals: np.ndarray) -> Pairs:
    """Of each source the strongest targets; sources and targets ascend, and stay so."""
    if len(sources) and (counts := np.bincount(sources - sources[0])).max() > _MOST:
        order = np.lexsort((-totals, sources))
        kept = np.sort(order[places_of(counts) < _MOST])
        return sources[kept], targets[kept], totals[kept]
    return sources, targets, totals
