"""Swapped ids are as many as asked for, drawn evenly, and leave everything else as it was."""

import numpy as np
import pytest
import scipy.stats

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.training.batches import batches, last_windows
from sasrec.training.noise import swapped

ITEMS, USERS = 50, 40


def batch_of(*, learn="all", users=2_000, length=6):
    # Item rows beyond the catalogue that is drawn from tell kept ids from swapped ones.
    rng = np.random.default_rng(0)
    train = Sequences.of([rng.integers(ITEMS, 10 * ITEMS, length).tolist() for _ in range(users)])
    windows = last_windows(train, length=length)
    (batch,) = batches(train, windows, size=users, learn=learn, rng=np.random.default_rng(1))
    return batch


def noisy(batch, *, seed=2, **settings):
    config = Config(user_width=4, **settings)
    return swapped(batch, config, items=ITEMS, users=np.arange(USERS), rng=np.random.default_rng(seed))


def is_share(count, total, share):
    return scipy.stats.binomtest(int(count), int(total), share).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_that_share_of_the_items_is_swapped_for_ones_drawn_evenly(share):
    batch = batch_of()

    after = noisy(batch, swap_items=share)
    new = after.items < ITEMS

    assert (after.items[~new] == batch.items[~new]).all()
    assert is_share(new.sum(), len(new), share)
    assert scipy.stats.chisquare(np.bincount(after.items[new], minlength=ITEMS)).pvalue > 1e-3


def test_a_swapped_item_is_what_the_position_before_it_predicts_unless_that_is_swapped_too():
    batch = batch_of()

    after = noisy(batch, swap_items=0.3)

    swapped_here = (after.items < ITEMS).numpy()
    inner = np.ones(len(batch.items), dtype=bool)
    inner[batch.layout.lasts] = False
    calm = np.flatnonzero(inner & ~swapped_here)
    assert (after.targets[calm] == after.items[calm + 1]).all()
    last = batch.layout.lasts[~swapped_here[batch.layout.lasts]]
    assert (after.targets[last] == batch.targets[last]).all()
    moved = after.targets[np.flatnonzero(swapped_here)]
    assert (moved < ITEMS).all()
    assert scipy.stats.chisquare(np.bincount(moved, minlength=ITEMS)).pvalue > 1e-3


def test_where_the_last_is_learned_its_target_is_swapped_with_the_last_item():
    batch = batch_of(learn="last")

    after = noisy(batch, swap_items=0.3, learn="last")

    last = (after.items[batch.layout.lasts] < ITEMS).numpy()
    assert ((after.targets < ITEMS).numpy() == last).all()
    assert (after.targets[~last] == batch.targets[~last]).all()


def test_swapped_users_are_drawn_evenly_and_one_in_ten_becomes_the_unknown_one():
    batch = batch_of(users=4_000, length=2)
    strangers = batch.users + USERS  # beyond those that are drawn
    batch = type(batch)(**{**vars(batch), "users": strangers})

    after = noisy(batch, swap_users=0.5).users
    kept = after == strangers

    assert is_share((~kept).sum(), len(after), 0.5)
    assert is_share((after == -1).sum(), (~kept).sum(), 0.1)
    known = after[~kept & (after >= 0)]
    assert (known < USERS).all()
    assert scipy.stats.chisquare(np.bincount(known, minlength=USERS)).pvalue > 1e-3


def test_nothing_but_what_is_asked_for_changes():
    batch = batch_of()

    items, users = noisy(batch, swap_items=0.4), noisy(batch, swap_users=0.4)

    assert items.users is batch.users
    assert users.items is batch.items
    assert users.targets is batch.targets
    for after in (items, users):
        assert after.owners is batch.owners
        assert after.layout is batch.layout


def test_the_batch_that_was_given_stays_and_one_seed_gives_the_same_swaps():
    batch = batch_of(users=50)
    before = batch.items.clone(), batch.targets.clone(), batch.users.clone()

    first, again, other = (noisy(batch, swap_items=0.5, swap_users=0.5, seed=seed) for seed in (1, 1, 2))

    assert all((one == kept).all() for one, kept in zip((batch.items, batch.targets, batch.users), before, strict=True))
    assert (first.items == again.items).all()
    assert (first.users == again.users).all()
    assert (first.items != other.items).any()


def test_users_are_swapped_for_those_who_train():
    batch = batch_of()
    trained = np.array([7, 40, 1_999])

    after = swapped(
        batch, Config(user_width=4, swap_users=0.999), items=ITEMS, users=trained, rng=np.random.default_rng(0)
    )

    moved = after.users[after.users != batch.users]
    assert {*moved.tolist()} == {-1, *trained.tolist()}
