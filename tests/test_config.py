"""Settings are checked once, wherever they come from; a mistake is named with its remedy."""

import dataclasses
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.config import Config
from sasrec.errors import ConfigError

NAMES = [field.name for field in dataclasses.fields(Config)]
DEFAULTS = dataclasses.asdict(Config())
valid_settings = st.fixed_dictionaries(
    {},
    optional={
        "width": st.sampled_from([1, 8, 64, 4096, "auto"]),
        "length": st.integers(1, 10_000),
        "blocks": st.integers(0, 64),
        "dropout": st.floats(0.0, 1.0, exclude_max=True) | st.just("auto"),
        "norm": st.sampled_from(["paper", "pre", "post"]),
        "weighted": st.booleans(),
        "temperature": st.floats(0.0, 1000.0, exclude_min=True),
        "loss": st.sampled_from(["softmax", "bce", "bpr"]),
        "negatives": st.integers(1, 10_000),
        "batch": st.integers(1, 1_000_000),
        "learning_rate": st.floats(0.0, 10.0, exclude_min=True),
        "weight_decay": st.floats(0.0, 10.0),
        "epochs": st.integers(1, 1_000_000),
        "patience": st.integers(1, 1_000_000),
        "seed": st.integers(0, 2**63 - 1),
        "threads": st.integers(1, 1024) | st.just("auto"),
        "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
    },
).filter(lambda found: found.get("blocks") != 0 or found.get("norm", "paper") == "paper")


@pytest.fixture
def write(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "run.toml"
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_the_defaults_are_settings_like_any_other():
    assert Config.from_dict(Config().to_dict()) == Config()


@given(settings=valid_settings)
def test_settings_survive_a_dictionary(settings):
    config = Config(**settings)

    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [("width = " + "[" * 100_000, "is nested too deeply"), ("width = " + "9" * 5000, "is not TOML: .*digits")],
    ids=["deep", "long"],
)
def test_toml_beyond_what_python_takes_is_one_clear_error(tmp_path, text, said):
    (tmp_path / "run.toml").write_text(text)

    with pytest.raises(ConfigError, match=rf"run\.toml: {said}"):
        Config.from_toml(tmp_path / "run.toml")


def test_settings_in_a_pipe_are_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "run.toml")

    with pytest.raises(ConfigError, match=r"run\.toml: a pipe, socket or device, not a regular file"):
        Config.from_toml(tmp_path / "run.toml")


@given(settings=valid_settings)
def test_settings_survive_a_toml_file(tmp_path_factory, settings):
    path = tmp_path_factory.mktemp("config") / "run.toml"
    config = Config(**settings)

    path.write_text(config.to_toml())

    assert Config.from_toml(path) == config


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("width", "wide", "width: expected a number, or 'auto', found 'wide'"),
        ("width", 0, "width: expected an integer >= 1, or 'auto', found 0"),
        ("blocks", 2.5, "blocks: expected an integer, found 2.5"),
        ("width", 8.5, "width: expected an integer, or 'auto', found 8.5"),
        ("dropout", 1, "dropout: expected a number < 1.0, or 'auto', found 1"),
        ("projected", "no", "projected: expected True or False, found 'no'"),
        (
            "loss",
            None,
            "loss: expected a name (one of 'softmax', 'sampled-softmax', 'bce', 'gbce', 'bpr', 'auto'), found None",
        ),
        (
            "windows",
            "sliding",
            "windows: expected a name (one of 'last', 'random', 'rolling', 'auto'), found 'sliding'",
        ),
    ],
)
def test_an_error_says_what_a_setting_can_be(name, value, message):
    with pytest.raises(ConfigError) as error:
        Config(**{name: value})

    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "width": [0, -8, 4097],
        "length": [0, 10_001],
        "blocks": [-1, 65],
        "heads": [0, 65],
        "dropout": [-0.1, 1.0, 1, 2],
        "norm": ["Post", ""],
        "loss": ["ce", "Softmax"],
        "network": ["SASRec", "gru"],
        "temperature": [0.0, 1001],
        "epsilon": [0.0, 0.2],
        "swap_users": [-0.1, 1.0],
        "calibration": [-0.1, 1.1],
        "negatives": [0],
        "batch": [0],
        "learning_rate": [0.0, 0, -1e-3, 10.1],
        "weight_decay": [-1e-9, 11],
        "epochs": [0],
        "patience": [0],
        "seed": [-1, 2**63],
        "threads": [0, -1, "all"],
        "precision": ["float16", "float64"],
    }.items(),
)
def test_a_value_out_of_range_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ConfigError) as error:
            Config(**{name: value})

        assert str(error.value).startswith(f"{name}: ")
        assert str(error.value).endswith(f"found {value!r}")


