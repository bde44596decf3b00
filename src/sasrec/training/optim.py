"""How weights follow their gradients: Adam and its learning rate."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, final

import torch
from torch import Tensor

from sasrec.config import Config
from sasrec.model.stamp import Network
from sasrec.training.batches import Batch, Negatives

BETA = 0.9  # Adam's decay of gradients
EPSILON = 1e-8
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what torch's Adam keeps of a parameter


class Optimiser(Protocol):
    """What moves the weights of a network, step by step."""

    def reading(self, batch: Batch, negatives: Negatives) -> AbstractContextManager[tuple[Batch, Negatives]]:
        """A step's work, by the item rows that the network and the loss have inside the block."""
        ...

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Follow the gradients of a loss, a scalar, inside the block that it was computed in."""
        ...

    def catch_up(self) -> None:
        """Give every weight the value that plain Adam would have given it by now; for the end of an epoch."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What its next steps depend on beside the weights, for `restore`."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on as another did; KeyError, ValueError or RuntimeError where the tensors are of something else."""
        ...


@final
class Adam:
    """Adam on the weights of a network, all of them at every step. Source: Kingma & Ba, ICLR 2015.

    Args:
        config: Settings without "auto".
        items: Whether the item vectors are among these weights.
    """

    def __init__(self, network: Network, config: Config, *, items: bool = True) -> None:
        tables, others = [*network.items.parameters()], [*network.parameters()]
        others = [one for one in others if not any(one is table for table in tables)]
        groups = [{"params": others, "weight_decay": config.weight_decay}]
        if items:
            groups.insert(0, {"params": tables, "weight_decay": config.weight_decay + config.item_l2})
        self.adam = torch.optim.Adam(
            groups, lr=config.learning_rate, betas=(BETA, config.beta2), eps=EPSILON, fused=True
        )

    @contextmanager
    def reading(self, batch: Batch, negatives: Negatives) -> Iterator[tuple[Batch, Negatives]]:
        """The same work, by the rows of the whole catalogue."""
        yield batch, negatives

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """See `Optimiser`."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def catch_up(self) -> None:
        """Nothing is ever behind."""

    def tensors(self) -> dict[str, Tensor]:
        """See `Optimiser`."""
        return {
            f"{number}.{name}": tensor
            for number, moments in self.adam.state_dict()["state"].items()
            for name, tensor in moments.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Optimiser`."""
        state = self.adam.state_dict()
        parameters = [one for group in self.adam.param_groups for one in group["params"]]
        for number, parameter in enumerate(parameters):
            moments = {name: tensors[key] for name in _MOMENTS if (key := f"{number}.{name}") in tensors}
            if moments:
                check_shapes(moments, {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape})
                state["state"][number] = moments
        self.adam.load_state_dict(state)


def check_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors of other shapes; ValueError, or KeyError where one is missing."""
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(shape)}")


def rate(config: Config, step: int, steps: int) -> float:
    """The learning rate of a step. "cosine" is of Loshchilov & Hutter, ICLR 2017, "one-cycle" of Smith & Topin, 2019.

    Args:
        step: From 0 to below `steps`.
        steps: Steps of all epochs.
    """
    highest = config.learning_rate
    if config.schedule == "constant":
        return highest
    # As torch's OneCycleLR starts and ends: a 25th of the highest rate, and a 10,000th of that.
    low, end = (highest / 25, highest / 25e4) if config.schedule == "one-cycle" else (0.0, 0.0)
    rising = max(config.warmup * steps - 1, 0.0)
    if step < rising:
        return _between(low, highest, step / rising)
    return _between(highest, end, (step - rising) / max(steps - 1 - rising, 1))


def _between(first: float, last: float, share: float) -> float:
    """From `first` to `last` along half a wave of a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
