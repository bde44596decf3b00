"""Blocks of other systems: what is hidden stays hidden, and dropout falls where they have it."""

import numpy as np
import pytest
import torch

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.model.attention import Attention, Layout, keep_all
from sasrec.model.building import build
from sasrec.model.inspection import attention_of
from sasrec.model.variants import BesideAttention, SinusoidalPositions

ITEMS = 13


def network_of(**settings):
    generator = torch.Generator().manual_seed(0)
    config = sasrec.Config(**{"width": 8, "length": 20, "positions": "learned", **settings})
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
@pytest.mark.parametrize("blocks", [1, 2])
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


LENGTHS = np.array([3, 1, 6, 2])


def smoothed(history, place, weight):
    """A state drawn towards the mean of all up to it, written down with a plain loop."""
    return history[place] + weight * (sum(history[: place + 1]) / (place + 1) - history[place])


def filtered(history, place, weight):
    """A state with the three before it added, as far as there are any."""
    return history[place] + sum(weight[back - 1] * history[place - back] for back in (1, 2, 3) if back <= place)


def beside(branch, *, share, causal=True):
    generator = torch.Generator().manual_seed(2)
    attention = Attention(5, inner=5, heads=1, project=False, causal=causal)
    layer = BesideAttention(attention, branch=branch, width=5, share=share).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def states_with_gradients():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(LENGTHS.sum(), 5, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("lasts_alone", [False, True])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("branch", "formula"),
    [("identity", lambda history, place, _: history[place]), ("mean", smoothed), ("convolution", filtered)],
)
def test_a_branch_is_its_formula_and_so_are_its_gradients(branch, formula, causal, lasts_alone):
    layer, states, layout = beside(branch, share=0.7, causal=causal), states_with_gradients(), Layout.of(LENGTHS)
    layout = layout.ends if lasts_alone else layout
    weight = getattr(layer.branch, "weight", torch.zeros(5, requires_grad=True))
    plain = [
        formula(history, place, weight)
        for history in states.split(LENGTHS.tolist())
        for place in ([len(history) - 1] if lasts_alone else range(len(history)))
    ]
    expected = 0.7 * torch.stack(plain) + 0.3 * layer.attention(layout.asking(states), states, layout, keep_all)

    found = layer(layout.asking(states), states, layout, keep_all)

    torch.testing.assert_close(found, expected)
    factors = torch.arange(expected.numel(), dtype=torch.float64).view(expected.shape).sin()
    for asked in [states, *([] if branch == "identity" else [weight])]:
        gradients = [
            torch.autograd.grad((one * factors).sum(), asked, retain_graph=True)[0] for one in (found, expected)
        ]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("branch", ["identity", "mean", "convolution"])
@pytest.mark.parametrize("norm", ["paper", "pre", "post", "query", "query-only", "key"])
def test_every_block_can_have_a_branch_that_counts_its_share(norm, branch):
    plain, without, mixed = (
        network_of(norm=norm, **settings)
        for settings in ({}, {"branch": branch, "branch_share": 0.0}, {"branch": branch, "branch_share": 0.5})
    )
    weights = {name.replace("attention.", "attention.attention.", 1): one for name, one in plain.state_dict().items()}
    for network in (without, mixed):
        network.load_state_dict(weights, strict=False)

    states, same, others = (states_of(network, [[3, 1, 4, 1, 5]])[0] for network in (plain, without, mixed))

    torch.testing.assert_close(same, states)
    assert not torch.isclose(others, states).all(dim=1).any()


def test_what_attention_looks_at_is_seen_beside_a_branch():
    network = network_of(branch="mean", heads=2)

    seen = attention_of(network, torch.tensor([3, 1, 4]), Layout.of(np.array([3])))

    assert [one.shape for one in seen] == [(2, 3, 3)] * 2
