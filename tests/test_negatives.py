"""A drawn item is one that the user never had, every such item is as likely, and a draw always ends."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.training.negatives import UnseenSampler

ITEMS = 9
histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=14), min_size=1, max_size=6)


class Places:
    """Stands in for a generator: its numbers hit each given place among `unseen` ones."""

    def __init__(self, unseen):
        self.unseen = unseen

    def random(self, shape):
        users, count = shape
        return np.tile((np.arange(count) + 0.5) / max(self.unseen, 1), (users, 1))


@given(lists=histories)
@settings(max_examples=200)
def test_the_r_th_unseen_item_is_that_of_a_search_through_all(lists):
    sampler = UnseenSampler(Sequences.of(lists), items=ITEMS)

    for user, history in enumerate(lists):
        unseen = [item for item in range(ITEMS) if item not in history]
        drawn = sampler.draw(np.array([user]), max(len(unseen), 1), Places(len(unseen)))

        assert drawn.tolist() == [unseen or [-1]]


@given(lists=histories, seed=st.integers(0, 1_000))
def test_no_drawn_item_is_in_the_history(lists, seed):
    users = np.repeat(np.arange(len(lists)), 3)

    drawn = UnseenSampler(Sequences.of(lists), items=ITEMS).draw(users, 5, np.random.default_rng(seed))

    assert drawn.shape == (len(users), 5)
    for user, items in zip(users, drawn, strict=True):
        if set(lists[user]) == set(range(ITEMS)):
            assert (items == -1).all()
        else:
            assert not {*items.tolist()} & {*lists[user]}
            assert ((items >= 0) & (items < ITEMS)).all()


@pytest.mark.parametrize("history", [[], [0], [8], [0, 8], [3, 4, 5], [1, 3, 5, 7, 7, 1]])
def test_every_unseen_item_is_drawn_as_often_as_another(history):
    sampler = UnseenSampler(Sequences.of([[2], history, [0, 1]]), items=ITEMS)

    drawn = sampler.draw(np.full(20_000, 1), 1, np.random.default_rng(0))

    counts = np.bincount(drawn.ravel(), minlength=ITEMS)
    unseen = [item for item in range(ITEMS) if item not in history]
    assert counts[history].sum() == 0
    assert scipy.stats.chisquare(counts[unseen]).pvalue > 1e-3


def test_a_user_who_owns_every_item_is_answered_at_once_beside_others():
    sampler = UnseenSampler(Sequences.of([list(range(ITEMS)), [0], list(range(ITEMS)) * 3]), items=ITEMS)

    drawn = sampler.draw(np.array([0, 1, 2, 1]), 4, np.random.default_rng(0))

    assert (drawn[[0, 2]] == -1).all()
    assert (drawn[[1, 3]] > 0).all()


def test_a_catalogue_of_one_item_has_nothing_to_draw():
    assert UnseenSampler(Sequences.of([[0]]), items=1).draw(np.array([0]), 2, np.random.default_rng(0)).tolist() == [
        [-1, -1]
    ]


def test_the_largest_random_number_stays_within_the_unseen_items():
    class Largest:
        def random(self, shape):
            return np.full(shape, np.nextafter(1.0, 0.0))

    for items in (2, 3, 7, 10**6, 10**7 + 1):
        sampler = UnseenSampler(Sequences.of([[0], [items - 1]]), items=items)

        assert sampler.draw(np.array([0, 1]), 1, Largest()).ravel().tolist() == [items - 1, items - 2]


def test_the_same_generator_draws_the_same_items():
    sampler = UnseenSampler(Sequences.of([[1], [2, 3]]), items=ITEMS)
    users = np.array([0, 1, 1])

    first, again, other = (sampler.draw(users, 6, np.random.default_rng(seed)) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_histories_are_left_as_they_are():
    histories = Sequences.of([[3, 1, 3], [2]])

    UnseenSampler(histories, items=ITEMS).draw(np.array([0, 1]), 2, np.random.default_rng(0))

    assert histories.items.tolist() == [3, 1, 3, 2]
