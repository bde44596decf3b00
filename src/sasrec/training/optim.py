"""How weights follow their gradients: Adam, its learning rate, and item vectors that move only when they are read.

Axes: V catalogue, I items that a step reads, D width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, final

import torch
from jaxtyping import Int
from torch import Tensor

from sasrec.config import Config
from sasrec.model.building import Network
from sasrec.model.embeddings import ItemVectors
from sasrec.training.batches import Batch
from sasrec.training.negatives import Negatives

_BETA = 0.9  # Adam's decay of gradients
_EPSILON = 1e-8


@final
class Optimiser:
    """Adam on every weight of a network; on item vectors either all at every step, or those that the step reads.

    Args:
        config: Settings without "auto". With item_updates="touched" neither `weight_decay` nor `item_l2`.
    """

    def __init__(self, network: Network, config: Config) -> None:
        self._network = network
        tables, others = [*network.items.parameters()], [*network.parameters()]
        others = [one for one in others if not any(one is table for table in tables)]
        groups = [{"params": others, "weight_decay": config.weight_decay}]
        self._touched: TouchedItems | None = None
        self._taken: Taken | None = None
        if config.item_updates == "touched":
            self._touched = TouchedItems(network.items, beta2=config.beta2)
        else:
            groups.insert(0, {"params": tables, "weight_decay": config.weight_decay + config.item_l2})
        self.adam = torch.optim.Adam(
            groups, lr=config.learning_rate, betas=(_BETA, config.beta2), eps=_EPSILON, fused=True
        )

    @contextmanager
    def reading(self, batch: Batch, negatives: Negatives | None) -> Iterator[tuple[Batch, Negatives | None]]:
        """A step's work, by the item rows that the network and the loss have inside the block.

        Where only touched items are updated, the catalogue inside the block is what the step reads and nothing else.
        """
        if self._touched is None:
            yield batch, negatives
            return
        whole = self._network.items
        items, batch, negatives = narrowed(batch, negatives)
        self._taken = self._touched.take(items)
        self._network.items = self._taken.items
        try:
            yield batch, negatives
        finally:
            self._network.items, self._taken = whole, None

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Follow the gradients of a loss, inside the block that it was computed in."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.zero_grad(set_to_none=False)
        loss.backward()
        self.adam.step()
        if self._touched is not None and self._taken is not None:
            self._touched.step(self._taken, learning_rate)


def narrowed(batch: Batch, negatives: Negatives | None) -> tuple[Int[Tensor, "I"], Batch, Negatives | None]:
    """The items that a step reads, ascending, and the step itself with places among these in place of item rows."""
    read = [batch.items, batch.targets]
    if negatives is not None:
        read.append(negatives.items.to(batch.items.device).flatten())
    rows, places = torch.cat(read).unique(return_inverse=True)
    missing = int(rows[0] < 0)  # -1 stands for a negative that there is none to draw of, and stays
    items, targets, drawn = (places - missing).split([*map(len, read), 0][:3])
    batch = replace(batch, items=items, targets=targets)
    if negatives is not None:
        negatives = negatives._replace(items=drawn.view(negatives.items.shape))
    return rows[missing:], batch, negatives


class Taken(NamedTuple):
    """Items taken out of a catalogue.

    Attributes:
        items: A catalogue of them alone, with copies of their vectors and of those of their features' values.
        rows: For each table of vectors by its name, the rows of the whole one that were copied, ascending.
    """

    items: ItemVectors
    rows: dict[str, Tensor]


@final
class TouchedItems:
    """Item vectors of which a step takes some, and Adam that reads and writes these alone.

    On the whole table Adam reads and writes three numbers for every one of it, and the gradient is as large: that
    grows with the catalogue, and at a million items is nearly all of a step. Here a step works on copies of the rows
    that it reads, from which both network and loss take them, so that one small dense gradient holds all that there is.

    Source: the "lazy" Adam of `torch.optim.SparseAdam`: the moments of a row decay in the steps that touch it, and
    their bias is corrected by the number of all steps. An item that every step touches is updated as by plain Adam.
    One that is touched seldom differs: plain Adam goes on moving it by its old gradients while its moments fade. We
    differ from SparseAdam in that gradients are never sparse tensors, which have to be sorted and summed first.

    Args:
        items: The whole catalogue; its parameters are updated in place.
        beta2: Decay of squared gradients.
    """

    def __init__(self, items: ItemVectors, *, beta2: float) -> None:
        self._whole, self._beta2, self._steps = items, beta2, 0
        # Both moments of a row side by side: one place in memory to fetch instead of two.
        self._moments = {
            name: table.new_zeros(len(table), 2, table.shape[1]) for name, table in items.named_parameters()
        }

    @torch.no_grad()
    def take(self, items: Int[Tensor, "I"]) -> Taken:
        """Copies of some items, ascending and none twice."""
        rows, features = {"weight": items}, None
        if self._whole.feature_rows is not None and self._whole.feature_offsets is not None:
            starts, ends = self._whole.feature_offsets[items], self._whole.feature_offsets[items + 1]
            offsets = torch.cat([starts.new_zeros(1), (ends - starts).cumsum(0)])
            shifts = (starts - offsets[:-1]).repeat_interleave(ends - starts)
            values = self._whole.feature_rows[torch.arange(len(shifts), device=shifts.device) + shifts]
            rows["values"], places = values.unique(return_inverse=True)
            features = places, offsets
        width = self._whole.weight.shape[1]
        part = ItemVectors(len(items), width, features=features, values=len(rows.get("values", ())))
        for name, copies in part.named_parameters():
            copies.data = self._whole.get_parameter(name).index_select(0, rows[name])
        return Taken(part, rows)

    @torch.no_grad()
    def step(self, taken: Taken, learning_rate: float) -> None:
        """Update the items that were taken, by the gradients of their copies."""
        self._steps += 1
        first, second = 1 - _BETA**self._steps, 1 - self._beta2**self._steps
        for name, vectors in taken.items.named_parameters():
            if vectors.grad is None:
                continue
            rows, gradient, all_moments = taken.rows[name], vectors.grad, self._moments[name]
            moments = all_moments.index_select(0, rows)
            mean, square = moments.unbind(1)
            mean.lerp_(gradient, 1 - _BETA)
            square.mul_(self._beta2).addcmul_(gradient, gradient, value=1 - self._beta2)
            vectors.addcdiv_(mean, (square / second).sqrt_().add_(_EPSILON), value=-learning_rate / first)
            all_moments.index_copy_(0, rows, moments)
            self._whole.get_parameter(name).index_copy_(0, rows, vectors)


def rate(config: Config, step: int, steps: int) -> float:
    """The learning rate of a step.

    Args:
        step: From 0.
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
