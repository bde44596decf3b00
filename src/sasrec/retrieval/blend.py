"""Several models as one: the mean of what each thinks comes next.

Axes: B histories, V catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, final, get_args

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from msgspec import Meta
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError
from sasrec.retrieval.content import Content
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Family, Linked
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.scorers import Informed, Scorer, Scoring

PARTS: dict[str, type[Scorer]] = {
    **{one.kind: one for one in (Neural, Popularity, Markov, Content)},
    **dict.fromkeys(get_args(Family), Linked),
}
"""What can be a part of a blend, by its kind."""
NEW = "new"
"""What stands for content where it ranks new items, among parts and arrays."""

_SHARPNESS = 8.0  # cosines are multiplied by it, so that they are chances like a network's; see docs/decisions.md


@dataclass(frozen=True, eq=False)
class NewItems:
    """Items that nobody had in training, of which content alone has a say.

    Attributes:
        rows: Item rows, ascending, int64.
        weight: What content lends them is multiplied by this; above 0.
    """

    rows: np.ndarray
    weight: float

    @classmethod
    def of(cls, train: Sequences, *, items: int, weight: float) -> Self:
        """Those that training histories have not, in a catalogue of so many items."""
        return cls(np.setdiff1d(np.arange(items), train.items), weight)


def support(scorer: Scorer, histories: Sequences, *, new: Int[np.ndarray, "new"] | None = None) -> Float[Tensor, "B V"]:
    """The root of the chance of every item: the softmax of what scores freely, the share of the sum of what is counted.

    With roots, a part that is very sure of few items does not drown what the others have to say about the rest.

    Args:
        new: Item rows that take no chance from the others, however many they are. Content gives each of them what it
            would have in the place of a known item, and what is not content nothing.
    """
    scores = torch.from_numpy(scorer.scores(histories))
    rows = torch.from_numpy(np.empty(0, np.int64) if new is None else new)
    if isinstance(scorer, Content):
        known = scores.mul_(_SHARPNESS).index_fill(1, rows, -torch.inf)
        return scores.sub_(known.logsumexp(dim=1, keepdim=True)).exp_().sqrt_()
    scores.index_fill_(1, rows, -torch.inf)
    if isinstance(scorer, Neural):
        return torch.softmax(scores, dim=1).sqrt_()
    scores.clamp_(min=0)
    return scores.div_(scores.sum(dim=1, keepdim=True).clamp_min(1e-30)).sqrt_()


def lent(
    parts: Mapping[str, Scorer], new: Int[np.ndarray, "new"] | None, histories: Sequences
) -> dict[str, Float[Tensor, "B V"]]:
    """What every part lends to each item.

    Args:
        new: Item rows of which content alone has a say. What it lends to them stands apart, under `NEW`, and is 0 for
            the others; None where nothing is told apart.
    """
    found = {}
    for name, scorer in parts.items():
        content = isinstance(scorer, Content)
        found[name] = support(scorer, histories, new=new)
        if content and new is not None and NEW not in found:
            found[NEW] = torch.zeros_like(found[name])
            found[NEW][:, new] = found[name][:, new]
        if content and new is not None:
            found[name][:, new] = 0
    return found


@final
class Blend:
    """Scores by the weighted mean of what several models lend to each item.

    What they lend is comparable between models and users without another figure than one weight for each. With content
    among them, items that nobody had in training are its alone: the others know nothing of them, and the mean of what
    is known with nothing would keep every new item below the known ones.
    """

    kind = "blend"

    def __init__(self, parts: Mapping[str, tuple[float, Scorer]], new: NewItems | None = None) -> None:
        """From what it is made of.

        Args:
            parts: Weight and model by the name of the part; weights that sum to 1, above 0 but for content.
            new: What content alone ranks; it is among the parts then.
        """
        self.parts, self.new = dict(parts), new
        self.items = next(iter(self.parts.values()))[1].items
        self.reads_times = any(scorer.reads_times for _, scorer in self.parts.values())

    @property
    def content(self) -> Content | None:
        """The part that ranks new items; None where new ones are not told apart."""
        found = (part for _, part in self.parts.values() if isinstance(part, Content))
        return None if self.new is None else next(found)

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The mean support of every item after each history, 0 or more."""
        total = torch.zeros(len(histories), self.items)
        weights = {name: weight for name, (weight, _) in self.parts.items()}
        if self.new is not None:
            weights[NEW] = self.new.weight
        parts = {name: part for name, (_, part) in self.parts.items()}
        for name, each in lent(parts, None if self.new is None else self.new.rows, histories).items():
            total.add_(each, alpha=weights[name])
        return total.numpy()

    def likeness(self) -> Scoring | None:
        """What ranks by the features of items alone, if one of the parts knows these."""
        told = (part.likeness() for _, part in self.parts.values() if isinstance(part, Informed))
        return next((found for found in told if found is not None), None)

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """The weighted mean of the parts' cosines, which is that of their vectors joined; content's of new items.

        To popularity no item is like another, so it lends nothing; where there is nothing else it refuses.
        """
        parts = [*self.parts.values()]
        telling = [one for one in parts if not isinstance(one[1], Popularity)] or parts
        total = sum(weight for weight, _ in telling) or 1.0
        weighted = [scorer.similarities(item) * np.float32(weight / total) for weight, scorer in telling]
        similar: np.ndarray = np.stack(weighted).sum(axis=0)
        if self.new is not None and self.content is not None:
            alike, new = self.content.similarities(item), self.new.rows
            if item in new:
                return alike
            similar[new] = alike[new]
        return similar

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The parts of each part, under its place and name."""
        described: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for place, (name, (weight, scorer)) in enumerate(self.parts.items()):
            config, arrays = scorer.to_parts()
            described.append({"name": name, "kind": scorer.kind, "weight": weight, "config": config})
            tensors |= {f"{place}.{array}": tensor for array, tensor in arrays.items()}
        if self.new is None:
            return {"parts": described}, tensors
        return {"parts": described, "new": self.new.weight}, {**tensors, NEW: torch.from_numpy(self.new.rows)}

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From saved parts; BundleError where they do not fit."""
        try:
            told = msgspec.convert(config, _Config)
        except msgspec.ValidationError as error:
            raise BundleError(f"config.json: {error}") from None
        described, tensors = told.parts, dict(tensors)
        new = _new(told.new, tensors.pop(NEW, None), items)
        names = {part.name for part in described}
        places = {str(place) for place in range(len(described))}
        if len(names) < len(described) or NEW in names or not {name.partition(".")[0] for name in tensors} <= places:
            raise BundleError("the parts of the blend do not fit each other")
        if abs(sum(part.weight for part in described) - 1) > 1e-6:
            raise BundleError("the weights of the blend do not sum to 1")
        parts: dict[str, tuple[float, Scorer]] = {}
        for place, part in enumerate(described):
            if part.kind not in PARTS:
                raise BundleError(f"a part of the blend is of kind {part.kind!r}; this sasrec knows {', '.join(PARTS)}")
            own = {name.partition(".")[2]: one for name, one in tensors.items() if name.partition(".")[0] == str(place)}
            parts[part.name] = (part.weight, PARTS[part.kind].from_parts(items, part.config, own))
        if new is not None and not any(isinstance(part, Content) for _, part in parts.values()):
            raise BundleError("nothing in the blend ranks its new items")
        if any(weight == 0 and (new is None or not isinstance(part, Content)) for weight, part in parts.values()):
            raise BundleError("a part of the blend has no weight")
        return cls(parts, new)


def _new(weight: float | None, rows: Tensor | None, items: int) -> NewItems | None:
    """The new items of a saved blend; BundleError where they are none."""
    if weight is None and rows is None:
        return None
    if weight is None or rows is None or rows.dim() != 1 or rows.dtype != torch.int64:
        raise BundleError("the new items of the blend do not fit their weight")
    found = rows.numpy()
    if (found[1:] <= found[:-1]).any() or (len(found) and (found[0] < 0 or found[-1] >= items)):
        raise BundleError("the new items of the blend point beyond the catalogue")
    return NewItems(found, weight)


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: str
    weight: Annotated[float, Meta(ge=0.0, le=1.0)]
    config: dict[str, Any]


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    parts: Annotated[list[_Part], Meta(min_length=1)]
    new: Annotated[float, Meta(gt=0.0, le=1e6)] | None = None
