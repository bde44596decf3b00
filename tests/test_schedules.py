"""The learning rate of every step is that of torch's schedules."""

import math

import pytest
import torch

from sasrec.config import Config
from sasrec.training.schedules import rate


def ours(steps, **settings):
    config = Config(learning_rate=0.01, **settings)
    return [rate(config, step, steps) for step in range(steps)]


def theirs(steps, make):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    schedule = make(optimiser)
    rates = []
    for step in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if step < steps - 1:
            schedule.step()
    return rates


@pytest.mark.parametrize("warmup", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("steps", [30, 101, 400])
def test_one_cycle_is_torchs(steps, warmup):
    def make(optimiser):
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.01, total_steps=steps, pct_start=warmup)

    assert ours(steps, schedule="one-cycle", warmup=warmup) == pytest.approx(theirs(steps, make), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("steps", [2, 20, 101])
def test_cosine_without_warm_up_is_torchs(steps):
    def make(optimiser):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps - 1)

    assert ours(steps, schedule="cosine", warmup=0.0) == pytest.approx(theirs(steps, make), rel=1e-9, abs=1e-12)


def test_cosine_rises_to_the_rate_and_falls_to_nothing():
    rates = ours(101, schedule="cosine", warmup=0.1)

    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(0.01, rel=1e-2)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_constant_never_changes():
    assert {*ours(30)} == {0.01}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_of_few_steps_has_rates_too(schedule, warmup, steps):
    rates = ours(steps, schedule=schedule, warmup=warmup)

    assert all(math.isfinite(one) and 0 <= one <= 0.01 * (1 + 1e-9) for one in rates)
