"""Training: from a split to a recommender with the weights that were best on validation."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TextIO, final

import numpy as np
import torch
from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout, Split
from sasrec.errors import OutputError, TrainingError
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.model.building import Network, build
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender
from sasrec.training.averaging import Average
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
from sasrec.training.machine import describe, keep_freed_memory, torch_threads
from sasrec.training.negatives import Draw, Negatives, NegativeSampler
from sasrec.training.noise import swapped
from sasrec.training.optim import Optimiser, rate
from sasrec.training.progress import EpochResult, Watcher, watched
from sasrec.training.settling import check, has_repeats, reasons, settled


def train(
    data: Split,
    config: Config = Config(),
    *,
    history: str | Path | None = None,
    draw: Draw | None = None,
    features: Features | None = None,
    progress: bool | None = None,
) -> Recommender:
    """Train a network and give back the weights of the epoch with the best validation NDCG@10.

    Validation ranks the whole catalogue for every user; the test part of `data` is never looked at. Ctrl-C ends
    training and keeps the best epoch so far.

    Args:
        config: Settings; each "auto" is settled from the data and the machine and recorded as it was settled.
        history: A file to which a line of JSON is added after every epoch.
        draw: A sampler of negatives of one's own, in place of the one that `config.sampler` names: takes rows of T
            training histories, a number N and a NumPy generator, and gives item rows of shape (T, N), -1 for none.
        features: Categories of the items, whose vectors are added to the items' own; see `sasrec.read_features`.
        progress: True shows progress, False nothing; None shows a bar if standard error is a terminal.

    Returns:
        A recommender of all users, items and complete histories of the log; its `record` says how it was trained.

    Raises:
        DataError: There is nothing to learn from or to validate on.
        OutputError: `history` cannot be written.
        TrainingError: The loss is no longer finite, or Ctrl-C came before the first epoch was validated.
        ScoreError: The weights of an epoch give scores that are not numbers.
    """
    parts, valid = data.train, data.valid
    check(data, parts, valid, config, features)
    items, asked, exclude_seen = len(data.log.items), config, not has_repeats(valid)
    config = settled(asked, parts, items=items)
    started, worked = time.perf_counter(), time.process_time()
    with torch_threads(int(config.threads)), _opened(history) as lines:
        training = Training(parts, items=items, config=config, draw=draw, features=features)
        with watched(progress, epochs=config.epochs, steps=training.steps) as watcher:
            results, stopped = _until_no_better(training, valid, exclude_seen, watcher, lines)
    record = {
        "data": data.fingerprint,
        "split": data.rule,
        "exclude_seen": exclude_seen,
        "features": None if features is None else str(features),
        "automatic": reasons(asked, config, parts, items=items),
        **_course(results, stopped),
        "steps": len(results) * training.steps,
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - worked, 3),
        **describe(),
    }
    return Recommender.of_log(Neural(training.network, config), data.log, record=record)


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
        self.average = Average(self.network, decay=config.average) if config.average else None
        self.steps = math.ceil(len(self._windows().rows) / int(config.batch))
        self.step = 0
        self.negatives = None if config.loss == "softmax" else NegativeSampler(config, train, items=items, draw=draw)
        self.cross_entropy = ExactCrossEntropy(getattr(torch, config.precision), smoothing=config.label_smoothing)

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
            size=int(config.batch),
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

    @contextmanager
    def judged(self) -> Iterator[Network]:
        """The network with the weights that are judged and kept: its own, or their average."""
        with nullcontext() if self.average is None else self.average.in_place():
            yield self.network

    def _windows(self) -> Windows:
        length = int(self.config.length)
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
                if self.average is not None:
                    self.average.add(self.step)
        return value

    def _loss(self, batch: Batch, negatives: Negatives | None = None) -> Tensor:
        read = self.network.last if self.config.learn == "last" else self.network
        states = read(batch.items, batch.layout, self.drop, batch.users)
        table = self.network.table()
        if negatives is None:
            return self.cross_entropy(states, table, batch.targets, batch.weights)
        return sampled(self.config, states, table, batch.targets, negatives, batch.weights, items=self.items)


def _until_no_better(
    training: Training, valid: Holdout, exclude_seen: bool, watcher: Watcher, lines: TextIO | None
) -> tuple[list[EpochResult], str]:
    """Train until `patience` validations bring nothing better, then put the best weights back."""
    config = training.config
    results: list[EpochResult] = []
    best, waited, weights = -1.0, 0, {}
    stopped = "all epochs trained"
    try:
        for number in range(1, config.epochs + 1):
            started = time.perf_counter()
            loss, score, hits, better = training.epoch(number, watcher), None, None, False
            if number % config.validate_every == 0 or number == config.epochs:
                with training.judged() as network:
                    ranks = rank_targets(Neural(network, config), valid, exclude_seen=exclude_seen).ranks
                    score, hits = float(ndcg(ranks, 10).mean()), float(hit_rate(ranks, 10).mean())
                    better, waited = score > best, waited + 1
                    if better:
                        best, waited = score, 0
                        weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            seconds = round(time.perf_counter() - started, 3)
            results.append(EpochResult(number, loss, score, hits, seconds, better))
            watcher.epoch(results[-1])
            if lines is not None:
                lines.write(json.dumps(asdict(results[-1])) + "\n")
                lines.flush()
            if waited >= config.patience:
                stopped = f"no better for {config.patience} {_spell(config.validate_every)}"
                break
    except KeyboardInterrupt:
        if not weights:
            raise TrainingError("interrupted before the first epoch was validated; there is nothing to keep") from None
        stopped = "interrupted"
    training.network.load_state_dict(weights)
    training.network.to("cpu")
    return results, stopped


def _course(results: list[EpochResult], stopped: str) -> dict[str, object]:
    """How training went, for the record; not the time of each epoch, which differs from run to run."""
    history = [{"epoch": one.epoch, "loss": one.loss, "ndcg": one.ndcg, "hit_rate": one.hit_rate} for one in results]
    best = next(result for result in reversed(results) if result.best)
    return {"stopped": stopped, "best": asdict(best), "epochs": len(results), "history": history}


def _spell(every: int) -> str:
    return "epochs" if every == 1 else f"validations, one every {every} epochs"


@contextmanager
def _opened(history: str | Path | None) -> Iterator[TextIO | None]:
    if history is None:
        yield None
        return
    try:
        open(history, "a", encoding="utf-8").close()
    except OSError as error:
        raise OutputError(f"{history}: cannot be written: {error.strerror}; choose another file") from None
    with open(history, "a", encoding="utf-8") as lines:
        yield lines
