"""The network as a scorer.

Axes: B histories, P real positions, L latest events of one history, D width, V catalogue.
"""

from functools import lru_cache
from typing import Any, Self, final

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
from sasrec.retrieval.content import Content, FeatureTensors, checked, feature_tensors
from sasrec.retrieval.topk import in_lines, multiply

_POSITIONS = 2048  # read at a time: so few that what is made of them stays in the caches
_ROWS = 65_536  # of a table, looked at together
_KEPT = 200  # positions: masks grow with their square, and those of all lengths up to here take 21 MB


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
        memory = states.new_empty(len(states), in_lines(len(table)))
        return multiply(states, table, out=memory[:, : len(table)]).cpu().numpy()

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
        if len(recent) == 1 and len(items) <= _KEPT and not self.reads_times and torch.is_inference_mode_enabled():
            return items, _alone(len(items), device), users
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

    def likeness(self) -> Content | None:
        """Content kNN by the features of the items, untouched by what was learned; None where they have none."""
        return None if self.told is None else Content.of(self.told, items=self.items)

    @property
    def told(self) -> FeatureTensors | None:
        """What is known of the items beside who had them; None where nothing is."""
        items = self.network.items
        if not items.described:
            return None
        rows, offsets, vectors = items.feature_rows, items.feature_offsets, items.vectors
        features = None if rows is None or offsets is None else (rows, offsets)
        return {"features": features, "values": 0 if items.values is None else len(items.values), "vectors": vectors}

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


@lru_cache(maxsize=_KEPT)
def _alone(length: int, device: torch.device) -> Layout:
    # Kept, as a request often comes alone; what it finds out later on stays too, and is of use in inference mode alone.
    return Layout.of(np.array([length]), device)


class _Sizes(FeatureTensors):
    users: int


def widened(scorer: Neural, places: np.ndarray, features: Features) -> Neural:
    """The same network for a larger catalogue, in which the items that it has not learned are what their features say.

    Their own vectors are 0: noise would move them away from where their features put them.

    Args:
        places: Row of each of the scorer's items in the larger catalogue, int64 of shape (items,).
        features: Those of the larger catalogue, by the values that the network knows, if it knows any.
    """
    weights = dict(scorer.network.state_dict())
    own = weights["items.weight"]
    weights["items.weight"] = own.new_zeros(len(features), own.shape[1])
    weights["items.weight"][torch.from_numpy(places)] = own
    told = feature_tensors(features if scorer.told is not None else None)
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
        BundleError: As `checked`.
    """
    users = len(tensors["users.weight"]) - 1 if "users.weight" in tensors else 0
    rows, offsets, vectors = (tensors.get(f"items.{name}") for name in ("feature_rows", "feature_offsets", "vectors"))
    values = len(tensors["items.values"]) if "items.values" in tensors else None
    return {"users": users, **checked(rows, offsets, vectors, items=items, values=values)}
