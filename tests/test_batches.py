"""An epoch learns every step of every trainable history once, in an order that the generator gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.training.batches import batches, last_windows, trainable

histories = st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=12)


def epoch(lists, *, length=4, size=3, seed=0):
    return list(epoch_of(Sequences.of(lists), length=length, size=size, rng=np.random.default_rng(seed)))


def epoch_of(histories, *, length, size, rng):
    return batches(histories, last_windows(histories, length=length), size=size, rng=rng)


def steps_of(batch):
    """(user, items, targets) of each history in a batch."""
    stops = [last + 1 for last in batch.layout.lasts.tolist()]
    for start, stop in zip([0, *stops], stops, strict=False):
        assert len({*batch.owners[start:stop]}) == 1
        yield int(batch.owners[start]), batch.items[start:stop].tolist(), batch.targets[start:stop].tolist()


@given(histories, st.integers(1, 10), st.integers(1, 6))
def test_every_trainable_history_lends_its_last_steps_once_an_epoch(lists, length, size):
    found = sorted(step for batch in epoch(lists, length=length, size=size) for step in steps_of(batch))

    assert found == [
        (user, one[-length - 1 : -1], one[-length - 1 :][1:]) for user, one in enumerate(lists) if len(one) >= 2
    ]


@given(histories)
def test_users_of_one_event_or_none_never_appear(lists):
    rows = trainable(Sequences.of(lists))

    assert rows.tolist() == [user for user, one in enumerate(lists) if len(one) >= 2]
    assert all(user in rows for batch in epoch(lists) for user in batch.users.tolist())


@given(histories, st.integers(1, 6))
def test_batches_are_full_but_for_the_last(lists, size):
    sizes = [len(batch.layout.lasts) for batch in epoch(lists, size=size)]
    count = sum(len(one) >= 2 for one in lists)

    assert sizes == [size] * (count // size) + ([count % size] if count % size else [])


@given(histories)
def test_only_real_positions_are_in_a_batch(lists):
    for batch in epoch(lists, length=3):
        assert len(batch.items) == len(batch.targets) == len(batch.owners) == len(batch.layout.ages)
        assert len(batch.items) == sum(min(len(lists[user]) - 1, 3) for user in {*batch.users.tolist()})


def test_the_same_generator_gives_the_same_batches_and_another_other_ones():
    lists = [[user, user + 1, user + 2] for user in range(40)]

    first, again, other = (np.concatenate([batch.users for batch in epoch(lists, seed=seed)]) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_two_epochs_of_one_generator_differ_in_order_alone():
    rng = np.random.default_rng(0)
    histories = Sequences.of([[user, user + 1] for user in range(40)])

    first, second = (
        np.concatenate([batch.users for batch in epoch_of(histories, length=4, size=7, rng=rng)]) for _ in range(2)
    )

    assert (first != second).any()
    np.testing.assert_array_equal(np.sort(first), np.sort(second))


def test_a_history_of_twelve_thousand_events_lends_its_last_ones():
    (batch,) = epoch([list(range(12_000))], length=50)

    assert batch.items.tolist() == list(range(11_949, 11_999))
    assert batch.targets.tolist() == list(range(11_950, 12_000))
    assert batch.layout.ages.tolist() == list(range(49, -1, -1))


@pytest.mark.parametrize("lists", [[[]], [[1]], [[1], [], [2]]])
def test_nothing_to_learn_from_gives_no_batch(lists):
    assert epoch(lists) == []