@pytest.mark.parametrize("name", [name for name in NAMES if not isinstance(DEFAULTS[name], bool)])
@pytest.mark.parametrize(
    "value", [None, True, False, [1], {"a": 1}, "8x", "64", math.nan, math.inf, -math.inf, np.array([1])], ids=repr
)
def test_a_value_of_another_type_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: "):
        Config(**{name: value})


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(DEFAULTS[name], bool)])
@pytest.mark.parametrize("value", [None, 0, 1, "true", [True], math.nan], ids=repr)
def test_a_switch_is_true_or_false_and_off_by_default(name, value):
    assert DEFAULTS[name] is False
    with pytest.raises(ConfigError, match=f"^{name}: "):
        Config(**{name: value})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gated": True}, "gated: needs norm='pre', found norm='paper'"),
        ({"bidirectional": True}, "bidirectional: .*set learn='last'"),
        ({"network": "stamp"}, "network='stamp': .*set learn='last'"),
        (
            {"network": "stamp", "learn": "last", "user_width": 8},
            "user_width: network='stamp' does not read it; leave it out",
        ),
        (
            {"network": "stamp", "learn": "last", "branch": "mean"},
            "branch: network='stamp' does not read it; leave it out",
        ),
        (
            {"network": "stamp", "learn": "last", "branch_share": 0.2},
            "branch_share: network='stamp' does not read it; leave it out",
        ),
        *(
            ({"blocks": 0, name: found}, f"{name}: attention alone reads distances, .*; set 'learned' or 'none'")
            for name in ("positions", "times")
            for found in ("relative", "both")
        ),
        ({"swap_users": 0.5}, "swap_users: .*set user_width"),
        ({"user_width": 8, "similarity": "cosine"}, "similarity: user vectors need 'dot'"),
        ({"label_smoothing": 0.1, "loss": "bce"}, "label_smoothing: .*found loss='bce'; set loss='softmax'"),
        ({"share_negatives": True, "sampler": "unseen"}, "share_negatives: .*set sampler="),
        ({"logq": True, "sampler": "unseen"}, "logq: .*set another sampler"),
        ({"logq": True, "sampler": "mixed", "swap_items": 0.1}, "logq: .*swap_items.*set another sampler"),
        ({"item_updates": "touched", "loss": "softmax"}, "item_updates='touched': .*set loss='sampled-softmax'"),
        ({"item_updates": "touched", "loss": "bce", "beta2": 0.8}, "item_updates='touched': .*found 0.8"),
        ({"item_updates": "touched", "loss": "bce", "item_l2": 1e-6}, "item_updates='touched': .*item_l2=0"),
        ({"item_updates": "touched", "loss": "bce", "weight_decay": 1e-6}, "item_updates='touched': .*weight_decay=0"),
        ({"item_updates": "touched", "loss": "bce", "average": 0.9}, "item_updates='touched': .*set average=0"),
        ({"width": 8, "user_width": 1, "heads": 2}, "heads: must divide .*heads=2 and 9"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_a_way_out(settings, named):
    with pytest.raises(ConfigError, match=named):
        Config(**settings)


@pytest.mark.parametrize(
    "settings", [{"branch_share": 0.2}, {"shortest": 3}, {"calibration": 0.5}, {"warmup": 0.1}], ids=str
)
def test_what_another_setting_would_have_to_read_may_stand_without_it_as_in_saved_models_and_searches(settings):
    assert Config.from_dict(Config(**settings).to_dict()) == Config(**settings)


OF_BLOCKS = [
    *({"norm": norm} for norm in ("pre", "post", "query", "query-only", "key")),
    {"norm": "pre", "gated": True},
    {"heads": 2},
    {"epsilon": 1e-5},
    {"projected": True},
    {"attention_width": 6},
    {"feed_forward": 12},
    {"activation": "gelu"},
    {"branch": "mean"},
    {"branch": "mean", "branch_share": 0.2},
    {"bidirectional": True, "learn": "last"},
]


@pytest.mark.parametrize("settings", OF_BLOCKS, ids=str)
def test_what_blocks_alone_read_is_refused_without_them(settings):
    assert Config(width=8, **settings).blocks == 2
    with pytest.raises(ConfigError, match=rf"^({'|'.join(settings)}): blocks=0 does not read it; leave it out$"):
        Config(width=8, blocks=0, **settings)


def test_without_blocks_what_else_shapes_a_network_can_be_set():
    settings = {"width": 8, "positions": "sinusoidal", "times": "learned", "unscaled": True, "temperature": 2.0}
    inner = {"attention_width": 12, "feed_forward": 12}  # as "auto" stands for, and as settled settings have it

    assert Config(blocks=0, user_width=4, **settings, **inner).blocks == 0
    assert Config(blocks=0, similarity="cosine", positions="auto").positions == "auto"


@pytest.mark.parametrize("name", ["width", "length", "blocks", "heads", "batch", "epochs", "seed", "threads"])
def test_a_fraction_is_no_count_even_if_it_is_whole(name):
    with pytest.raises(ConfigError, match=f"^{name}: "):
        Config(**{name: 8.0})


@pytest.mark.parametrize("name", ["dropout", "weight_decay"])
def test_an_integer_where_a_fraction_is_meant_becomes_one(name):
    value = getattr(Config(**{name: 0}), name)

    assert value == 0.0
    assert isinstance(value, float)


def test_the_choices_are_named():
    with pytest.raises(ConfigError, match=r"\(one of 'all', 'last'\), found 'first'"):
        Config(learn="first")


@pytest.mark.parametrize(("width", "heads"), [(64, 3), (1, 2), (10, 4)])
def test_heads_divide_the_width(width, heads):
    with pytest.raises(
        ConfigError, match=f"heads: must divide the width of the attention, found heads={heads} and {width}"
    ):
        Config(width=width, heads=heads)


def test_settings_do_not_change_once_they_are_made():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().width = 8


def test_settings_are_named_never_placed():
    with pytest.raises(TypeError):
        Config(64)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("widht", "did you mean 'width'?"),
        ("learningrate", "did you mean 'learning_rate'?"),
        ("Dropout", "did you mean 'dropout'?"),
        ("lr", "known are network, width, length, blocks, heads, dropout, norm, epsilon, "),
    ],
)
def test_an_unknown_setting_is_refused_with_a_suggestion(typed, hint):
    with pytest.raises(ConfigError) as error:
        Config.from_dict({"width": 8, typed: 1}, where="run.toml")

    assert str(error.value).startswith(f"run.toml: unknown setting '{typed}'; {hint}")


