"""Which column is what, and what ids and times are taken for."""

import datetime as dt
import re

import polars as pl
import pytest

import sasrec
from sasrec.data.columns import choose_columns, read_fields
from sasrec.data.formats import Table
from sasrec.data.log import Columns
from sasrec.errors import DataError
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.recommender import Recommender


def table(*columns, typed=True):
    return Table("a.csv", "csv", columns, typed, lambda wanted: pl.DataFrame())


def choose(*columns, user=None, item=None, time=None, weight=None):
    return choose_columns(table(*columns), user=user, item=item, time=time, weight=weight)


def ids(values, *, typed=True, dtype=None):
    rows = pl.DataFrame({"user": pl.Series(values, dtype=dtype), "item": ["x"] * len(values)})
    fields, _ = read_fields(rows, Columns("user", "item"), table=table("user", "item", typed=typed), time_unit=None)
    return fields["user"]


def times(values, *, unit=None, name="time", dtype=None):
    column = pl.Series(values, dtype=dtype)
    rows = pl.DataFrame({"user": ["u"] * len(values), "item": ["x"] * len(values), name: column})
    fields, unit = read_fields(rows, Columns("user", "item", name), table=table("user", "item", name), time_unit=unit)
    return fields["time"].to_list(), unit


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ("user_id item_id weight datetime", ("user_id", "item_id", "datetime", "weight")),  # RecTools
        ("userID itemID rating timestamp", ("userID", "itemID", "timestamp", "rating")),  # Recommenders
        ("userId movieId rating timestamp", ("userId", "movieId", "timestamp", "rating")),  # MovieLens
        ("reviewerID asin overall unixReviewTime", ("reviewerID", "asin", "unixReviewTime", "overall")),  # Amazon 2014
        ("rating asin parent_asin user_id timestamp", ("user_id", "asin", "timestamp", "rating")),  # Amazon 2023
        ("timestamp visitorid event itemid", ("visitorid", "itemid", "timestamp", None)),  # RetailRocket
        ("session aid ts type", ("session", "aid", "ts", None)),  # OTTO
        ("session_id user_id item_id", ("user_id", "item_id", None, None)),
        ("user item order", ("user", "item", "order", None)),
        ("user item order timestamp", ("user", "item", "timestamp", None)),
    ],
)
def test_usual_names_are_recognised(columns, chosen):
    assert choose(*columns.split()) == Columns(*chosen)


def test_names_with_spaces_are_recognised():
    assert choose("Invoice", "StockCode", "InvoiceDate", "Customer ID") == Columns(
        "Customer ID", "StockCode", "InvoiceDate"
    )


def test_named_columns_come_first_and_an_empty_name_takes_none():
    chosen = choose("who", "user", "item", "time", "rating", user="who", time="", weight="")

    assert chosen == Columns("who", "item")


@pytest.mark.parametrize(
    ("columns", "named", "message"),
    [
        ("ada film1 2024-03-01", {}, "the first line looks like data: add a header line"),
        ("ada film1 2024-03-01T10:00:00Z", {}, "the first line looks like data: add a header line"),
        ("ada film1 31/12/2024", {}, "the first line looks like data: add a header line"),
        ("user_id thing", {}, "no column has a usual name of an item; columns are user_id, thing"),
        (
            "user_id movie timestamp",
            {"user": "user"},
            "a.csv: no column 'user'; columns are user_id, movie, timestamp; pass user=\"user_id\"",
        ),
        ("a b c", {"user": "zzz"}, "a.csv: no column 'zzz'; columns are a, b, c; pass user=\"...\" with one of them"),
        ("who item", {}, 'a.csv: no column has a usual name of a user; columns are who, item; pass user="..."'),
        ("user_id userId item", {}, 'user_id, userId could each be the user; pass user="user_id" or user="userId"'),
        ("user item date time", {}, 'date, time could each be the time; pass time="date" or time="time"'),
        ("user item", {"user": "item"}, "column 'item' cannot be both user and item"),
        ("A39HTATAQ9V7YF 0205616461 5.0 1369699200", {}, "the first line looks like data: add a header line"),
        ("user item", {"time": "when"}, "no column 'when'"),
    ],
)
def test_a_column_that_cannot_be_told_is_asked_for(columns, named, message):
    with pytest.raises(DataError, match=re.escape(message)):
        choose(*columns.split(), **named)


