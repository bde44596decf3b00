"""Items that a target is told apart from: how they are drawn, and the losses over them.

Axes: P real positions, D width, V catalogue, N negatives.
"""

from collections.abc import Callable
from typing import Any, Protocol, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.data.unseen import Unseen
from sasrec.errors import ConfigError
from sasrec.training.batches import Batch, Negatives, target_shares
from sasrec.training.losses import CHUNK, TINY
from sasrec.words import with_article

Draw = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""A sampler of one's own: rows of T training histories, a number N and a generator in, item rows of shape (T, N) out;
-1 where there is none to draw."""


def checked(draw: Draw, *, items: int) -> Draw:
    """A sampler whose every answer is looked at before it is used.

    Args:
        draw: The caller's own, of rows of a catalogue of this size.

    The sampler raises ConfigError where an answer is anything but item rows of the shape that was asked for.
    """

    def draw_checked(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        drawn: object = draw(rows, count, rng)
        wanted = f"integers of shape {(len(rows), count)}"
        if not isinstance(drawn, np.ndarray):
            raise ConfigError(f"draw: gave {with_article(type(drawn).__name__)}; give a NumPy array of {wanted}")
        if drawn.dtype.kind not in "iu" or drawn.shape != (len(rows), count):
            raise ConfigError(f"draw: gave {drawn.dtype} of shape {drawn.shape}; give {wanted}")
        outside = drawn[(drawn < -1) | (drawn >= items)]
        if len(outside):
            raise ConfigError(
                f"draw: gave {outside[0]}, which is no row of {items:,} items; give 0 to {items - 1}, or -1 for none"
            )
        return drawn.astype(np.int64)

    return draw_checked


class Sampler(Protocol):
    """Draws items with known chances, the same for all users."""

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """Item rows of this shape, with replacement; int64."""
        ...

    def chances(self, items: np.ndarray) -> np.ndarray:
        """The chance of each of these item rows to be drawn, in [0, 1]; float64 of the same shape."""
        ...


@final
class NegativeSampling:
    """Learns to tell the targets of every step from items that are drawn against them, as the settings say.

    Args:
        config: Settings without "auto"; see `sasrec.training.settling`.
        train: Training histories.
        items: Catalogue size V.
        draw: A sampler of the caller's own, instead of the one that the settings name.
    """

    def __init__(self, config: Config, train: Sequences, *, items: int, draw: Draw | None = None) -> None:
        self._config, self._count, self._items = config, int(config.negatives), items
        self._own: Draw | None = draw
        if draw is None and config.sampler == "unseen":
            self._own = UnseenSampler(train, items=items).draw
        self._common: Sampler = Uniform(items)
        if config.sampler == "popularity":
            self._common = Popular(train, items=items)
        if config.sampler in ("in-batch", "mixed"):
            own = InBatch(target_shares(config, train, items=items))
            self._common = own if config.sampler == "in-batch" else Mixed(self._common, own)

    def draw(self, batch: Batch, rng: np.random.Generator) -> Negatives:
        """Negatives for the targets of a batch. Draws that equal a target are for the loss to leave out."""
        count = self._count
        if self._own is not None:
            return Negatives(torch.from_numpy(self._own(batch.owners, count, rng)))
        shape = (count,) if self._config.share_negatives else (len(batch.targets), count)
        drawn = self._common.draw(shape, batch, rng)
        if not self._config.logq:
            return Negatives(torch.from_numpy(drawn))
        expected = np.log(count * self._common.chances(drawn))
        return Negatives(torch.from_numpy(drawn), torch.from_numpy(expected.astype(np.float32)))

    def loss(
        self, states: Float[Tensor, "P D"], table: Float[Tensor, "V D"], batch: Batch, negatives: Negatives
    ) -> Float[Tensor, ""]:
        """Mean loss of the batch's targets against what was drawn; see `sampled`."""
        return sampled(self._config, states, table, batch.targets, negatives, batch.weights, items=self._items)


@final
class Uniform:
    """Every item alike."""

    def __init__(self, items: int) -> None:
        self.items = items

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """See `Sampler`."""
        return rng.integers(self.items, size=shape)

    def chances(self, items: np.ndarray) -> np.ndarray:
        """See `Sampler`."""
        return np.full(items.shape, 1.0 / self.items)


