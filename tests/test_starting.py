"""Item vectors can begin with what stands together in the histories: compared with a dense factorisation by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.model.building import build
from sasrec.training.beginning import begin
from sasrec.training.settling import settled
from sasrec.training.starting import counted, start_counted


def sequences(*histories):
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return Sequences(items, np.cumsum([0, *map(len, histories)], dtype=np.int64))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def information(histories, items, window=10):
    """Positive pointwise mutual information of pairs at most so far apart, pair by pair."""
    near = np.zeros((items, items))
    for history in histories:
        for place, item in enumerate(history):
            for gap in range(1, min(window, len(history) - 1 - place) + 1):
                near[item, history[place + gap]] += 1 / gap
                near[history[place + gap], item] += 1 / gap
    chance = np.outer(near.sum(1), near.sum(0)) / max(near.sum(), 1.0)
    return np.log(np.divide(near, chance, out=np.ones_like(near), where=near > 0)).clip(min=0)


@given(st.lists(st.lists(st.integers(0, 11), max_size=25), min_size=1, max_size=12))
def test_products_of_the_vectors_are_the_positive_part_of_the_information(histories):
    values, directions = np.linalg.eigh(information(histories, items=12))
    nearest = directions * values.clip(min=0) @ directions.T

    found = counted(sequences(*histories), items=12, width=12, window=10, generator=drawn()).double().numpy()

    assert np.allclose(found @ found.T, nearest, atol=1e-4)


@pytest.mark.parametrize("length", [1, 4])
def test_a_network_that_looks_at_few_events_starts_from_pairs_as_near(length):
    """Else one that is trained on the last event alone would know what stood before it."""
    histories = [np.random.default_rng(user).integers(12, size=9).tolist() for user in range(20)]
    values, directions = np.linalg.eigh(information(histories, items=12, window=length))
    nearest = directions * values.clip(min=0) @ directions.T
    config = settled(sasrec.Config(initial="counted", width=16, length=length), sequences(*histories), items=12)

    found = begin(sequences(*histories), items=12, config=config).network.items.weight.detach().double().numpy()

    assert np.allclose(found @ found.T, nearest * (found @ found.T).trace() / nearest.trace(), atol=1e-4)


def test_fewer_numbers_keep_the_largest_eigenvalues():
    rng = np.random.default_rng(0)
    histories = [np.sort(rng.integers(60, size=9)).tolist() for _ in range(200)]
    values, directions = np.linalg.eigh(information(histories, items=60))
    kept = (directions * values.clip(min=0))[:, -5:] @ directions[:, -5:].T

    found = counted(sequences(*histories), items=60, width=5, window=10, generator=drawn()).double().numpy()

    assert np.allclose(found @ found.T, kept, atol=0.02 * values.max())
    lengths = np.linalg.norm(found, axis=0)
    assert all(one >= other for one, other in pairwise(lengths))


def test_numbers_beyond_what_the_catalogue_has_are_zero():
    found = counted(sequences([0, 1, 2], [2, 1, 0]), items=3, width=8, window=10, generator=drawn())

    assert found.shape == (3, 8)
    assert not found[:, 3:].any()


def test_an_item_beside_no_other_keeps_the_vector_that_was_drawn():
    config = sasrec.Config(width=8, length=5, positions="learned")
    before = build(config, items=6, generator=drawn()).items.weight.detach().clone()
    network = build(config, items=6, generator=drawn())

    start_counted(network.items, sequences([0, 1, 2, 3], [1, 0, 3, 2], [4]), drawn(), length=50)

    assert torch.equal(network.items.weight[4:], before[4:])
    assert not torch.equal(network.items.weight[:4], before[:4])
    assert network.items.weight[:4].norm().item() == pytest.approx(before[:4].norm().item(), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_an_item_beside_no_other_has_no_vector_of_what_rounding_leaves(seed):
    rng = np.random.default_rng(seed)
    order, live = rng.permutation(60), int(rng.integers(5, 40))  # directions, too, are as few
    together = [order[rng.integers(live, size=6)].tolist() for _ in range(40)]
    beside = sorted({item for history in together for item in history})
    histories = sequences(*together, *([item] for item in order[live:]))

    found = counted(histories, items=60, width=32, window=10, generator=drawn())

    assert found.any(dim=1).nonzero().flatten().tolist() == beside


@pytest.mark.parametrize("histories", [([0], [1]), ([], [])])
def test_histories_without_pairs_leave_everything_as_drawn(histories):
    config = sasrec.Config(width=8, length=5, positions="learned")
    before = build(config, items=3, generator=drawn()).items.weight
    network = build(config, items=3, generator=drawn())

    start_counted(network.items, sequences(*histories), drawn(), length=50)

    assert torch.equal(network.items.weight, before)


def test_a_training_that_starts_from_counts_ranks_before_its_first_step():
    """Two circles of ten items that never meet: the best nine for whoever is in one are mostly the rest of it."""
    rng = np.random.default_rng(0)
    train = sequences(*((rng.permutation(10)[:6] + 10 * (user % 2)).tolist() for user in range(100)))
    asked = sequences(*([item] for item in range(20)))
    shares = {}

    for initial in ("small", "counted"):
        config = settled(sasrec.Config(initial=initial, width=16), train, items=20)
        scores = np.array(begin(train, items=20, config=config).scorer().scores(asked))
        np.fill_diagonal(scores, -np.inf)
        best = np.argsort(-scores, axis=1)[:, :9]
        shares[initial] = np.mean(best // 10 == np.arange(20)[:, None] // 10)

    assert shares["small"] < 0.7
    assert shares["counted"] > 0.85


def test_one_seed_starts_from_the_same_bits():
    train = sequences(*(np.random.default_rng(user).integers(30, size=8).tolist() for user in range(50)))
    config = settled(sasrec.Config(initial="counted", width=16), train, items=30)

    one, two = (begin(train, items=30, config=config).network.items.weight for _ in range(2))

    assert torch.equal(one, two)
