"""Events added to a log are what they would be as further rows of its file."""

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.data.filters import Filters
from sasrec.data.merging import merge
from sasrec.errors import DataError

START = 1_700_000_000  # seconds since 1970


def frame(*events):
    """Events as (user, item, seconds since 1970)."""
    rows = [(user, item, round(when * 1_000_000)) for user, item, when in events]
    return pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")


def log_with(rows, *, unit="s", **options):
    """A log of (user, item, seconds since 1970) whose file counts in a unit."""
    times = [row[2] * {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit] for row in rows]
    columns = {"user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows], "timestamp": times}
    return sasrec.read_log(pl.DataFrame(columns, strict=False), **options)


def history(log, user):
    return log.items.raw(log.histories[int(log.users.rows([user])[0])]).to_list()


ROWS = [(f"u{n % 7}", f"i{(n * n) % 11}", START + 10 * n - n % 3) for n in range(60)]
LATER = [(f"u{n % 9}", f"i{(n * 5) % 13}", START + 7 * n + 302) for n in range(50)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(user_core=6, item_core=6),
        Filters(duplicates="first"),
        Filters(duplicates="last", user_core=4),
    ],
)
def test_a_log_with_events_is_the_log_of_a_file_with_their_rows(unit, filters):
    expected = log_with([*ROWS, *LATER], unit=unit, filters=filters)

    found = merge(log_with(ROWS, unit=unit), frame(*LATER), filters=filters)

    assert found.content_hash == expected.content_hash
    assert found.source.rows_read == expected.source.rows_read == 110
    assert found.source.dropped == expected.source.dropped


def test_an_event_before_all_nanoseconds_is_as_early_as_a_saved_model_takes():
    found = merge(log_with(ROWS, unit="ns"), frame(("new", "novel", -1e11)))

    assert -(2**62) < found.histories.times.min() < -(2**62) + 10**9


def test_times_with_a_fraction_keep_it():
    rows = [("a", "x", START + 0.25), ("a", "y", START + 0.75)]

    found = merge(log_with(rows), frame(("a", "z", START + 0.5)))

    assert history(found, "a") == ["x", "z", "y"]
    assert found.content_hash == log_with([*rows, ("a", "z", START + 0.5)]).content_hash


def test_a_late_event_stands_where_its_time_puts_it_and_after_rows_of_that_time():
    log = log_with([("a", "x", START), ("a", "y", START + 10), ("a", "z", START + 20)])

    found = merge(log, frame(("a", "first", START - 5), ("a", "tie", START + 10.5), ("a", "last", START + 21)))

    assert history(found, "a") == ["first", "x", "y", "tie", "z", "last"]


@pytest.mark.parametrize("how", ["none", "steps", "order"])
def test_events_come_after_a_log_without_times_or_with_a_clock_of_its_own(how):
    rows = {"user_id": ["a", "b", "a"], "item_id": ["x", "x", "y"], "timestamp": [5, 900, 7]}
    unit = None if how == "none" else how
    log = sasrec.read_log(pl.DataFrame(rows), time="" if how == "none" else None, time_unit=unit)

    found = merge(log, frame(("a", "z", -4.0), ("a", "x", 6.0), ("b", "z", 5.0)))

    assert history(found, "a") == ["x", "y", "z", "x"]
    assert history(found, "b") == ["x", "z"]
    if how != "none":  # the events have an order between users too, which a split by time needs
        times = {(u, i): t for u, i, t in zip("aaaabb", "xyzxxz", found.histories.times.tolist(), strict=True)}
        assert sorted(found.histories.times.tolist())[-3:] == [times["a", "z"], times["b", "z"], times["a", "x"]]


def test_an_event_with_user_item_and_time_of_a_row_is_that_row():
    log = log_with([("a", "x", START), ("a", "y", START + 1)])

    found = merge(
        log,
        frame(
            ("a", "x", START),
            ("a", "y", START + 1.5),
            ("a", "x", START + 1),
            ("b", "x", START),
        ),
    )

    assert history(found, "a") == ["x", "y", "x"]
    assert history(found, "b") == ["x"]
    assert found.source.dropped == {"events that are rows already": 2}
    assert found.source.rows_read - 2 == len(found.histories.items)


def test_a_row_without_a_time_is_never_an_event_again():
    log = sasrec.read_log(pl.DataFrame({"user_id": ["a"], "item_id": ["x"]}))

    assert history(merge(log, frame(("a", "x", START))), "a") == ["x", "x"]


def test_rows_of_users_who_were_forgotten_are_left_out_and_their_later_events_are_not():
    log = log_with([("a", "x", START), ("b", "y", START), ("c", "only", START)])

    found = merge(log, frame(("a", "z", START + 1)), without={"a": 1, "c": 2})

    assert history(found, "a") == ["z"]
    assert found.users.ids.to_list() == ["a", "b"]
    assert found.items.ids.to_list() == ["y", "z"]
    assert found.source.dropped == {"of users who were forgotten": 2}


def test_a_log_of_forgotten_users_alone_is_an_error():
    with pytest.raises(DataError, match="no event is left; left out of 1 row: 1 of users who were forgotten"):
        merge(log_with([("a", "x", START)]), frame(), without=["a"])


def test_no_events_leave_the_log_as_it_is():
    log = log_with(ROWS)

    assert merge(log, frame()).content_hash == log.content_hash


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64])
def test_integers_stay_integers(dtype):
    large = 2**63 + 5 if dtype == pl.UInt64 else -5
    rows = pl.DataFrame({"user_id": [1, 2], "item_id": pl.Series([7, large], dtype=dtype)})

    found = merge(sasrec.read_log(rows), frame(("3", str(large), 0), ("1", "8", 0)))

    assert found.users.ids.to_list() == [1, 2, 3]
    assert sorted(found.items.ids) == sorted([7, 8, large])
    assert history(found, 3) == [large]
    assert found.source.notes == ()


@pytest.mark.parametrize("odd", ["007", "+7", " 7", "7.0", "guest", "", str(2**64)])
def test_one_id_that_is_no_integer_makes_text_of_all_and_is_named(odd):
    log = sasrec.read_log(pl.DataFrame({"user_id": [1, 2], "item_id": [7, 8]}))

    found = merge(log, frame(("1", "7", 0), ("1", odd, 1)))

    assert found.users.integer
    assert history(found, 1) == ["7", "7", odd]
    assert found.source.notes == (f"item ids were integers and are text now, as an event has {odd!r}",)


def test_an_event_weighs_as_much_as_the_median_of_what_counts():
    rows = {"user_id": list("aabbb"), "item_id": list("xyxyz"), "rating": [1.0, 4.1, 5.0, 4.5, 2.0]}
    log = sasrec.read_log(pl.DataFrame(rows))

    found = merge(log, frame(("a", "z", 0)), filters=Filters(min_weight=4.1))

    assert history(found, "a") == ["y", "z"]
    assert history(found, "b") == ["x", "y"]
    assert np.allclose(found.histories.weights, [4.1, 4.5, 5.0, 4.5])
