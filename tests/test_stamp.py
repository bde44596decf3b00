"""STAMP scores by the last item and by what attention finds from there; its formulas are in tests/golden."""

import numpy as np
import pytest
import torch

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.model.attention import Layout
from sasrec.model.building import build

every_view = pytest.mark.parametrize("kind", ["stamp", "stamp-memory", "stamp-last"])
HISTORIES = [[3, 1, 4], [5], [9, 2, 6, 5, 3, 5, 8], [1, 2], [4, 4, 4]]


def stamp(kind):
    generator = torch.Generator().manual_seed(0)
    network = build(
        sasrec.Config(network=kind, learn="last", width=8, length=50, positions="none"), items=10, generator=generator
    ).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.5)
    return network


def states_of(network, histories):
    sequences = Sequences.of(histories)
    return network.last(torch.from_numpy(sequences.items.astype(int)), Layout.of(sequences.lengths))


@every_view
def test_batch_mates_change_no_state(kind):
    network = stamp(kind)

    alone = torch.cat([states_of(network, [history]) for history in HISTORIES])

    torch.testing.assert_close(states_of(network, HISTORIES), alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("kind", "seen"), [("stamp", True), ("stamp-memory", True), ("stamp-last", False)])
def test_only_the_memory_looks_beyond_the_last_item(kind, seen):
    network = stamp(kind)

    first, second = states_of(network, [[1, 2, 3], [7, 2, 3]])

    assert torch.equal(first, second) != seen


@every_view
def test_the_order_before_the_last_item_changes_nothing(kind):
    network = stamp(kind)

    first, second = states_of(network, [[1, 2, 3, 4], [3, 1, 2, 4]])

    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-14)


def test_the_whole_is_the_product_of_its_views():
    networks = {kind: stamp(kind) for kind in ("stamp", "stamp-memory", "stamp-last")}
    weights = networks["stamp"].state_dict()
    for network in networks.values():
        network.load_state_dict(weights)

    states = {kind: states_of(network, HISTORIES) for kind, network in networks.items()}

    torch.testing.assert_close(states["stamp"], states["stamp-memory"] * states["stamp-last"])


@every_view
def test_every_weight_that_takes_part_learns(kind):
    network = stamp(kind)

    (states_of(network, HISTORIES) ** 2).sum().backward()
    idle = {name.split(".")[0] for name, one in network.named_parameters() if one.grad is None or not one.grad.any()}

    ask = {"ask_item", "ask_last", "ask_mean", "weigh", "memory_view"}
    assert idle == {"stamp": set(), "stamp-memory": {"last_view"}, "stamp-last": ask}[kind]


def test_dropout_falls_on_the_item_vectors_once():
    shapes = []

    def drop(states):
        shapes.append(tuple(states.shape))
        return states * 0

    states = stamp("stamp-memory").last(torch.tensor([1, 2, 3]), Layout.of(np.array([3])), drop)

    assert shapes == [(3, 8)]
    assert states.isfinite().all()
