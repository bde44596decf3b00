"""The best k of a block are those of a full sort, and blocks cover everybody once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.errors import ScoreError
from sasrec.retrieval.topk import best, blocks, check_finite, hide

rows_of_scores = st.integers(1, 12).flatmap(
    lambda items: st.lists(
        st.lists(st.integers(-3, 3).map(float) | st.just(float("-inf")), min_size=items, max_size=items),
        min_size=1,
        max_size=4,
    )
)


@given(rows_of_scores, st.integers(1, 15))
def test_the_best_are_those_of_a_full_sort(rows, k):
    scores = np.array(rows, dtype=np.float32)

    values, places = best(scores, k)

    assert values.tolist() == [sorted(row, reverse=True)[:k] for row in rows]
    assert np.array_equal(np.take_along_axis(scores, places, axis=1), values)
    assert all(len({*row}) == len(row) for row in places.tolist())


@given(rows_of_scores, st.integers(1, 15))
def test_of_equal_scores_the_lower_place_comes_first(rows, k):
    _, places = best(np.array(rows, dtype=np.float32), k)

    for row, found in zip(rows, places.tolist(), strict=True):
        expected = sorted((place for place in range(len(row)) if row[place] > float("-inf")), key=lambda p: -row[p])[:k]
        assert found[: len(expected)] == expected


def test_many_equal_scores_among_many_are_taken_from_the_lowest_place():
    scores = np.zeros((3, 5000), dtype=np.float32)
    scores[1, 4000] = 1.0
    scores[2, 17:] = np.nan

    _, places = best(scores, 5)

    assert places[0].tolist() == [0, 1, 2, 3, 4]
    assert places[1].tolist() == [4000, 0, 1, 2, 3]


@given(seed=st.integers(0, 50), items=st.sampled_from([15, 16, 63, 64, 97, 400, 1_201]), k=st.sampled_from([1, 2, 10]))
def test_the_best_of_many_are_those_of_a_full_sort(seed, items, k):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-40, 40, (5, items)).astype(np.float32)  # with ties
    scores[rng.random((5, items)) < 0.2] = -np.inf

    values, places = best(scores, k)

    assert np.array_equal(values, np.sort(scores, axis=1)[:, ::-1][:, :k])
    assert np.array_equal(np.take_along_axis(scores, places, axis=1), values)
    assert all(len({*row}) == len(row) for row in places.tolist())


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("items", [60, 1_201, 12_101])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_the_best_of_scores_that_all_differ_are_where_a_full_sort_puts_them(rows, items, k):
    rng = np.random.default_rng(items + k)
    scores = rng.permuted(np.tile(np.arange(items, dtype=np.float32), (rows, 1)), axis=1)
    scores[0, rng.permutation(items)[: items // 2]] = -np.inf

    values, places = best(scores, k)

    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    kept = values > -np.inf
    assert np.array_equal(places[kept], expected[kept])
    assert np.array_equal(values, np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("place", [0, 77, 399])
def test_a_score_among_many_that_is_nan_is_noticed(place):
    scores = np.random.default_rng(0).normal(size=(2, 400)).astype(np.float32)
    scores[1, place] = np.nan

    with pytest.raises(ScoreError):
        check_finite(best(scores, 3)[0])


@pytest.mark.parametrize("bytes_", [1, 4 * 7, 4 * 7 * 3, 10**9])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_blocks_cover_everybody_once_and_hold_few_scores(monkeypatch, count, bytes_):
    monkeypatch.setattr("sasrec.retrieval.topk._BLOCK_BYTES", bytes_)

    found = list(blocks(count, items=7))

    assert np.concatenate([np.empty(0, int), *found]).tolist() == list(range(count))
    assert all(len(block) == 1 or len(block) * 7 * 4 <= bytes_ for block in found)


@pytest.mark.parametrize("items", [0, 1, 10**9])
def test_any_size_of_catalogue_has_blocks(items):
    assert sum(len(block) for block in blocks(5, items=items)) == 5


def test_every_item_of_a_history_is_hidden_in_its_own_row_alone():
    scores = np.zeros((3, 4), dtype=np.float32)

    hide(scores, Sequences.of([[1, 1, 3], [], [0]]))

    assert np.isneginf(scores).tolist() == [[False, True, False, True], [False] * 4, [True, False, False, False]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_without_an_order_are_refused(value):
    with pytest.raises(ScoreError, match="NaN or infinite"):
        check_finite(np.array([[0.0, value]]))


def test_a_hidden_score_is_no_fault():
    check_finite(np.array([[0.0, -np.inf]]))


@given(st.permutations(range(8)))
def test_a_score_that_is_nan_is_among_the_best_so_that_it_is_noticed(order):
    scores = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, np.nan]])[:, list(order)]

    values, _ = best(scores, 2)

    with pytest.raises(ScoreError):
        check_finite(values)
