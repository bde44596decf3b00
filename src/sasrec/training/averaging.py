"""A moving average of a network's weights, to be judged and kept in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class Average:
    """What a network's weights were of late, on average over steps.

    After step s it is ``d * average + (1 - d) * weights`` with ``d = min(decay, s / (s + 9))``: the first weights are
    forgotten at once, and the decay grows to its own as there are more to average. Source: Polyak & Juditsky, SIAM
    Journal on Control and Optimization 1992, of which this is the exponential form that is common today.

    Attributes:
        weights: The average of every parameter, by its name: all that the average depends on.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        """Args: decay: In [0, 1); an average over about 1 / (1 - decay) steps. 0 is the weights of the last one."""
        self._parameters, self._decay = dict(network.named_parameters()), decay
        self.weights: dict[str, Tensor] = {name: one.detach().clone() for name, one in self._parameters.items()}

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take the weights after a step, the first of which is 1, into the average."""
        decay = min(self._decay, step / (step + 9))
        for name, parameter in self._parameters.items():
            self.weights[name].lerp_(parameter, 1 - decay)

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with the average of another; KeyError or RuntimeError where it is of something else."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name].view(tensor.shape))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the network has the average as its weights; no step may be made there."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self.weights[name] = self.weights[name], parameter.data
