"""Items that a target is told apart from."""

from collections.abc import Callable
from typing import Protocol, final

import numpy as np
import torch

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.data.unseen import Unseen
from sasrec.training.batches import Batch, Negatives

Draw = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""A sampler of one's own: rows of T training histories, a number N and a generator in, item rows of shape (T, N) out;
-1 where there is none to draw."""


class Sampler(Protocol):
    """Draws items with known chances, the same for all users."""

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """Item rows of this shape, with replacement."""
        ...

    def chances(self, items: np.ndarray) -> np.ndarray:
        """The chance of each of these items to be drawn, float64."""
        ...


@final
class NegativeSampler:
    """Draws against the targets of every step of a training, as the settings say.

    Args:
        config: Settings without "auto"; see `sasrec.training.settling`.
        train: Training histories.
        items: Catalogue size V.
        draw: A sampler of the caller's own, instead of the one that the settings name.
    """

    def __init__(self, config: Config, train: Sequences, *, items: int, draw: Draw | None = None) -> None:
        self._config, self._count = config, int(config.negatives)
        self._own: Draw | None = draw
        if draw is None and config.sampler == "unseen":
            self._own = UnseenSampler(train, items=items).draw
        uniform, popular = Uniform(items), Popular(train, items=items)
        samplers: dict[str, Sampler] = {
            "uniform": uniform,
            "popularity": popular,
            "in-batch": InBatch(popular),
            "mixed": Mixed(uniform, InBatch(popular)),
        }
        self._common = samplers.get(config.sampler, uniform)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Negatives:
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
    """The targets of other positions of the step, which are there about as often as items are popular."""

    def __init__(self, popular: Popular) -> None:
        self.popular = popular

    def draw(self, shape: tuple[int, ...], batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """See `Sampler`."""
        return batch.targets.cpu().numpy()[rng.integers(len(batch.targets), size=shape)]

    def chances(self, items: np.ndarray) -> np.ndarray:
        """See `Sampler`."""
        return self.popular.chances(items)


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
