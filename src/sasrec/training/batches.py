"""From training histories to steps, gathered from flat arrays and never padded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sasrec.config import Config
from sasrec.data.sequences import Sequences, places_of
from sasrec.model.attention import Layout


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's work; B windows, P real positions, one window after the other, T targets that are learned from.

    Attributes:
        items: Item row at each position.
        layout: Which positions belong together.
        users: User row of every window.
        targets: Item to predict: at every position the one that followed it, or after each window alone.
        owners: For every target, the row of its history in the training part; int64 of shape (T,).
        weights: Weight of each target's event; None where all weigh the same.
    """

    items: Int[Tensor, "P"]
    layout: Layout
    users: Int[Tensor, "B"]
    targets: Int[Tensor, "T"]
    owners: np.ndarray
    weights: Float[Tensor, "T"] | None


class Negatives(NamedTuple):
    """What was drawn against the targets of a step.

    Attributes:
        items: Item rows, -1 where there is none: N for each target, or N for all of them together; N may be 0.
        log_counts: Logarithm of how often each is expected among the N; None where scores are not corrected by it.
    """

    items: Int[Tensor, "*targets N"]
    log_counts: Float[Tensor, "*targets N"] | None = None


class Windows(NamedTuple):
    """Stretches of histories that are learned from, each with the events to predict.

    Attributes:
        rows: Row of the history, int64 of shape (windows,).
        starts: First event, counted within the history.
        stops: One past the last event, which is only predicted.
    """

    rows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def trainable(train: Sequences) -> np.ndarray:
    """Rows of the histories that hold a step to learn from, two events or more; int64 of shape (trainable,)."""
    return np.flatnonzero(train.lengths >= 2)


def last_windows(train: Sequences, *, length: int) -> Windows:
    """The last `length` positions of every history, as the paper has it."""
    rows = trainable(train)
    stops = train.lengths[rows]
    return Windows(rows, np.maximum(stops - length - 1, 0), stops)


def random_windows(train: Sequences, *, length: int, rng: np.random.Generator) -> Windows:
    """`length` positions from a random start of every history; shorter ones whole.

    Source: SSE-PT++ of Wu et al., RecSys 2020, so that no event of a long history is never learned from.
    """
    rows, latest, stops = last_windows(train, length=length)
    starts = rng.integers(latest + 1)
    return Windows(rows, starts, np.minimum(starts + length + 1, stops))


def rolling_windows(train: Sequences, *, length: int, shortest: int = 1) -> Windows:
    """A window for every event with at least `shortest` before it; the last event alone where a history is shorter.

    Source: the windows of FreeRec, which learns from the last position of each.
    """
    rows = trainable(train)
    lengths = train.lengths[rows]
    first = np.minimum(shortest, lengths - 1)  # place of the first event that ends a window
    counts = lengths - first
    places = places_of(counts) + np.repeat(first, counts)
    return Windows(np.repeat(rows, counts), np.maximum(places - length, 0), places + 1)


def windows_of(config: Config, train: Sequences, rng: np.random.Generator) -> Windows:
    """The windows of an epoch as settings without "auto" ask for them."""
    length = int(config.length)
    if config.windows == "random":
        return random_windows(train, length=length, rng=rng)
    if config.windows == "rolling":
        return rolling_windows(train, length=length, shortest=config.shortest)
    return last_windows(train, length=length)


def target_shares(config: Config, train: Sequences, *, items: int) -> np.ndarray:
    """How often each item is a target, as a share of all targets of an epoch; float64 of shape (items,).

    Where windows are drawn, it is so on average over all that may be.
    """
    if config.windows == "random":  # every start of a history is as likely
        length = int(config.length)
        rows, latest, stops = last_windows(train, length=length)
        rows, starts, counts = np.repeat(rows, latest + 1), places_of(latest + 1), np.repeat(latest + 1, latest + 1)
        stops = np.minimum(starts + length + 1, np.repeat(stops, latest + 1))
        taken = 1 / counts
    else:
        rows, starts, stops = windows_of(config, train, np.random.default_rng(0))  # which draws nothing
        taken = np.ones(len(rows))
    ends = train.offsets[rows] + stops
    begins = ends - 1 if config.learn == "last" else train.offsets[rows] + starts + 1
    size = len(train.items) + 1
    times = np.cumsum(np.bincount(begins, taken, size) - np.bincount(ends, taken, size))[:-1]
    counts = np.bincount(train.items, times.clip(0.0), items)  # sums of fractions may end a little below 0
    return counts / max(counts.sum(), 1e-9)


def batches(
    train: Sequences,
    windows: Windows,
    *,
    size: int,
    learn: Literal["all", "last"] = "all",
    weighted: bool = False,
    device: torch.device | None = None,
    done: int = 0,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Every window once, in random order, `size` at a time; the last batch may hold fewer.

    Args:
        train: Training histories; where they have times, a batch tells when events happened and were asked for: the
            request for an event has the time of the event.
        learn: Whether the targets are those of all positions, or each window's last event.
        weighted: Hand on the weights of the targets' events.
        device: Where the tensors go; None leaves them on the CPU.
        done: Batches to leave out, the first ones.
        rng: Draws the order.
    """
    order = rng.permutation(len(windows.rows))
    for start in range(done * size, len(order), size):
        some = order[start : start + size]
        cut = train.slices(windows.rows[some], windows.starts[some], windows.stops[some])
        ends = cut.offsets[1:] - 1
        positions = cut.lengths - 1
        followers = np.delete(np.arange(len(cut.items)), cut.offsets[:-1])
        targets = followers if learn == "all" else ends
        times = None if cut.times is None else (np.delete(cut.times, ends), cut.times[followers])
        yield Batch(
            items=torch.from_numpy(np.delete(cut.items, ends).astype(np.int64)).to(device),
            layout=Layout.of(positions, device, times=times),
            users=torch.from_numpy(windows.rows[some] if cut.users is None else cut.users).to(device),
            targets=torch.from_numpy(cut.items[targets].astype(np.int64)).to(device),
            owners=np.repeat(windows.rows[some], positions) if learn == "all" else windows.rows[some],
            weights=torch.from_numpy(cut.weights[targets]).to(device) if weighted and cut.weights is not None else None,
        )
