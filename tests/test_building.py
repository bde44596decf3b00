"""A network starts from weights drawn as asked for, from the generator that is given, and is shaped by its settings."""

import math

import numpy as np
import pytest
import torch

import sasrec
from sasrec.errors import ConfigError
from sasrec.model.attention import Layout
from sasrec.model.building import build
from sasrec.presets import PRESETS

ITEMS, USERS = 4_000, 3_000


def built(*, items=ITEMS, users=USERS, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    return build(
        sasrec.Config(**{"length": 6, "positions": "learned", **settings}),
        items=items,
        users=users,
        generator=generator,
    )


@pytest.mark.parametrize("norm", ["paper", "pre", "post", "query", "query-only", "key"])
@pytest.mark.parametrize("initial", ["small", "xavier-uniform", "xavier-normal"])
def test_norms_start_as_the_identity_up_to_scale(norm, initial):
    network = built(items=9, width=8, length=5, norm=norm, initial=initial)

    parts = [part for name, part in network.named_modules() if type(part).__name__ in ("LayerNorm", "PositionNorm")]

    assert parts
    for part in parts:
        assert (part.weight == 1).all()
        assert (part.bias == 0).all()


@pytest.mark.parametrize("branch", ["identity", "mean", "convolution"])
@pytest.mark.parametrize("initial", ["small", "xavier-uniform", "xavier-normal"])
def test_branches_beside_attention_start_as_the_identity(branch, initial):
    network = built(items=9, width=8, length=5, branch=branch, initial=initial)
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))

    for block in network.blocks:
        assert torch.equal(block.attention.branch(states, Layout.of(np.array([2, 3]))), states)


@pytest.mark.parametrize("initial", ["xavier-uniform", "xavier-normal"])
@pytest.mark.parametrize("items", [500, 4_000])
def test_the_spread_of_xavier_shrinks_with_the_catalogue(initial, items):
    weight = built(items=items, width=16, initial=initial).items.weight

    assert weight.std().item() == pytest.approx(math.sqrt(2 / (items + 16)), rel=0.05)
    if initial == "xavier-uniform":
        assert weight.abs().max().item() <= math.sqrt(6 / (items + 16))


def test_the_small_spread_belongs_to_items_positions_and_users():
    network = built(width=16, user_width=8, length=800)

    for table in (network.items.weight, network.positions.weight, network.users.weight[:-1]):
        assert table.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_unknown_user_starts_as_nobody_in_particular():
    users = built(width=4, user_width=6, users=5).users

    assert users.weight.shape == (6, 6)
    assert (users.weight[users.unknown] == 0).all()
    assert users.unknown == 5
    assert users(torch.tensor([-1, 2])).tolist() == [users.weight[5].tolist(), users.weight[2].tolist()]


def test_stamp_starts_with_biases_at_zero_and_layers_of_xavier():
    network = built(items=9, network="stamp", learn="last", width=64, positions="none")

    assert (network.ask_item.bias == 0).all()
    assert (network.memory_view.bias == 0).all()
    assert network.ask_last.weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_a_network_to_be_loaded_has_the_shapes_of_one_that_was_drawn(name):
    config = sasrec.preset(name)
    drawn = build(config, items=11, users=3, generator=torch.Generator().manual_seed(0))

    empty = build(config, items=11, users=3, generator=None)

    assert all(one.is_meta for one in empty.parameters())
    assert {name: one.shape for name, one in empty.named_parameters()} == {
        name: one.shape for name, one in drawn.named_parameters()
    }


def test_vectors_given_of_items_start_as_large_as_told():
    vectors = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])

    def built(start):
        config = sasrec.Config(width=4, length=6, positions="learned", given_start=start)
        return build(config, items=3, vectors=vectors, generator=torch.Generator().manual_seed(1)).items

    small, large = built(1.0), built(10.0)

    torch.testing.assert_close(large.projection, 10 * small.projection)
    assert torch.equal(large.weight, small.weight)
    torch.testing.assert_close(large()[1], large.weight[1] - large.projection[1])


def test_features_of_items_are_added_to_their_vectors():
    # Item 0 has values 1 and 2, item 1 none, item 2 value 0.
    rows, offsets = torch.tensor([1, 2, 0]), torch.tensor([0, 2, 2, 3])
    generator = torch.Generator().manual_seed(0)
    network = build(
        sasrec.Config(width=4, length=6, positions="learned"),
        items=3,
        features=(rows, offsets),
        values=3,
        generator=generator,
    )

    vectors, own, values = network.items(), network.items.weight, network.items.values
    expected = own + torch.stack([values[1] + values[2], torch.zeros(4), values[0]])

    torch.testing.assert_close(vectors, expected)
    torch.testing.assert_close(network.table(), expected)
    assert network.items.feature_rows.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("settings", "absent", "present"),
    [
        ({"norm": "paper"}, ["attention.project.weight"], []),
        ({"norm": "paper", "projected": True}, [], ["attention.project.weight"]),
        ({"norm": "post"}, ["attention.project.weight"], []),
        ({"norm": "query-only", "projected": True}, [], ["attention.project.weight"]),
        ({"norm": "query"}, [], ["attention.project.weight"]),
        ({"norm": "key"}, [], ["attention.project.weight"]),
        ({"norm": "paper", "attention_width": 6}, [], ["attention.project.weight"]),
        (
            {"activation": "swiglu"},
            ["feed_forward.inner.bias", "feed_forward.outer.bias"],
            ["feed_forward.gate.weight"],
        ),
        ({"activation": "gelu"}, ["feed_forward.gate.weight"], ["feed_forward.inner.bias"]),
    ],
)
def test_a_block_has_the_layers_that_its_settings_ask_for(settings, absent, present):
    names = dict(built(items=5, width=8, **settings).blocks[0].named_parameters())

    assert [name for name in absent if name in names] == []
    assert [name for name in present if name not in names] == []


@pytest.mark.parametrize("name", ["width", "length", "positions"])
def test_a_shape_that_no_log_has_settled_is_refused(name):
    sizes = {"width": 4, "length": 4, "positions": "none"} | {name: "auto"}

    with pytest.raises(ConfigError, match=f"{name}: a network needs one that is settled, found 'auto'"):
        build(sasrec.Config(**sizes), items=3, generator=None)
