"""Blocks of other systems: what is hidden stays hidden, and dropout falls where they have it."""

import numpy as np
import pytest
import torch

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.model.attention import Layout
from sasrec.model.building import build
from sasrec.model.variants import SinusoidalPositions

ITEMS = 13


def network_of(**settings):
    generator = torch.Generator().manual_seed(0)
    config = sasrec.Config(width=8, length=20, **settings)
    network = build(config, items=ITEMS, generator=generator).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return network


@torch.no_grad()
def states_of(network, histories):
    sequences = Sequences.of(histories)
    states = network(torch.from_numpy(sequences.items.astype(int)), Layout.of(sequences.lengths))
    return [states[start:stop] for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]


def bidirectional(**settings):
    return network_of(bidirectional=True, learn="last", **settings)


@pytest.mark.parametrize("norm", ["paper", "pre", "post", "query", "query-only", "key"])
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_the_last_states_computed_alone_are_those_among_all_in_every_block(norm, both_ways, blocks):
    network = network_of(norm=norm, blocks=blocks, bidirectional=both_ways, learn="last", heads=2)
    items, layout = torch.arange(10) % ITEMS, Layout.of(np.array([3, 1, 6]))

    torch.testing.assert_close(network.last(items, layout), network(items, layout)[layout.lasts], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", ["paper", "post", "key"])
def test_both_ways_a_position_sees_what_follows(norm):
    network = bidirectional(norm=norm)

    before, after = states_of(network, [[3, 1, 4, 1]])[0], states_of(network, [[3, 1, 4, 5]])[0]

    assert not torch.isclose(before, after).all(dim=1).any()


@pytest.mark.parametrize("norm", ["paper", "post", "key"])
def test_both_ways_batch_mates_and_their_padding_change_no_state(norm):
    network = bidirectional(norm=norm, heads=2)
    histories = [[3, 1, 4], [5], [9, 2, 6, 5, 3, 5, 8], [1, 2], [7, 7, 7, 7, 7], list(np.arange(20) % ITEMS)]

    together = states_of(network, histories)

    for history, states in zip(histories, together, strict=True):
        torch.testing.assert_close(states, states_of(network, [history])[0], rtol=1e-9, atol=1e-12)


def test_both_ways_training_attends_as_inference_does():
    network = bidirectional(norm="post")
    items, layout = torch.arange(10) % ITEMS, Layout.of(np.array([3, 1, 6]))

    torch.testing.assert_close(
        network(items, layout, lambda states: states * 1.0), network(items, layout), rtol=1e-9, atol=1e-12
    )


def test_both_ways_gradients_reach_only_the_own_history():
    network = bidirectional(norm="post", blocks=1)
    items, layout = torch.tensor([1, 2, 3, 4, 5]), Layout.of(np.array([2, 3]))

    network(items, layout)[0].sum().backward()

    assert network.items.weight.grad.any(dim=1).nonzero().flatten().tolist() == [1, 2]


class Counted:
    """Dropout that drops nothing and keeps the shapes that it was asked about."""

    def __init__(self):
        self.shapes = []

    def __call__(self, states):
        self.shapes.append(tuple(states.shape))
        return states * 1.0


@pytest.mark.parametrize(
    ("settings", "weights", "inner", "outer"),
    [  # within a block: on attention's weights, inside the feed-forward half, on what halves add
        ({"norm": "paper"}, 1, 1, 1),
        ({"norm": "query"}, 1, 1, 1),
        ({"norm": "query-only"}, 1, 1, 1),
        ({"norm": "key"}, 1, 0, 2),
        ({"norm": "post"}, 0, 0, 2),
        ({"norm": "pre"}, 1, 1, 2),
        ({"norm": "pre", "gated": True, "activation": "swiglu"}, 1, 1, 2),
    ],
)
def test_dropout_falls_where_the_blocks_system_has_it(settings, weights, inner, outer):
    network = network_of(blocks=1, feed_forward=24, **settings)
    drop = Counted()

    network(torch.arange(5), Layout.of(np.array([5])), drop)

    assert drop.shapes[0] == (5, 8), "on what enters"
    assert drop.shapes.count((1, 1, 5, 5)) == weights
    assert drop.shapes.count((5, 24)) == inner
    assert drop.shapes.count((5, 8)) == 1 + outer
    assert len(drop.shapes) == 1 + weights + inner + outer


@pytest.mark.parametrize("width", [1, 5, 8])
def test_sinusoidal_positions_fit_any_width_and_depend_on_the_distance_from_the_end(width):
    positions = SinusoidalPositions()

    found = positions(torch.zeros(3, width, dtype=torch.float64), torch.tensor([2, 0, 7])).numpy()

    for row, age in enumerate([2, 0, 7]):
        for column in range(width):
            angle = age / 10_000 ** (2 * (column // 2) / width)
            assert found[row, column] == pytest.approx(np.cos(angle) if column % 2 else np.sin(angle), abs=1e-9)
