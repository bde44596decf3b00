"""An epoch learns every step of every trainable history once, in an order that the generator gives."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.training.batches import (
    batches,
    last_windows,
    random_windows,
    rolling_windows,
    target_shares,
    trainable,
    windows_of,
)

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


# Windows


def cut(histories, windows):
    """(row, inputs, target) of every window."""
    return [
        (row, histories[row][start : stop - 1].tolist(), int(histories[row][stop - 1]))
        for row, start, stop in zip(*map(np.ndarray.tolist, windows), strict=True)
    ]


@given(histories, st.integers(1, 6), st.integers(1, 5))
def test_rolling_windows_are_those_of_a_plain_loop(lists, length, shortest):
    found = cut(Sequences.of(lists), rolling_windows(Sequences.of(lists), length=length, shortest=shortest))

    expected = []
    for row, one in enumerate(lists):
        places = [place for place in range(1, len(one)) if place >= shortest] or (
            [len(one) - 1] if len(one) > 1 else []
        )
        expected += [(row, one[max(place - length, 0) : place], one[place]) for place in places]
    assert found == expected


@given(histories, st.integers(1, 6))
def test_last_windows_end_with_the_last_event(lists, length):
    found = cut(Sequences.of(lists), last_windows(Sequences.of(lists), length=length))

    assert found == [(row, one[-length - 1 : -1], one[-1]) for row, one in enumerate(lists) if len(one) > 1]


@given(histories, st.integers(1, 6), st.integers(0, 99))
def test_a_random_window_is_a_full_stretch_of_its_history(lists, length, seed):
    train = Sequences.of(lists)

    windows = random_windows(train, length=length, rng=np.random.default_rng(seed))

    assert windows.rows.tolist() == trainable(train).tolist()
    for row, start, stop in zip(*windows, strict=True):
        assert 0 <= start < stop <= len(lists[row])
        assert stop - start == min(len(lists[row]), length + 1)


def test_every_start_of_a_random_window_is_as_likely():
    train = Sequences.of([list(range(10))])
    rng = np.random.default_rng(0)

    starts = [int(random_windows(train, length=4, rng=rng).starts[0]) for _ in range(6_000)]

    assert scipy.stats.chisquare(np.bincount(starts, minlength=6)).pvalue > 1e-3
    assert max(starts) == 5


def test_over_epochs_random_windows_learn_from_every_event_of_a_long_history():
    train = Sequences.of([list(range(40))])
    rng = np.random.default_rng(0)

    learned = set()
    for _ in range(100):
        (batch,) = batches(train, random_windows(train, length=5, rng=rng), size=1, rng=rng)
        learned |= {*batch.targets.tolist()}

    assert learned == {*range(1, 40)}


# What is learned from a window


@given(histories, st.integers(1, 6))
def test_learning_from_the_last_has_one_target_a_window_after_its_inputs(lists, length):
    train = Sequences.of(lists)
    found = []

    for batch in batches(
        train, rolling_windows(train, length=length), size=3, learn="last", rng=np.random.default_rng(0)
    ):
        stops = (batch.layout.lasts + 1).tolist()
        assert len(batch.targets) == len(batch.owners) == len(batch.users) == len(stops)
        for row, start, stop, target in zip(batch.owners, [0, *stops], stops, batch.targets, strict=False):
            found.append((int(row), batch.items[start:stop].tolist(), int(target)))

    assert sorted(found) == sorted(cut(train, rolling_windows(train, length=length)))


@pytest.mark.parametrize(("learn", "expected"), [("all", [2.0, 3.0, 5.0]), ("last", [3.0, 5.0])])
def test_the_weight_of_a_target_is_that_of_its_event(learn, expected):
    train = Sequences(
        np.array([7, 8, 9, 4, 5], np.int32),
        np.array([0, 3, 5]),
        weights=np.array([1, 2, 3, 4, 5], np.float32),
        users=np.array([11, 12]),
    )
    windows = last_windows(train, length=9)

    (weighted,) = batches(train, windows, size=2, learn=learn, weighted=True, rng=np.random.default_rng(0))
    (plain,) = batches(train, windows, size=2, learn=learn, rng=np.random.default_rng(0))

    by_target = dict(zip(weighted.targets.tolist(), weighted.weights.tolist(), strict=True))
    assert by_target == dict(zip([8, 9, 5] if learn == "all" else [9, 5], expected, strict=True))
    assert plain.weights is None
    assert sorted(weighted.users.tolist()) == [11, 12]


# How often an item is a target


@given(st.lists(st.lists(st.integers(0, 9), max_size=14), min_size=1, max_size=8), st.integers(1, 6))
@pytest.mark.parametrize("learn", ["all", "last"])
@pytest.mark.parametrize("windows", ["last", "rolling"])
def test_shares_of_targets_are_those_of_an_epoch(windows, learn, lists, length):
    train, rng = Sequences.of(lists), np.random.default_rng(0)
    config = Config(windows=windows, length=length, shortest=2 if windows == "rolling" else 1, learn=learn)

    epoch = batches(train, windows_of(config, train, rng), size=3, learn=learn, rng=rng)
    counts = sum((np.bincount(batch.targets, minlength=10) for batch in epoch), np.zeros(10))

    np.testing.assert_allclose(target_shares(config, train, items=10), counts / max(counts.sum(), 1), atol=1e-12)


@given(st.lists(st.lists(st.integers(0, 9), max_size=14), min_size=1, max_size=8), st.integers(1, 6))
@pytest.mark.parametrize("learn", ["all", "last"])
def test_shares_of_targets_of_random_windows_are_those_of_all_that_may_be_drawn(learn, lists, length):
    counts = np.zeros(10)
    for one in lists:
        starts = range(max(len(one) - length - 1, 0) + 1) if len(one) >= 2 else ()
        for start in starts:
            targets = one[start + 1 : start + length + 1]
            counts += np.bincount(targets if learn == "all" else targets[-1:], minlength=10) / len(starts)

    shares = target_shares(Config(windows="random", length=length, learn=learn), Sequences.of(lists), items=10)

    np.testing.assert_allclose(shares, counts / max(counts.sum(), 1), atol=1e-12)
