"""The network as a scorer.

Axes: B histories, P real positions, D width, V catalogue.
"""

from typing import Any, Self, TypedDict, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError
from sasrec.model.attention import Layout
from sasrec.model.building import Network, build

_PART = 1024  # items a product; whole rows of a length that no 16 divides take MKL twice as long
_ROWS = 65_536  # of a table, looked at together


@final
class Neural:
    """Scores with a trained network: the last state of a history times every item vector."""

    kind = "sasrec"

    def __init__(self, network: Network, config: Config) -> None:
        """Args: config: The settings that `network` was built with."""
        self.network = network
        self.config = config
        self.items = len(network.items.weight)

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[Tensor, "B V"]:
        """A score for every item after each history."""
        states, table = self.states(histories), self.table()
        scores = states.new_empty(len(states), len(table))
        size = _PART if len(states) > 1 else len(table)
        for part, items in zip(scores.split(size, dim=1), table.split(size), strict=True):
            torch.mm(states, items.t(), out=part)
        return scores.cpu()

    @property
    def length(self) -> int:
        """Most recent events of a history that the network looks at."""
        return int(self.config.length)

    @torch.inference_mode()
    def states(self, histories: Sequences) -> Float[Tensor, "B state"]:
        """The state after each history's last event."""
        items, layout, users = self.given(histories)
        return self.network.last(items, layout, users=users)

    def given(self, histories: Sequences) -> tuple[Int[Tensor, "P"], Layout, Int[Tensor, "B"] | None]:
        """What the network is given to read of these histories: items, layout and users."""
        recent = histories.last(self.length)
        device = self.network.items.weight.device
        users = None if recent.users is None else torch.from_numpy(recent.users).to(device)
        items = torch.from_numpy(recent.items.astype(np.int64)).to(device)
        return items, Layout.of(recent.lengths, device), users

    @torch.inference_mode()
    def table(self) -> Float[Tensor, "V state"]:
        """What a state is multiplied by to score each item."""
        return self.network.table()

    @torch.inference_mode()
    def similarities(self, item: int) -> Float[Tensor, "V"]:
        """Cosine of item vectors."""
        vectors = self.network.items()
        norms = vectors.norm(dim=1).clamp_min(1e-12)
        return (vectors @ vectors[item]) / (norms * norms[item])

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The network's settings and weights."""
        return self.config.to_dict(), dict(self.network.state_dict())

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A network with the given weights.

        Raises:
            BundleError: The weights do not fit the settings, or are not finite.
        """
        try:
            settings = Config.from_dict(config, where="config.json")
        except ConfigError as error:
            raise BundleError(str(error)) from None
        # Without memory behind it: shapes are compared before anything is allocated.
        network = build(settings, items=items, generator=None, **_sizes(tensors, items))
        expected = {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}
        found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        if found != expected:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise BundleError(f"weights do not fit the config: {', '.join(wrong[:3])}")
        # Part by part: what a large table is compared with would take a quarter of its size.
        if not all(part.isfinite().all() for tensor in tensors.values() for part in tensor.split(_ROWS)):
            raise BundleError("weights are not finite numbers")
        network.load_state_dict(tensors, assign=True)
        return cls(network, settings)


class _Sizes(TypedDict):
    users: int
    features: tuple[Tensor, Tensor] | None
    values: int


def _sizes(tensors: dict[str, Tensor], items: int) -> _Sizes:
    """What the settings do not say about a network and its weights do.

    Raises:
        BundleError: The items' features point beyond their values.
    """
    users = len(tensors["users.weight"]) - 1 if "users.weight" in tensors else 0
    if "items.values" not in tensors:
        return {"users": users, "features": None, "values": 0}
    rows, offsets = tensors.get("items.feature_rows"), tensors.get("items.feature_offsets")
    values = len(tensors["items.values"])
    fits = (
        rows is not None
        and offsets is not None
        and rows.dtype == offsets.dtype == torch.int64
        and offsets.shape == (items + 1,)
        and int(offsets[0]) == 0
        and int(offsets[-1]) == len(rows)
        and bool((offsets.diff() >= 0).all())
        and bool(((rows >= 0) & (rows < values)).all())
    )
    if rows is None or offsets is None or not fits:
        raise BundleError("the features of items point beyond their values")
    return {"users": users, "features": (rows, offsets), "values": values}
