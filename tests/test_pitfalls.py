"""Mistakes that published systems make and this one must not; docs/pitfalls.md says which test guards against which."""

import ast
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import sasrec
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError
from sasrec.model.attention import Layout
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural
from sasrec.training import settling, steps
from sasrec.training.batches import windows_of
from sasrec.training.beginning import begin

ROOT = Path(__file__).parents[1]


def training_of(histories, *, items=9, **settings):
    train = Sequences.of(histories)
    config = Config(
        **{"width": 8, "length": 6, "positions": "learned", "dropout": 0.0, "precision": "float32"} | settings
    )
    return begin(train, items=items, config=settling.settled(config, train, items=items))


def test_a_real_position_of_zeros_is_attended_to_like_any_other():
    # Masks formed from sums that are zero would drop it: with equal scores the mean would leave it out.
    config = Config(width=4, length=5, blocks=1, norm="pre", positions="none")
    network = build(config, items=3, generator=torch.Generator().manual_seed(0)).double()
    items = torch.tensor([0, 1, 1, 2])
    with torch.no_grad():
        network.items.weight[1] = 0.0
        network.blocks[0].attention.query.weight.zero_()  # every key is as good as another
    block = network.blocks[0]

    entering = network.items.weight[items] * 2.0
    values = block.attention.key_value(block.attention_norm(entering))[:, 4:]
    taken = block.attention(*[block.attention_norm(entering)] * 2, Layout.of(np.array([4])), lambda states: states)

    torch.testing.assert_close(taken[3], block.attention.project(values.mean(dim=0)))


@pytest.mark.parametrize("norm", ["paper", "key", "pre"])
def test_what_training_scores_is_what_is_served(norm):
    # Candidates that are scaled, or dropped from, in training alone would give another loss. Without positions, as a
    # step of training lies further from the end of its window than from that of what precedes its target.
    histories = [[3, 1, 4, 1, 5], [2, 6], [5, 3, 5]]
    training = training_of(histories, norm=norm, positions="none")
    prefixes = [one[:place] for one in histories for place in range(1, len(one))]
    targets = torch.tensor([one[place] for one in histories for place in range(1, len(one))])

    (batch,) = steps.batches(
        training.train, windows_of(training.config, training.train, training.rng), size=9, rng=np.random.default_rng(0)
    )
    scores = Neural(training.network, training.config).scores(Sequences.of(prefixes))

    served = torch.nn.functional.cross_entropy(torch.from_numpy(scores), targets)
    drawn = training.objective.draw(batch, training.rng)
    assert training._loss(batch, drawn).item() == pytest.approx(served.item(), rel=1e-5)


def test_items_that_only_events_before_the_windows_hold_stay_known(log_of, small_config):
    log = log_of({f"u{user}": ["old", *[f"i{(user + step) % 5}" for step in range(9)]] for user in range(8)})

    model = sasrec.train(sasrec.split(log), dataclasses.replace(small_config, length=2, epochs=1), progress=False)

    assert "old" in model.items.ids.to_list()
    assert len(model.continue_from(["old"], k=3)) == 3
    assert len(model.similar("old", k=3)) == 3


@pytest.mark.parametrize("sampler", ["unseen", "uniform", "popularity", "in-batch", "mixed"])
def test_negatives_are_drawn_afresh_for_every_step(sampler):
    training = training_of([[3, 1, 4, 1, 5], [2, 6], [5, 3, 5]], loss="bce", negatives=20, sampler=sampler)
    (batch,) = steps.batches(
        training.train, windows_of(training.config, training.train, training.rng), size=9, rng=training.rng
    )

    first, second = (training.objective.draw(batch, training.rng).items for _ in range(2))

    assert (first != second).any()


def test_every_setting_is_read_somewhere():
    # An option that nothing reads is accepted and ignored.
    files = [file for file in (ROOT / "src/sasrec").rglob("*.py") if file.name not in ("config.py", "presets.py")]
    read = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }

    assert [field.name for field in dataclasses.fields(Config) if field.name not in read] == []


def test_users_who_were_never_seen_are_served_by_a_vector_that_swapping_trains():
    histories = [[user % 9, (user + 1) % 9, (user + 2) % 9] for user in range(64)]
    moved = {}
    for share in (0.0, 0.6):
        training = training_of(histories, user_width=4, swap_users=share, loss="bce", batch=64)
        before = training.network.users.weight[-1].detach().clone()
        for number in range(1, 4):
            training.epoch(number)
        moved[share] = (training.network.users.weight[-1] - before).abs().max().item()

    scorer = Neural(training.network, training.config)
    stranger = scorer.scores(Sequences.of([[1, 2]]))

    assert moved[0.0] == 0.0
    assert moved[0.6] > 1e-3
    assert np.isfinite(stranger).all()


def test_a_known_user_is_told_apart_from_another_and_from_the_unknown():
    training = training_of([[1, 2, 3]] * 3, user_width=4)
    with torch.no_grad():
        training.network.users.weight.normal_(generator=torch.Generator().manual_seed(0))
    asked = dataclasses.replace(Sequences.of([[1, 2]] * 3), users=np.array([0, 1, -1]))

    scores = Neural(training.network, training.config).scores(asked)

    assert len({tuple(row) for row in scores.tolist()}) == 3


@pytest.mark.parametrize("settings", [{}, {"norm": "query-only", "positions": "none"}])
@pytest.mark.parametrize("length", [5, 7])
def test_weights_that_belong_to_positions_do_not_load_with_another_length(settings, length):
    config = Config(**{"width": 4, "length": 6, "positions": "learned", **settings})
    scorer = Neural(build(config, items=9, generator=torch.Generator().manual_seed(0)), config)
    saved, tensors = scorer.to_parts()

    with pytest.raises(BundleError, match="weights do not fit the config"):
        Neural.from_parts(9, saved | {"length": length}, tensors)
    assert Neural.from_parts(9, saved, tensors).config == config


def test_every_test_that_the_page_of_pitfalls_names_exists():
    page = (ROOT / "docs/pitfalls.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)`|`(test_\w+)`", page)
    # A row names a file once, and then the tests in it.
    missing, file = [], ""
    for path, test in named:
        file = path or file
        missing += (
            [f"{file}: {test}"] if test and f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8") else []
        )

    assert len([test for _, test in named if test]) > 30
    assert missing == []
