"""Flat arrays and offsets do what lists of lists would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences

histories = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=7), max_size=8)


def listed(sequences):
    return [sequences[row].tolist() for row in range(len(sequences))]


def with_times(lists):
    """Sequences whose times and weights are numbered, so that each event can be told."""
    plain = Sequences.of(lists)
    numbers = np.arange(len(plain.items))
    return Sequences(plain.items, plain.offsets, numbers * 10, numbers.astype(np.float32) / 2)


@given(histories)
def test_lists_come_back(lists):
    sequences = Sequences.of(lists)

    assert listed(sequences) == lists
    assert len(sequences) == len(lists)
    assert sequences.lengths.tolist() == [len(one) for one in lists]
    assert (sequences.items.dtype, sequences.offsets.dtype) == (np.int32, np.int64)


@given(histories)
def test_every_event_knows_its_owner(lists):
    owners = Sequences.of(lists).owners()

    assert owners.tolist() == [row for row, one in enumerate(lists) for _ in one]
    assert owners.dtype == np.int64


@given(histories, st.integers(1, 9))
def test_the_last_events_are_the_end_of_each_list(lists, length):
    assert listed(Sequences.of(lists).last(length)) == [one[-length:] for one in lists]


@given(histories.filter(len), st.data())
def test_sequences_are_taken_in_any_order_and_as_often_as_asked(lists, data):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1)))

    taken = Sequences.of(lists).take(np.array(rows, dtype=np.int64))

    assert listed(taken) == [lists[row] for row in rows]


@given(histories.filter(len), st.data())
def test_slices_are_those_of_the_lists_with_their_times_and_weights(lists, data):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1)))
    stops = [data.draw(st.integers(0, len(lists[row]))) for row in rows]
    starts = [data.draw(st.integers(0, stop)) for stop in stops]
    sequences = with_times(lists)

    slices = sequences.slices(*(np.array(one, dtype=np.int64) for one in (rows, starts, stops)))

    assert listed(slices) == [lists[row][start:stop] for row, start, stop in zip(rows, starts, stops, strict=True)]
    events = [
        sequences.offsets[row] + place
        for row, start, stop in zip(rows, starts, stops, strict=True)
        for place in range(start, stop)
    ]
    assert slices.times.tolist() == [10 * event for event in events]
    assert slices.weights.tolist() == [event / 2 for event in events]


@pytest.mark.parametrize("lists", [[], [[]], [[], [], []]])
def test_nothing_at_all_is_a_sequence_too(lists):
    sequences = Sequences.of(lists)

    assert listed(sequences.last(3)) == lists
    assert sequences.owners().tolist() == []
    assert sequences.times is None
    assert sequences.last(3).times is None
