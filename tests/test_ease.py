"""EASE against its closed form in plain numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError
from sasrec.retrieval import ease as of_ease
from sasrec.retrieval.ease import EASE, ease, ease_links
from sasrec.retrieval.linked import Linked

ITEMS = 6


def dense(links):
    table = np.zeros((len(links), len(links)))
    table[links.owners(), links.items] = links.weights
    return table


def closed_form(train, l2):
    had = np.zeros((len(train), ITEMS))
    for user, one in enumerate(train):
        had[user, one] = 1
    inverse = np.linalg.inv(had.T @ had + l2 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@given(
    st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=8),
    st.sampled_from([0.5, 10.0, 200.0]),
    st.sampled_from([1, 2**25]),
)
def test_links_are_the_weights_of_the_closed_form(train, l2, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_ease, "_BLOCK", block)
        links = ease_links(Sequences.of(train), items=ITEMS, l2=l2)

    np.testing.assert_allclose(dense(links), closed_form(train, l2), atol=1e-5)


def test_no_other_weights_tell_who_had_what_better():
    rng = np.random.default_rng(2)
    had = (rng.random((30, ITEMS)) < 0.4).astype(float)
    train = Sequences.of([np.flatnonzero(row) for row in had])
    found = dense(ease_links(train, items=ITEMS, l2=3.0))

    def error(weights):
        return ((had - had @ weights) ** 2).sum() + 3.0 * (weights**2).sum()

    for _ in range(50):
        step = rng.normal(size=(ITEMS, ITEMS)) * 0.01
        np.fill_diagonal(step, 0)
        assert error(found) < error(found + step)


def test_links_of_ease_are_not_taken_from_counts():
    with pytest.raises(ValueError, match="not counted but solved for"):
        Linked.of(Sequences.of([[0, 1]]), items=2, settings=EASE)


def test_scores_sum_the_weights_of_a_history_older_ones_less():
    train = [[0, 1, 2], [1, 2, 3], [0, 4], [5, 1]]
    weights = closed_form(train, 200.0)

    scores = ease(Sequences.of(train), items=ITEMS).scores(Sequences.of([[0, 3, 1]]))[0]

    shares = np.bincount(np.concatenate(train), minlength=ITEMS) / 10 / 1000
    expected = weights[1] + 0.9 * weights[3] + 0.81 * weights[0] + shares
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_of_many_weights_the_strongest_of_either_sign_are_kept(monkeypatch):
    monkeypatch.setattr(of_ease, "_MOST", 2)
    train = [[0, 1, 2], [1, 2, 3], [0, 4], [5, 1], [0, 1]]

    found = dense(ease_links(Sequences.of(train), items=ITEMS, l2=1.0))

    whole = closed_form(train, 1.0)
    for source in range(ITEMS):
        strongest = np.sort(np.abs(whole[source]))[-2:]
        np.testing.assert_allclose(np.sort(np.abs(found[source]))[-2:], strongest, atol=1e-5)
        assert np.count_nonzero(found[source]) <= 2


def test_a_catalogue_that_memory_does_not_allow_is_refused():
    with pytest.raises(
        ConfigError, match=r"EASE of 100,000 items would hold 120 GB, so it is for at most 16,384; take"
    ):
        ease_links(Sequences.of([[0, 1]]), items=100_000, l2=1.0)
