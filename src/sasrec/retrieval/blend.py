"""Several models as one: the mean of what each thinks comes next.

Axes: B histories, V catalogue.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, final, get_args

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.linked import Family, Linked
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.scorers import Scorer, reads_times

PARTS: dict[str, type[Scorer]] = {
    **{one.kind: one for one in (Neural, Popularity, Markov)},
    **dict.fromkeys(get_args(Family), Linked),
}
"""What can be a part of a blend, by its kind."""


def support(scorer: Scorer, histories: Sequences) -> Float[Tensor, "B V"]:
    """The root of the chance of every item: the softmax of a network's scores, the share of the sum of what is counted.

    With roots, a part that is very sure of few items does not drown what the others have to say about the rest.
    """
    scores = torch.from_numpy(scorer.scores(histories))
    if isinstance(scorer, Neural):
        return torch.softmax(scores, dim=1).sqrt_()
    scores.clamp_(min=0)
    return scores.div_(scores.sum(dim=1, keepdim=True).clamp_min(1e-30)).sqrt_()


@final
class Blend:
    """Scores by the weighted mean of what several models lend to each item.

    What they lend is comparable between models and users without another figure than one weight for each.
    """

    kind = "blend"

    def __init__(self, parts: Mapping[str, tuple[float, Scorer]]) -> None:
        """Args: parts: Weight and model by the name of the part; weights above 0 that sum to 1."""
        self.parts = dict(parts)
        self.items = next(iter(self.parts.values()))[1].items
        self.reads_times = any(reads_times(scorer) for _, scorer in self.parts.values())

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """The mean support of every item after each history, in [0, 1]."""
        total = torch.zeros(len(histories), self.items)
        for weight, scorer in self.parts.values():
            total.add_(support(scorer, histories), alpha=weight)
        return total.numpy()

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """The weighted mean of the parts' cosines, which is the cosine of their vectors joined."""
        weighted = [scorer.similarities(item) * np.float32(weight) for weight, scorer in self.parts.values()]
        return np.stack(weighted).sum(axis=0)

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The parts of each part, under its place and name."""
        described: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for place, (name, (weight, scorer)) in enumerate(self.parts.items()):
            config, arrays = scorer.to_parts()
            described.append({"name": name, "kind": scorer.kind, "weight": weight, "config": config})
            tensors |= {f"{place}.{array}": tensor for array, tensor in arrays.items()}
        return {"parts": described}, tensors

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """From saved parts; BundleError where they do not fit."""
        try:
            described = msgspec.convert(config, _Config).parts
        except msgspec.ValidationError as error:
            raise BundleError(f"config.json: {error}") from None
        names = {part.name for part in described}
        places = {str(place) for place in range(len(described))}
        if len(names) < len(described) or not {name.partition(".")[0] for name in tensors} <= places:
            raise BundleError("the parts of the blend do not fit each other")
        if abs(sum(part.weight for part in described) - 1) > 1e-6:
            raise BundleError("the weights of the blend do not sum to 1")
        parts = {}
        for place, part in enumerate(described):
            if part.kind not in PARTS:
                raise BundleError(f"a part of the blend is of kind {part.kind!r}; this sasrec knows {', '.join(PARTS)}")
            own = {name.partition(".")[2]: one for name, one in tensors.items() if name.partition(".")[0] == str(place)}
            parts[part.name] = (part.weight, PARTS[part.kind].from_parts(items, part.config, own))
        return cls(parts)


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: str
    weight: Annotated[float, Meta(gt=0.0, le=1.0)]
    config: dict[str, Any]


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    parts: Annotated[list[_Part], Meta(min_length=1)]
