"""Item vectors to begin with: those of items that stand together in the histories point the same way.

Axes: V catalogue, D width, L links, S columns of a sketch.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from sasrec.data.sequences import Sequences
from sasrec.model.embeddings import ItemVectors
from sasrec.retrieval.counting import strengths
from sasrec.retrieval.links import count_links

_WINDOW = 10  # events further apart do not stand together
_MORE = 16  # columns beside those that are wanted, which make these exact sooner
_ROUNDS = 5


@torch.no_grad()
def start_counted(table: ItemVectors, train: Sequences, generator: torch.Generator, *, length: int) -> None:
    """Turn item vectors that were drawn towards each other where their items stand together, with the spread they had.

    Items that stand near no other keep the vectors that were drawn.

    Args:
        train: Training histories.
        length: How many events the network looks at: what stands further apart, it must not know of.
        generator: Draws where the search for directions begins.
    """
    drawn = table.weight
    found = counted(train, items=len(drawn), width=drawn.shape[1], window=min(_WINDOW, length), generator=generator)
    known = found.any(dim=1)
    drawn[known] = found[known] * (drawn[known].norm() / found[known].norm())


@torch.no_grad()
def counted(
    train: Sequences, *, items: int, width: int, window: int, generator: torch.Generator
) -> Float[Tensor, "V D"]:
    """Vectors whose products tell how much more often than by chance two items stand near each other.

    That is their pointwise mutual information where it is positive, else 0: of pairs at most `window` events apart,
    each counted as one over the gap, and of each item the 1,000 strongest. What is positive of the eigenvalues that are
    largest by size makes the table (Levy & Goldberg, NIPS 2014), found by subspace iteration (Halko et al., 2011).

    Args:
        train, items: Training histories, and the catalogue size V.
        width: Size of the vectors D; directions beyond the positive ones that are found are 0.
        generator: Draws where the search for the eigenvectors begins.

    Returns:
        One row for each item, 0 for whoever stands near no other.
    """
    links = _information(count_links(train, items=items, window=window, fade=1.0, backward=1.0))
    near, starts, weights = map(torch.from_numpy, (links.items.astype(np.int64), links.offsets, strengths(links)))

    def times(columns: Float[Tensor, "V S"]) -> Float[Tensor, "V S"]:
        return embedding_bag(near, columns, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)

    size = min(width + _MORE, items)
    basis = torch.linalg.qr(torch.randn(items, size, generator=generator, device=generator.device))[0]
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(times(basis))[0]
    small = basis.t() @ times(basis)
    values, directions = torch.linalg.eigh((small + small.t()) / 2)
    kept = slice(max(size - width, 0), None)  # eigenvalues ascend
    found = basis @ directions[:, kept] * values[kept].clamp_min(0).sqrt()
    found = found * (times(basis.new_ones(items, 1)) > 0)  # where nothing is known the basis has what rounding leaves
    return torch.nn.functional.pad(found.flip(1), (0, max(width - size, 0)))


def _information(links: Sequences) -> Sequences:
    """The positive pointwise mutual information of pairs of items, from how often each was counted."""
    weights = strengths(links).astype(np.float64)
    sources = links.owners()
    totals = np.bincount(sources, weights, minlength=len(links))
    chance = totals[sources] * totals[links.items] / totals.sum()
    return Sequences(links.items, links.offsets, weights=np.log(weights / chance).clip(min=0).astype(np.float32))
