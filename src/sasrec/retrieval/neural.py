"""The network as a scorer.

Axes: B histories, P real positions, L latest events of one history, D width, V catalogue.
"""

from typing import Any, Self, TypedDict, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError
from sasrec.model.attention import Layout
from sasrec.model.building import build
from sasrec.model.inspection import attention_of
from sasrec.model.stamp import Network
from sasrec.retrieval.content import Content
from sasrec.retrieval.topk import multiply

_POSITIONS = 2048  # read at a time: so few that what is made of them stays in the caches
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
        self.reads_times = config.times != "none"

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """A score for every item after each history."""
        states, table = self.states(histories), self.table()
        return multiply(states, table, out=states.new_empty(len(states), len(table))).cpu().numpy()

    @property
    def length(self) -> int:
        """Most recent events of a history that the network looks at."""
        return int(self.config.length)

    @torch.inference_mode()
    def states(self, histories: Sequences) -> Float[Tensor, "B state"]:
        """The state after each history's last event; many histories are read in the order of their lengths."""
        if len(histories) == 1:
            return self._read(histories)
        lengths = np.minimum(histories.lengths, self.length)
        order = lengths.argsort(kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(lengths[order].cumsum() // _POSITIONS)) + 1)
        states = torch.cat([self._read(histories.take(rows)) for rows in parts])
        return states[torch.from_numpy(order.argsort()).to(states.device)]

    def _read(self, histories: Sequences) -> Tensor:
        items, layout, users = self.given(histories)
        return self.network.last(items, layout, users=users)

    def given(self, histories: Sequences) -> tuple[Int[Tensor, "P"], Layout, Int[Tensor, "B"] | None]:
        """What the network is given to read of these histories: items, layout and users."""
        recent = histories.last(self.length)
        device = self.network.items.weight.device
        users = None if recent.users is None else torch.from_numpy(recent.users).to(device)
        items = torch.from_numpy(recent.items.astype(np.int64)).to(device)
        return items, Layout.of(recent.lengths, device, times=self._times(recent)), users

    def _times(self, recent: Sequences) -> tuple[np.ndarray, np.ndarray] | None:
        """When events happened and what follows was asked for, where the network looks at it; else ConfigError."""
        if not self.reads_times:
            return None
        followed = recent.followed()
        if recent.times is None or followed is None:
            raise ConfigError("times: the network looks at when events happened and when it is asked; give both")
        return recent.times, followed

    @torch.inference_mode()
    def attention(self, history: Sequences) -> Float[np.ndarray, "L"] | None:
        """What the last position of one history looks at; None where the network has no attention."""
        seen = attention_of(self.network, *self.given(history))
        if not seen:
            return None
        return torch.stack([weights[:, -1].mean(dim=0) for weights in seen]).mean(dim=0).cpu().numpy()

    @torch.inference_mode()
    def table(self) -> Float[Tensor, "V state"]:
        """What a state is multiplied by to score each item."""
        return self.network.table()

    @torch.inference_mode()
    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine of item vectors."""
        vectors = self.network.items()
        norms = vectors.norm(dim=1).clamp_min(1e-12)
        return ((vectors @ vectors[item]) / (norms * norms[item])).cpu().numpy()

    @property
    def title(self) -> str:
        """Network and loss: networks that differ in the loss alone differ much, and are often called the same."""
        name = "SSE-PT" if self.config.user_width else "SASRec"
        if self.config.network != "sasrec":
            name = self.config.network.replace("stamp", "STAMP")
        return f"{name} ({self.config.loss})"

    def likeness(self) -> Content | None:
        """Item kNN by the features of the items; None where they have none."""
        return Content(self.network.items) if self.network.items.described else None

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
            # Without memory behind it: shapes are compared before anything is allocated.
            network = build(settings, items=items, generator=None, **_sizes(tensors, items))
        except ConfigError as error:
            raise BundleError(str(error)) from None
        expected = {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}
        found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        if found != expected:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise BundleError(f"weights do not fit the config: {', '.join(wrong[:3])}")
        # Part by part: what a large table is compared with would take a quarter of its size.
        if not all(part.isfinite().all() for tensor in tensors.values() for part in tensor.split(_ROWS)):
            raise BundleError("weights are not finite numbers")
        network.load_state_dict(tensors, assign=True)
        network.items.settle()
        return cls(network, settings)


class FeatureTensors(TypedDict):
    """What `build` is told of the items' features."""

    features: tuple[Tensor, Tensor] | None
    values: int
    vectors: Tensor | None


class _Sizes(FeatureTensors):
    users: int


def feature_tensors(features: Features | None) -> FeatureTensors:
    """Features as tensors."""
    if features is None:
        return {"features": None, "values": 0, "vectors": None}
    rows = (torch.from_numpy(features.rows), torch.from_numpy(features.offsets)) if features.values else None
    vectors = None if features.vectors is None else torch.from_numpy(features.vectors)
    return {"features": rows, "values": len(features.values), "vectors": vectors}


def widened(scorer: Neural, places: np.ndarray, features: Features) -> Neural:
    """The same network for a larger catalogue, in which the items that it has not learned are what their features say.

    Their own vectors are 0: noise in these would move them to where nothing is known of them to belong.

    Args:
        places: Row of each of the scorer's items in the larger catalogue.
        features: Those of the larger catalogue, by the values that the network knows.
    """
    weights = dict(scorer.network.state_dict())
    own = weights["items.weight"]
    weights["items.weight"] = own.new_zeros(len(features), own.shape[1])
    weights["items.weight"][torch.from_numpy(places)] = own
    told = feature_tensors(features)
    users = len(weights["users.weight"]) - 1 if "users.weight" in weights else 0
    network = build(scorer.config, items=len(features), users=users, generator=None, **told)
    # Features are data and take the place of those of the smaller catalogue; weights are shared with it.
    weights |= {name: buffer.to(own.device) for name, buffer in network.named_buffers() if name.startswith("items.")}
    network.load_state_dict(weights, assign=True)
    network.items.settle()
    return Neural(network, scorer.config)


def _sizes(tensors: dict[str, Tensor], items: int) -> _Sizes:
    """What the settings do not say about a network and its weights do.

    Raises:
        BundleError: The items' features point beyond their values, or their vectors are not of these items.
    """
    users = len(tensors["users.weight"]) - 1 if "users.weight" in tensors else 0
    vectors = tensors.get("items.vectors")
    if vectors is not None and (vectors.dim() != 2 or len(vectors) != items or vectors.dtype != torch.float32):
        raise BundleError("the vectors given of items do not fit the catalogue")
    if "items.values" not in tensors:
        return {"users": users, "features": None, "values": 0, "vectors": vectors}
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
    return {"users": users, "features": (rows, offsets), "values": values, "vectors": vectors}
