"""Item vectors that move only when a step reads them, so that its cost does not grow with the catalogue.

Axes: V catalogue, I items that a step reads, D width.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, final

import torch
from jaxtyping import Int
from torch import Tensor

from sasrec.config import Config
from sasrec.model.embeddings import ItemVectors
from sasrec.model.stamp import Network
from sasrec.training.batches import Batch, Negatives
from sasrec.training.optim import BETA, EPSILON, Adam, check_shapes

_WINDOW = 256  # steps after which a row that waits has come to rest: (0.9 / sqrt(0.9)) ** 256 is a millionth
_ROWS = 65_536  # brought up to date together, so that memory stays bounded


@final
class TouchedAdam:
    """Adam on every weight of a network but the item vectors, of which each step moves those alone that it reads.

    The catalogue that a step has inside `reading` is what it reads and nothing else.

    Args:
        config: Settings without "auto", with neither `weight_decay` nor `item_l2`.
    """

    def __init__(self, network: Network, config: Config) -> None:
        self._network, self._rest = network, Adam(network, config, items=False)
        self._touched = TouchedItems(network.items, beta2=config.beta2)
        self._taken: Taken | None = None

    @contextmanager
    def reading(self, batch: Batch, negatives: Negatives) -> Iterator[tuple[Batch, Negatives]]:
        """See `Optimiser`."""
        whole = self._network.items
        items, batch, negatives = narrowed(batch, negatives)
        self._taken = self._touched.take(items)
        self._network.items = self._taken.items
        try:
            yield batch, negatives
        finally:
            self._network.items, self._taken = whole, None

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """See `Optimiser`."""
        self._rest.step(loss, learning_rate)
        if self._taken is not None:
            self._touched.step(self._taken, learning_rate)

    def catch_up(self) -> None:
        """See `Optimiser`."""
        self._touched.catch_up()

    def tensors(self) -> dict[str, Tensor]:
        """See `Optimiser`."""
        return self._rest.tensors() | self._touched.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Optimiser`."""
        self._touched.restore(tensors)
        self._rest.restore(tensors)


def narrowed(batch: Batch, negatives: Negatives) -> tuple[Int[Tensor, "I"], Batch, Negatives]:
    """The items that a step reads, ascending, and the step itself with places among these in place of item rows."""
    read = [batch.items, batch.targets, negatives.items.to(batch.items.device).flatten()]
    rows, places = torch.cat(read).unique(return_inverse=True)
    missing = int(rows[0] < 0)  # -1 stands for a negative that there is none to draw of, and stays
    items, targets, drawn = (places - missing).split([*map(len, read)])
    batch = replace(batch, items=items, targets=targets)
    return rows[missing:], batch, negatives._replace(items=drawn.view(negatives.items.shape))


class Taken(NamedTuple):
    """Items taken out of a catalogue.

    Attributes:
        items: A catalogue of them alone, with copies of their vectors and of what their features need.
        rows: For each table of vectors by its name, the rows of the whole one that were copied, ascending.
        moments: For each table, what Adam remembers of these rows.
    """

    items: ItemVectors
    rows: dict[str, Tensor]
    moments: dict[str, Tensor]


