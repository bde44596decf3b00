"""The settings of published systems, put together from those of `sasrec.config`.

Architecture, loss, sampling, optimiser and sizes are the defaults of each system's code. What a system does that is a
fault, or has no setting here, stands beside it under `differs`.
"""

import difflib
from dataclasses import dataclass, replace

from sasrec.config import Config
from sasrec.errors import ConfigError, check_kind


@dataclass(frozen=True)
class Preset:
    """A published system.

    Attributes:
        system: Its name.
        source: Where its code, or what it follows, is published.
        config: Its settings. A `patience` of as many validations as there are epochs never stops early.
        differs: What training with these settings does otherwise than the system.
    """

    system: str
    source: str
    config: Config
    differs: tuple[str, ...]


def preset(name: str) -> Config:
    """The settings of a published system; `dataclasses.replace` changes some of them.

    Args:
        name: "paper", "recommenders", "seanswyi", "rectools", "recohut", "freerec", "esasrec", "ssept" or "stamp".

    Raises:
        ConfigError: There is no such system; the nearest one is suggested.
    """
    if name not in PRESETS:
        check_kind("preset", name, str, called="name", advice=f"known are {', '.join(PRESETS)}")
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(PRESETS)}"
        raise ConfigError(f"preset: there is no '{name}'; {hint}")
    return PRESETS[name].config


# Shared by everybody who follows the paper's code in training.
_EVERY_USER = "an epoch takes every user once; there users are drawn with replacement, so that it misses about a third"
_SAFE_LOG = "losses are formed from softplus; there from log(sigmoid(s) + 1e-24), which stops learning from s = 17 on"
_SUM_MASKS = (
    "padding is known by its place; there by a sum that is zero, which first also drops 6 to 10 % of real positions"
)
_ADAM_EPSILON = "Adam adds 1e-8 to its denominator; there 1e-7"
_NO_LEAK = (
    "nothing is computed on padding; there padded keys take attention, so a short history's score depends on length"
)
_BEST_KEPT = "the weights of the best validation are kept; there those of the last epoch"
_UNIFORM_BIASES = "biases start at 0; there those of feed-forward layers are uniform"
# Xavier's rule takes rows and columns of a matrix of width d into account: d by d of queries and 2d by d of keys and
# values here; elsewhere three of d by d, or one of 3d by d.
_KEYS = "keys and values are drawn as one matrix"
_KEYS_APART = f"{_KEYS}; there each by itself, with a spread of 1.22 times that here"
_KEYS_WITH_QUERIES = f"{_KEYS}; there with queries, whose spread is 0.71 times that here, and that of the rest 0.87"
_CUT_FIRST = "windows='rolling' finds 99 targets in 100 events; there histories are first cut to the last 50, so 49"

# All but STAMP have learned positions; all draw the weights that they begin with, keep the weights themselves and move
# every item in every step; most draw one negative.
_PUBLISHED = Config(
    positions="learned",
    initial="small",
    windows="last",
    label_smoothing=0.0,
    negatives=1,
    item_updates="all",
    average=0.0,
)