def test_a_refused_value_says_where_it_stands(write):
    path = write("width = 0\n")

    with pytest.raises(ConfigError) as error:
        Config.from_toml(path)

    assert str(error.value) == f"{path}: width: expected an integer >= 1, or 'auto', found 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = ", "is not TOML"),
        ("width: 8", "is not TOML"),
        ("width = 8\nwidth = 9", "is not TOML"),
        ("[model]\nwidth = 8", "unknown setting 'model'"),
        ("seed = 1979-05-27", "seed: expected an integer, found"),
    ],
)
def test_a_file_that_is_no_list_of_settings_is_refused(write, text, message):
    path = write(text)

    with pytest.raises(ConfigError, match=message) as error:
        Config.from_toml(path)

    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_cannot_be_read_is_refused(tmp_path, write):
    for path, message in (
        (tmp_path / "nowhere.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (write("norm = 'é'", encoding="latin-1"), "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            Config.from_toml(path)


def test_what_a_file_does_not_name_is_taken_from_the_base(write):
    base = Config(width=32, norm="pre", gated=True)

    assert Config.from_toml(write("gated = false"), base=base) == Config(width=32, norm="pre")
    with pytest.raises(ConfigError, match=r"run\.toml: gated: needs norm='pre'"):
        Config.from_toml(write('norm = "post"'), base=base)


def test_an_empty_file_means_the_defaults(write):
    assert Config.from_toml(write("# nothing set\n")) == Config()