@final
class Popular:
    """Items as often as they occur in training."""

    def __init__(self, train: Sequences, *, items: int) -> None:
        self.events = train.items
        self.shares = np.bincount(train.items, minlength=items) / max(len(train.items), 1)

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """See `Sampler`."""
        return self.events[rng.integers(len(self.events), size=shape)].astype(np.int64)

    def chances(self, items: np.ndarray) -> np.ndarray:
        """See `Sampler`."""
        return self.shares[items]


@final
class InBatch:
    """The targets of all positions of the step.

    Args:
        shares: How often each item is a target; float64 of shape (items,).
    """

    def __init__(self, shares: np.ndarray) -> None:
        self.shares = shares

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """See `Sampler`."""
        return batch.targets.cpu().numpy()[rng.integers(len(batch.targets), size=shape)]

    def chances(self, items: np.ndarray) -> np.ndarray:
        """See `Sampler`."""
        return self.shares[items]


@final
class Mixed:
    """One sampler or another, as a coin falls. Source: Yang et al., WWW 2020 (mixed negative sampling)."""

    def __init__(self, first: Sampler, second: Sampler) -> None:
        self.first, self.second = first, second

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """See `Sampler`."""
        heads = rng.random(shape) < 0.5
        return np.where(heads, self.first.draw(shape, batch, rng), self.second.draw(shape, batch, rng))

    def chances(self, items: np.ndarray) -> np.ndarray:
        """See `Sampler`."""
        return (self.first.chances(items) + self.second.chances(items)) / 2


@final
class UnseenSampler:
    """Uniform draws from the items outside each user's history, without trial and error.

    Args:
        histories: What each user had; repeats are harmless.
        items: Catalogue size V.
    """

    def __init__(self, histories: Sequences, *, items: int) -> None:
        self._unseen = Unseen(histories, items=items)

    def draw(self, users: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws for each entry of `users`, with replacement.

        Args:
            users: Rows of `histories`, int array of shape (P,).

        Returns:
            Item rows, int64 of shape (P, count); -1 where the user has had every item.
        """
        unseen = self._unseen.counts[users][:, None]
        places = (rng.random((len(users), count)) * unseen).astype(np.int64)
        return np.where(unseen > 0, self._unseen.at(users, places), -1)


def sampled(
    config: Config,
    states: Float[Tensor, "P D"],
    table: Float[Tensor, "V D"],
    targets: Int[Tensor, "P"],
    negatives: Negatives,
    weights: Float[Tensor, "P"] | None = None,
    *,
    items: int | None = None,
) -> Float[Tensor, ""]:
    """Mean loss per position, in nats, of targets against drawn negatives, weighted where weights are given.

    Draws that are missing (-1) or equal the target are left out.

    Args:
        items: Size of the catalogue that negatives are drawn from, where `table` is but a part of it.

    Raises:
        KeyError: The settings ask for a loss that draws nothing.
    """
    drawn = negatives.items.to(targets.device)
    rows = drawn.clamp_min(0)
    aims, vectors = nn.functional.embedding(targets, table), nn.functional.embedding(rows, table)
    counts = negatives.log_counts
    if config.loss == "sampled-softmax" and drawn.dim() == 1:
        corrections = torch.zeros_like(vectors[:, 0]) if counts is None else counts.to(states)
        shared: Tensor = _SharedSoftmax.apply(states, aims, vectors, corrections, targets, drawn, weights)
        return shared
    positive = (aims * states).sum(dim=1)
    negative = states @ vectors.t() if drawn.dim() == 1 else (vectors * states.unsqueeze(1)).sum(dim=2)
    if counts is not None:
        negative = negative - counts.to(targets.device)
    real = (drawn >= 0) & (drawn != targets.unsqueeze(1))
    loss = _SAMPLED[config.loss](positive, negative, real, config.calibration, items or len(table))
    return loss.mean() if weights is None else (loss * weights).sum() / weights.sum().clamp_min(TINY)


class _SharedSoftmax(torch.autograd.Function):
    """Sampled softmax whose negatives are the same at all positions: what `_sampled_softmax` gives, chunk by chunk.

    Scores, probabilities and gradients of a chunk are made in one buffer that the cache holds, as in `_Exact`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        aims: Tensor,
        vectors: Tensor,
        corrections: Tensor,
        targets: Tensor,
        drawn: Tensor,
        weights: Tensor | None,
    ) -> Tensor:
        corrections = corrections.masked_fill(drawn < 0, float("inf"))
        share = states.new_tensor(1.0 / len(states)) if weights is None else 1.0 / weights.sum().clamp_min(TINY)
        losses = torch.empty_like(states[:, 0])
        d_states, d_aims, d_vectors = torch.empty_like(states), torch.empty_like(aims), torch.zeros_like(vectors)
        for start in range(0, len(states), CHUNK):
            here = slice(start, start + CHUNK)
            scores = torch.addmm(-corrections, states[here], vectors.t())
            scores.masked_fill_(targets[here].unsqueeze(1) == drawn, float("-inf"))
            positive = (states[here] * aims[here]).sum(dim=1)
            highest = torch.maximum(positive, scores.amax(dim=1))
            scores.sub_(highest.unsqueeze(1)).exp_()
            hit = (positive - highest).exp()
            total = hit + scores.sum(dim=1)
            losses[here] = total.log() + highest - positive
            each = share if weights is None else share * weights[here]
            scores.mul_((each / total).unsqueeze(1))
            missed = ((hit / total - 1) * each).unsqueeze(1)
            torch.addmm(missed * aims[here], scores, vectors, out=d_states[here])
            torch.mul(missed, states[here], out=d_aims[here])
            d_vectors.addmm_(scores.t(), states[here])
        ctx.save_for_backward(d_states, d_aims, d_vectors)
        return (losses if weights is None else losses * weights).sum() * share

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *(one * gradients[0] for one in ctx.saved_tensors), None, None, None, None


