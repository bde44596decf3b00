"""Every setting of a run, defined once for Python, TOML files and the command line."""

import difflib
import json
import os
import re
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

import msgspec
from msgspec import Meta

from sasrec.errors import ConfigError

# Settings that blocks alone read; and what STAMP, which has none, does not read beside.
OF_BLOCKS = (
    "heads norm epsilon projected attention_width feed_forward activation gated branch branch_share bidirectional"
).split()
_OF_SASREC = [*OF_BLOCKS, *"blocks positions times unscaled similarity temperature user_width".split()]
# Settings that are read beside some values of another one alone, none of which "auto" stands for. Saved models and
# searches may have them beside others all the same; only who types one there is told.
READ_BESIDE = {
    "branch_share": ("branch", ("identity", "mean", "convolution")),
    "shortest": ("windows", ("rolling",)),
    "calibration": ("loss", ("gbce",)),
    "warmup": ("schedule", ("cosine", "one-cycle")),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a network is built and trained.

    The defaults are what is recommended. What else can be set is there because a published system has it; the
    presets (`sasrec.preset`) put it together as these systems do.

    Attributes:
        network: "sasrec", or "stamp" (attention from the last item, without blocks and positions), of which
            "stamp-memory" and "stamp-last" keep one of the two halves alone.
        width: Size of item vectors and states (the paper's d); "auto" takes 128, and 64 beyond 50,000 items.
        length: Most recent events of a history that the network looks at (the paper's n); "auto" takes it from the log:
            200 where users have 50 events or more on average, else 50.
        blocks: Attention blocks; 0 scores by the last item and its position alone, and takes no settings of blocks.
        heads: Attention heads; must divide the width of the attention.
        dropout: Share of values dropped in training; "auto" takes it from the log: 0.5 where items are seldom, less the
            more events an item has, 0.2 at least.
        norm: Where a block normalises: "paper" as in the paper's code, "pre" as in its text, "post" after each half,
            "query" like "paper" but with residuals of raw states, "query-only" like "paper" but without a norm before
            the feed-forward half and with gains for every position, "key" the attention's keys and each half's result.
        epsilon: What a block's norms add to the variance; a last norm adds 1e-8, and this with norm="query-only".
        projected: Project what attention gives with norm="paper", "query-only" or "post" too; else it always is.
        attention_width: Width of queries, keys and values; "auto" is the width of the states.
        feed_forward: Inner width of the feed-forward half; "auto" is the width of the states.
        activation: Of the feed-forward half: "relu", "gelu" or "swiglu".
        gated: Multiply what each half of a block adds by a gate of its input, no last norm (LiGR); needs norm="pre".
        branch: What is mixed with attention in every block: "identity", the states themselves; "mean", drawn for each
            channel towards the mean of all so far; "convolution", with the three before added by learned weights. All
            look back only and start as the identity (after BSARec).
        branch_share: What the branch counts, from 0 to 1; attention counts the rest.
        positions: "learned" or "sinusoidal" vectors, counted from the end of the history; "relative": each head learns
            what to add to its attention for every distance between two events; "both", learned and relative; "none";
            "auto" takes "both" where users have long histories, else "learned".
        times: Look at the time from events to the request, which in training and evaluation is the time of the event
            to predict, and else now or as it is given: "learned": a vector for the time from each event to the request
            for what follows it; "relative": each head learns what to add to its attention for the time from any event
            to the request; "both"; "none". Needs a log with times.
        unscaled: Let vectors of items and users enter the network as they are, not times the root of their size.
        bidirectional: Let a position see what comes after it too; needs learn="last".
        similarity: "dot" product or "cosine" of state and item vector.
        temperature: What the similarity is divided by.
        user_width: Size of user vectors, which are joined to the item vectors (SSE-PT); 0 tells no users apart.
        initial: How weights begin: "small" draws item vectors with a fixed spread of 0.02, "xavier-uniform" and
            "xavier-normal" with one that shrinks with the catalogue, as several systems have it. "counted" gives item
            vectors the spread of "small", but those of items that stand together in the histories point the same way;
            "auto" takes it up to 50,000 items that have fewer than 100 training events on average, else "small".
        given_start: How many times as large as otherwise vectors given of items are at first, once they are projected;
            used with such vectors alone. Beyond 1 new items gain and others lose: see docs/items.md.
        windows: Which stretch of a long history an epoch learns from: the "last", a "random" one (SSE-PT++), or
            "rolling": a window for every event to predict. "auto" takes "random" where much of the training part lies
            before the last ones, else "last".
        shortest: Fewest events before the predicted one in a rolling window.
        learn: Learn from the targets of "all" positions of a window, or of the "last" alone.
        weighted: Multiply the loss of a target by the weight of its event.
        swap_items: Share of items that become random ones in training, among inputs and targets (SSE).
        swap_users: Share of users that become random ones in training (SSE).
        loss: "softmax" is exact cross-entropy over the whole catalogue; "sampled-softmax" the same over drawn
            negatives; "bce" the paper's binary cross-entropy; "gbce" its calibrated form (gSASRec); "bpr" pairwise;
            "auto" takes "softmax" up to 50,000 items and "sampled-softmax" beyond.
        label_smoothing: Share of a target's probability that is spread evenly over the catalogue; needs loss="softmax".
            "auto" is 0.1 for it where users have 50 events or more on average, else 0.
        negatives: Items drawn against each target; not for "softmax". "auto" draws 1, or 1,024 where all targets of a
            step share them.
        sampler: Where negatives come from: "unseen" draws evenly from what the user never had, "uniform" from the
            catalogue, "popularity" as often as items occur, "in-batch" from the targets of the step, "mixed" each
            time from "uniform" or "in-batch" as a coin falls. "auto" is "unseen", and with `share_negatives` or `logq`,
            which it sets for "sampled-softmax", "mixed", or under `swap_items` "uniform".
        share_negatives: Draw once for all targets of a step.
        logq: Take the logarithm of its expected count from a negative's score, which undoes the sampler's bias.
        calibration: The t of "gbce", from 0 (binary cross-entropy summed over negatives) to 1 (calibrated).
        batch: Windows in a training step; "auto" takes it from the log: 128, and fewer where there are few users.
        learning_rate: Step size of Adam.
        beta2: Adam's decay of squared gradients; that of gradients is 0.9.
        item_updates: Which item vectors a step reads and writes: "all", as Adam usually does, at a cost that grows with
            the catalogue, or the "touched" ones alone, which make up for the steps that they missed when they are
            touched next: the same vectors but for rounding, and for gradients not far above Adam's epsilon, 1e-8.
            "auto" is "touched" beyond 50,000 items where the loss draws negatives, neither a penalty nor an average is
            set and beta2 is at least 0.9.
        weight_decay: L2 penalty that Adam adds to every gradient.
        item_l2: L2 penalty on item vectors alone, added to `weight_decay` there.
        schedule: "constant", "cosine" or "one-cycle" learning rate over `epochs`.
        warmup: Share of all steps in which "cosine" and "one-cycle" raise the rate.
        average: Decay of a moving average of the weights over steps, which is validated and kept in their place: 0.999
            looks back about 1,000 steps, 0 keeps the weights themselves. "auto" is 0.999 where a step moves all item
            vectors (`item_updates`), else 0.
        epochs: Most epochs to train.
        patience: Stop after so many validations without a better validation NDCG@10.
        validate_every: Epochs from one validation to the next.
        seed: Fixes every random draw.
        threads: CPU threads; "auto" takes what the machine grants this process. One is the default: on a machine that
            others use too, several threads wait for each other and can take many times as long.
        precision: Number format of the matrix products of exact cross-entropy: "bfloat16" is about twice as fast on
            CPUs that multiply it at a higher rate than float32; "auto" takes it exactly there. Sums over the catalogue
            are rounded to it too; what is made of them, all weights, and the losses that draw are always float32.
        device: Where the network is trained: "cpu", "cuda" or "mps"; "auto" takes a GPU where torch finds one. A
            trained or loaded model answers on the CPU.
    """

    network: Literal["sasrec", "stamp", "stamp-memory", "stamp-last"] = "sasrec"
    width: Annotated[int, Meta(ge=1, le=4096)] | Literal["auto"] = "auto"
    length: Annotated[int, Meta(ge=1, le=10_000)] | Literal["auto"] = "auto"
    blocks: Annotated[int, Meta(ge=0, le=64)] = 2
    heads: Annotated[int, Meta(ge=1, le=64)] = 1
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] | Literal["auto"] = "auto"
    norm: Literal["paper", "pre", "post", "query", "query-only", "key"] = "paper"
    epsilon: Annotated[float, Meta(gt=0.0, le=0.1)] = 1e-8
    projected: bool = False
    attention_width: Annotated[int, Meta(ge=1, le=4096)] | Literal["auto"] = "auto"
    feed_forward: Annotated[int, Meta(ge=1, le=65536)] | Literal["auto"] = "auto"
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    gated: bool = False
    branch: Literal["none", "identity", "mean", "convolution"] = "none"
    branch_share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.7
    positions: Literal["learned", "sinusoidal", "relative", "both", "none", "auto"] = "auto"
    times: Literal["none", "learned", "relative", "both"] = "none"
    unscaled: bool = False
    bidirectional: bool = False
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    user_width: Annotated[int, Meta(ge=0, le=4096)] = 0
    initial: Literal["small", "counted", "xavier-uniform", "xavier-normal", "auto"] = "auto"
    given_start: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    windows: Literal["last", "random", "rolling", "auto"] = "auto"
    shortest: Annotated[int, Meta(ge=1, le=10_000)] = 1
    learn: Literal["all", "last"] = "all"
    weighted: bool = False
    swap_items: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    swap_users: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    loss: Literal["softmax", "sampled-softmax", "bce", "gbce", "bpr", "auto"] = "auto"
    label_smoothing: Annotated[float, Meta(ge=0.0, lt=1.0)] | Literal["auto"] = "auto"
    negatives: Annotated[int, Meta(ge=1, le=10_000)] | Literal["auto"] = "auto"
    sampler: Literal["unseen", "uniform", "popularity", "in-batch", "mixed", "auto"] = "auto"
    share_negatives: bool = False
    logq: bool = False
    calibration: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.75
    batch: Annotated[int, Meta(ge=1, le=1_000_000)] | Literal["auto"] = "auto"
    learning_rate: Annotated[float, Meta(gt=0.0, le=10.0)] = 1e-3
    beta2: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.98
    item_updates: Literal["all", "touched", "auto"] = "auto"
    weight_decay: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.0
    item_l2: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.0
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    warmup: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    average: Annotated[float, Meta(ge=0.0, lt=1.0)] | Literal["auto"] = "auto"
    epochs: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    patience: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    validate_every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    threads: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["cpu", "cuda", "mps", "auto"] = "cpu"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value is of the wrong type, out of range, or does not fit another.
        """
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), hint))
        for message, wrong in self._conflicts().items():
            if wrong:
                raise ConfigError(message)

    def _conflicts(self) -> dict[str, bool]:
        """What may be wrong between two settings, and whether it is."""
        stamp = self.network != "sasrec"
        width = "auto" if self.width == "auto" else self.width + self.user_width
        inner = width if self.attention_width == "auto" else self.attention_width
        names = _OF_SASREC if stamp else OF_BLOCKS if self.blocks == 0 else ()
        reader = f"network={self.network!r}" if stamp else "blocks=0"
        unread = next((name for name in names if self._asks(name, width)), None)
        relative = next((name for name in ("positions", "times") if getattr(self, name) in ("relative", "both")), None)
        return {
            f"heads: must divide the width of the attention, found heads={self.heads} and {inner}": (
                isinstance(inner, int) and inner % self.heads > 0
            ),
            f"gated: needs norm='pre', found norm={self.norm!r}; set it so, or leave gated out": (
                self.gated and self.norm != "pre"
            ),
            "bidirectional: a position would see its own target; set learn='last', which learns from the last alone": (
                self.bidirectional and self.learn != "last"
            ),
            f"network={self.network!r}: scores after the last position alone; set learn='last'": (
                stamp and self.learn != "last"
            ),
            f"{unread}: {reader} does not read it; leave it out": unread is not None,
            f"{relative}: attention alone reads distances, and blocks=0 has none; set 'learned' or 'none'": (
                relative is not None and self.blocks == 0
            ),
            "swap_users: there are no user vectors to swap; set user_width": self.user_width == 0 < self.swap_users,
            "similarity: user vectors need 'dot', found 'cosine'": self.user_width > 0 and self.similarity != "dot",
            f"label_smoothing: needs all scores, found loss={self.loss!r}; set loss='softmax' or leave it at 0": (
                self.label_smoothing not in (0.0, "auto") and self.loss not in ("softmax", "auto")
            ),
            "share_negatives: sampler='unseen' draws for each user; set sampler='uniform', 'popularity' or 'mixed'": (
                self.share_negatives and self.sampler == "unseen"
            ),
            "logq: unseen items, and targets of a step under swap_items, have no known chance; set another sampler": (
                self.logq and self.sampler in (("unseen", "in-batch", "mixed") if self.swap_items else ("unseen",))
            ),
            "item_updates='touched': exact cross-entropy moves every item; set loss='sampled-softmax'": (
                self.item_updates == "touched" and self.loss == "softmax"
            ),
            "item_updates='touched': a penalty would move every item; set weight_decay=0 and item_l2=0": (
                self.item_updates == "touched" and self.weight_decay + self.item_l2 > 0
            ),
            "item_updates='touched': an average of weights moves every item; set average=0 or item_updates='all'": (
                self.item_updates == "touched" and self.average not in (0.0, "auto")
            ),
            f"item_updates='touched': needs beta2 of 0.9 or more, found {self.beta2:g}; set item_updates='all'": (
                self.item_updates == "touched" and self.beta2 < 0.9
            ),
        }

    def _asks(self, name: str, width: int | str) -> bool:
        """Whether a setting is neither its default nor what "auto" stands for where nothing reads it."""
        idle = {"positions": "none", "attention_width": width, "feed_forward": width}
        return getattr(self, name) not in (getattr(type(self), name), idle.get(name))

    @classmethod
    def from_dict(cls, settings: dict[str, Any], *, where: str = "config", base: Self | None = None) -> Self:
        """From plain values, as decoded from TOML or JSON.

        Args:
            where: What the settings come from, for messages.
            base: What settings that are not named are taken from; None takes the defaults.

        Raises:
            ConfigError: A key is unknown (the nearest known one is suggested), or a value is refused.
        """
        try:
            for name, value in settings.items():
                cls.check(name, value)
            return replace(base or cls(), **settings)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def check(cls, name: str, value: object) -> None:
        """Refuse a setting that is unknown, or a value that it cannot have whatever the others are; ConfigError."""
        known = get_type_hints(cls, include_extras=True)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"unknown setting '{name}'; {hint}")
        _checked(name, value, known[name])

    @classmethod
    def from_toml(cls, path: str | Path, *, base: Self | None = None) -> Self:
        """From a TOML file of `name = value` lines; those that it does not name as in `base`, or the defaults.

        Raises:
            ConfigError: The file cannot be read or parsed, or a setting is refused.
        """
        return cls.from_dict(read_toml(path), where=str(path), base=base)

    def to_dict(self) -> dict[str, int | float | str]:
        """Plain values, such that `Config.from_dict(config.to_dict()) == config`."""
        return asdict(self)

    def to_toml(self) -> str:
        """The text of a TOML file that `from_toml` reads back."""
        # JSON writes texts, numbers and truth values as TOML does.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.to_dict().items())


def read_toml(path: str | Path) -> dict[str, Any]:
    """What a TOML file says; ConfigError where it cannot be read or parsed."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        # A pipe would be waited for.
        raise ConfigError(f"{path}: a pipe, socket or device, not a regular file; save its content to a file first")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except ValueError as error:  # beside tomllib's own, an integer of more digits than Python converts
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be read; settings are lines of name = value") from None


_IN_WORDS = {"int": "an integer", "float": "a number", "bool": "True or False", "str": "a name"}


def _checked(name: str, value: object, hint: Any) -> object:
    """The value as msgspec decodes it for the annotation; integers become floats where a float is meant."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        words = [repr(word) for part in (hint, *get_args(hint)) for word in get_args(part) if isinstance(word, str)]
        choice = f" (one of {', '.join(words)})" if len(words) > 1 else "".join(f", or {word}" for word in words)
        found = re.search(r"`(\w+)[^`]*`( [<>].*)?", str(error))  # there is none for a text that is none of the words
        kind, bound = found.groups("") if found else ("str" if len(words) > 1 else "float", "")
        raise ConfigError(f"{name}: expected {_IN_WORDS[kind]}{bound}{choice}, found {value!r}") from None
