"""Counting models count what dictionaries would."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError
from sasrec.retrieval.counting import Markov, Popularity

ITEMS = 6
histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=8)
asked = st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=5), min_size=1, max_size=5)


@given(histories, asked)
def test_popularity_is_the_share_of_all_events_whoever_asks(train, questions):
    counts = Counter(item for one in train for item in one)

    scores = Popularity.of(Sequences.of(train), items=ITEMS).scores(Sequences.of(questions))

    expected = [counts[item] / max(counts.total(), 1) for item in range(ITEMS)]
    assert scores.tolist() == [pytest.approx(expected)] * len(questions)


@given(histories, asked)
def test_markov_is_the_smoothed_share_of_what_followed_the_last_item(train, questions):
    counts = Counter(item for one in train for item in one)
    followers = defaultdict(Counter)
    for one in train:
        for before, after in itertools.pairwise(one):
            followers[before][after] += 1

    scores = Markov.of(Sequences.of(train), items=ITEMS).scores(Sequences.of(questions))

    for row, question in enumerate(questions):
        steps = followers[question[-1]]
        expected = [
            (steps[item] + counts[item] / max(counts.total(), 1)) / (steps.total() + 1) for item in range(ITEMS)
        ]
        assert scores[row].tolist() == pytest.approx(expected, abs=1e-7)


def test_markov_worked_by_hand():
    # a b, a b, a c, b a: after a came b twice and c once; shares a 4/8, b 3/8, c 1/8.
    markov = Markov.of(Sequences.of([[0, 1], [0, 1], [0, 2], [1, 0]]), items=3)

    scores = markov.scores(Sequences.of([[1, 0], [2]]))

    assert scores[0].tolist() == pytest.approx([(0 + 4 / 8) / 4, (2 + 3 / 8) / 4, (1 + 1 / 8) / 4])
    assert scores[1].tolist() == pytest.approx([4 / 8, 3 / 8, 1 / 8]), "nothing followed c: popularity"


@given(histories.filter(any))
def test_markov_scores_are_probabilities(train):
    scores = Markov.of(Sequences.of(train), items=ITEMS).scores(Sequences.of([[item] for item in range(ITEMS)]))

    assert (scores >= 0).all()
    assert scores.sum(axis=1).tolist() == pytest.approx([1.0] * ITEMS, abs=1e-6)


def test_the_last_item_of_one_history_is_not_followed_by_the_first_of_the_next():
    markov = Markov.of(Sequences.of([[0, 1], [2, 3]]), items=4)

    assert markov.steps.offsets.tolist() == [0, 1, 1, 2, 2]
    assert markov.steps.items.tolist() == [1, 3]


@given(histories)
def test_markov_similarity_is_the_cosine_of_what_follows(train):
    matrix = np.zeros((ITEMS, ITEMS))
    for one in train:
        for before, after in itertools.pairwise(one):
            matrix[before, after] += 1
    norms = np.linalg.norm(matrix, axis=1)
    cosines = matrix @ matrix.T / np.maximum(np.outer(norms, norms), 1e-12)
    markov = Markov.of(Sequences.of(train), items=ITEMS)

    for item in range(ITEMS):
        assert markov.similarities(item).tolist() == pytest.approx(cosines[item].tolist(), abs=1e-6)


def test_popularity_does_not_tell_which_items_are_alike():
    with pytest.raises(ConfigError, match="popularity does not tell which items are alike; ask a model or a scorer"):
        Popularity(np.array([3.0, 1.0, 0.0], dtype=np.float32)).similarities(1)


@pytest.mark.parametrize("kind", [Popularity, Markov])
def test_a_setting_that_is_not_known_is_refused(kind):
    _, tensors = kind.of(Sequences.of([[0, 1, 2]]), items=3).to_parts()

    with pytest.raises(BundleError, match="counts do not fit the catalogue"):
        kind.from_parts(3, {"smoothing": 2}, tensors)


def test_a_large_count_of_pairs_does_not_overflow():
    items = 3_000_000
    markov = Markov.of(Sequences.of([[items - 1, items - 2, items - 1]]), items=items)

    scores = markov.scores(Sequences.of([[items - 1]]))[0]

    assert int(scores.argmax()) == items - 2
