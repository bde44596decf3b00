"""What trains, what validates and what tests never overlap, and nobody learns from what comes later."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sasrec
from sasrec.errors import ConfigError, DataError, UnknownIdError

histories = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8), min_size=1, max_size=8)
timed = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=2, max_size=60)


def numbered(lists):
    return {user: [item + 100 for item in items] for user, items in enumerate(lists)}


def raw(log, sequence):
    return log.items.raw(sequence).to_list()


def targets(data, part):
    return {int(user): int(target) for user, target in zip(part.users, part.targets, strict=True)}


def timed_log(events):
    """A log whose items are all different, so that each event can be told; times as given."""
    rows = [(user, number, time) for number, (user, time) in enumerate(events)]
    return sasrec.read_log(
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"), time_unit="steps"
    )


# Each user's last item


@given(lists=histories.filter(lambda lists: any(len(one) > 2 for one in lists)))
@settings(max_examples=50)
def test_the_last_event_tests_the_one_before_validates_and_the_rest_trains(log_of, lists):
    log = log_of(numbered(lists))

    data = sasrec.split(log)

    rows = [[log.items.rows([item + 100])[0] for item in one] for one in lists]
    long = [user for user, one in enumerate(lists) if len(one) >= 3]
    assert [data.train[user].tolist() for user in range(len(lists))] == [
        one[:-2] if len(one) >= 3 else one for one in rows
    ]
    for part, place in ((data.valid, -2), (data.test, -1)):
        assert part.users.tolist() == long
        assert part.targets.tolist() == [rows[user][place] for user in long]
        assert [part.histories[at].tolist() for at in range(len(part))] == [rows[user][:place] for user in long]


@pytest.mark.parametrize(("length", "trains", "tested"), [(1, 1, False), (2, 2, False), (3, 1, True), (4, 2, True)])
def test_a_user_of_three_events_is_tested_and_a_shorter_one_lends_everything(log_of, length, trains, tested):
    data = sasrec.split(log_of({"ada": ["x", "y", "z", "w"][:length], "bob": ["w", "z", "y"]}))

    assert data.train.lengths[0] == trains
    assert (0 in data.test.users) == (0 in data.valid.users) == tested


def test_a_notebook_shows_the_text_of_a_split(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "z"]}))

    assert repr(data) == str(data)
    assert repr(data).startswith("split: each user's last event is the test")


def test_the_text_of_a_split_counts_everybody(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "z", "w"], "bob": ["x", "y"], "cyd": ["z"]}))

    assert str(data).splitlines() == [
        "split: each user's last event is the test, the one before it the validation",
        "train: 5 events of 3 users",
        "valid: 1 user   test: 1 user   not tested: 2 users (too short; they still train)",
    ]


def test_the_text_of_a_split_with_new_items_does_not_say_that_everybody_trains(log_of):
    log = log_of({f"u{user}": [f"i{(user + step) % 7}" for step in range(3)] for user in range(20)})

    held = sasrec.hold_out_items(sasrec.split(log), 0.4, seed=1)

    trains = int((held.train.lengths > 0).sum())
    assert trains < 20
    assert f"train: {len(held.train.items)} events of {trains} users" in str(held)
    assert str(held).endswith("(too short without the new items)")


@pytest.mark.parametrize("share", [0.07, 0.1, 0.28, 0.29, 0.31, 0.34, 0.47])
@pytest.mark.parametrize("events", [100, 1000])
def test_a_share_of_a_round_number_of_events_is_exact(share, events):
    data = sasrec.split(timed_log([(f"u{time % 5}", time) for time in range(events)]), "time", share=share)

    tested = round(events * share)
    assert int((data.log.histories.lengths - data.before_test).sum()) == tested
    assert int((data.before_test - data.train_lengths).sum()) == -(-round((events - tested) * share, 6) // 1)


def test_the_text_of_a_split_by_time_says_why_users_are_not_tested():
    # Of ten events the last is the test, by ada; bob is over before, cyd has nothing but that.
    data = sasrec.split(
        timed_log([("ada", 1), *(("bob", time) for time in range(2, 9)), ("ada", 10), ("cyd", 10)]), "time"
    )

    assert str(data).endswith("not tested: 2 users (no test event, or none before it)")


def test_what_one_user_lends_can_be_looked_at(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "z", "w"], "bob": ["x", "y"]}))

    assert data.of_user("ada") == {"train": ["x", "y"], "valid": ["z"], "test": ["w"]}
    assert data.of_user("bob") == {"train": ["x", "y"], "valid": [], "test": []}
    with pytest.raises(UnknownIdError, match="1 unknown user: 'eve'"):
        data.of_user("eve")


# A point in time


@given(events=timed, share=st.sampled_from([0.05, 0.1, 0.3, 0.49]))
@settings(max_examples=80)
def test_training_ends_before_validation_and_validation_before_the_test(events, share):
    log = timed_log(events)
    times = sorted(time for _, time in events)
    test_from = times[int(len(times) * (1 - share))]
    before = [time for time in times if time < test_from]
    valid_from = before[int(len(before) * (1 - share))] if before else test_from
    # By hand, from the definition: for each user, events in order of time, rows in ties.
    ordered = {}
    for number, (user, time) in sorted(enumerate(events), key=lambda one: one[1][1]):
        ordered.setdefault(user, []).append((time, number))
    expected = {"train": {}, "valid": {}, "test": {}}
    for row, user in enumerate(sorted(ordered)):
        items = [number for _, number in ordered[user]]
        whens = [time for time, _ in ordered[user]]
        expected["train"][row] = [item for item, time in zip(items, whens, strict=True) if time < valid_from]
        for part, start, end in (("valid", valid_from, test_from), ("test", test_from, np.inf)):
            places = [place for place, time in enumerate(whens) if start <= time < end]
            if places and places[-1] > 0:
                expected[part][row] = (items[: places[-1]], items[places[-1]])

    if not expected["test"]:
        with pytest.raises(DataError, match="nobody can be tested"):
            sasrec.split(log, how="time", share=share)
        return
    data = sasrec.split(log, how="time", share=share)

    assert {row: raw(log, data.train[row]) for row in range(len(log.users))} == expected["train"]
    for name in ("valid", "test"):
        part = getattr(data, name)
        found = {
            int(user): (raw(log, part.histories[at]), log.items.ids[int(part.targets[at])])
            for at, user in enumerate(part.users)
        }
        assert found == expected[name]


def test_the_shares_are_those_of_the_events():
    data = sasrec.split(timed_log([(step % 10, step) for step in range(1_000)]), how="time", share=0.2)

    assert int(data.train_lengths.sum()) == 640
    assert data.rule == "events from 640 on are the validation, from 800 on the test"


def test_a_time_split_needs_times(log_of):
    with pytest.raises(DataError, match="a split by time needs times, and this log has none; use how='last-item'"):
        sasrec.split(log_of({"ada": ["x", "y", "z"]}), how="time")


def test_places_in_each_users_own_history_are_no_times_to_split_by():
    log = sasrec.read_log(pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "order": [1, 2, 1]}))

    with pytest.raises(DataError, match="its times are places in each user's own history, which no two users share"):
        sasrec.split(log, how="time")


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, -0.1, float("nan"), float("inf"), True, "a", None])
def test_a_share_lies_between_nothing_and_a_half(share):
    with pytest.raises(ConfigError, match=r"share: expected a number > 0 and < 0\.5, found"):
        sasrec.split(timed_log([(step % 10, step) for step in range(100)]), how="time", share=share)


# Either way


def test_only_two_ways_to_split_exist(log_of):
    with pytest.raises(ConfigError, match="how: expected 'last-item' or 'time', found 'random'"):
        sasrec.split(log_of({"ada": ["x", "y", "z"]}), how="random")


def test_a_log_that_can_test_nobody_is_refused(log_of):
    with pytest.raises(DataError, match=r"nobody can be tested with how='last-item': 2 users.* a user needs 3 events"):
        sasrec.split(log_of({"ada": ["x", "y"], "bob": ["x"]}))


def test_equal_splits_have_one_name_and_others_another(log_of):
    rows = {"ada": ["x", "y", "z"], "bob": ["x", "z", "y"]}
    first, again = sasrec.split(log_of(rows)), sasrec.split(log_of(rows))
    other = sasrec.split(log_of(rows | {"bob": ["x", "y", "z"]}))
    whole = timed_log([(step % 10, step) for step in range(100)])
    times = [sasrec.split(whole, how="time", share=share).fingerprint for share in (0.1, 0.2)]

    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, other.fingerprint, sasrec.split(whole).fingerprint, *times}) == 5


def test_splits_whose_boundaries_differ_by_less_than_a_unit_have_names_of_their_own():
    log = timed_log([(step % 10, 964_000_000 + step / 1_000) for step in range(100)])

    first, other = (sasrec.split(log, how="time", share=share) for share in (0.1, 0.2))

    assert first.fingerprint != other.fingerprint
    assert "(964000000.09)" in first.rule


# Folds


def log_with_times(users=12, events=400):
    rng = np.random.default_rng(6)
    rows = [(f"u{user}", f"i{item}", when) for when, (user, item) in enumerate(rng.integers(0, users, (events, 2)))]
    return sasrec.read_log(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))


def test_folds_test_one_period_after_another_and_train_on_what_came_before():
    log = log_with_times()

    made = sasrec.folds(log, 3, share=0.25)

    # 400 events at the times 0 to 399: three periods of 100, validated on a quarter of what precedes.
    owners, times = log.histories.owners(), log.histories.times
    for fold, (start, stop) in zip(made, ((100, 200), (200, 300), (300, 400)), strict=True):
        valid_from = start * 3 // 4
        for user in range(len(log.users)):
            own = times[owners == user]
            assert fold.train_lengths[user] == (own < valid_from).sum()
            tested = np.flatnonzero((own >= start) & (own < stop))
            assert fold.test_at[user] == (tested[-1] if len(tested) else -1)
            validated = np.flatnonzero((own >= valid_from) & (own < start))
            assert fold.valid_at[user] == (validated[-1] if len(validated) else -1)


def test_the_last_fold_is_the_split_by_time():
    log = log_with_times()

    last, alone = sasrec.folds(log, 4, share=0.15)[-1], sasrec.split(log, how="time", share=0.15)

    assert last.fingerprint == alone.fingerprint
    for name in ("train_lengths", "valid_at", "test_at"):
        np.testing.assert_array_equal(getattr(last, name), getattr(alone, name))


def test_folds_have_fingerprints_of_their_own():
    assert len({fold.fingerprint for fold in sasrec.folds(log_with_times(), 5, share=0.1)}) == 5


@pytest.mark.parametrize(
    ("count", "share", "words"),
    [
        (1, 0.1, "count: expected an integer >= 2, found 1"),
        (True, 0.1, "count: expected an integer >= 2, found True"),
        (2.0, 0.1, "count: expected an integer >= 2, found 2.0"),
        (5, 0.2, "share: 5 test periods of it must fit into the log, found 0.2"),
        (2, 0.0, "share: expected a number > 0 and < 1, found 0.0"),
        (2, float("nan"), "share: expected a number > 0 and < 1, found nan"),
        (2, "0.1", "share: expected a number > 0 and < 1, found '0.1'"),
        (2, True, "share: expected a number > 0 and < 1, found True"),
    ],
)
def test_folds_that_do_not_fit_are_refused(count, share, words):
    with pytest.raises(ConfigError, match=words):
        sasrec.folds(log_with_times(), count, share=share)


def test_folds_need_times(log_of):
    with pytest.raises(DataError, match="needs times"):
        sasrec.folds(log_of({"ada": ["x", "y", "z"]}), 2)


def test_a_period_in_which_nobody_can_be_tested_is_named():
    # The second period holds nothing but the first events of new users.
    rows = [("ada", f"i{when}", when) for when in range(8)] + [(f"new{when}", "i1", when) for when in (8, 9)]
    log = sasrec.read_log(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))

    with pytest.raises(DataError, match="nobody can be tested in period 2 of 2"):
        sasrec.folds(log, 2, share=0.2)


def test_a_share_of_less_than_an_event_is_the_last_event():
    log = timed_log([(step % 4, step) for step in range(40)])

    assert sasrec.split(log, "time", share=1e-9).rule.endswith("from 39 on the test")
    with pytest.raises(DataError, match="nobody can be tested in period 1 of 2"):
        sasrec.folds(log, 2, share=1e-9)
