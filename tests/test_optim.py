"""Adam moves what it should and nothing else, whether on all item vectors or on those that a step touched."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import sasrec
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.model.building import build
from sasrec.model.embeddings import ItemVectors
from sasrec.training.batches import Negatives, batches, last_windows
from sasrec.training.beginning import begin
from sasrec.training.optim import Adam, rate
from sasrec.training.settling import settled
from sasrec.training.touched import TouchedAdam, TouchedItems, narrowed

ITEMS = 40
NOTHING = Negatives(torch.empty(0, dtype=torch.int64))
FEATURES = torch.tensor([0, 1, 1, 2, 3, 0, 4, 4]), torch.tensor([0, 2, 3, 3, 5, 5, 5, 6, 6, 7, 7, 8] + [8] * 29)
HISTORIES = Sequences.of([[3, 1, 4, 1, 5], [2, 6], [5, 3, 5, 8]])  # many items never occur


def vectors(*, features=None, width=3, seed=0):
    items = ItemVectors(ITEMS, width, features=features, values=0 if features is None else 5)
    generator = torch.Generator().manual_seed(seed)
    for table in items.parameters():
        table.data = torch.randn(table.shape, generator=generator)
    return items


def loss_of(table, step):
    """Some loss of vectors, another one in each step."""
    return ((table - 0.1 * step) ** 2 * torch.linspace(0.5, 3.0, table.numel()).view_as(table)).sum()


# Adam on rows


def test_items_that_every_step_touches_are_updated_as_by_adam():
    items, twin = vectors(), vectors().weight
    touched, adam = TouchedItems(items, beta2=0.98), torch.optim.Adam([twin], lr=0.01, betas=(0.9, 0.98))

    for step in range(20):
        taken = touched.take(torch.arange(ITEMS))
        loss_of(taken.items(), step).backward()
        touched.step(taken, 0.01)
        adam.zero_grad()
        loss_of(twin, step).backward()
        adam.step()

    torch.testing.assert_close(items.weight, twin, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("beta2", "epoch"), [(0.9, 1_000), (0.98, 40), (0.98, 1_000), (0.999, 1)])
def test_items_that_some_steps_touch_are_updated_as_by_adam_once_they_caught_up(beta2, epoch):
    # Item 9 is touched in two early steps alone, and moves on; item 39 is never touched.
    items, twin = vectors(), vectors().weight
    touched, adam = TouchedItems(items, beta2=beta2), torch.optim.Adam([twin], betas=(0.9, beta2))
    rng = np.random.default_rng(0)

    for step in range(300):  # more than what rows that wait are followed for
        learning_rate = 0.01 * (1 + step % 7)
        few = rng.choice(8 if step % 3 else 30, size=1 + step % 5, replace=False)
        rows = torch.from_numpy(np.union1d(few[few != 9], [9] if step in (2, 5) else []).astype(np.int64))
        taken = touched.take(rows)
        torch.testing.assert_close(taken.items.weight, twin[rows], rtol=2e-4, atol=2e-5)
        loss_of(taken.items(), step).backward()
        touched.step(taken, learning_rate)
        if step % epoch == 0:
            touched.catch_up()
        adam.param_groups[0]["lr"] = learning_rate
        adam.zero_grad()
        loss_of(twin[rows], step).backward()
        adam.step()
    touched.catch_up()

    torch.testing.assert_close(items.weight, twin, rtol=2e-4, atol=2e-5)
    assert torch.equal(items.weight[39], vectors().weight[39])


def test_catching_up_twice_is_catching_up_once():
    items = vectors()
    touched = TouchedItems(items, beta2=0.98)
    for rows in ([1, 2], [2, 3], [3, 4]):
        taken = touched.take(torch.tensor(rows))
        loss_of(taken.items(), 0).backward()
        touched.step(taken, 0.1)

    touched.catch_up()
    once = items.weight.detach().clone()
    touched.catch_up()

    assert torch.equal(items.weight, once)


def test_a_rate_that_changes_from_step_to_step_is_the_one_of_each_step():
    items, twin = vectors(), vectors().weight
    touched, adam = TouchedItems(items, beta2=0.98), torch.optim.Adam([twin], betas=(0.9, 0.98))

    for step, learning_rate in enumerate([0.1, 0.01, 0.05]):
        taken = touched.take(torch.arange(ITEMS))
        loss_of(taken.items(), step).backward()
        touched.step(taken, learning_rate)
        adam.param_groups[0]["lr"] = learning_rate
        adam.zero_grad()
        loss_of(twin, step).backward()
        adam.step()

    torch.testing.assert_close(items.weight, twin, rtol=1e-5, atol=1e-6)


def test_items_that_no_step_touches_keep_every_bit():
    items, before = vectors(), vectors().weight
    touched = TouchedItems(items, beta2=0.98)

    for step in range(5):
        taken = touched.take(torch.tensor([1, 4, 7]))
        loss_of(taken.items(), step).backward()
        touched.step(taken, 0.1)

    moved = (items.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 4, 7]


def test_taken_items_are_copies_until_the_step_is_made():
    items, before = vectors(), vectors().weight
    touched = TouchedItems(items, beta2=0.98)

    taken = touched.take(torch.tensor([0, 2]))
    with torch.no_grad():
        taken.items.weight.add_(1.0)

    assert torch.equal(items.weight, before)


@pytest.mark.parametrize("rows", [[0], [1, 2], [0, 3, 8, 10], [2, 4], list(range(ITEMS))], ids=str)
def test_taken_items_have_the_vectors_of_the_whole_catalogue_features_included(rows):
    items = vectors(features=FEATURES)

    taken = TouchedItems(items, beta2=0.98).take(torch.tensor(rows))

    assert torch.equal(taken.items(), items()[rows])


def test_values_of_features_that_no_step_touches_keep_every_bit_and_others_follow_adam():
    items, twin = vectors(features=FEATURES), vectors(features=FEATURES)
    before = items.values.detach().clone()
    touched, adam = TouchedItems(items, beta2=0.98), torch.optim.Adam(twin.parameters(), lr=0.1, betas=(0.9, 0.98))
    rows = torch.tensor([0, 3])  # values 0, 1; and 2, 3

    for step in range(3):
        taken = touched.take(rows)
        loss_of(taken.items(), step).backward()
        touched.step(taken, 0.1)
        adam.zero_grad()
        loss_of(twin()[rows], step).backward()
        adam.step()

    torch.testing.assert_close(items.values, twin.values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(items.weight, twin.weight, rtol=1e-5, atol=1e-6)
    assert (items.values != before).any(dim=1).tolist() == [True, True, True, True, False]


# A step's own catalogue


def batch_of(**options):
    (batch,) = batches(HISTORIES, last_windows(HISTORIES, length=6), size=9, rng=np.random.default_rng(0), **options)
    return batch


@pytest.mark.parametrize(
    "drawn", [torch.tensor([7, 7, 0]), torch.tensor([-1, 5, -1]), torch.tensor([[3, -1]] * 8), NOTHING.items], ids=str
)
def test_places_stand_for_the_same_items(drawn):
    batch = batch_of()

    rows, found, negatives = narrowed(batch, Negatives(drawn))

    assert rows.tolist() == sorted({*rows.tolist()})
    assert torch.equal(rows[found.items], batch.items)
    assert torch.equal(rows[found.targets], batch.targets)
    assert negatives.items.shape == drawn.shape
    assert torch.equal(torch.where(negatives.items < 0, -1, rows[negatives.items]), drawn)
    read = torch.cat([batch.items, batch.targets, drawn[drawn >= 0]])
    assert {*rows.tolist()} == {*read.tolist()}


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "sampled-softmax", "sampler": "mixed", "negatives": 5, "share_negatives": True, "logq": True},
        {"loss": "sampled-softmax", "sampler": "uniform", "negatives": 3, "similarity": "cosine"},
        {"loss": "bce"},
        {"loss": "gbce", "negatives": 2},  # whose formula knows the size of the catalogue
        {"loss": "bpr", "user_width": 2},
        {"loss": "bce", "network": "stamp", "learn": "last", "positions": "none"},
        {"loss": "sampled-softmax", "sampler": "in-batch", "negatives": 4, "learn": "last", "norm": "post"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
@pytest.mark.parametrize("features", [None, FEATURES], ids=["plain", "features"])
def test_loss_and_gradients_are_those_of_the_whole_catalogue(settings, features):
    twins = []
    for updates in ("all", "touched"):
        config = Config(
            width=4,
            length=6,
            dropout=0.0,
            precision="float32",
            item_updates=updates,
            **{"positions": "learned", **settings},
        )
        training = begin(HISTORIES, items=ITEMS, config=settled(config, HISTORIES, items=ITEMS))
        size = {"features": features, "values": 0 if features is None else 5}
        training.network = build(
            training.config, items=ITEMS, users=3, generator=torch.Generator().manual_seed(0), **size
        )
        training.optimiser = (TouchedAdam if updates == "touched" else Adam)(training.network, training.config)
        twins.append(training)
    dense, sparse = twins
    batch = batch_of(learn=dense.config.learn)
    drawn = dense.objective.draw(batch, np.random.default_rng(0))

    expected = dense._loss(batch, drawn)
    expected.backward()
    with sparse.optimiser.reading(batch, drawn) as (own_batch, own_drawn):
        found = sparse._loss(own_batch, own_drawn)
        found.backward()
        part = dict(sparse.network.named_parameters())

    rows = narrowed(batch, drawn)[0]
    untouched = torch.ones(ITEMS, dtype=torch.bool).index_fill(0, rows, False)
    assert untouched.any()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, whole in dense.network.named_parameters():
        if name == "items.weight":
            assert (whole.grad[untouched] == 0).all()
            torch.testing.assert_close(part[name].grad, whole.grad[rows], rtol=1e-5, atol=1e-7)
        elif name == "items.values":
            has = whole.grad.any(dim=1)
            torch.testing.assert_close(part[name].grad, whole.grad[has], rtol=1e-5, atol=1e-7)
        else:
            torch.testing.assert_close(part[name].grad, whole.grad, rtol=1e-5, atol=1e-7)


def test_the_network_has_its_whole_catalogue_again_when_a_step_ends_and_when_it_fails():
    network = build(
        Config(width=4, length=6, positions="learned"), items=ITEMS, generator=torch.Generator().manual_seed(0)
    )
    optimiser = TouchedAdam(network, Config(width=4, length=6, positions="learned", loss="bce", item_updates="touched"))
    batch = batch_of()

    with optimiser.reading(batch, NOTHING):
        inside = len(network.table())
    with pytest.raises(KeyboardInterrupt), optimiser.reading(batch, NOTHING):
        raise KeyboardInterrupt

    assert inside < ITEMS == len(network.table())


def test_a_training_moves_the_items_that_it_touched_and_no_others():
    config = Config(
        width=4, length=6, positions="learned", loss="bce", sampler="in-batch", item_updates="touched", weight_decay=0.0
    )
    training = begin(HISTORIES, items=ITEMS, config=settled(config, HISTORIES, items=ITEMS))
    before = training.network.items.weight.detach().clone()

    training.epoch(1)

    moved = (training.network.items.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == sorted({*HISTORIES.items.tolist()})
    assert "items.weight" in dict(training.network.named_parameters())


def test_training_is_the_same_whether_all_items_are_updated_or_touched_ones(walks, small_config):
    data = sasrec.split(walks)
    config = replace(small_config, loss="sampled-softmax", negatives=3, epochs=4, average=0.0)

    whole, touched = (
        sasrec.train(data, replace(config, item_updates=updates), progress=False) for updates in ("all", "touched")
    )

    losses = [[epoch["loss"] for epoch in model.record["history"]] for model in (whole, touched)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(
        touched.scorer.network.items.weight, whole.scorer.network.items.weight, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("loss", ["bce", "sampled-softmax"])
def test_one_seed_gives_the_same_bits_where_only_touched_items_move(walks, small_config, loss):
    data = sasrec.split(walks)
    config = replace(small_config, loss=loss, item_updates="touched")

    first, again = (sasrec.train(data, config, progress=False).scorer.network.state_dict() for _ in range(2))

    assert all(torch.equal(first[name], again[name]) for name in first)


# The learning rate of every step is that of torch's schedules


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


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_of_few_steps_has_rates_too(schedule, warmup, steps):
    rates = ours(steps, schedule=schedule, warmup=warmup)

    assert all(math.isfinite(one) and 0 <= one <= 0.01 * (1 + 1e-9) for one in rates)
