"""A preset is the settings of a published system, can be changed, and goes below the file and the flags."""

import dataclasses
import math
import os
import re
import string
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec.cli import main
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.model.building import build
from sasrec.presets import PRESETS
from sasrec.training.batches import batches, windows_of

PAGE = Path(__file__).parents[1] / "docs/presets.md"
DEFAULTS = Config().to_dict()

every_preset = pytest.mark.parametrize("name", PRESETS)


def page() -> str:
    """The generated part of docs/presets.md: a table of what differs from the defaults, and the differences."""
    changed = {name: one.config.to_dict().items() - DEFAULTS.items() for name, one in PRESETS.items()}
    settings = [name for name in DEFAULTS if any(name == setting for pairs in changed.values() for setting, _ in pairs)]
    lines = [f"| setting | default | {' | '.join(PRESETS)} |", "|" + "---|" * (len(PRESETS) + 2)]
    for setting in settings:
        cells = [_cell(dict(pairs).get(setting)) for pairs in changed.values()]
        lines.append(f"| `{setting}` | {_cell(DEFAULTS[setting])} | {' | '.join(cells)} |")
    for name, one in PRESETS.items():
        lines += ["", f"### {name}", f"{one.system}. Source: {one.source}.", "", *(f"- {text}" for text in one.differs)]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def test_the_documentation_shows_every_preset():
    """To bring it up to date: UPDATE_DOCS=1 python -m pytest tests/test_presets.py -k documentation."""
    shown = PAGE.read_text(encoding="utf-8")
    true = re.sub(r"(?s)(<!-- presets -->\n).*", lambda found: found[1] + page(), shown)

    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(true, encoding="utf-8")

    assert "<!-- presets -->" in true
    assert shown == true or os.environ.get("UPDATE_DOCS")


@every_preset
def test_a_preset_has_a_source_and_says_what_differs(name):
    one = PRESETS[name]

    assert sasrec.preset(name) == one.config
    assert one.system
    assert one.source
    assert one.differs
    assert len({*one.differs}) == len(one.differs)


@every_preset
def test_a_preset_can_be_changed_and_survives_a_toml_file(name, tmp_path):
    config = dataclasses.replace(sasrec.preset(name), epochs=3)
    (tmp_path / "run.toml").write_text(config.to_toml())

    assert config.epochs == 3
    assert dataclasses.replace(config, epochs=sasrec.preset(name).epochs) == sasrec.preset(name)
    assert Config.from_toml(tmp_path / "run.toml") == config


@every_preset
def test_a_preset_takes_the_place_of_no_choice_of_the_machine(name):
    config = sasrec.preset(name)

    assert (config.seed, config.threads, config.precision) == (0, 1, "auto")


# Written down from each system's code: width, length, blocks, heads, dropout, feed-forward width.
SIZES = {
    "paper": (50, 50, 2, 1, 0.5, "auto"),
    "recommenders": (100, 100, 2, 1, 0.5, "auto"),
    "seanswyi": (50, 50, 2, 1, 0.5, "auto"),
    "rectools": (256, 100, 2, 4, 0.2, "auto"),
    "recohut": (50, 40, 1, 1, 0.0, 128),
    "freerec": (64, 50, 2, 1, 0.2, "auto"),
    "esasrec": (64, 200, 2, 1, 0.1, 256),
    "ssept": (50, 50, 2, 1, 0.5, "auto"),
}
# Loss, negatives, sampler, batch, learning rate, beta2, epochs.
LEARNING = {
    "paper": ("bce", 1, "unseen", 128, 1e-3, 0.98, 201),
    "recommenders": ("bce", 1, "unseen", 128, 1e-3, 0.999, 10),
    "seanswyi": ("bce", 1, "uniform", 128, 1e-3, 0.999, 2000),
    "rectools": ("softmax", 1, "uniform", 128, 1e-3, 0.98, 3),
    "recohut": ("bce", 1, "unseen", 512, 1e-3, 0.999, 50),
    "freerec": ("bce", 1, "unseen", 256, 1e-3, 0.999, 200),
    "esasrec": ("sampled-softmax", 256, "uniform", 128, 1e-3, 0.98, 100),
    "ssept": ("bce", 1, "unseen", 128, 1e-3, 0.98, 2001),
    "stamp": ("bce", 1, "unseen", 256, 1e-3, 0.999, 200),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_sizes_are_those_of_the_systems_code(name):
    one = sasrec.preset(name)

    assert (one.width, one.length, one.blocks, one.heads, one.dropout, one.feed_forward) == SIZES[name]


@every_preset
def test_what_is_learned_and_how_is_that_of_the_systems_code(name):
    one = sasrec.preset(name)

    found = (one.loss, one.negatives, one.sampler, one.batch, one.learning_rate, one.beta2, one.epochs)
    assert found == LEARNING[name]
    assert (one.weight_decay, one.schedule) == (0.0, "constant")


# Rows, in widths, of the matrix that Xavier's rule takes for queries and for keys, in each system's code: PyTorch's
# MultiheadAttention has queries, keys and values in one, of 3, and TensorFlow's layers have each in one of its own.
ROWS = {
    "paper": 1,
    "recommenders": 1,
    "recohut": 1,
    "ssept": 1,
    "seanswyi": 3,
    "rectools": 3,
    "freerec": 3,
    "esasrec": 3,
}


@pytest.mark.parametrize("name", ROWS)
def test_by_how_much_attention_starts_otherwise_than_there_is_told(name):
    config = dataclasses.replace(sasrec.preset(name), width=256, user_width=0, length=4)
    layer = build(config, items=9, generator=torch.Generator().manual_seed(0)).blocks[0].attention
    there = math.sqrt(2 / (256 + ROWS[name] * 256))

    (told,) = (text for text in PRESETS[name].differs if text.startswith("keys and values are drawn as one matrix"))
    queries, *keys = (float(one) for one in re.findall(r"\d\.\d+", "1.0" * ("queries" not in told) + told))

    assert there / layer.query.weight.std().item() == pytest.approx(queries, rel=0.02)
    for part in layer.key_value.weight.chunk(2):
        assert [there / part.std().item()] == pytest.approx(keys, rel=0.02)


@pytest.mark.parametrize(
    ("name", "windows", "targets"), [("freerec", "last", 50), ("freerec", "rolling", 99), ("stamp", "rolling", 99)]
)
def test_how_many_of_a_hundred_events_are_targets_here_and_there_is_told(name, windows, targets):
    config, train = dataclasses.replace(sasrec.preset(name), windows=windows), Sequences.of([[0] * 100])
    learn = "last" if windows == "rolling" else config.learn
    rng = np.random.default_rng(0)

    drawn = batches(train, windows_of(config, train, rng), size=100, learn=learn, rng=rng)
    told = [{*re.findall(r"\d+", text)} for text in PRESETS[name].differs]

    # There the last 50 are cut off first, and all but the first of these are targets.
    assert len(next(drawn).targets) == targets
    assert any({str(targets), "49", "100"} <= numbers for numbers in told)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("recohut", "uniform within 0.05, in later versions normal with 0.05"),
        ("esasrec", "those of gates are uniform"),
        *((name, "those of feed-forward layers are uniform") for name in ("seanswyi", "rectools", "freerec")),
    ],
)
def test_what_else_is_drawn_otherwise_there_is_told(name, there):
    assert any(text.endswith(f"there {there}") for text in PRESETS[name].differs)