def test_names_that_hold_a_number_beside_other_words_are_no_data():
    with pytest.raises(DataError, match=r'pass user="\.\.\."$'):
        choose("who2", "2024 sales", "v1.0")


def test_a_name_that_holds_a_comma_is_told_from_two():
    with pytest.raises(DataError, match=re.escape("columns are who, 'game, title', ' when'; pass user")):
        choose("who", "game, title", " when")


@pytest.mark.parametrize(
    "values",
    [
        ["007", "7"],
        ["NA", "null", "nan", "None", "true"],
        ["1e5", "1"],
        ["-0", "0"],
        ["+1", "1"],
        [" 1", "1"],
        ["1.0", "1"],
        ["18446744073709551616"],
        ["-1", "18446744073709551615"],
        ["\u0661", "1"],
        ["e\u0301", "\u00e9"],
    ],
)
def test_untyped_ids_that_are_not_all_plain_integers_stay_text(values):
    assert ids(values, typed=False).to_list() == values


@pytest.mark.parametrize(
    "values",
    [[0, -5, 9007199254740993], [-(2**63), 2**63 - 1], [0, 2**64 - 1]],
)
def test_untyped_plain_integers_become_integers_exactly(values):
    found = ids([str(one) for one in values], typed=False)

    assert found.dtype.is_integer()
    assert found.to_list() == values


def test_text_of_a_typed_source_stays_text():
    assert ids(["1", "2"]).to_list() == ["1", "2"]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([3, 1], pl.Int8, [3, 1]),
        ([3, None], pl.UInt64, [3, None]),
        ([2**64 - 1], pl.Int128, [2**64 - 1]),
        ([3.0, None, float("nan"), -1.0], pl.Float64, [3, None, None, -1]),
        ([2.0**24 - 1, None, float("nan")], pl.Float32, [2**24 - 1, None, None]),
        (["b", "a", ""], pl.Categorical, ["b", "a", None]),
        (["b", "a"], pl.Enum(["b", "a"]), ["b", "a"]),
    ],
)
def test_typed_ids_keep_their_values(values, dtype, expected):
    assert ids(values, dtype=dtype).to_list() == expected


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([1.5, 2.0], None, "ids are numbers with a fraction or beyond 2^53"),
        ([2.0**53], None, "ids are numbers with a fraction or beyond 2^53"),
        ([2.0**24], pl.Float32, "ids are numbers with a fraction or beyond 2^24"),
        ([2.0**11], pl.Float16, "ids are numbers with a fraction or beyond 2^11"),
        ([float("inf")], None, "ids are numbers with a fraction or beyond 2^53"),
        ([2**64], pl.Int128, "ids do not fit 64-bit integers"),
        ([True, False], None, "ids must be text or integers, found Boolean"),
        ([dt.date(2024, 1, 1)], None, "ids must be text or integers, found Date"),
        (["a", "b\0c"], None, "an id holds a NUL character in row 2, or in JSON half of a surrogate pair"),
        (["é" * 2048, "é" * 2049], None, "an id is longer than 4,096 bytes in row 2"),
    ],
)
def test_values_that_name_nothing_are_refused_as_ids(values, dtype, message):
    with pytest.raises(DataError, match=re.escape(f"a.csv, column 'user': {message}")):
        ids(values, dtype=dtype)


