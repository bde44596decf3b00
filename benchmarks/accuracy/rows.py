"""What is tried: each row is the defaults of `sasrec train` with some settings changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sasrec.data.splits import How


@dataclass(frozen=True)
class Kind:
    """A log, and how it is split.

    Attributes:
        title: As tables show it.
        how: What the test holds: everybody's last event, or the first ones after the training period.
    """

    title: str
    how: How = "last-item"


LOGS = {
    "beauty": Kind("Beauty"),
    "games": Kind("Games"),
    "ml-1m": Kind("MovieLens-1M"),
    "ml-100k": Kind("MovieLens-100k"),
    "steam": Kind("Steam"),
    "retail": Kind("Online Retail II"),
    "ml-1m-time": Kind("MovieLens-1M, split by time", "time"),
    "ml-latest-time": Kind("MovieLens latest-small, split by time", "time"),
    "steam-time": Kind("Steam, split by time", "time"),
    "retail-time": Kind("Online Retail II, split by time", "time"),
    "eshop-time": Kind("Clicks in a shop of clothing, split by time", "time"),
}
"""By name on the command line and in results."""

COUNTED = "counted"
"""The row of what is counted, where no setting is changed and nothing is random."""


@dataclass(frozen=True)
class Row:
    """Settings that are measured together.

    Attributes:
        title: What is changed, as the table says it.
        settings: What differs from `Config()` on every log.
        logs: What differs besides on a log, by its name, unless `settings` say otherwise.
        base: The row that it is compared with.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    base: str = "default"

    def on(self, log: str) -> dict[str, Any]:
        """The settings on a log."""
        return {**self.logs.get(log, {}), **self.settings}


_FORMER = {
    "ml-1m": {"dropout": 0.1},
    "ml-100k": {"dropout": 0.32},
    "eshop-time": {"dropout": 0.1},
    "steam-time": {"dropout": 0.41},
    "retail-time": {"dropout": 0.2},
}
"""What `auto` took for dropout when many rows were run, where it takes more today."""


_THEN = {"windows": "last", "label_smoothing": 0.0}
"""What were the defaults of every log when many rows were run."""


def _drawn(title: str, settings: Mapping[str, Any], *, base: str = "drawn") -> Row:
    """A row that was run when all vectors were drawn, and windows were the last ones."""
    return Row(title, {"initial": "small", **_THEN, **settings}, base=base)


def _former(title: str, settings: Mapping[str, Any], *, base: str) -> Row:
    """The same before positions were automatic and dropout 0.2 at least."""
    return Row(title, {"positions": "learned", "initial": "small", **_THEN, **settings}, _FORMER, base=base)


def _last(title: str, settings: Mapping[str, Any]) -> Row:
    """A row that was run when windows were the last ones on every log."""
    return Row(title, {**_THEN, **settings}, base="last-windows")


def _narrow(title: str, settings: Mapping[str, Any]) -> Row:
    """A row of width 64, which was the default when it was run, beside the defaults of that width."""
    return _former(title, {"width": 64, **settings}, base="width-64")


def _plain(title: str, settings: Mapping[str, Any]) -> Row:
    """The same without the average of the weights, beside the defaults without it."""
    return _former(title, {"width": 64, "average": 0.0, **settings}, base="plain")


_LIGR = {"norm": "pre", "gated": True, "projected": True, "activation": "swiglu", "feed_forward": 512}

