"""A network that learns step by step, with everything that changes meanwhile."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.errors import TrainingError
from sasrec.model.network import SASRec
from sasrec.model.stamp import Network
from sasrec.retrieval.scorers import Scorer
from sasrec.training.averaging import Average
from sasrec.training.batches import Batch, Negatives, batches, trainable, windows_of
from sasrec.training.dropout import Dropout
from sasrec.training.optim import Optimiser, rate

Swap = Callable[[Batch, np.random.Generator], Batch]
"""Replaces some ids of a batch by random ones, if that is asked for."""


class Objective(Protocol):
    """The loss that a step lowers: of its targets against the whole catalogue, or against items that are drawn."""

    def draw(self, batch: Batch, rng: np.random.Generator) -> Negatives:
        """Negatives for the targets of a batch; none where the loss is over the whole catalogue."""
        ...

    def loss(self, states: Tensor, table: Tensor, batch: Batch, negatives: Negatives) -> Tensor:
        """Mean loss per target, in nats.

        Args:
            states: State before each target, of shape (targets, width).
            table: Vectors of the items that the step reads, of shape (items, width).
        """
        ...


@dataclass
class Place:
    """How far an epoch is.

    Attributes:
        drawn: State of the generator that drew its windows and their order, before it did.
        steps: Steps that were made.
        loss: Sum of their losses.
    """

    drawn: Mapping[str, Any]
    steps: int = 0
    loss: float = 0.0


def _unwatched(epoch: int, loss: float) -> None:
    """Nobody is told."""


def drawing(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator in the state of another; ValueError, TypeError, KeyError or OverflowError where that is none."""
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng


@final
class Training:
    """A network with everything that changes as it learns. One seed fixes all of its draws."""

    def __init__(
        self,
        network: Network,
        train: Sequences,
        *,
        config: Config,
        optimiser: Optimiser,
        drop: Dropout,
        objective: Objective,
        swap: Swap,
        whole: Callable[[Network], Scorer],
    ) -> None:
        """Before the first step; `sasrec.training.beginning` makes the parts from settings.

        Args:
            network: What learns, where it is to learn.
            train: Training histories, one for each user; with times if the network looks at them.
            config: Settings without "auto"; see `settled`.
            optimiser: Moves the weights of the network.
            drop: Dropout.
            objective: What is learned.
            swap: What is done to a batch before it is learned from.
            whole: Makes of the network what ranks the whole catalogue.
        """
        self.network, self.train, self.config = network, train, config
        self.optimiser, self.drop, self.objective, self._whole = optimiser, drop, objective, whole
        self._swap, self.device = swap, network.items.weight.device
        self.rng = np.random.default_rng(config.seed)
        self.average = Average(network, decay=float(config.average)) if config.average else None
        self.steps = math.ceil(len(windows_of(config, train, self.rng).rows) / int(config.batch))
        self.step = 0
        self.place: Place | None = None  # none between two epochs

    def epoch(self, number: int, told: Callable[[int, float], None] = _unwatched) -> float:
        """Learn from every window once; the mean loss of the steps. An epoch that was left in the middle goes on.

        Args:
            number: Of the epoch, from 1.
            told: Is given the number and the loss after every step, when all that changes is whole.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        config, rng = self.config, self.rng
        if self.place is None:
            self.place = Place(drawn=rng.bit_generator.state)
        else:  # the same windows in the same order once more, without drawing anything of what is still to come
            rng = drawing(self.place.drawn)
        epoch = batches(
            self.train,
            windows_of(config, self.train, rng),
            size=int(config.batch),
            learn=config.learn,
            weighted=config.weighted,
            device=self.device,
            done=self.place.steps,
            rng=rng,
        )
        for batch in epoch:
            value = self._step(batch)
            if not math.isfinite(value):
                exact = "" if config.precision == "float32" else " or set precision='float32'"
                raise TrainingError(
                    f"the loss is {value} at step {self.place.steps + 1} of epoch {number}; lower learning_rate (now "
                    f"{config.learning_rate:g}){exact}"
                )
            self.place.steps += 1
            self.place.loss += value
            told(number, value)
        self.optimiser.catch_up()
        loss, self.place = self.place.loss / self.steps, None
        return loss

    @contextmanager
    def judged(self) -> Iterator[Network]:
        """The network with the weights that are judged and kept: its own, or their average.

        Users without training events, such as those who come after the training period, get the unknown user's vector.
        """
        with nullcontext() if self.average is None else self.average.in_place():
            if isinstance(self.network, SASRec) and self.network.users is not None:
                strangers = np.setdiff1d(np.arange(len(self.train)), trainable(self.train))
                self.network.users.forget(torch.from_numpy(strangers).to(self.device))
            yield self.network

    def scorer(self) -> Scorer:
        """The network as it is now, for the whole catalogue."""
        return self._whole(self.network)

    def _step(self, batch: Batch) -> float:
        """Learn from one batch; its loss, from which nothing is learned unless it is finite."""
        config = self.config
        batch = self._swap(batch, self.rng)
        drawn = self.objective.draw(batch, self.rng)
        with self.optimiser.reading(batch, drawn) as (batch, drawn):
            loss = self._loss(batch, drawn)
            value = loss.item()
            if math.isfinite(value):
                self.optimiser.step(loss, rate(config, self.step, config.epochs * self.steps))
                self.step += 1
                if self.average is not None:
                    self.average.add(self.step)
        return value

    def _loss(self, batch: Batch, drawn: Negatives) -> Tensor:
        read = self.network.last if self.config.learn == "last" else self.network
        states = read(batch.items, batch.layout, self.drop, batch.users)
        return self.objective.loss(states, self.network.table(), batch, drawn)
