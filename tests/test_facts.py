"""What a log says about itself, against figures counted by hand."""

import polars as pl

import sasrec
from sasrec.studies.facts import Facts


def test_the_facts_of_a_small_log_are_those_counted_by_hand():
    rows = [
        *(("ada", item, time) for time, item in enumerate("abcd")),  # test history a b c, target d
        *(("bob", item, 7) for item in "bca"),  # all at once; test history b c, target a
        *(("cyd", item, time) for time, item in enumerate("acbcac")),  # test history a c b c a, target c: a repeat
    ]
    log = sasrec.read_log(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))

    facts = Facts.of(sasrec.split(log), [1, 2])

    assert (facts.users, facts.items, facts.events, facts.tested) == (3, 4, 13, 3)
    assert facts.ties == 2 / 10
    assert facts.repeats == 3 / 13
    assert facts.repeated_targets == 1 / 3
    assert facts.cold_targets == 1 / 3  # d
    assert facts.unique == {1: 2 / 3, 2: 2 / 3}  # ada and bob have c last, after b; cyd a
    assert "20.0% of steps are ties in time" in str(facts)
    assert "66.7% at 1, 66.7% at 2" in str(facts)


def test_a_log_without_times_says_so(walks):
    facts = Facts.of(sasrec.split(walks), [1])

    assert facts.ties is None
    assert "no times" in str(facts)
