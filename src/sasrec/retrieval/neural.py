"""The network as a scorer.

Axes: B histories, P real positions, D width, V catalogue.
"""

from typing import Any, Self, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError
from sasrec.model.attention import Layout
from sasrec.model.network import SASRec

_PART = 1024  # items a product; whole rows of a length that no 16 divides take MKL twice as long


@final
class Neural:
    """Scores with a trained network: the last state of a history times every item vector."""

    kind = "sasrec"

    def __init__(self, network: SASRec, config: Config) -> None:
        """Args: config: The settings that `network` was built with."""
        self.network = network
        self.config = config
        self.items = network.items.num_embeddings

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Float[Tensor, "B V"]:
        """A score for every item after each history."""
        states, table = self.states(histories), self.network.items.weight
        scores = states.new_empty(len(states), len(table))
        for part, items in zip(scores.split(_PART, dim=1), table.split(_PART), strict=True):
            torch.mm(states, items.t(), out=part)
        return scores

    @torch.inference_mode()
    def states(self, histories: Sequences) -> Float[Tensor, "B D"]:
        """The state after each history's last event."""
        recent = histories.last(self.config.length)
        layout = Layout.of(recent.lengths)
        return self.network(torch.from_numpy(recent.items.astype(np.int64)), layout)[layout.lasts]

    @torch.inference_mode()
    def similarities(self, item: int) -> Float[Tensor, "V"]:
        """Cosine of item vectors."""
        vectors = self.network.items.weight
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
            # Without memory behind it: shapes are compared before anything is allocated.
            network = SASRec(items, settings, generator=None)
        except ConfigError as error:
            raise BundleError(str(error)) from None
        expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
        found = {name: tensor.shape for name, tensor in tensors.items()}
        if found != expected:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise BundleError(f"weights do not fit the config: {', '.join(wrong[:3])}")
        if not all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in tensors.values()):
            raise BundleError("weights are not finite float32 numbers")
        network.load_state_dict(tensors, assign=True)
        return cls(network, settings)
