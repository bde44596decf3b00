"""begin(): a network before its first step, from settings and training histories."""

from dataclasses import replace

import numpy as np
import torch

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.sequences import Sequences
from sasrec.model.building import build
from sasrec.model.stamp import Network
from sasrec.retrieval.content import feature_tensors
from sasrec.retrieval.neural import Neural, widened
from sasrec.training.batches import Batch, trainable
from sasrec.training.dropout import Dropout
from sasrec.training.losses import ExactCrossEntropy
from sasrec.training.machine import keep_freed_memory
from sasrec.training.negatives import Draw, NegativeSampling, checked
from sasrec.training.noise import swapped
from sasrec.training.occurring import among, occurring_in
from sasrec.training.optim import Adam
from sasrec.training.starting import start_counted
from sasrec.training.steps import Objective, Training
from sasrec.training.touched import TouchedAdam


def begin(
    train: Sequences,
    *,
    items: int,
    config: Config,
    draw: Draw | None = None,
    features: Features | None = None,
) -> Training:
    """A training before its first step. One seed fixes all of its draws.

    Args:
        train: Training histories, one for each user of the log.
        items: Catalogue size V.
        config: Settings without "auto"; see `settled`.
        draw: A sampler of negatives of the caller's own.
        features: Categories and vectors of the items.
    """
    keep_freed_memory()
    draw = None if draw is None else checked(draw, items=items)
    known, learned = np.arange(items) if features is None else occurring_in(train), features
    if features is not None and len(known) < items:
        train, draw = among(known, train, draw, items=items)
        learned, items = features.take(known), len(known)
    # Batches carry times where histories have them, which only some networks look at.
    train = train if config.times != "none" else replace(train, times=None)
    generator = torch.Generator().manual_seed(config.seed)
    network = build(config, items=items, users=len(train), **feature_tensors(learned), generator=generator)
    if learned is not None and network.items.values is not None:  # what no item here says must not be noise
        with torch.no_grad():
            network.items.values[np.setdiff1d(np.arange(len(learned.values)), learned.rows)] = 0.0
    if config.initial == "counted":
        start_counted(network.items, train, generator, length=int(config.length))
    # Initial weights are drawn on the CPU, so that they are the same wherever the network goes.
    device = torch.device(config.device)
    network.to(device)
    noise = generator if device.type == "cpu" else torch.Generator(device).manual_seed(config.seed)

    users = trainable(train)

    def swap(batch: Batch, rng: np.random.Generator) -> Batch:
        return swapped(batch, config, items=items, users=users, rng=rng)

    def whole(network: Network) -> Neural:
        scorer = Neural(network, config)
        return scorer if features is None else widened(scorer, known, features)

    return Training(
        network,
        train,
        config=config,
        optimiser=(TouchedAdam if config.item_updates == "touched" else Adam)(network, config),
        drop=Dropout(float(config.dropout), noise),
        objective=_objective(config, train, draw, items=items),
        swap=swap,
        whole=whole,
    )


def _objective(config: Config, train: Sequences, draw: Draw | None, *, items: int) -> Objective:
    if config.loss == "softmax":
        return ExactCrossEntropy(getattr(torch, config.precision), smoothing=float(config.label_smoothing))
    return NegativeSampling(config, train, items=items, draw=draw)
