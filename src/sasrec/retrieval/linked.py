"""Models that follow links between items: sequence rules, item kNN and EASE.

One score serves all three: each event of a history passes on its item's links, less the older it is. What differs is
how the links are counted.

Axes: B histories, V catalogue.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self, final

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError
from sasrec.retrieval.counting import cosines
from sasrec.retrieval.links import count_links, follow, from_tensors, to_tensors

Family = Literal["rules", "knn", "ease"]
_FALLBACK = 1e-3  # what all of popularity together weighs beside links


@dataclass(frozen=True, kw_only=True)
class Linking:
    """How links are counted and followed; `RULES`, `KNN` and `ease.EASE` are where to start from.

    Attributes:
        kind: What the model is called. The links of "rules" and "knn" are counted in the way of the next five
            settings, those of "ease" in that of `l2`.
        window: Events further apart than this are not linked.
        fade: A link of events g apart weighs g ** -fade.
        backward: Weight of the link from the later item to the earlier one, beside 1 for that to the later.
        shrink: Added to the counts that links are divided by, so that a few events prove little.
        discount: Links are divided by the square root of how often their source occurs, and by this power of how often
            their target does: 0 favours popular items, 0.5 makes flat links both ways cosines.
        l2: Penalty on the squares of the weights that EASE finds.
        decay: Weight of an event of the history beside the one after it.
    """

    kind: Family = "rules"
    window: Annotated[int, Meta(ge=1, le=1000)] = 10
    fade: Annotated[float, Meta(ge=0.0, le=10.0)] = 1.0
    backward: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.25
    shrink: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0
    discount: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.25
    l2: Annotated[float, Meta(gt=0.0, le=1e9)] = 200.0
    decay: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.65


RULES = Linking()
"""Directed sequence rules: what soon follows an item counts most, and one over the gap less."""
KNN = Linking(kind="knn", window=50, fade=0.0, backward=1.0, shrink=10.0, discount=0.5)
"""Item kNN: items of the same histories, in whatever order, by their shrunk cosine."""


@final
class Linked:
    """Scores by the links of a history's items, and where there are none by popularity.

    The score of j is (sum over events of decay ** age * n_ij / (c_i + shrink) ** 0.5 + p_j / 1,000) / (c_j + shrink)
    ** discount, where n_ij counts pairs as `count_links` does, c events of an item, and p_j is the share of j. EASE's
    weights already are what they should be: there nothing is divided.

    Source:
        The rules are those of Ludewig & Jannach, UMUAI 2018 (SR), with links backward and both items' counts divided
        out; kNN is that of Deshpande & Karypis, ACM TOIS 2004, within a window. EASE: see `sasrec.retrieval.ease`.
        In all of them older events weigh less.
    """

    reads_times = False

    def __init__(self, settings: Linking, links: Sequences, counts: Float[Tensor, "V"]) -> None:
        """From counts.

        Args:
            links: n_ij, a row of targets for each source; see `sasrec.retrieval.links`.
            counts: Events of each item.
        """
        self.settings, self.links, self.counts = settings, links, counts
        self.kind: str = settings.kind
        self.items = len(counts)
        occurring = counts.clamp_min(1) + settings.shrink
        if settings.kind == "ease":
            occurring = torch.ones_like(counts)
        self._sources = (occurring**-0.5).numpy()
        self._targets = occurring**-settings.discount
        self._fallback = counts / counts.sum().clamp_min(1) * _FALLBACK

    @classmethod
    def of(cls, train: Sequences, *, items: int, settings: Linking = RULES) -> Self:
        """Count the links of training histories, of rules and kNN.

        Raises:
            ValueError: The settings are those of EASE, whose links are not counted; see `sasrec.retrieval.ease`.
        """
        if settings.kind == "ease":
            raise ValueError("the links of EASE are not counted but solved for; see sasrec.retrieval.ease")
        links = count_links(train, items=items, window=settings.window, fade=settings.fade, backward=settings.backward)
        counts = np.bincount(train.items, minlength=items).astype(np.float32)
        return cls(settings, links, torch.from_numpy(counts))

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The sum of links to every item."""
        scores = follow(self.links, histories, decay=self.settings.decay, worth=self._sources)
        return scores.add_(self._fallback).mul_(self._targets).numpy()

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine of what items are linked with."""
        return cosines(self.links, item)

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The settings and what was counted."""
        return asdict(self.settings), {"counts": self.counts, **to_tensors(self.links)}

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From what was saved; BundleError where it does not fit."""
        try:
            settings = msgspec.convert(config, Linking)
        except msgspec.ValidationError as error:
            raise BundleError(f"config.json: {error}") from None
        counts = tensors.get("counts", torch.empty(0))
        fits = counts.shape == (items,) and counts.dtype == torch.float32 and counts.isfinite().all()
        if config != asdict(settings) or not fits or (counts < 0).any():
            raise BundleError("counts do not fit the catalogue, or settings are not known")
        rest = {name: tensor for name, tensor in tensors.items() if name != "counts"}
        return cls(settings, from_tensors(rest, items=items), counts)
