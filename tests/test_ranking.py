"""A target's rank is what random order would give on average; scores that are no numbers give none."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout
from sasrec.errors import ScoreError
from sasrec.evaluation.ranking import rank_targets
from sasrec.retrieval import topk


class Table:
    """Scores that are given, one row for each user, in the order in which they are asked for."""

    kind = "table"

    def __init__(self, scores):
        self.rows = np.array(scores, dtype=np.float32)
        self.items = self.rows.shape[1]
        self.asked = [0]  # so many users, after each block of them

    def scores(self, histories):
        self.asked.append(self.asked[-1] + len(histories))
        return self.rows[slice(*self.asked[-2:])].copy()


def holdout(targets, histories):
    return Holdout(np.arange(len(targets)), Sequences.of(histories), np.array(targets, dtype=np.int32))


def expected_rank(scores, target, hidden):
    """Average place of the target over every order of the items that respects the scores."""
    items = [item for item in range(len(scores)) if item not in hidden]
    orders = [order for order in permutations(items) if all(scores[a] >= scores[b] for a, b in pairwise(order))]
    return np.mean([order.index(target) for order in orders])


@given(data=st.data())
@settings(max_examples=60)
def test_the_rank_is_the_average_over_all_orders_of_tied_items(data):
    users = data.draw(st.integers(1, 3))
    # Few distinct scores: heavy ties.
    scores = [data.draw(st.lists(st.integers(0, 2), min_size=5, max_size=5)) for _ in range(users)]
    targets = [data.draw(st.integers(0, 4)) for _ in range(users)]
    histories = [data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6)) for _ in range(users)]
    exclude_seen = data.draw(st.booleans())

    found = rank_targets(Table(scores), holdout(targets, histories), exclude_seen=exclude_seen).ranks

    for row, target in enumerate(targets):
        hidden = set(histories[row]) if exclude_seen else set()
        assert found[row] == (np.inf if target in hidden else expected_rank(scores[row], target, hidden))


def test_a_model_that_scores_everything_alike_ranks_the_target_in_the_middle():
    ranks = rank_targets(Table(np.zeros((2, 101))), holdout([0, 100], [[5], [6]]), exclude_seen=False).ranks

    assert ranks.tolist() == [50.0, 50.0]


def test_a_target_that_was_seen_before_is_out_of_reach_only_where_seen_items_are_left_out():
    scores, part = [[3.0, 2.0, 1.0]], holdout([0], [[0, 1]])

    assert rank_targets(Table(scores), part, exclude_seen=True).ranks.tolist() == [np.inf]
    assert rank_targets(Table(scores), part, exclude_seen=False).ranks.tolist() == [0.0]


def test_items_that_are_left_out_do_not_stand_before_the_target():
    scores, part = [[3.0, 2.0, 1.0, 0.0]], holdout([2], [[0, 1, 0]])

    assert rank_targets(Table(scores), part, exclude_seen=True).ranks.tolist() == [0.0]
    assert rank_targets(Table(scores), part, exclude_seen=False).ranks.tolist() == [2.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_single_score_that_is_no_number_is_refused_wherever_it_is(value, place, exclude_seen):
    scores = np.ones((4, 3))
    # Item 0 is the target, 1 was seen, 2 is neither.
    scores[3, place] = value

    with pytest.raises(ScoreError, match="NaN or infinite"):
        rank_targets(Table(scores), holdout([0] * 4, [[1]] * 4), exclude_seen=exclude_seen)


def test_infinities_of_both_signs_do_not_cancel():
    with pytest.raises(ScoreError):
        rank_targets(Table([[np.inf, -np.inf, 0.0]]), holdout([2], [[0]]), exclude_seen=False)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_change_nothing(monkeypatch, block):
    monkeypatch.setattr(topk, "_BLOCK_BYTES", 4 * 6 * block)
    rng = np.random.default_rng(0)
    scores, part = rng.integers(0, 3, (10, 6)), holdout(rng.integers(0, 6, 10), [[row % 6] for row in range(10)])
    table = Table(scores)

    found = rank_targets(table, part, exclude_seen=True, cuts=(1, 3))

    for row in range(10):
        expected = np.inf if part.targets[row] == row % 6 else expected_rank(scores[row], part.targets[row], {row % 6})
        assert found.ranks[row] == expected
    assert table.asked == [*range(0, 10, block), 10]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommended_items_are_those_among_anybodys_first(exclude_seen):
    rng = np.random.default_rng(1)
    scores = rng.permuted(np.tile(np.arange(8.0), (5, 1)), axis=1)
    histories = [rng.integers(0, 8, 3).tolist() for _ in range(5)]

    found = rank_targets(
        Table(scores), holdout([0] * 5, histories), exclude_seen=exclude_seen, cuts=(1, 2, 7, 50)
    ).recommended

    for cut, items in found.items():
        shown = set()
        for row in range(5):
            hidden = {*histories[row]} if exclude_seen else set()
            shown |= {*[item for item in np.argsort(-scores[row]) if item not in hidden][:cut]}
        assert np.flatnonzero(items).tolist() == sorted(shown)


def test_items_that_are_left_out_are_not_recommended_however_many_places_there_are():
    found = rank_targets(Table([[3.0, 2.0, 1.0]]), holdout([2], [[0]]), exclude_seen=True, cuts=(1, 3, 50)).recommended

    assert {cut: items.tolist() for cut, items in found.items()} == {
        1: [False, True, False],
        3: [False, True, True],
        50: [False, True, True],
    }


def test_nobody_to_rank_gives_no_ranks():
    found = rank_targets(Table(np.zeros((0, 3))), holdout([], []), exclude_seen=True, cuts=(2,))

    assert found.ranks.shape == (0,)
    assert not found.recommended[2].any()
