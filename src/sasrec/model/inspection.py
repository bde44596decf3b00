"""What a network looks at, for people to see; nothing here is part of scoring.

Axes: L positions of one history, Q positions that ask (L, or 1: the last), B = 1 history, D width, H heads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sasrec.model.attention import Attention, Layout
from sasrec.model.network import SASRec


def weights_of(
    layer: Attention,
    queries: Float[Tensor, "Q D"],
    memory: Float[Tensor, "L D"],
    layout: Layout,
    keys: Float[Tensor, "L D"] | None = None,
) -> Float[Tensor, "H Q L"]:
    """How much each position of one history that asks takes from each, by head; every row sums to 1.

    Args:
        queries: As all others what the layer itself is given.

    Raises:
        ValueError: There is more than one history.
    """
    if len(layout.lasts) > 1:
        raise ValueError(f"weights are those of one history, found {len(layout.lasts)}; let the network read it alone")
    key = layer.keys_and_values(memory, keys).chunk(2, dim=1)[0]
    query, key = (one.unflatten(1, (layer.heads, -1)).transpose(0, 1) for one in (layer.query(queries), key))
    (mask,) = layer.masks(layout)  # one history fills one bin
    return ((query * query.shape[2] ** -0.5) @ key.transpose(1, 2) + mask[0][:, -len(queries) :]).softmax(dim=2)


@torch.inference_mode()
def attention_of(
    network: nn.Module, items: Int[Tensor, "L"], layout: Layout, users: Int[Tensor, "B"] | None = None
) -> list[Float[Tensor, "H L L"]]:
    """The weights of every attention layer, first to last, for one history; none where the network has no attention."""
    with attention_seen(network) as seen:
        if isinstance(network, SASRec):
            network(items, layout, users=users)  # every position asks; for scores only the last one would
    return seen


@contextmanager
def attention_seen(network: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which attention layers add their weights, as `weights_of`, when the network reads inside the block."""
    found: list[Tensor] = []

    def note(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if isinstance(layer, Attention):
            found.append(weights_of(layer, given[0], given[1], given[2], named.get("keys")))

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in network.modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
