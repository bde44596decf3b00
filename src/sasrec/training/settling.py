"""What is settled before the first step: that there is something to learn, and what every "auto" stands for."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sasrec.config import Config
from sasrec.data.features import Features, check_features
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout, Split
from sasrec.errors import ConfigError, DataError, check_kind
from sasrec.training.batches import trainable
from sasrec.training.machine import found_device, granted_threads, has_device, has_fast_bfloat16

# Beyond, an exact step costs several times a sampled one, and more with every item; see docs/performance.md.
_MANY_ITEMS = 50_000
_SHARED_NEGATIVES = 1_024
_AVERAGE = 0.999  # see docs/accuracy.md for what it is worth
_SMOOTHED = 0.1  # the same
_OFTEN = 100  # mean training events of an item from which on its vector finds its place by itself
_LONG = 50  # mean training events of a user from which on the network looks further back
_MUCH = 0.2  # share of training events before the last windows, which these would never learn from
_REPEATS_MATTER = 0.01  # share of validation targets that the user had before, above which they are not excluded


def check(data: Split, train: Sequences, valid: Holdout, config: Config, features: Features | None) -> None:
    """Refuse what cannot be trained on.

    Raises:
        DataError: There is nothing to learn from or to validate on, or weights, times or features do not fit.
        ConfigError: The device is not there.
    """
    check_kind("config", config, Config, advice="settings go into sasrec.Config(...)")
    check_enough(data, train, valid)
    _check_weights(data, train, config)
    _check_times(data, config)
    check_fitting(data, features)
    if config.device != "auto" and not has_device(config.device):
        raise ConfigError(f"device: torch finds no '{config.device}' here; set device='cpu'")


def settled(config: Config, train: Sequences, *, items: int, drawn: bool = False) -> Config:
    """The settings with every "auto" replaced by what it stands for here; `reasons` has the words.

    Width: 128, and 64 in a catalogue so large that its vectors and what is kept of each of them for the steps to come
    are most of the memory.

    Length: 200 where users have 50 training events or more on average, else 50. Short histories fit into any window.

    Positions: learned and relative where users have as many and there are blocks, else learned; none with STAMP.

    Initial: item vectors as counts tell up to 50,000 items that have fewer than 100 training events on average, else
    drawn.

    Dropout: 0.5 up to 15 training events an item, 0.2 from 300 on, and in between by the logarithm. What occurs seldom
    is learnt by heart.

    Windows: at random places of the histories where more than a fifth of the training events lie before the last
    windows, and all positions are learned from; else the last ones.

    Batch: 128 users, or the power of two from 16 on that comes next to a hundredth of all, so that an epoch has steps.

    Label smoothing: 0.1 in exact cross-entropy where users have 50 training events or more on average. Whoever has had
    so many may go on with more than the one that came next.

    Precision: bfloat16 for exact cross-entropy on CPUs that multiply it at a higher rate than float32.

    Args:
        items: Catalogue size V.
        drawn: The caller draws the negatives.

    Raises:
        ConfigError: A setting was asked for that the loss does not read, or what the caller draws.
    """
    long = _events_per_user(train) >= _LONG
    often = math.log(max(_events_per_item(train, items), 1.0) / 15) / math.log(300 / 15)
    taken = {
        "width": 128 if items <= _MANY_ITEMS else 64,
        "length": 200 if long else 50,
        "positions": "none" if config.network != "sasrec" else "both" if long and config.blocks else "learned",
        "initial": "counted" if items <= _MANY_ITEMS and _events_per_item(train, items) < _OFTEN else "small",
        "dropout": round(0.5 - 0.3 * min(max(often, 0.0), 1.0), 2),
        "batch": 2 ** min(max(round(math.log2(_users(train) / 100)), 4), 7),
        "threads": granted_threads(),
        "device": found_device(),
    }
    asked = config if not drawn else _filled(config, {"sampler": "unseen"})  # of each target's own, as what is drawn
    config = _with_loss_settled(_filled(asked, taken), items)
    inner, fast = int(config.width) + config.user_width, config.device == "cpu" and has_fast_bfloat16()
    taken = {
        "attention_width": inner,
        "feed_forward": inner,
        "windows": "random" if config.learn == "all" and _before_last(train, int(config.length)) > _MUCH else "last",
        "label_smoothing": _SMOOTHED if long and config.loss == "softmax" else 0.0,
        "precision": "bfloat16" if fast and config.loss == "softmax" else "float32",
    }
    config = _filled(config, taken)
    _check_read(asked, config, items=items, drawn=drawn)
    return config


def _with_loss_settled(config: Config, items: int) -> Config:
    """The loss settled with everything that belongs to it: its negatives, and which item vectors follow it."""
    config = _filled(config, {"loss": "softmax" if items <= _MANY_ITEMS else "sampled-softmax"})
    if config.sampler == "auto" and config.loss == "sampled-softmax":
        config = replace(config, share_negatives=True, logq=True)
    # Under swapped items the targets of a step have no known chance.
    common = "uniform" if config.swap_items else "mixed"
    sampler = common if config.share_negatives or config.logq else "unseen"
    negatives = _SHARED_NEGATIVES if config.share_negatives else 1
    still = config.weight_decay + config.item_l2 == 0 and config.average in (0.0, "auto")
    can = config.loss != "softmax" and still and config.beta2 >= 0.9
    updates = "touched" if can and items > _MANY_ITEMS else "all"
    config = _filled(config, {"sampler": sampler, "negatives": negatives, "item_updates": updates})
    return _filled(config, {"average": _AVERAGE if config.item_updates == "all" else 0.0})


def _check_read(asked: Config, taken: Config, *, items: int, drawn: bool) -> None:
    """Refuse what the loss does not read, unless it says what would be taken without it; ConfigError."""
    exact = taken.loss == "softmax"
    loss = repr(taken.loss) if asked.loss == taken.loss else f"'auto', which is {taken.loss!r} for {items:,} items,"
    if drawn and exact:
        raise ConfigError(f"draw: loss={loss} draws nothing; set one that does, as loss='sampled-softmax'")
    if drawn and (taken.share_negatives or taken.logq):
        raise ConfigError(
            "draw: gives each target items of its own, whose chances are not known; leave share_negatives and logq off"
        )
    idle: dict[str, tuple[Any, ...]] = {"precision": ("float32",)}
    if exact:  # presets have "uniform", for whoever sets another loss beside them
        idle = {"sampler": ("unseen", "uniform"), "negatives": (1,), "share_negatives": (False,), "logq": (False,)}
    for name, values in idle.items():
        if (found := getattr(asked, name)) not in ("auto", *values):
            # A preset names it too, and what it names is not left out by whoever sets another loss beside it.
            out = f"set it to {values[0]}" if isinstance(values[0], bool) else "set it to 'auto', or leave it out"
            raise ConfigError(f"{name}={found!r}: loss={loss} does not read it; {out}, or set a loss that does")


def _filled(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with these values for those of them that are "auto"."""
    return replace(config, **{name: value for name, value in values.items() if getattr(config, name) == "auto"})