@pytest.mark.parametrize(
    ("values", "expected", "unit"),
    [
        ([1700000000, 1700000001], [1700000000, 1700000001], "s"),
        ([1700000000123], [1700000000123], "ms"),
        ([1700000000123456], [1700000000123456], "us"),
        ([1700000000123456789], [1700000000123456789], "ns"),
        ([1, 2, 30], [1, 2, 30], "steps"),
        ([1700000000.0, 1700000001.0], [1700000000, 1700000001], "s"),
        ([1700000000.5, float("nan"), float("inf"), None], [1700000000.5, None, None, None], "s"),
        (["1700000000", "", "abc", None], [1700000000, None, None, None], "s"),
        (["1700000000.0", "1.7e9", "nan", "-inf"], [1700000000, 1700000000, None, None], "s"),
        (["1700000000123456789", "NA"], [1700000000123456789, None], "ns"),
        (["1970-01-02", "1970-01-01"], [86_400_000_000, 0], "us"),
        (["1970-01-01 00:01", "1970-01-01 00:00"], [60_000_000, 0], "us"),
        (["1970-01-01T00:00:01", "1970-01-01T00:00:00.5"], [1_000_000, 500_000], "us"),
        (["1970-01-01T00:00:01Z", "1970-01-01T01:00:00+01:00"], [1_000_000, 0], "us"),
        (["1970-01-01 00:00:01-0100", "1970-01-01 00:00:00+00"], [3_601_000_000, 0], "us"),
        (["1970-01-01", "1970-02-30", "yesterday", ""], [0, None, None, None], "us"),
        ([dt.date(1970, 1, 2), None], [86_400_000_000, None], "us"),
        ([dt.datetime(1970, 1, 1, 0, 0, 1)], [1_000_000], "us"),
        ([dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))], [0], "us"),
    ],
)
def test_times_are_read_with_their_unit(values, expected, unit):
    assert times(values) == (expected, unit)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([2**62, 1]).cast(pl.Datetime("ms")),
        pl.Series([2**62, 1]).cast(pl.Datetime("ms", "UTC")),
        pl.Series([-(2**31), 0], dtype=pl.Int32).cast(pl.Date),
    ],
)
def test_a_date_that_no_calendar_has_is_no_time(column):
    assert times(column)[0] == [None, column.to_physical()[1] * 1000]


def test_nanoseconds_are_kept_where_they_tell_events_apart():
    apart = pl.Series([1, 2]).cast(pl.Datetime("ns"))
    whole = pl.Series([1000, 2000]).cast(pl.Datetime("ns"))

    assert times(apart) == ([1, 2], "ns")
    assert times(whole) == ([1, 2], "us")


@pytest.mark.parametrize(
    ("values", "expected", "unit"),
    [
        (["1970-01-01T00:00:00.000000002Z", "1970-01-01T00:00:00.1Z"], [2, 100_000_000], "ns"),
        (["1970-01-01 00:00:00.000001000", "1970-01-01 00:00:00"], [1, 0], "us"),
        (["1970-01-01 00:00:00.0000001", "1677-01-01 00:00:00", "2263-01-01 00:00:00"], [100, None, None], "ns"),
        (["1700000000123456788.0", "1700000000123456789"], [1700000000123456788, 1700000000123456789], "ns"),
        (["1.7e18", "1700000000000000001", "x"], [1700000000000000000, 1700000000000000001, None], "ns"),
    ],
)
def test_nanoseconds_of_a_text_are_exact(values, expected, unit):
    assert times(values) == (expected, unit)


def test_a_named_unit_overrules_the_guess():
    assert times([5, 1700000000], unit="s") == ([5, 1700000000], "s")


