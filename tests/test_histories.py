"""Histories changed on purpose keep all that the study does not ask about."""

import numpy as np
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout
from sasrec.studies.histories import share_of_unique, shuffled, without_older


@pytest.fixture
def holdout():
    rng = np.random.default_rng(3)
    histories = Sequences.of([rng.integers(0, 9, length) for length in (1, 2, 3, 6, 12, 5)])
    events = len(histories.items)
    weights = (100 * histories.items + np.arange(events)).astype(np.float32)
    histories = Sequences(histories.items, histories.offsets, np.arange(events), weights)
    return Holdout(np.arange(6) * 2, histories, np.arange(6, dtype=np.int32))


def lists(histories):
    return [histories[row].tolist() for row in range(len(histories))]


@pytest.mark.parametrize("keep_last", [True, False])
@pytest.mark.parametrize("length", [1, 2, 4, 50])
def test_only_the_events_that_the_network_sees_change_places(holdout, length, keep_last):
    for seed in range(20):
        after = shuffled(holdout, np.random.default_rng(seed), length=length, keep_last=keep_last)

        for old, new in zip(lists(holdout.histories), lists(after.histories), strict=True):
            assert sorted(new) == sorted(old)
            assert new[:-length] == old[:-length]
            assert sorted(new[-length:]) == sorted(old[-length:])
            assert not keep_last or new[-1] == old[-1]


def test_users_targets_and_times_stay_and_weights_go_with_their_items(holdout):
    after = shuffled(holdout, np.random.default_rng(0), length=50, keep_last=False)

    assert (after.users is holdout.users, after.targets is holdout.targets) == (True, True)
    np.testing.assert_array_equal(after.histories.times, holdout.histories.times)
    assert (after.histories.weights // 100 == after.histories.items).all()
    assert len(set(after.histories.weights)) == len(after.histories.weights)


@pytest.mark.parametrize(("keep_last", "orders"), [(False, 6), (True, 2)])
def test_every_order_is_as_likely_as_any_other(keep_last, orders):
    holdout = Holdout(np.arange(6000), Sequences.of([[0, 1, 2]] * 6000), np.zeros(6000, np.int32))

    after = shuffled(holdout, np.random.default_rng(0), length=3, keep_last=keep_last)

    found, counts = np.unique(after.histories.items.reshape(-1, 3), axis=0, return_counts=True)
    assert len(found) == orders
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 6000 / orders).max() < 5 * np.sqrt(6000 / orders)


def test_shuffles_are_fixed_by_their_generator(holdout):
    first, again, other = (
        shuffled(holdout, np.random.default_rng(seed), length=50, keep_last=False).histories.items for seed in (1, 1, 2)
    )

    assert (np.array_equal(first, again), np.array_equal(first, other)) == (True, False)


@pytest.mark.parametrize("length", [1, 2, 3, 20])
def test_different_histories_are_counted_as_a_set_of_tuples_counts_them(length):
    rng = np.random.default_rng(5)
    histories = Sequences.of([rng.integers(0, 3, rng.integers(1, 6)) for _ in range(80)])

    expected = len({tuple(one[-length:]) for one in lists(histories)}) / 80

    assert share_of_unique(histories, length) == expected


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_only_the_last_steps_of_training_stay_and_nothing_else_changes(walks, steps):
    data = sasrec.split(walks)

    cut = without_older(data, steps)

    for row in range(len(data.train)):
        assert cut.train[row].tolist() == data.train[row][-steps - 1 :].tolist()
    for before, after in ((data.valid, cut.valid), (data.test, cut.test)):
        np.testing.assert_array_equal(after.users, before.users)
        np.testing.assert_array_equal(after.targets, before.targets)
        for old, new in zip(lists(before.histories), lists(after.histories), strict=True):
            assert new == old[len(old) - len(new) :]
    assert data.train_lengths.sum() > cut.train_lengths.sum() or steps == 50


def test_a_short_history_is_cut_as_by_hand(log_of):
    data = sasrec.split(log_of({"ada": list(range(8)), "bob": [1, 0]}))  # ada trains on 0 to 5, bob on all

    cut = without_older(data, 2)

    assert lists(cut.train) == [[3, 4, 5], [1, 0]]
    assert lists(cut.valid.histories) == [[3, 4, 5]]
    assert lists(cut.test.histories) == [[3, 4, 5, 6]]
