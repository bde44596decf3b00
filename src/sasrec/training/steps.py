"""A network that learns step by step, with everything that changes meanwhile."""

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.errors import TrainingError
from sasrec.model.building import build
from sasrec.training.batches import (
    Batch,
    Windows,
    batches,
    last_windows,
    random_windows,
    rolling_windows,
)
from sasrec.training.dropout import Dropout
from sasrec.training.losses import ExactCrossEntropy, sampled
from sasrec.training.machine import keep_freed_memory
from sasrec.training.negatives import Draw, Negatives, NegativeSampler
from sasrec.training.noise import swapped
from sasrec.training.optim import Optimiser, rate
from sasrec.training.progress import Watcher


@final
class Training:
    """A network with everything that changes as it learns. One seed fixes all of its draws."""

    def __init__(
        self,
        train: Sequences,
        *,
        items: int,
        config: Config,
        draw: Draw | None = None,
        features: Features | None = None,
    ) -> None:
        """Before the first step.

        Args:
            train: Training histories, one for each user of the log.
            items: Catalogue size V.
            config: Settings without "auto"; see `settled`.
            draw: A sampler of negatives of the caller's own.
            features: Categories of the items.
        """
        keep_freed_memory()
        self.train, self.items, self.config = train, items, config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.network = build(
            config,
            items=items,
            users=len(train),
            features=None
            if features is None
            else (torch.from_numpy(features.rows), torch.from_numpy(features.offsets)),
            values=0 if features is None else len(features.values),
            generator=self.generator,
        )
        # Initial weights are drawn on the CPU, so that they are the same wherever the network goes.
        self.device = torch.device(config.device)
        self.network.to(self.device)
        on_cpu = self.device.type == "cpu"
        noise = self.generator if on_cpu else torch.Generator(self.device).manual_seed(config.seed)
        self.drop = Dropout(float(config.dropout), noise)
        self.optimiser = Optimiser(self.network, config)
        self.steps = math.ceil(len(self._windows().rows) / config.batch)
        self.step = 0
        self.negatives = None if config.loss == "softmax" else NegativeSampler(config, train, items=items, draw=draw)
        self.cross_entropy = ExactCrossEntropy(getattr(torch, config.precision))

    def epoch(self, number: int, watcher: Watcher) -> float:
        """Learn from every window once; the mean loss of the steps.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        total = 0.0
        config = self.config
        epoch = batches(
            self.train,
            self._windows(),
            size=config.batch,
            learn=config.learn,
            weighted=config.weighted,
            device=self.device,
            rng=self.rng,
        )
        for step, batch in enumerate(epoch, start=1):
            value = self._step(batch)
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} at step {step} of epoch {number}; lower learning_rate (now "
                    f"{config.learning_rate:g}) or set precision='float32' (now {config.precision!r})"
                )
            total += value
            watcher.step(number, value)
        self.optimiser.catch_up()
        return total / self.steps

    def _windows(self) -> Windows:
        length = self.config.length
        if self.config.windows == "random":
            return random_windows(self.train, length=length, rng=self.rng)
        if self.config.windows == "rolling":
            return rolling_windows(self.train, length=length, shortest=self.config.shortest)
        return last_windows(self.train, length=length)

    def _step(self, batch: Batch) -> float:
        """Learn from one batch; its loss, from which nothing is learned unless it is finite."""
        config = self.config
        if config.swap_items or config.swap_users:
            batch = swapped(batch, config, items=self.items, users=len(self.train), rng=self.rng)
        drawn = None if self.negatives is None else self.negatives(batch, self.rng)
        with self.optimiser.reading(batch, drawn) as (batch, drawn):
            loss = self._loss(batch, drawn)
            value = loss.item()
            if math.isfinite(value):
                self.optimiser.step(loss, rate(config, self.step, config.epochs * self.steps))
                self.step += 1
        return value

    def _loss(self, batch: Batch, negatives: Negatives | None = None) -> Tensor:
        read = self.network.last if self.config.learn == "last" else self.network
        states = read(batch.items, batch.layout, self.drop, batch.users)
        table = self.network.table()
        if negatives is None:
            return self.cross_entropy(states, table, batch.targets, batch.weights)
        return sampled(self.config, states, table, batch.targets, negatives, batch.weights, items=self.items)
