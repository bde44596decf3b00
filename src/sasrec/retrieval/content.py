"""Content kNN: likeness by what items are, not by who had them, so that it ranks items that nobody has had yet.

Axes: B histories, V catalogue, F values of categories, M numbers given of an item.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self, TypedDict, final

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError


class FeatureTensors(TypedDict):
    """What is known of the items of a catalogue; see `sasrec.data.features.Features`.

    Attributes:
        features: Rows of the items' values and where each item's begin; None where there are no categories.
        values: Number of different values F.
        vectors: What was given of every item, 0 where nothing was; None where no vectors were given.
    """

    features: tuple[Tensor, Tensor] | None
    values: int
    vectors: Tensor | None


def feature_tensors(features: Features | None) -> FeatureTensors:
    """Features as tensors."""
    if features is None:
        return {"features": None, "values": 0, "vectors": None}
    rows = (torch.from_numpy(features.rows), torch.from_numpy(features.offsets)) if features.values else None
    vectors = None if features.vectors is None else torch.from_numpy(features.vectors)
    return {"features": rows, "values": len(features.values), "vectors": vectors}


def checked(
    rows: Tensor | None, offsets: Tensor | None, vectors: Tensor | None, *, items: int, values: int | None
) -> FeatureTensors:
    """Features as they were saved.

    Args:
        items: Catalogue size V.
        values: Number of different values F; None where there are no categories.

    Raises:
        BundleError: The items' features point beyond their values, or their vectors are not of these items.
    """
    if vectors is not None and (vectors.dim() != 2 or len(vectors) != items or vectors.dtype != torch.float32):
        raise BundleError("the vectors given of items do not fit the catalogue")
    if values is None:
        return {"features": None, "values": 0, "vectors": vectors}
    if (
        rows is None
        or offsets is None
        or not rows.dtype == offsets.dtype == torch.int64
        or rows.dim() != 1
        or offsets.shape != (items + 1,)
        or not Sequences(rows.numpy(), offsets.numpy()).fit(values)
    ):
        raise BundleError("the features of items point beyond their values")
    return {"features": (rows, offsets), "values": values, "vectors": vectors}


@dataclass(frozen=True, kw_only=True)
class Recency:
    """How much the latest events of a history say.

    Attributes:
        last: Most recent events that are looked at.
        decay: Weight of an event beside the one after it.
    """

    last: Annotated[int, Meta(ge=1, le=1000)] = 50
    decay: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.65


@final
class Content:
    """Scores by the cosine of an item and the history, which is the weighted mean of its latest items.

    What is given of an item stands in one vector of length 1: its given vector, and its categories, in which a value
    weighs the logarithm of one over the share of items that have it. Where it has both they weigh the same, so that the
    cosine of two such items is the mean of the two cosines. Nothing is learned, and an item that nobody has had is
    ranked like any other.

    Attributes:
        settings: How much the latest events say.
        told: What is known of the items.
        worth: What each value weighs; float32 of shape (F,).
    """

    kind = "content"
    reads_times = False

    def __init__(self, settings: Recency, told: FeatureTensors, *, items: int, worth: Float[Tensor, "F"]) -> None:
        """Args: items: Catalogue size V."""
        self.settings, self.told, self.worth, self.items = settings, told, worth, items
        vectors, rows = told["vectors"], told["features"]
        kinds = torch.zeros(items)  # of what is known of an item
        if vectors is not None:
            self._vectors = nn.functional.normalize(vectors, dim=1)
            kinds += self._vectors.any(dim=1)
        if rows is not None:
            owners = torch.repeat_interleave(torch.arange(items), rows[1].diff())
            lengths = torch.zeros(items).index_add_(0, owners, worth[rows[0]] ** 2).sqrt()
            kinds += lengths > 0
            share = (lengths * kinds.sqrt()).clamp_min(1e-12)
            self._weights = worth[rows[0]] / share[owners]
        if vectors is not None:
            self._vectors /= kinds.sqrt().clamp_min(1)[:, None]

    @classmethod
    def of(cls, told: FeatureTensors, *, items: int, settings: Recency = Recency()) -> Self:
        """From what is known of the items of a catalogue; the events of a log do not matter."""
        worth = torch.zeros(told["values"])
        if told["features"] is not None:
            counts = told["features"][0].bincount(minlength=told["values"]).clamp_min(1)
            worth = torch.log(items / counts)
        return cls(settings, told, items=items, worth=worth)

    def likeness(self) -> "Content":
        """Itself: it is what ranks by features alone."""
        return self

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The cosine of every item and each history, in [-1, 1]; 0 where nothing is known of one of them."""
        recent = histories.last(self.settings.last)
        weights = torch.from_numpy((self.settings.decay ** recent.ages()).astype(np.float32))
        items, owners = torch.from_numpy(recent.items.astype(np.int64)), torch.from_numpy(recent.owners())
        scores, squares = torch.zeros(len(recent), self.items), torch.zeros(len(recent))
        if self.told["vectors"] is not None:
            liked = torch.zeros(len(recent), self._vectors.shape[1])
            liked.index_add_(0, owners, self._vectors[items] * weights[:, None])
            scores, squares = liked @ self._vectors.t(), (liked**2).sum(dim=1)
        if self.told["features"] is not None:
            rows, offsets = self.told["features"]
            counts = offsets.diff()[items]
            shifts = offsets[items] - (counts.cumsum(0) - counts)
            places = torch.arange(int(counts.sum())) + shifts.repeat_interleave(counts)
            liked = torch.zeros(len(recent), len(self.worth))
            worth = self._weights[places] * weights.repeat_interleave(counts)
            liked.index_put_((owners.repeat_interleave(counts), rows[places]), worth, accumulate=True)
            summed = nn.functional.embedding_bag(
                rows,
                liked.t().contiguous(),
                offsets,
                mode="sum",
                per_sample_weights=self._weights,
                include_last_offset=True,
            )
            scores, squares = scores + summed.t(), squares + (liked**2).sum(dim=1)
        return scores.div_(squares.sqrt().clamp_min(1e-12)[:, None]).contiguous().numpy()

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine of what items are."""
        return self.scores(Sequences.of([[item]]))[0]

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The settings and what is known of the items."""
        tensors = {"worth": self.worth}
        if self.told["features"] is not None:
            tensors |= dict(zip(("feature_rows", "feature_offsets"), self.told["features"], strict=True))
        if self.told["vectors"] is not None:
            tensors["vectors"] = self.told["vectors"]
        return asdict(self.settings), tensors

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From what was saved; BundleError where it does not fit."""
        try:
            settings = msgspec.convert(config, Recency)
        except msgspec.ValidationError as error:
            raise BundleError(f"config.json: {error}") from None
        names = {"worth", "feature_rows", "feature_offsets", "vectors"}
        worth, vectors = tensors.get("worth", torch.empty(0)), tensors.get("vectors")
        if config != asdict(settings) or not tensors.keys() <= names or tensors.keys() <= {"worth"}:
            raise BundleError("holds nothing of the items, or settings that are not known")
        if worth.dim() != 1 or worth.dtype != torch.float32 or not worth.isfinite().all() or (worth < 0).any():
            raise BundleError("what the values of categories weigh is no list of numbers of 0 or more")
        rows, offsets = tensors.get("feature_rows"), tensors.get("feature_offsets")
        described = len(worth) if rows is not None or offsets is not None or len(worth) else None
        told = checked(rows, offsets, vectors, items=items, values=described)
        if vectors is not None and not vectors.isfinite().all():
            raise BundleError("the vectors given of items are not finite numbers")
        return cls(settings, told, items=items, worth=worth)
