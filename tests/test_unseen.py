"""The unseen items of a user are those that a set difference gives, in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.data.unseen import Unseen

ITEMS = 7
histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=10), min_size=1, max_size=6)


@given(histories)
def test_every_place_holds_the_item_that_a_set_difference_puts_there(lists):
    unseen = Unseen(Sequences.of(lists), items=ITEMS)

    for user, history in enumerate(lists):
        expected = sorted({*range(ITEMS)} - {*history})
        assert unseen.counts[user] == len(expected)
        assert unseen.at(np.array([user]), np.arange(len(expected))[None])[0].tolist() == expected
