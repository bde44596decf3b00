"""A network as a table of its layers."""

from typing import NamedTuple

from torch import nn


class Layer(NamedTuple):
    """One row of the table: the name of a part inside the network, its kind, and the weights that it holds."""

    layer: str
    kind: str
    shapes: str
    parameters: int


def layers(network: nn.Module) -> list[Layer]:
    """One row a layer that holds weights, and a last one with the sum."""
    rows = []
    for name, module in network.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            shapes = ", ".join(" x ".join(map(str, parameter.shape)) for parameter in own)
            rows.append(Layer(name, type(module).__name__, shapes, sum(parameter.numel() for parameter in own)))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return [*rows, Layer("all", type(network).__name__, "", parameters)]