def reasons(asked: Config, taken: Config, train: Sequences, *, items: int) -> dict[str, str]:
    """What each "auto" that depends on the log stands for, and why; nothing of settings that were asked for.

    Args:
        taken: The settings that were asked for as `settled` gives them.
        items: Catalogue size V.
    """
    events = f"users with training events have {_events_per_user(train):,.1f} on average"
    often = f"items have {_events_per_item(train, items):,.1f} training events on average"
    placed = events if taken.blocks else "without blocks nothing reads distances"
    placed = placed if taken.network == "sasrec" else f"{taken.network} has no place for them"
    told = {
        "width": f"{taken.width}, as {_items_in_words(items)}",
        "length": f"{taken.length}, as {events}",
        "positions": f"{'learned and relative' if taken.positions == 'both' else taken.positions}, as {placed}",
        "initial": f"{taken.initial}, as {_items_in_words(items) if items > _MANY_ITEMS else often}",
        "dropout": f"{taken.dropout}, as {often}",
        "windows": f"{taken.windows}, as {_windows_in_words(taken, train)}",
        "batch": f"{taken.batch}, as {_users(train):,} users have training events",
        "loss": _loss_in_words(taken, items),
        "label_smoothing": f"{taken.label_smoothing}, as {events if taken.loss == 'softmax' else 'the loss draws'}",
    }
    return {name: words for name, words in told.items() if getattr(asked, name) == "auto"}


