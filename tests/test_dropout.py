"""Dropout keeps the mean, drops the share it was given, and takes its noise from its generator alone."""

import numpy as np
import pytest
import scipy.stats
import torch

from sasrec.training.dropout import Dropout


def dropout(rate, seed=0):
    return Dropout(rate, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.35, 0.5, 0.9])
def test_the_share_dropped_is_the_rate_and_the_mean_stays(rate):
    ones = torch.ones(400_000)

    dropped = dropout(rate)(ones)

    share = (dropped == 0).double().mean().item()
    spread = np.sqrt(rate * (1 - rate) / len(ones))
    assert share == pytest.approx(rate, abs=1 / 512 + 4 * spread)
    assert dropped.mean().item() == pytest.approx(1.0, abs=5 * spread / (1 - rate))
    assert dropped.unique().tolist() == pytest.approx([0.0, 256 / round(256 * (1 - rate))])


def test_every_place_is_dropped_as_often_as_another_and_apart_from_its_neighbours():
    drop = dropout(0.5)
    kept = torch.stack([drop(torch.ones(16)) > 0 for _ in range(4_000)]).double().numpy()

    assert scipy.stats.chisquare(kept.sum(axis=0)).pvalue > 1e-3
    correlations = np.corrcoef(kept.T)[~np.eye(16, dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(4_000)


def test_no_dropout_is_the_identity():
    states = torch.ones(3, 4)

    assert dropout(0.0)(states) is states


@pytest.mark.parametrize("rate", [0.999, 0.9999])
def test_an_extreme_rate_still_lets_something_through(rate):
    dropped = dropout(rate)(torch.ones(100_000))

    assert 0 < (dropped != 0).sum() < 1_000
    assert dropped.isfinite().all()


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (3, 5), (2, 3, 4, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_format_stay(shape, dtype):
    dropped = dropout(0.5)(torch.ones(shape, dtype=dtype))

    assert (dropped.shape, dropped.dtype) == (torch.Size(shape), dtype)


def test_gradients_flow_where_values_did():
    states = torch.linspace(-3, 5, 200, dtype=torch.float64).reshape(50, 4).requires_grad_()

    dropped = dropout(0.25)(states)
    dropped.sum().backward()

    torch.testing.assert_close(states.grad, (dropped / states).detach())
    assert 0 < (states.grad == 0).sum() < states.numel()


def test_one_seed_gives_one_noise_and_each_call_a_fresh_one():
    ones = torch.ones(64)
    first, again, other = dropout(0.5, 1), dropout(0.5, 1), dropout(0.5, 2)

    once, twice = first(ones), first(ones)

    assert torch.equal(once, again(ones))
    assert torch.equal(twice, again(ones))
    assert not torch.equal(once, twice)
    assert not torch.equal(once, other(ones))


def test_torchs_own_generator_is_left_alone():
    before = torch.get_rng_state()

    dropout(0.5)(torch.ones(64))

    assert torch.equal(torch.get_rng_state(), before)


def test_the_states_are_left_as_they_are():
    states = torch.ones(64)

    dropout(0.5)(states)

    assert (states == 1).all()