@pytest.mark.parametrize(
    "values",
    [
        ["31/12/2024 8:05", "1/2/2025 23:59"],
        ["31.12.2024 08:05", "01.02.2025 23:59"],
        ["31-12-2024 08:05", "01-02-2025 23:59"],
        ["12/31/2024 8:05", "2/1/2025 23:59"],
        ["2024/12/31 08:05", "2025/2/1 23:59"],
        ["2024-12-31 8:05", "2025-2-1 23:59"],
    ],
)
def test_dates_of_spreadsheets_are_read_where_one_number_can_only_be_the_day(values):
    expected = [dt.datetime(2024, 12, 31, 8, 5), dt.datetime(2025, 2, 1, 23, 59), None]

    found, unit = times([*values, None])

    assert (found, unit) == (pl.Series(expected, dtype=pl.Datetime("us")).to_physical().to_list(), "us")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("day-first", [dt.datetime(2024, 4, 3, 10, 5), dt.datetime(2024, 12, 1)]),
        ("month-first", [dt.datetime(2024, 3, 4, 10, 5), dt.datetime(2024, 1, 12)]),
    ],
)
@pytest.mark.parametrize("mark", ["/", ".", "-"])
def test_a_date_without_a_number_above_12_is_read_as_it_was_said_to_begin(order, expected, mark):
    found, unit = times([f"03{mark}04{mark}2024 10:05", f"1{mark}12{mark}2024 0:00"], unit=order)

    assert (found, unit) == (pl.Series(expected, dtype=pl.Datetime("us")).to_physical().to_list(), "us")


@pytest.mark.parametrize("order", ["day-first", "month-first"])
def test_dates_that_begin_with_the_year_need_no_order_and_may_have_one(order):
    assert times(["2024-03-04"], unit=order) == times(["2024/3/4"], unit=order) == times(["2024-03-04"])
    assert times([dt.date(2024, 3, 4)], unit=order) == times(["2024-03-04"])


def test_dates_with_the_zone_utc_behind_them_are_read():
    given = ["2024-03-01 10:00:00 UTC", "2024-03-01 10:00:00.25 UTC", None, "now UTC"]

    assert times(given) == times(["2024-03-01T10:00:00Z", "2024-03-01T10:00:00.25Z", None, "now"])
    assert times(["31/12/2024 8:05 UTC"]) == times(["2024-12-31T08:05Z"])


@pytest.mark.parametrize("half", [" AM| PM", " am| pm", "AM|PM"])
def test_clocks_of_twelve_hours_are_read(half):
    early, late = half.split("|")
    given = [f"3/14/2024 1:05{late}", f"3/14/2024 12:00{late}", f"3/14/2024 12:59{early}", f"3/14/2024 11:05{early}"]

    assert times(given) == times([f"2024-03-14 {clock}" for clock in ("13:05", "12:00", "00:59", "11:05")])
    assert times([f"3/14/2024, 1:05:09{late}"]) == times(["2024-03-14 13:05:09"])


def test_a_clock_of_twelve_hours_without_its_half_or_beyond_twelve_is_no_time():
    given = ["3/14/2024 1:05 PM", "3/14/2024 1:05", "3/14/2024 13:05 PM", "3/14/2024 0:05 AM", None]

    assert times(given)[0] == [*times(["2024-03-14 13:05"])[0], None, None, None, None]


def test_a_day_that_no_month_has_is_no_time():
    assert times(["31/02/2024", "28/02/2024"])[0] == [None, 1_709_078_400_000_000]


def test_an_order_column_is_a_place_and_no_date():
    assert times([0, 1, 2], name="order") == ([0, 1, 2], "order")


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        ([1700000000, 1700000000123], None, "the smallest time, 1700000000, looks like s and the largest,"),
        ([0, 1700000000], None, 'pass e.g. time_unit="s"'),
        (["2024-01-01", "1700000000"], None, "mixes dates and numbers, e.g. '2024-01-01' and '1700000000'"),
        (["2024-01-01", "2024-01-01 10:00"], None, "mixes forms of dates, e.g. '2024-01-01' and '2024-01-01 10:00'"),
        (["2024-01-01 10:00Z", "2024-01-01 10:00"], None, "all with a zone or none"),
        (["31 Dec 2024"], None, "times such as '31 Dec 2024' are neither numbers nor dates like 2024-12-31"),
        (["2024-1-2 3:04:05.6"], None, "times such as '2024-1-2 3:04:05.6' are neither"),
        (["03/04/2011 08:26", "12/12/2011 09:00"], None, "'03/04/2011 08:26' may begin with the day or with the month"),
        (
            ["1/4/2011", "13/4/2011", "4/13/2011"],
            None,
            "'13/4/2011' begins with the day and '4/13/2011' with the month",
        ),
        (["13/4/2011", "14/4/2011 9:00"], None, "mixes forms of dates, e.g. '13/4/2011' and '14/4/2011 9:00'"),
        (["3/4/2024"], None, 'pass time_unit="day-first" or time_unit="month-first"'),
        (["3/4/2024 1:05 PM"], None, "'3/4/2024 1:05 PM' may begin with the day or with the month"),
        (["13/4/2011"], "month-first", "'13/4/2011' is day-first, not month-first; leave time_unit='month-first' out"),
        (["4/13/2011"], "day-first", "'4/13/2011' is month-first, not day-first; leave time_unit='day-first' out"),
        ([1700000000], "day-first", "holds numbers, which begin with no day or month"),
        (["2024-01-01"], "s", "holds dates, which have no unit to choose"),
        ([1], "min", "unknown time unit 'min'; units are s, ms, us, ns, steps, order, and of dates day"),
        ([True], None, "times must be numbers or dates, found Boolean"),
        ([dt.timedelta(1)], None, "times must be numbers or dates, found Duration"),
    ],
)
def test_times_that_cannot_be_told_are_refused(values, unit, message):
    with pytest.raises(DataError, match=re.escape(message)):
        times(values, unit=unit)


