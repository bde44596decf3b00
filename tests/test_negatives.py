"""A drawn item is one that the user never had, every such item is as likely, and a draw always ends."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.training.batches import batches, last_windows
from sasrec.training.negatives import NegativeSampling, UnseenSampler

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


# Samplers that are the same for all users

TRAIN = Sequences.of([[0, 1, 2, 1], [1, 1, 3], [4, 0, 1, 6, 1, 2], [5, 5]])  # item 7 and 8 never occur
POPULARITY = np.bincount(TRAIN.items, minlength=ITEMS) / len(TRAIN.items)
EVEN = np.full(ITEMS, 1 / ITEMS)
(BATCH,) = batches(TRAIN, last_windows(TRAIN, length=9), size=9, rng=np.random.default_rng(0))
IN_BATCH = np.bincount(BATCH.targets, minlength=ITEMS) / len(BATCH.targets)


def sampler_of(**settings):
    return NegativeSampling(Config(length=9, windows="last", **settings), TRAIN, items=ITEMS).draw


@pytest.mark.parametrize(
    ("sampler", "chances"),
    [
        ("uniform", EVEN),
        ("popularity", POPULARITY),
        ("in-batch", IN_BATCH),
        ("mixed", (EVEN + IN_BATCH) / 2),
    ],
)
@pytest.mark.parametrize("share", [False, True], ids=["each", "shared"])
@pytest.mark.parametrize("count", [1, 3])
def test_items_are_drawn_as_often_as_the_sampler_says(sampler, chances, share, count):
    draw = sampler_of(sampler=sampler, negatives=count, share_negatives=share)
    rng = np.random.default_rng(0)

    rows = np.concatenate([draw(BATCH, rng).items.numpy().ravel() for _ in range(6_000 if share else 1_500)])

    counts = np.bincount(rows, minlength=ITEMS)
    assert counts[chances == 0].sum() == 0
    assert scipy.stats.chisquare(counts[chances > 0], chances[chances > 0] * len(rows)).pvalue > 1e-3


@pytest.mark.parametrize("sampler", ["uniform", "popularity", "in-batch", "mixed"])
def test_shared_negatives_are_one_draw_and_others_one_for_each_target(sampler):
    shared, each = (
        sampler_of(sampler=sampler, negatives=6, share_negatives=share)(BATCH, np.random.default_rng(0)).items
        for share in (True, False)
    )

    assert shared.shape == (6,)
    assert each.shape == (len(BATCH.targets), 6)
    assert len({tuple(row) for row in each.tolist()}) > 1


@pytest.mark.parametrize(
    ("sampler", "chances"),
    [("uniform", EVEN), ("popularity", POPULARITY), ("in-batch", IN_BATCH), ("mixed", (EVEN + IN_BATCH) / 2)],
)
@pytest.mark.parametrize("share", [False, True])
def test_log_counts_are_those_of_how_often_an_item_is_expected_among_the_draws(sampler, chances, share):
    negatives = sampler_of(sampler=sampler, negatives=5, logq=True, share_negatives=share)(
        BATCH, np.random.default_rng(0)
    )

    np.testing.assert_allclose(negatives.log_counts, np.log(5 * chances[negatives.items]), rtol=1e-6)


@pytest.mark.parametrize("sampler", ["unseen", "uniform", "popularity", "in-batch", "mixed"])
def test_scores_are_corrected_only_where_asked(sampler):
    assert sampler_of(sampler=sampler, negatives=2)(BATCH, np.random.default_rng(0)).log_counts is None


def test_a_sampler_of_ones_own_is_asked_for_the_rows_of_the_targets_and_goes_before_the_setting():
    asked = []

    def own(rows, count, rng):
        asked.append((rows.tolist(), count, rng.random()))
        return np.full((len(rows), count), 7)

    sampler = NegativeSampling(Config(sampler="popularity", negatives=3), TRAIN, items=ITEMS, draw=own)
    negatives = sampler.draw(BATCH, np.random.default_rng(4))

    assert asked == [(BATCH.owners.tolist(), 3, np.random.default_rng(4).random())]
    assert negatives.items.tolist() == [[7, 7, 7]] * len(BATCH.targets)


@pytest.mark.parametrize("learn", ["all", "last"])
def test_unseen_negatives_are_of_the_user_whose_target_it_is(learn):
    (batch,) = batches(TRAIN, last_windows(TRAIN, length=9), size=9, learn=learn, rng=np.random.default_rng(0))

    drawn = sampler_of(sampler="unseen", negatives=20)(batch, np.random.default_rng(0)).items

    for row, items in zip(batch.owners, drawn.tolist(), strict=True):
        assert not {*items} & {*TRAIN[row].tolist()}
