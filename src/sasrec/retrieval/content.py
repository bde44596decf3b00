"""Item kNN by what items are, not by who had them: what a network with features has to beat for new items.

Axes: B histories, V catalogue, M numbers given of an item.
"""

from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from sasrec.data.sequences import Sequences
from sasrec.model.embeddings import ItemVectors

_DECAY = 0.65  # weight of an event beside the one after it, as in sequence rules


@final
class Content:
    """Scores by the likeness of an item to those of the history, each event weighing less than the one after it.

    Likeness is the cosine of the given vectors, or of the categories, in which a value weighs the logarithm of one
    over the share of items that have it; where there are both, their mean.
    """

    kind = "content"

    def __init__(self, items: ItemVectors) -> None:
        """Args: items: Those of a network with features; what was given is taken of them, nothing that was learned."""
        self.items = len(items.weight)
        self._vectors = None if items.vectors is None else nn.functional.normalize(items.vectors, dim=1)
        self._rows, self._offsets = items.feature_rows, items.feature_offsets
        if self._rows is not None and self._offsets is not None:
            counts = self._rows.bincount().clamp_min(1)
            worth = torch.log(self.items / counts)[self._rows]
            owners = torch.repeat_interleave(torch.arange(self.items), self._offsets.diff())
            lengths = torch.zeros(self.items).index_add_(0, owners, worth**2).sqrt()
            self._values, self._worth = len(counts), worth / lengths.clamp_min(1e-12)[owners]

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The likeness of every item to each history, in [-1, 1] times the sum of the weights of its events."""
        ages = histories.offsets[1:].repeat(histories.lengths) - 1 - np.arange(len(histories.items))
        weights = torch.from_numpy((_DECAY**ages).astype(np.float32))
        items, owners = torch.from_numpy(histories.items.astype(np.int64)), torch.from_numpy(histories.owners())
        found = []
        if self._vectors is not None:
            liked = torch.zeros(len(histories), self._vectors.shape[1])
            liked.index_add_(0, owners, self._vectors[items] * weights[:, None])
            found.append(liked @ self._vectors.t())
        if self._rows is not None and self._offsets is not None:
            counts = self._offsets.diff()[items]
            shifts = self._offsets[items] - (counts.cumsum(0) - counts)
            places = torch.arange(int(counts.sum())) + shifts.repeat_interleave(counts)
            liked = torch.zeros(len(histories), self._values)
            worth = self._worth[places] * weights.repeat_interleave(counts)
            liked.index_put_((owners.repeat_interleave(counts), self._rows[places]), worth, accumulate=True)
            summed = nn.functional.embedding_bag(
                self._rows,
                liked.t().contiguous(),
                self._offsets,
                mode="sum",
                per_sample_weights=self._worth,
                include_last_offset=True,
            )
            found.append(summed.t())
        return torch.stack(found).mean(dim=0).numpy()