@final
class TouchedItems:
    """Item vectors of which a step takes some, and Adam that reads and writes these alone.

    On the whole table Adam reads and writes three numbers for every one of it, and the gradient is as large: that
    grows with the catalogue, and at a million items is nearly all of a step. Here a step works on copies of the rows
    that it reads, from which both network and loss take them, so that one small dense gradient holds all that there is.

    The vectors are those of plain Adam. Without gradients Adam moves a row on by its fading moments: a step s after
    the row's last one at t by ``rate(s) * (b1 / sqrt(b2)) ** (s - t) * mean / sqrt(square)``, bias corrections being
    part of the rate. The sum over all steps that a row has missed is the same for all rows of the same t, so it is
    kept for each t, and a row makes up for all of them when it is taken next, or when an epoch ends.

    Source: Carpenter, "Lazy sparse stochastic gradient descent", 2008, has the idea for penalties. We differ from
    `torch.optim.SparseAdam`, in which a row that is not touched neither moves nor forgets: see docs/decisions.md. From
    plain Adam we differ by rounding, and in that a row that waits has the epsilon of its first missed step in all.

    Args:
        items: The whole catalogue; its parameters are updated in place.
        beta2: Decay of squared gradients, at least 0.9.
    """

    def __init__(self, items: ItemVectors, *, beta2: float) -> None:
        self._whole, self._beta2, self._steps = items, beta2, 0
        # Both moments of a row side by side: one place in memory to fetch instead of two.
        self._moments = {
            name: table.new_zeros(len(table), 2, table.shape[1]) for name, table in items.named_parameters()
        }
        self._touched_at = {name: table.new_zeros(len(table)).long() for name, table in items.named_parameters()}
        # For every step, what a row last touched in it has missed since, in units of mean / sqrt(square).
        self._missed = items.weight.new_zeros(_WINDOW, dtype=torch.float64)
        fading = (BETA / beta2**0.5) ** torch.arange(_WINDOW, 0, -1, dtype=torch.float64)
        self._fading = fading.to(items.weight.device)

    @torch.no_grad()
    def take(self, items: Int[Tensor, "I"]) -> Taken:
        """Copies of some items, ascending and none twice."""
        rows, features, vectors = {"weight": items}, None, None
        if self._whole.feature_rows is not None and self._whole.feature_offsets is not None:
            starts, ends = self._whole.feature_offsets[items], self._whole.feature_offsets[items + 1]
            offsets = torch.cat([starts.new_zeros(1), (ends - starts).cumsum(0)])
            shifts = (starts - offsets[:-1]).repeat_interleave(ends - starts)
            values = self._whole.feature_rows[torch.arange(len(shifts), device=shifts.device) + shifts]
            rows["values"], places = values.unique(return_inverse=True)
            features = places, offsets
        if self._whole.vectors is not None:
            vectors = self._whole.vectors[items]
            rows["projection"] = torch.arange(vectors.shape[1], device=items.device)  # every step reads all of it
        width = self._whole.weight.shape[1]
        part = ItemVectors(len(items), width, features=features, values=len(rows.get("values", ())), vectors=vectors)
        taken = Taken(part, rows, {})
        for name, copies in part.named_parameters():
            copies.data, taken.moments[name] = self._up_to_date(name, rows[name])
        return taken

    @torch.no_grad()
    def step(self, taken: Taken, learning_rate: float) -> None:
        """Update the items that were taken, by the gradients of their copies."""
        self._steps += 1
        first, second = 1 - BETA**self._steps, 1 - self._beta2**self._steps
        pace = learning_rate * second**0.5 / first
        for name, vectors in taken.items.named_parameters():
            if vectors.grad is None:
                continue
            mean, square = taken.moments[name].unbind(1)
            mean.lerp_(vectors.grad, 1 - BETA)
            square.mul_(self._beta2).addcmul_(vectors.grad, vectors.grad, value=1 - self._beta2)
            vectors.addcdiv_(mean, square.sqrt().add_(EPSILON * second**0.5), value=-pace)
            self._put_back(name, taken.rows[name], vectors, taken.moments[name])
        self._note(pace)

    @torch.no_grad()
    def catch_up(self) -> None:
        """Make up for the missed steps of every item that was ever touched."""
        for name in self._moments:
            waiting = (self._touched_at[name] > 0) & (self._touched_at[name] < self._steps)
            for rows in waiting.nonzero().flatten().split(_ROWS):
                self._put_back(name, rows, *self._up_to_date(name, rows))

    def tensors(self) -> dict[str, Tensor]:
        """What its next steps depend on beside the vectors, for `restore`."""
        moments = {f"moments.{name}": tensor for name, tensor in self._moments.items()}
        touched_at = {f"touched_at.{name}": tensor for name, tensor in self._touched_at.items()}
        return moments | touched_at | {"missed": self._missed, "steps": torch.tensor(self._steps)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on as another did; KeyError, ValueError or RuntimeError where the tensors are of something else."""
        steps, missed = int(tensors["steps"]), tensors["missed"]
        own = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        check_shapes(tensors, own | {"missed": (len(missed),)})
        places = torch.cat([tensors[name] for name in own if name.startswith("touched_at.")])
        if not 0 <= int(places.min()) <= int(places.max()) <= steps < len(missed):
            raise ValueError("items were touched in steps that there were none")
        for name, tensor in self.tensors().items():
            if name not in ("missed", "steps"):
                tensor.copy_(tensors[name])
        self._steps, self._missed = steps, missed.to(self._missed)

    def _note(self, pace: float) -> None:
        """Add the step just made to what rows have missed that were last touched before it."""
        waiting = min(self._steps, _WINDOW)
        if self._steps >= len(self._missed):
            self._missed = torch.cat([self._missed, torch.zeros_like(self._missed)])
        self._missed[self._steps - waiting : self._steps].add_(self._fading[_WINDOW - waiting :], alpha=pace)

    def _up_to_date(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors and moments of some rows, as if Adam had updated them in every step."""
        vectors = self._whole.get_parameter(name).index_select(0, rows)
        moments = self._moments[name].index_select(0, rows)
        mean, square = moments.unbind(1)
        touched_at = self._touched_at[name].index_select(0, rows)
        missed = self._missed[touched_at].to(vectors.dtype).unsqueeze(1)
        vectors.addcdiv_(mean * missed, square.sqrt().add_(EPSILON), value=-1.0)
        idle = (self._steps - touched_at).unsqueeze(1)
        mean.mul_(BETA**idle)
        square.mul_(self._beta2**idle)
        return vectors, moments

    def _put_back(self, name: str, rows: Tensor, vectors: Tensor, moments: Tensor) -> None:
        self._whole.get_parameter(name).index_copy_(0, rows, vectors)
        self._moments[name].index_copy_(0, rows, moments)
        self._touched_at[name].index_fill_(0, rows, self._steps)
