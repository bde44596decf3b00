"""What may be recommended is found in whatever way is shortest, and is the same on every way."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.model.building import build
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.index import Index
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.search import Ranking, Selection, scoring, search

ITEMS = 200
HISTORIES = Sequences.of([[3, 1], [199], [7, 8, 7, 0, 12]])
rows = st.lists(st.integers(0, ITEMS - 1), max_size=ITEMS)


@pytest.fixture(scope="module")
def scorer():
    config = Config(width=8, length=4, positions="learned")
    return Neural(build(config, items=ITEMS, generator=torch.Generator().manual_seed(3)), config)


def selected(**rules):
    return Selection.of(10, exclude_seen=False, items=ITEMS, **rules)


@given(st.none() | rows, st.none() | rows)
def test_a_selection_hides_what_is_denied_and_what_is_not_allowed(allow, deny):
    selection = selected(
        allow=None if allow is None else np.array(allow, np.int64),
        deny=None if deny is None else np.array(deny, np.int64),
    )

    hidden = selection.hidden(ITEMS).tolist()

    expected = {*range(ITEMS)} - {*(range(ITEMS) if allow is None else allow)} | {*(deny or ())}
    assert hidden == sorted(expected)


def test_the_shorter_of_two_lists_says_what_may_be_recommended():
    few, most = np.arange(3), np.arange(5, ITEMS)

    assert selected(deny=few).allowed is None
    assert selected(deny=most).allowed.tolist() == [0, 1, 2, 3, 4]
    assert len(selected(deny=most).denied) == 0


class Counted:
    """A table that notes how many of its rows are read."""

    reads_times = False

    def __init__(self, scorer):
        self.kind, self.items, self.states, self.read = scorer.kind, scorer.items, scorer.states, 0
        self._table = scorer.table()

    def scores(self, histories):
        raise AssertionError("the whole catalogue is scored")

    def similarities(self, item):
        raise NotImplementedError

    def to_parts(self):
        raise NotImplementedError

    from_parts = to_parts

    def table(self):
        return self

    def __getitem__(self, items):
        self.read += len(items)
        return self._table[items]


def test_a_list_of_allowed_items_is_scored_alone(scorer):
    counted = Counted(scorer)
    selection = selected(allow=np.array([5, 150, 9]))

    found = Ranking.joined(search(counted, HISTORIES, np.arange(3), selection))

    assert counted.read == 3
    for place in range(3):
        own = found.items[found.places == place]
        scores = scorer.scores(HISTORIES.take(np.array([place])))[0]
        assert own.tolist() == sorted([5, 9, 150], key=lambda item: -scores[item])


def test_a_scorer_without_vectors_gives_the_scores_of_listed_items():
    popular = Popularity(np.arange(ITEMS, dtype=np.float32))

    found = scoring(popular, np.array([9, 0]))(HISTORIES)

    assert np.array_equal(found, popular.scores(HISTORIES)[:, [9, 0]])


@pytest.mark.parametrize("allowed", [3, ITEMS // 2, ITEMS])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_every_way_finds_the_same(scorer, allowed, exclude_seen):
    rng = np.random.default_rng(4)
    selection = Selection.of(
        12, exclude_seen=exclude_seen, items=ITEMS, allow=rng.permutation(ITEMS)[:allowed], deny=np.array([0, 9])
    )
    whole = Selection(12, exclude_seen, None, selection.hidden(ITEMS))
    places = np.array([5, 2, 9])

    with_index, by_list, by_block = (
        Ranking.joined(search(scorer, HISTORIES, places, one, index=index))
        for one, index in ((selection, Index(scorer.table())), (selection, None), (whole, None))
    )

    for other in (by_list, by_block):
        assert with_index.places.tolist() == other.places.tolist()
        assert with_index.items.tolist() == other.items.tolist()
        assert with_index.ranks.tolist() == other.ranks.tolist()
        np.testing.assert_allclose(with_index.scores, other.scores, rtol=1e-5, atol=1e-6)


def test_rankings_of_nobody_join_to_an_empty_one():
    joined = Ranking.joined([])

    assert len(joined.places) == len(joined.items) == len(joined.scores) == len(joined.ranks) == 0
