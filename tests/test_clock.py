"""Times come as numbers in a log's unit, as dates or as their text, and mean the same."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from sasrec.data.clock import in_order, in_unit, now
from sasrec.errors import ConfigError

SPRING = 1_714_564_800  # 2024-05-01T12:00:00Z in seconds since 1970


@pytest.mark.parametrize(("unit", "each"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize(
    "when",
    [
        "2024-05-01T12:00",
        "2024-05-01 12:00:00Z",
        "2024-05-01T14:00+02:00",
        datetime(2024, 5, 1, 12),
        datetime(2024, 5, 1, 12, tzinfo=UTC),
        datetime(2024, 5, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
        np.datetime64("2024-05-01T12"),
        np.datetime64("2024-05-01T12:00:00.000000000"),
        pd.Timestamp("2024-05-01T14:00+02:00"),
    ],
)
def test_a_date_is_the_same_moment_in_every_unit(when, unit, each):
    assert in_unit(when, unit, name="at") == SPRING * each


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "steps"])
@pytest.mark.parametrize("when", [7, 7.9, "7", "7.9", np.int64(7), np.float32(7.5)])
def test_a_number_is_taken_in_the_unit_of_the_log(when, unit):
    assert in_unit(when, unit, name="at") == 7


def test_no_digit_of_a_large_number_is_lost():
    assert in_unit("1714564800123456789", "ns", name="at") == 1_714_564_800_123_456_789


@pytest.mark.parametrize("when", ["2300-01-01", datetime(1500, 1, 1), date(9999, 1, 1), np.datetime64("2300-01-01")])
def test_a_date_beyond_what_a_log_holds_is_refused(when):
    with pytest.raises(ConfigError, match=r"at: expected a number \(ns\) or a date"):
        in_unit(when, "ns", name="at")


@pytest.mark.parametrize("kind", [pd.Timestamp, np.datetime64])
def test_no_nanosecond_of_a_date_is_lost(kind):
    assert in_unit(kind("2024-05-01T12:00:00.123456789"), "ns", name="at") == SPRING * 10**9 + 123_456_789
    assert in_unit(kind("1969-12-31T23:59:59.999999999"), "ns", name="at") == -1


def test_a_day_is_its_midnight():
    assert in_unit(date(2024, 5, 1), "s", name="at") == SPRING - 12 * 3600


@pytest.mark.parametrize(
    "when",
    [
        *(True, None, "soon", "", float("nan"), float("inf"), 2**63, -(2**62), [1]),
        *(pd.NaT, pd.NA, np.datetime64("NaT"), np.timedelta64(1, "s")),
    ],
)
def test_what_is_no_time_is_refused_with_what_would_be(when):
    with pytest.raises(ConfigError, match=r"at: expected a number \(ms\) or a date such as 2024-05-31T18:00, found"):
        in_unit(when, "ms", name="at")


def test_steps_have_neither_dates_nor_a_now():
    with pytest.raises(ConfigError, match=r"at: expected a number \(steps\), found '2024-05-01'"):
        in_unit("2024-05-01", "steps", name="at")
    with pytest.raises(ConfigError, match="at: the log's times count steps, so nobody knows what is now"):
        now("steps", name="at")


@pytest.mark.parametrize(("unit", "each"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_now_is_between_before_and_after(unit, each):
    before = datetime.now(UTC).timestamp()
    found = now(unit, name="at") / each
    after = datetime.now(UTC).timestamp()

    assert before - 1 <= found <= after + 1


def test_a_history_has_one_time_for_each_event_and_none_before_the_one_before():
    assert in_order(["1970-01-02", 86_400, 90_000.5], "s", events=3).tolist() == [86_400, 86_400, 90_000]
    with pytest.raises(ConfigError, match=r"this model looks at when events happened; give the times \(s\) too"):
        in_order(None, "s", events=2)
    with pytest.raises(ConfigError, match="times: expected one for each of 2 items, found 3"):
        in_order([1, 2, 3], "s", events=2)
    with pytest.raises(ConfigError, match="times: expected the oldest event first"):
        in_order([1, 3, 2], "s", events=3)