def _loss_in_words(taken: Config, items: int) -> str:
    if taken.loss == "softmax":
        return f"exact cross-entropy (softmax), as {_items_in_words(items)}"
    return f"sampled softmax over {taken.negatives:,} negatives, as {_items_in_words(items)}; loss='softmax' is exact"


def _windows_in_words(taken: Config, train: Sequences) -> str:
    if taken.learn != "all":
        return "the last event of each alone is a target"
    length = int(taken.length)
    return f"{_before_last(train, length):.1%} of the training events lie before the last {length + 1} of their users"


def _before_last(train: Sequences, length: int) -> float:
    """Share of the events that the last windows leave out; each holds `length` positions and the last one's target."""
    return 1 - float(np.minimum(train.lengths, length + 1).sum()) / max(len(train.items), 1)


def _items_in_words(items: int) -> str:
    return f"{items:,} items are {'no more' if items <= _MANY_ITEMS else 'more'} than {_MANY_ITEMS:,}"


def _events_per_user(train: Sequences) -> float:
    return len(train.items) / _users(train)


def _users(train: Sequences) -> int:
    """Users who have training events; where the time splits, some come later."""
    return max(int(np.count_nonzero(train.lengths)), 1)


def _events_per_item(train: Sequences, items: int) -> float:
    return len(train.items) / max(items, 1)


def check_enough(data: Split, train: Sequences, valid: Holdout) -> None:
    """Refuse a split with nothing to learn from or to validate on; DataError."""
    name = data.log.source.name
    if not len(trainable(train)):
        raise DataError(f"{name}: no user has two events to train on; give a log with longer histories")
    if not len(valid):
        raise DataError(f"{name}: the split leaves nobody to validate on; use how='last-item' or a larger share")


def _check_weights(data: Split, train: Sequences, config: Config) -> None:
    if not config.weighted:
        return
    name, weights = data.log.source.name, train.weights
    if weights is None:
        raise DataError(f"{name}: weighted=True needs a weight for every event, and this log has none; pass weight=")
    if (weights < 0).any() or not (weights > 0).any():
        raise DataError(
            f"{name}: weighted=True needs weights of 0 or more, not all 0; found {weights.min():g} at least"
        )


def _check_times(data: Split, config: Config) -> None:
    source = data.log.source
    if config.times != "none" and source.time_unit in (None, "order"):
        found = "none" if source.time_unit is None else "places in each user's own history"
        raise DataError(
            f"{source.name}: times={config.times!r} needs the time of every event, and this log has {found}; "
            "name a column of times, or leave it out"
        )


def check_fitting(data: Split, features: Features | None) -> None:
    """Refuse features of another catalogue, DataError, and what is none, ConfigError."""
    check_features(features)
    items = len(data.log.items)
    if features is not None and len(features) != items:
        raise DataError(f"features are of {len(features):,} items, the log has {items:,}; read them for log.items")


def has_repeats(holdout: Holdout) -> bool:
    """Whether users come back to items often enough that seen items must stay recommendable."""
    return float(holdout.repeated.mean()) > _REPEATS_MATTER