def _binary(positive: Tensor, negative: Tensor, real: Tensor, _calibration: float, _items: int) -> Tensor:
    """The paper's loss: the target should score above zero, items that the user never had below.

    Written with softplus, whose gradient stays 1 for a confident mistake; `log(1 - sigmoid(s) + 1e-24)` of the
    paper's code has gradient 0 from a score of about 17 on, and `log(1 - sigmoid(s))` is infinite there. The loss of
    the target plus the mean loss of its negatives: with one negative, the paper's sum of both.

    Source: Kang & McAuley, ICDM 2018, arXiv:1808.09781, equation 6.
    """
    return softplus(-positive) + (softplus(negative) * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)


def _calibrated(positive: Tensor, negative: Tensor, real: Tensor, calibration: float, items: int) -> Tensor:
    """gBCE: binary cross-entropy whose target counts less, as a sampled negative stands for many.

    Source: Petrov & Macdonald, RecSys 2023 (gSASRec), equations 9 to 12; summed over the negatives.
    """
    rate = min(negative.shape[1] / max(items - 1, 1), 1.0)
    power = rate * (calibration * (1.0 - 1.0 / rate) + 1.0 / rate)
    return power * softplus(-positive) + (softplus(negative) * real).sum(dim=1)


def _pairwise(positive: Tensor, negative: Tensor, real: Tensor, _calibration: float, _items: int) -> Tensor:
    """BPR: the target should score above each negative. Source: Rendle et al., UAI 2009; mean over the negatives."""
    return (softplus(negative - positive.unsqueeze(1)) * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)


def _sampled_softmax(positive: Tensor, negative: Tensor, real: Tensor, _calibration: float, _items: int) -> Tensor:
    """Cross-entropy over the target and its negatives. Source: Jean et al., ACL 2015."""
    all_scores = torch.cat([positive.unsqueeze(1), negative.masked_fill(~real, float("-inf"))], dim=1)
    return all_scores.logsumexp(dim=1) - positive


_SAMPLED = {"bce": _binary, "gbce": _calibrated, "bpr": _pairwise, "sampled-softmax": _sampled_softmax}