ROWS = {
    "default": Row("defaults"),
    "unsmoothed": Row("no label smoothing", {"label_smoothing": 0.0}),
    "smoothing-20": Row("label smoothing 0.2", {"label_smoothing": 0.2}),
    "smoothing-30": Row("label smoothing 0.3", {"label_smoothing": 0.3}),
    "smoothing-30-patient": Row(
        "label smoothing 0.3, 25 epochs without a better one", {"label_smoothing": 0.3, "patience": 25}
    ),
    "smoothing-40": Row("label smoothing 0.4", {"label_smoothing": 0.4}),
    "swap": Row("a tenth of the items of histories replaced by any others", {"swap_items": 0.1}),
    "swap-alone": Row(
        "a tenth of the items of histories replaced by any others, no label smoothing",
        {"swap_items": 0.1, "label_smoothing": 0.0},
        base="unsmoothed",
    ),
    "before": Row(
        "no label smoothing, with the noise of empty slots in relative positions",
        {"label_smoothing": 0.0},
        base="unsmoothed",
    ),
    "last-windows": Row("the last window of every history", _THEN),
    "counted-start": _last("item vectors that counts begin with", {"initial": "counted"}),
    "drawn": _drawn("drawn item vectors", {}, base="last-windows"),
    "drawn-learned": _drawn("learned positions alone", {"positions": "learned"}),
    "former": _former("positions and dropout as before", {}, base="drawn"),
    "drawn-relative": _drawn("relative positions too", {"positions": "both"}),
    "width-64": _former("width 64, else as before", {"width": 64}, base="former"),
    "width-256": Row("width 256, no label smoothing", {"width": 256, "label_smoothing": 0.0}),
    "asked": Row("the time of the request, and relative positions too", {"positions": "both", "times": "both"}),
    "drawn-identity": _drawn("the state itself beside attention, share 0.7", {"branch": "identity"}),
    "mean": Row("running mean beside attention, share 0.7", {"branch": "mean"}),
    "convolution": Row(
        "short convolution beside attention, share 0.7, no label smoothing",
        {"branch": "convolution", "label_smoothing": 0.0},
    ),
    "drawn-convolution": _drawn("short convolution beside attention, share 0.7", {"branch": "convolution"}),
    "gated": _last("gated blocks with SwiGLU (LiGR), the last window, no label smoothing", _LIGR),
    "ligr": Row("gated blocks with SwiGLU (LiGR)", _LIGR),
    "heads-2": Row("two heads", {"heads": 2}),
    "blocks-3": Row("three blocks", {"blocks": 3}),
    "slow": Row("half the learning rate, no label smoothing", {"learning_rate": 0.0005, "label_smoothing": 0.0}),
    "cosine-rate": Row("cosine learning rate over 40 epochs", {"schedule": "cosine", "epochs": 40, "patience": 40}),
    "decay": Row("weight decay 1e-6", {"weight_decay": 1e-6}),
    "times": _narrow("the time of the request, and relative positions too", {"positions": "both", "times": "both"}),
    "float32": _narrow("products of the loss in float32", {"precision": "float32"}),
    "sampled-256": Row("sampled softmax, 256 negatives", {"loss": "sampled-softmax", "negatives": 256}),
    "sampled-1024": _last("sampled softmax, 1,024 negatives", {"loss": "sampled-softmax"}),
    "drawn-sampled-1024": _drawn("sampled softmax, 1,024 negatives", {"loss": "sampled-softmax"}),
    "sampled-4096": Row("sampled softmax, 4,096 negatives", {"loss": "sampled-softmax", "negatives": 4096}),
    "plain": _narrow("no average of the weights", {"average": 0.0}),
    "plain-dropout-dense": _plain("dropout 0.2", {"dropout": 0.2}),
    "plain-dropout-high": _plain("dropout 0.6", {"dropout": 0.6}),
    "plain-width-128": _drawn("no average of the weights", {"average": 0.0}),
    "plain-rolling": _plain(
        "a window for every target, learnt from its last position", {"windows": "rolling", "learn": "last"}
    ),
    "plain-cosine-scores": _plain(
        "cosine of state and item, temperature 0.1", {"similarity": "cosine", "temperature": 0.1}
    ),
    "plain-gelu": _plain(
        "pre-norm, GELU, four times the inner width", {"norm": "pre", "activation": "gelu", "feed_forward": 256}
    ),
    "plain-smoothing": _plain("label smoothing 0.1", {"label_smoothing": 0.1}),
    "plain-convolution": _plain("short convolution beside attention, share 0.7", {"branch": "convolution"}),
}

SINCE = (
    "default unsmoothed smoothing-20 smoothing-30 smoothing-30-patient smoothing-40 swap swap-alone ligr heads-2 "
    "blocks-3 asked"
).split()
"""Rows that were run since empty slots move relative positions no more; others stand beside "before" where it is."""