@pytest.mark.parametrize("name", sorted({*PRESETS} - {"seanswyi", "esasrec"}))
def test_a_system_without_early_stop_trains_all_epochs(name):
    one = sasrec.preset(name)

    assert one.patience >= -(-one.epochs // one.validate_every)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("rectool", "did you mean 'rectools'?"),
        ("sse-pt", "did you mean 'ssept'?"),
        ("", "known are paper, recommenders"),
        ("bert", "known are paper"),
    ],
)
def test_an_unknown_preset_is_refused_with_a_suggestion(typed, hint):
    with pytest.raises(sasrec.ConfigError, match=re.escape(f"preset: there is no '{typed}'; ")) as refused:
        sasrec.preset(typed)

    assert hint in str(refused.value)


@every_preset
def test_a_network_of_every_preset_is_trained_saved_and_loaded(name, walks, tmp_path):
    small = {"width": 8, "length": 5, "heads": 1, "epochs": 1, "batch": 16}
    user = {"user_width": 4} if name == "ssept" else {}
    config = dataclasses.replace(sasrec.preset(name), **small, **user)

    model = sasrec.train(sasrec.split(walks), config, progress=False)
    model.save(tmp_path / "model")
    loaded = sasrec.load(tmp_path / "model")

    assert loaded.scorer.config.norm == config.norm
    assert loaded.recommend(["u07", "u19"], k=3).equals(model.recommend(["u07", "u19"], k=3))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(f"u{user}", f"i{(user + step) % 7}", step) for user in range(12) for step in range(6)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv("log.csv")
    return tmp_path


def test_flags_go_before_the_file_the_file_before_the_preset_and_the_preset_before_defaults(folder):
    (folder / "run.toml").write_text("width = 12\nepochs = 1\nheads = 3\n")
    flags = ["--preset", "rectools", "--config", "run.toml", "--width", "6", "--quiet"]

    code = main(["train", "log.csv", "--out", "model", *flags])
    config = sasrec.load("model").scorer.config

    assert code == 0
    assert (config.width, config.epochs, config.heads) == (6, 1, 3)
    assert (config.projected, config.epsilon, config.length, config.seed) == (True, 1e-5, 100, 0)


def test_a_file_may_hold_what_is_complete_only_with_the_preset(folder):
    (folder / "run.toml").write_text("gated = true\nepochs = 1\nwidth = 4\nnegatives = 2\n")

    assert main(["train", "log.csv", "--out", "model", "--preset", "esasrec", "--config", "run.toml", "--quiet"]) == 0
    assert main(["train", "log.csv", "--out", "other", "--config", "run.toml", "--quiet"]) == 2


def test_a_diagnosis_takes_a_preset_as_training_does(folder, monkeypatch):
    from sasrec.studies import diagnose

    found = []
    monkeypatch.setattr(diagnose, "diagnose", lambda data, config, **rest: found.append(config))
    (folder / "run.toml").write_text("epochs = 1\n")

    main(["diagnose", "log.csv", "--preset", "freerec", "--config", "run.toml", "--width", "6", "--quiet"])

    assert found == [dataclasses.replace(sasrec.preset("freerec"), epochs=1, width=6)]


def test_an_unknown_preset_on_the_command_line_is_one_line(folder, capsys):
    code = main(["train", "log.csv", "--out", "model", "--preset", "rectool"])

    assert code == 2
    assert capsys.readouterr().err == "error: preset: there is no 'rectool'; did you mean 'rectools'?\n"


def test_the_help_names_every_preset(capsys):
    main(["train", "--help"])

    words = capsys.readouterr().out.translate(str.maketrans(string.punctuation, " " * len(string.punctuation))).split()
    assert {*PRESETS} <= {*words}
