"""Filters against what plain Python does."""

import math
import re
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sasrec
from sasrec.data import filters as filters_module
from sasrec.data.filters import Events, Filters
from sasrec.errors import ConfigError, DataError

small_logs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


def read(pairs, filters, **columns):
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row").with_columns(**columns)
    return sasrec.read_log(frame, filters=filters)


def events(log):
    """The events as pairs of raw ids, by user and then in order."""
    users = log.users.raw(log.histories.owners()).to_list()
    return list(zip(users, log.items.raw(log.histories.items).to_list(), strict=True))


def core_of(pairs, user_core, item_core):
    while True:
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        kept = [(user, item) for user, item in pairs if users[user] >= user_core and items[item] >= item_core]
        if kept == pairs:
            return kept
        pairs = kept


@pytest.mark.parametrize("rounds", [0, 1, 50])
@given(pairs=small_logs, user_core=st.integers(0, 4), item_core=st.integers(0, 4))
def test_the_core_is_the_largest_log_in_which_all_have_enough_events(rounds, pairs, user_core, item_core):
    expected = sorted(core_of(pairs, user_core, item_core), key=lambda pair: pair[0])
    filters = Filters(user_core=user_core, item_core=item_core)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters_module, "_ROUNDS", rounds)
        if not expected:
            with pytest.raises(DataError, match="no event is left"):
                read(pairs, filters)
            return
        log = read(pairs, filters)

    assert events(log) == expected
    assert sum(log.source.dropped.values()) == len(pairs) - len(expected)


@given(pairs=small_logs, keep=st.sampled_from(["first", "last"]))
def test_of_duplicates_the_first_or_last_stays(pairs, keep):
    step = 1 if keep == "first" else -1
    expected = sorted(list(dict.fromkeys(pairs[::step]))[::step], key=lambda pair: pair[0])

    log = read(pairs, Filters(duplicates=keep))

    assert events(log) == expected


def test_first_and_last_go_by_time_and_not_by_row():
    log = read([(1, 7), (1, 8), (1, 7)], Filters(duplicates="first"), time=pl.Series([3, 2, 1]))

    assert log.items.raw(log.histories[0]).to_list() == [7, 8]
    assert log.histories.times.tolist() == [1, 2]


def test_a_weight_at_the_threshold_stays():
    log = read([(1, 7), (1, 8), (2, 9)], Filters(min_weight=4), rating=pl.Series([4.0, 3.9, 5.0]))

    assert events(log) == [(1, 7), (2, 9)]
    assert log.histories.weights.tolist() == [4.0, 5.0]
    assert log.source.dropped == {"with a weight below 4": 1}
    assert log.items.ids.to_list() == [7, 9], "an item without events leaves the vocabulary"


def test_the_threshold_comes_before_duplicates_and_these_before_the_core():
    pairs = [(1, 7), (1, 7), (1, 8), (2, 7), (2, 8)]

    log = read(pairs, Filters(4.0, "first", user_core=2, item_core=2), rating=pl.Series([1.0, 5.0, 5.0, 5.0, 5.0]))

    assert events(log) == [(1, 7), (1, 8), (2, 7), (2, 8)]
    assert log.source.dropped == {"with a weight below 4.0": 1}


def test_a_threshold_without_weights_is_refused():
    with pytest.raises(DataError, match=re.escape("min_weight=4 needs weights; pass weight=")):
        read([(1, 7)], Filters(min_weight=4))


def test_nothing_left_says_where_it_went():
    with pytest.raises(DataError) as caught:
        read([(1, 7), (2, 8)], Filters(user_core=2))

    assert str(caught.value) == (
        "polars frame: no event is left; left out of 2 rows: 2 outside the core of 2 a user and 0 an item; "
        "loosen the filters"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicates": "none"}, "duplicates: expected 'keep' or 'first' or 'last', found 'none'"),
        ({"bad_rows": "skip"}, "bad_rows: expected 'refuse' or 'drop', found 'skip'"),
        ({"min_weight": float("nan")}, "min_weight: expected a number or None, found nan"),
        ({"user_core": -1}, "user_core: expected a whole number of 0 or more, found -1"),
        ({"item_core": 2.5}, "item_core: expected a whole number of 0 or more, found 2.5"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Filters(**options)


def test_a_long_chain_is_not_gone_through_again_for_each_of_its_ends(monkeypatch):
    chain = [(n, m) for n in range(2000) for m in (n, n + 1)]
    gone_through, take = [], Events.take
    monkeypatch.setattr(Events, "take", lambda events, chosen: gone_through.append(1) or take(events, chosen))

    with pytest.raises(DataError, match="4,000 outside the core"):
        read(chain, Filters(item_core=2, user_core=2))

    assert len(gone_through) < 100


def test_filters_leave_row_numbers_dense():
    generator = np.random.default_rng(3)
    pairs = list(zip(generator.integers(0, 300, 900).tolist(), generator.integers(0, 99, 900).tolist(), strict=True))

    log = read(pairs, Filters(user_core=3, item_core=5))

    assert set(log.histories.items.tolist()) == set(range(len(log.items)))
    assert log.histories.lengths.min() >= 3
    assert len(log.histories) == len(log.users)


@pytest.mark.parametrize(
    ("name", "weight", "user_core", "item_core"),
    [
        ("Amazon2014Beauty_550_LOU", None, 5, 5),
        ("Amazon2014Tools_554_LOU", 4.0, 5, 5),
        ("Amazon2014Beauty_1000_LOU", None, 10, 0),
        ("Yelp2018_10100_LOU", None, 10, 10),
        ("RetailrocketTransaction_500_LOU", None, 5, 0),
        ("ML1M_550", None, 5, 5),
        ("5103", 3.0, 5, 10),
    ],
)
def test_names_of_data_sets_in_freerec_stand_for_filters(name, weight, user_core, item_core):
    assert Filters.named(name) == Filters(min_weight=weight, user_core=user_core, item_core=item_core)


@pytest.mark.parametrize("name", ["", "Beauty", "Beauty_5_LOU", "Beauty_371_LOU", "Beauty_550_LOU_x", "550 "])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(ConfigError, match="named: expected a name like 'Beauty_550_LOU' or '550'"):
        Filters.named(name)


def test_a_split_of_freerec_that_is_unknown_here_is_refused():
    with pytest.raises(ConfigError, match=r"of the splits only LOU .* found 'ROU'"):
        Filters.named("Beauty_550_ROU")


def test_a_bound_that_only_asks_for_weights_is_not_told_as_one():
    frame = pl.DataFrame({"user_id": ["a"], "item_id": ["x"]})

    with pytest.raises(DataError, match="frame: min_weight needs weights; pass weight= with their column"):
        sasrec.read_log(frame, filters=Filters(min_weight=-math.inf))