def test_a_unit_needs_a_time_column():
    with pytest.raises(DataError, match=re.escape("time_unit='s' without a time column")):
        read_fields(pl.DataFrame({"u": ["a"], "i": ["x"]}), Columns("u", "i"), table=table("u", "i"), time_unit="s")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.String])
def test_a_time_too_large_to_reckon_with_is_none(dtype, sign):
    fits, beyond = 2**62 - 2**10, 2**62 - 1  # as floats, the second is 2 ** 62 itself

    given = pl.Series([sign * fits, sign * beyond, sign * 2**62, sign * (2**63 - 1)]).cast(dtype)
    found, _ = times(given, unit="steps")

    assert found == [sign * fits, None, None, None]


def test_an_instant_too_late_to_reckon_with_is_none():
    given = pl.Series([1, 2**62 - 2**10 + 1, 2**62]).cast(pl.Datetime("ns"))

    assert times(given) == ([1, 2**62 - 2**10 + 1, None], "ns")
    assert times(pl.Series([0, 2**62]).cast(pl.Datetime("us"))) == ([0, None], "us")


def test_every_time_that_a_log_can_hold_is_one_that_a_saved_model_can(tmp_path):
    rows = pl.DataFrame({"user": ["a", "a", "a"], "item": ["x", "y", "x"], "time": [1 - 2**62 + 2**9, 0, 2**62 - 2**9]})
    log = sasrec.read_log(rows, time_unit="steps")
    scorer = Popularity.of(log.histories, items=len(log.items))

    Recommender(scorer, users=log.users, items=log.items, histories=log.histories).save(tmp_path / "m")

    assert sasrec.load(tmp_path / "m").histories.times.tolist() == log.histories.times.tolist()


@pytest.mark.parametrize(
    "text", ["２０２４-01-05", "2024-01-05T１０:00", "２０２４/1/5", "5/１/2024", "٢٠٢٤-٠١-٠٥", "１２"]
)
def test_digits_of_other_scripts_make_no_times(text):
    with pytest.raises(DataError, match="are neither numbers nor dates"):
        times([text, text])

    assert times(["2024-01-05", text])[0][1] is None


def test_digits_of_other_scripts_make_no_integer_ids():
    assert ids(["1", "１２"], typed=False).to_list() == ["1", "１２"]


def test_times_that_share_a_float_of_32_bits_are_refused():
    with pytest.raises(DataError, match=r"times are Float32 beyond 2\^24, where it has one number for several times"):
        times([1_700_000_000, 1_700_000_001], dtype=pl.Float32)


def test_times_that_a_float_of_32_bits_tells_apart_are_read():
    found, unit = times([2.0**24 - 1, 0.5, float("inf")], dtype=pl.Float32)

    assert (found, unit) == ([2.0**24 - 1, 0.5, None], "steps")
