"""What can rank: one small interface for the network and the counting models.

Scores are NumPy arrays, whatever made them, so that a model can be asked without torch where it needs none itself.

Axes: B histories, V catalogue, `state` numbers in a state.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeGuard, runtime_checkable

import numpy as np
from jaxtyping import Float

from sasrec.config import Config
from sasrec.data.log import TimeUnit
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor


class Scoring(Protocol):
    """What can be measured.

    Attributes:
        items: Catalogue size V.
    """

    items: int

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """A score for every item after each history, float32; higher is better. Histories hold at least one event each.

        The result is the caller's to change.
        """
        ...


class Scorer(Scoring, Protocol):
    """Scores a catalogue of item rows; knows neither raw ids nor users.

    Attributes:
        kind: Name of this kind of model, as bundles and tables show it.
        reads_times: Whether it looks at when events happened and at when it is asked: histories must hold both then.
    """

    kind: str
    reads_times: bool

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine between one item and every item, in [-1, 1]; the caller's to change. ConfigError: It knows of none."""
        ...

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings, and tensors from which `from_parts` makes an equal scorer."""
        ...

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """The scorer that `to_parts` took apart.

        Raises:
            BundleError: The parts do not fit each other.
        """
        ...


class Factored(Scorer, Protocol):
    """A scorer whose score of an item is the product of a history's state and the item's vector.

    So a few items can be scored without the others, and vectors can be searched without being scored.
    """

    def states(self, histories: Sequences) -> "Float[Tensor, 'B state']":
        """The state after each history, which holds at least one event."""
        ...

    def table(self) -> "Float[Tensor, 'V state']":
        """The vector of every item."""
        ...


@runtime_checkable
class Trained(Protocol):
    """A network, as torch or ONNX has it. Attributes: config: The settings that it was trained with."""

    config: Config


@runtime_checkable
class Informed(Protocol):
    """A scorer that may know more of items than who had them."""

    def likeness(self) -> Scoring | None:
        """What ranks by that alone, and has to be beaten; None where nothing more is known."""
        ...


def has_vectors(scorer: Scoring) -> TypeGuard[Factored]:
    """Whether a scorer is `Factored`. Every request asks, and `isinstance` of a protocol takes as long as its top-k."""
    return hasattr(scorer, "states")


def kind_of(scorer: Scorer, chosen: Mapping[str, Any]) -> str:
    """What a model is called, by its scorer and what validation chose of it, as records have it under "best"."""
    return "recent" if "recent" in chosen else scorer.kind


@runtime_checkable
class Model(Protocol):
    """A scorer with the ids and the past that it speaks about, as far as it takes to measure it: a `Recommender`.

    Attributes:
        scorer: What ranks.
        users: The users it knows.
        items: The catalogue.
        record: How it came to be: data, training, versions.
    """

    scorer: Scorer
    users: Vocabulary
    items: Vocabulary
    record: dict[str, Any]

    @property
    def kind(self) -> str:
        """What it is called; see `kind_of`."""
        ...

    @property
    def exclude_seen(self) -> bool:
        """Whether recommendations leave out a user's own items unless told otherwise."""
        ...

    @property
    def time_unit(self) -> TimeUnit | None:
        """What the times of its histories count; None where it does not look at them."""
        ...
