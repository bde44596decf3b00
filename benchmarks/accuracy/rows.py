"""What is tried: each row is the defaults of `sasrec train` with some settings changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOGS = {"beauty": "Beauty", "games": "Games", "ml-1m": "MovieLens-1M", "ml-100k": "MovieLens-100k"}
"""Name of a log on the command line and in results, and as tables show it."""

DENSE = ("ml-1m", "ml-100k")


@dataclass(frozen=True)
class Row:
    """Settings that are measured together.

    Attributes:
        title: What is changed, as the table says it.
        settings: What differs from `Config()` on every log.
        dense: What differs besides on MovieLens, whose histories are long.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    dense: Mapping[str, Any] = field(default_factory=dict)

    def on(self, log: str) -> dict[str, Any]:
        """The settings on a log."""
        return {**self.settings, **(self.dense if log in DENSE else {})}


ROWS = {
    "default": Row("defaults"),
    "dropout-low": Row("dropout 0.4; on MovieLens 0.1", {"dropout": 0.4}, {"dropout": 0.1}),
    "dropout-high": Row("dropout 0.6; on MovieLens 0.3", {"dropout": 0.6}, {"dropout": 0.3}),
    "width-128": Row("width 128", {"width": 128}),
    "width-256": Row("width 256", {"width": 256}),
    "rolling": Row("a window for every target, learnt from its last position", {"windows": "rolling", "learn": "last"}),
    "cosine-rate": Row("cosine learning rate over 40 epochs", {"schedule": "cosine", "epochs": 40, "patience": 40}),
    "cosine-scores": Row("cosine of state and item, temperature 0.1", {"similarity": "cosine", "temperature": 0.1}),
    "decay": Row("weight decay 1e-6", {"weight_decay": 1e-6}),
    "gated": Row(
        "gated blocks with SwiGLU (LiGR)",
        {"norm": "pre", "gated": True, "projected": True, "activation": "swiglu", "feed_forward": 256},
    ),
    "gelu": Row(
        "pre-norm, GELU, four times the inner width", {"norm": "pre", "activation": "gelu", "feed_forward": 256}
    ),
    "no-positions": Row("no positions", {"positions": "none"}),
    "float32": Row("products of the loss in float32", {"precision": "float32"}),
    "sampled-256": Row("sampled softmax, 256 negatives", {"loss": "sampled-softmax", "negatives": 256}),
    "sampled-1024": Row("sampled softmax, 1,024 negatives", {"loss": "sampled-softmax"}),
    "sampled-4096": Row("sampled softmax, 4,096 negatives", {"loss": "sampled-softmax", "negatives": 4096}),
    "average": Row("moving average of the weights, decay 0.999", {"average": 0.999}),
    "average-256": Row("moving average, width 256", {"average": 0.999, "width": 256}),
    "average-times": Row(
        "moving average, width 64, relative positions too, and the time of the request",
        {"average": 0.999, "positions": "both", "times": "both"},
    ),
    "average-relative": Row("moving average, relative positions too", {"average": 0.999, "positions": "both"}),
    "average-128": Row("moving average, width 128", {"average": 0.999, "width": 128}),
    "average-smoothing": Row("moving average, label smoothing 0.1", {"average": 0.999, "label_smoothing": 0.1}),
    "smoothing": Row("label smoothing 0.1", {"label_smoothing": 0.1}),
    "identity": Row("half of attention's part is the state itself", {"branch": "identity", "branch_share": 0.5}),
    "mean": Row("running mean beside attention, share 0.7", {"branch": "mean"}),
    "convolution": Row("short convolution beside attention, share 0.7", {"branch": "convolution"}),
    "heads-2": Row("two heads", {"heads": 2}),
}