PRESETS = {
    "paper": Preset(
        "SASRec, the authors' code",
        "github.com/kang205/SASRec; arXiv:1808.09781",
        replace(
            _PUBLISHED,
            width=50,
            length=50,
            dropout=0.5,
            initial="xavier-uniform",
            loss="bce",
            sampler="unseen",
            batch=128,
            epochs=201,
            patience=201,
            validate_every=20,
        ),
        (_EVERY_USER, _SAFE_LOG, _BEST_KEPT, _KEYS_APART, "`l2_emb`, 0 there, is `item_l2` and leaves positions alone"),
    ),
    "recommenders": Preset(
        "SASREC of Recommenders",
        "github.com/recommenders-team/recommenders",
        replace(
            _PUBLISHED,
            width=100,
            length=100,
            dropout=0.5,
            norm="query-only",
            loss="bce",
            sampler="unseen",
            batch=128,
            beta2=0.999,
            epochs=10,
            patience=10,
            validate_every=5,
        ),
        (
            _EVERY_USER,
            _SAFE_LOG,
            _SUM_MASKS,
            _ADAM_EPSILON,
            _BEST_KEPT,
            "vectors start normal with a spread of 0.02; there uniform within 0.05",
            _KEYS_APART,
        ),
    ),
    "seanswyi": Preset(
        "sasrec-pytorch of seanswyi",
        "github.com/seanswyi/sasrec-pytorch",
        replace(
            _PUBLISHED,
            width=50,
            length=50,
            dropout=0.5,
            norm="key",
            epsilon=1e-5,
            initial="xavier-uniform",
            loss="bce",
            sampler="uniform",
            batch=128,
            beta2=0.999,
            epochs=2000,
            patience=20,
        ),
        (
            "negatives are drawn afresh; there they are 100 fixed ones an item, the same that tests rank against",
            "the first item of a history is no target; there it is learned from padding alone",
            "candidates are item vectors; there, in training only, scaled, with positions added, and dropped from",
            _NO_LEAK,
            "the last norm adds 1e-8 to the variance; there 1e-5",
            _KEYS_WITH_QUERIES,
            _UNIFORM_BIASES,
            "schedule='one-cycle', off there too, falls along a cosine; there along a line",
        ),
    ),
    "rectools": Preset(
        "SASRecModel of RecTools",
        "github.com/MobileTeleSystems/RecTools",
        replace(
            _PUBLISHED,
            width=256,
            length=100,
            heads=4,
            dropout=0.2,
            epsilon=1e-5,
            projected=True,
            unscaled=True,
            initial="xavier-normal",
            loss="softmax",
            sampler="uniform",
            calibration=0.2,
            batch=128,
            epochs=3,
            patience=3,
        ),
        (
            "only items are scored; there the padding is one more class of the softmax",
            _NO_LEAK,
            _BEST_KEPT,
            "weighted=True divides by the weights' sum; there, always weighted, by the number of losses above 0",
            "a negative that equals the target is left out; there it stays",
            _KEYS_WITH_QUERIES,
            _UNIFORM_BIASES,
        ),
    ),
    "recohut": Preset(
        "SASRec of RecoHut and RecLearn",
        "github.com/ZiyaoGeng/RecLearn",
        replace(
            _PUBLISHED,
            width=50,
            length=40,
            blocks=1,
            dropout=0.0,
            norm="post",
            epsilon=1e-6,
            feed_forward=128,
            unscaled=True,
            bidirectional=True,
            windows="rolling",
            learn="last",
            loss="bce",
            sampler="unseen",
            batch=512,
            beta2=0.999,
            item_l2=4e-6,
            epochs=50,
            patience=50,
            validate_every=5,
        ),
        (
            "padded keys are hidden; there the mask hides padded queries, so a short history's score depends on length",
            "losses are formed from softplus; there log(1 - sigmoid(s)) is infinite from s = 17 on",
            "the loss is twice theirs, and so is `item_l2`, which leaves positions alone",
            "negatives are drawn afresh; there once, before training",
            _ADAM_EPSILON,
            _BEST_KEPT,
            "vectors start normal with a spread of 0.02; there uniform within 0.05, in later versions normal with 0.05",
            _KEYS_APART,
        ),
    ),
    "freerec": Preset(
        "SASRec of RecBoard, on FreeRec",
        "github.com/MTandHJ/RecBoard",
        replace(
            _PUBLISHED,
            width=64,
            length=50,
            dropout=0.2,
            norm="query",
            initial="xavier-normal",
            loss="bce",
            sampler="unseen",
            batch=256,
            beta2=0.999,
            patience=200,
            validate_every=5,
        ),
        (
            _NO_LEAK,
            "a window's target follows its 50 events; there it is one of them, so of 100 events 49 are targets, not 50",
            _CUT_FIRST,
            f"{_KEYS_WITH_QUERIES}, and all are uniform",
            "feed-forward layers start by Xavier's rule; there by He's, uniform",
            _UNIFORM_BIASES,
        ),
    ),
    "esasrec": Preset(
        "eSASRec: LiGR blocks and sampled softmax, with its settings for MovieLens-1M",
        "github.com/blondered/transformer_benchmark; arXiv:2508.06450",
        replace(
            _PUBLISHED,
            width=64,
            length=200,
            dropout=0.1,
            norm="pre",
            epsilon=1e-5,
            feed_forward=256,
            activation="swiglu",
            gated=True,
            unscaled=True,
            initial="xavier-normal",
            loss="sampled-softmax",
            negatives=256,
            sampler="uniform",
            batch=128,
            epochs=100,
            patience=50,
        ),
        (
            "a negative that equals the target is left out; there it stays",
            "stops by NDCG@10 over the catalogue; there by the validation loss",
            _KEYS_WITH_QUERIES,
            "biases start at 0; there those of gates are uniform",
        ),
    ),
    "ssept": Preset(
        "SSE-PT, the authors' code",
        "github.com/wuliwei9278/SSE-PT; arXiv:1908.05435",
        replace(
            _PUBLISHED,
            width=50,
            length=50,
            dropout=0.5,
            user_width=50,
            initial="xavier-uniform",
            loss="bce",
            sampler="unseen",
            batch=128,
            epochs=2001,
            patience=2001,
            validate_every=10,
        ),
        (
            "swaps nothing, as its defaults; for MovieLens-1M it has swap_items=0.1, swap_users=0.92, length=200",
            "one swapped user in ten becomes the unknown one, so that new users can be served; there they cannot",
            _EVERY_USER,
            _SAFE_LOG,
            _SUM_MASKS,
            _BEST_KEPT,
            _KEYS_APART,
        ),
    ),
    "stamp": Preset(
        "STAMP of RecBoard, on FreeRec",
        "github.com/MTandHJ/RecBoard; Liu et al., KDD 2018",
        replace(
            _PUBLISHED,
            network="stamp",
            width=64,
            length=50,
            positions="none",
            dropout=0.0,
            windows="rolling",
            learn="last",
            loss="bce",
            sampler="unseen",
            batch=256,
            beta2=0.999,
            patience=200,
            validate_every=5,
        ),
        (
            "vectors start with a spread of 0.02, layers by Xavier's rule; there with 0.002 and 0.05",
            "padding has no vector; there its row starts random, and is summed into mean and memory of short histories",
            "the paper's code adds the mean of the history to the memory; RecBoard and we the last item",
            _CUT_FIRST,
        ),
    ),
}
"""Every preset by its name."""
