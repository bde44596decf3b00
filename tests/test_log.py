"""A log keeps every id, event and order, and tells what it left out."""

import datetime as dt
import re
import warnings

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sasrec
from sasrec.data.log import Columns
from sasrec.errors import ConfigError, DataError

raw_ids = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12) | st.sampled_from(
    [
        "007",
        "NA",
        "null",
        "nan",
        "None",
        "true",
        "1e5",
        " a",
        "a ",
        "9007199254740993",
        "e\u0301",
        "\u00e9",
        '"',
        ",",
        "\n",
    ]
)
drop = sasrec.Filters(bad_rows="drop")


@pytest.fixture
def write(tmp_path):
    def write(content, name="a.csv"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


def histories(log):
    """Raw user id to raw item ids, oldest first."""
    return {user: log.items.raw(log.histories[row]).to_list() for row, user in enumerate(log.users.ids)}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@given(pairs=st.lists(st.tuples(raw_ids, raw_ids), min_size=1, max_size=20))
def test_text_ids_survive_every_format(tmp_path_factory, suffix, pairs):
    # One id that is no integer makes the column text, whatever the others are.
    pairs = [("text", "text"), *pairs]
    path = tmp_path_factory.mktemp("log") / f"a.{suffix}"
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row")
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](path)
    expected = {}
    for user, item in pairs:
        expected.setdefault(user, []).append(item)

    log = sasrec.read_log(path)

    assert histories(log) == expected


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@given(users=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_integer_ids_survive_every_format(tmp_path_factory, suffix, users):
    path = tmp_path_factory.mktemp("log") / f"a.{suffix}"
    frame = pl.DataFrame({"user": users, "item": range(len(users))}, schema={"user": pl.Int64, "item": pl.Int64})
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](path)

    log = sasrec.read_log(path)

    assert log.users.ids.to_list() == sorted(set(users))


@given(
    pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=20), data=st.data()
)
def test_row_order_does_not_matter_where_times_differ(pairs, data):
    rows = [(user, item, time) for time, (user, item) in enumerate(pairs)]
    shuffled = data.draw(st.permutations(rows))

    logs = [
        sasrec.read_log(pl.DataFrame(one, schema=["user", "item", "time"], orient="row")) for one in (rows, shuffled)
    ]

    assert logs[0].summary().content_hash == logs[1].summary().content_hash


def test_events_of_one_time_keep_the_order_of_the_rows(write):
    log = sasrec.read_log(write("user,item,time\na,9,5\nb,1,5\na,1,5\na,5,4\na,7,5\n"))

    assert histories(log) == {"a": [5, 9, 1, 7], "b": [1]}
    assert log.histories.times.tolist() == [4, 5, 5, 5, 5]


def test_without_times_the_order_of_the_rows_is_the_history(write):
    log = sasrec.read_log(write("user,item,time\na,9,5\na,1,4\n"), time="")

    assert histories(log) == {"a": [9, 1]}
    assert log.histories.times is None
    assert log.source.time_unit is None


def test_a_log_knows_where_it_came_from(write):
    log = sasrec.read_log(write("userId,movieId,rating,timestamp\n1,10,4.5,1700000000\n1,11,3,1600000000\n"))

    assert log.source.name == "a.csv"
    assert log.source.format == "csv"
    assert log.source.frame is None
    assert log.source.columns == Columns("userId", "movieId", "timestamp", "rating")
    assert log.source.time_unit == "s"
    assert log.source.rows_read == 2
    assert log.source.dropped == {}
    assert log.histories.weights.tolist() == [3.0, 4.5]


def test_a_notebook_shows_a_log_in_one_line_and_its_summary_in_words(write):
    log = sasrec.read_log(write("user,item\n" + "".join(f"u{row % 1200},x{row % 7}\n" for row in range(2400))))

    assert repr(log) == str(log) == "Log(1,200 users, 7 items, 2,400 events)"
    assert repr(log.summary()) == str(log.summary())
    assert repr(log.summary()).splitlines()[1] == "1,200 users, 7 items, 2,400 events"


def test_the_summary_counts_what_a_hand_counts(write):
    log = sasrec.read_log(
        write(
            "user,item,time\na,x,2024-01-01\na,y,2024-01-01\na,x,2024-01-03\nb,x,2024-01-03\n\nc,y,2024-01-02\nc,y,2024-01-02\n"
        )
    )

    found = log.summary()

    assert (found.users, found.items, found.events) == (3, 2, 6)
    assert (found.shortest, found.median, found.mean, found.longest) == (1, 2.0, 2.0, 3)
    assert found.ties == 2 / 3
    assert found.repeats == 2
    assert found.span == ("2024-01-01 00:00:00", "2024-01-03 00:00:00")
    assert str(found) == (
        "a.csv (csv): user 'user', item 'item', time 'time'\n"
        "3 users, 2 items, 6 events\n"
        "events a user: 1 to 3, median 2, mean 2.0\n"
        "time: 2024-01-01 00:00:00 to 2024-01-03 00:00:00 (unit us); 66.7% of steps are ties\n"
        "repeats: 2 events (33.3%) with an item the user had before\n"
        "left out of 7 rows: 1 blank\n"
        "note: events with the user, item and time of an earlier row: 1; exported twice, or are times coarse?\n"
        f"content: sha256 {log.content_hash}"
    )


def test_the_content_hash_is_the_same_for_every_format(write, tmp_path):
    frame = pl.DataFrame({"user": ["a", "b"], "item": [3, 4], "time": [1700000000, 1700000001], "rating": [1.5, 2.0]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    write(
        "user:token\titem:token\trating:float\ttime:float\nb\t4\t2.0\t1700000001.0\na\t3\t1.5\t1700000000.0\n",
        "a.inter",
    )

    hashes = {sasrec.read_log(tmp_path / name).content_hash for name in ("a.csv", "a.parquet", "a.jsonl", "a.inter")}

    assert hashes == {sasrec.read_log(frame).content_hash}


@pytest.mark.parametrize(
    "changed",
    [
        {"user": ["a", "c"]},
        {"item": [3, 5]},
        {"item": ["3", "4"]},
        {"item": [4, 3]},
        {"time": [1700000000, 1700000002]},
        {"rating": [1.5, 2.5]},
    ],
)
def test_the_content_hash_tells_different_logs_apart(changed):
    content = {"user": ["a", "b"], "item": [3, 4], "time": [1700000000, 1700000001], "rating": [1.5, 2.0]}

    one, other = (sasrec.read_log(pl.DataFrame(each)) for each in (content, content | changed))

    assert one.content_hash != other.content_hash


@pytest.mark.parametrize(
    ("column", "time_unit", "time", "words"),
    [
        ("time", "s", 1700000000, "2023-11-14 22:13:20"),
        ("time", "ms", 1700000000123, "2023-11-14 22:13:20.123"),
        ("time", None, 1234567, "1,234,567"),
        ("order", None, 3, "3"),
        ("time", "s", 253402300800, "10000-01-01 00:00:00"),
    ],
)
def test_a_time_is_put_in_words_by_its_unit(column, time_unit, time, words):
    log = sasrec.read_log(pl.DataFrame({"user": [1], "item": [1], column: [time]}), time_unit=time_unit)

    assert log.when(time) == words


BAD = "user,item,time,rating\n,x,1,1\na,,2,1\na,x,nan,1\na,x,inf,1\n\na,x,,1\na,x,oops,1\na,x,3,no\na,y,4,1\n"


def test_bad_rows_are_refused_with_their_numbers(write):
    with pytest.raises(DataError) as caught:
        sasrec.read_log(write(BAD), weight="rating")

    assert str(caught.value) == (
        "a.csv: 7 of 9 rows cannot be used: 1 without a user (row 1), 1 without an item (row 2), "
        "4 without a readable, finite time (rows 3, 4, 6, 7), 1 without a readable, finite weight (row 8); "
        'mend them, or pass filters=Filters(bad_rows="drop") to leave them out, '
        'or time="" to do without times, or weight="" to do without weights'
    )


def test_bad_rows_can_be_dropped_and_are_counted(write):
    log = sasrec.read_log(write(BAD), weight="rating", filters=drop)

    assert histories(log) == {"a": ["y"]}
    assert log.source.dropped == {
        "blank": 1,
        "without a user": 1,
        "without an item": 1,
        "without a readable, finite time": 4,
        "without a readable, finite weight": 1,
    }
    assert log.source.rows_read - sum(log.source.dropped.values()) == log.summary().events


def test_a_row_is_blank_only_if_no_column_holds_anything(write):
    content = "user,item,title\na,x,one\n,,two\n,,\n\n"

    log = sasrec.read_log(write(content), filters=drop)

    assert log.source.dropped == {"blank": 2, "without a user": 1}
    with pytest.raises(DataError, match=re.escape("1 of 4 rows cannot be used: 1 without a user (row 2)")):
        sasrec.read_log(write(content))


def test_quotation_marks_around_nothing_are_nothing(write):
    log = sasrec.read_log(write('"user","item","time"\n"a","b","1"\n"","",""\n"a","c","2"\n'))

    assert histories(log) == {"a": ["b", "c"]}
    assert log.source.dropped == {"blank": 1}


def test_a_weight_that_histories_cannot_keep_is_a_bad_row(write):
    with pytest.raises(DataError, match=r"1 without a readable, finite weight \(row 2\)"):
        sasrec.read_log(write("user,item,weight\na,x,1\na,y,1e300\n"), weight="weight")


GAPS = "user,item,rating\n,x,\n\na,x,1\na,y,\na,z,none\na,w,5\n"


def test_weights_with_gaps_that_nobody_asked_for_are_left_unread_and_cost_no_event(write):
    log = sasrec.read_log(write(GAPS), filters=drop)

    assert histories(log) == {"a": ["x", "y", "z", "w"]}
    assert (log.histories.weights, log.source.columns.weight) == (None, None)
    assert log.source.dropped == {"blank": 1, "without a user": 1}
    assert "note: weights in column 'rating' are left unread, as 2 of 6 rows have no readable" in str(log.summary())


@pytest.mark.parametrize("filters", [{}, {"min_weight": 1}])
def test_weights_with_gaps_that_were_asked_for_are_bad_rows(write, filters):
    named = {} if filters else {"weight": "rating"}

    with pytest.raises(DataError, match=r"3 of 6 rows cannot be used: .* 2 without a readable, finite weight"):
        sasrec.read_log(write(GAPS), filters=sasrec.Filters(**filters), **named)

    log = sasrec.read_log(write(GAPS), filters=sasrec.Filters(bad_rows="drop", **filters), **named)
    assert (histories(log), log.histories.weights.tolist()) == ({"a": ["x", "w"]}, [1.0, 5.0])


def test_gaps_in_rows_that_are_left_out_anyway_leave_weights_as_they_are(write):
    log = sasrec.read_log(write("user,item,rating\n,x,\n\na,x,1\n"), filters=drop)

    assert log.histories.weights.tolist() == [1.0]


@pytest.mark.parametrize("times", [["20240101", "20231231"], ["202401011200", "202402282359"], ["20240101120000"] * 2])
def test_dates_that_are_written_as_numbers_are_told(write, times):
    log = sasrec.read_log(write("user,item,time\n" + "".join(f"a,{at},{time}\n" for at, time in enumerate(times))))

    assert any("look like dates written as numbers" in note for note in log.source.notes)


def test_days_as_spreadsheets_count_them_are_told(write):
    log = sasrec.read_log(write("user,item,time\na,x,45366.42\na,y,45367\n"))

    assert log.source.time_unit == "steps"
    (note,) = log.source.notes
    assert note.startswith(
        "times such as 45366.42 look like dates as spreadsheets count them, in days, and are read as"
    )


@pytest.mark.parametrize("times", [["45366", "45367"], ["19999.5", "45366.5"], ["45366.5", "60000.5"], ["0.5", "1.5"]])
def test_other_steps_are_not_taken_for_dates(write, times):
    assert sasrec.read_log(write("user,item,time\n" + "".join(f"a,x{one},{one}\n" for one in times))).source.notes == ()


@pytest.mark.parametrize("times", ["20241301 20240101", "1714564800 1714564801", "1 20240101", "18991231 19000101"])
def test_other_numbers_are_not_taken_for_dates(write, times):
    rows = "".join(f"a,{at},{time}\n" for at, time in enumerate(times.split()))

    log = sasrec.read_log(write("user,item,time\n" + rows), time_unit="s")

    assert not log.source.notes


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["2024-01-02", "2024-01-01"])])
def test_categories_of_dates_are_dates(kind):
    rows = pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": ["2024-01-02", "2024-01-01"]})

    log = sasrec.read_log(rows.with_columns(pl.col("time").cast(kind)))

    assert histories(log) == {"a": ["y", "x"]}


def test_filters_are_no_dictionary(write):
    with pytest.raises(ConfigError, match=r"filters: expected a Filters, found a dict; give sasrec.Filters"):
        sasrec.read_log(write("user,item\na,x\n"), filters={"user_core": 1})


def test_many_bad_rows_are_named_by_the_first_five(write):
    content = "user,item\n" + ",x\n" * 1200 + "a,x\n"

    with pytest.raises(DataError, match=re.escape("1,200 without a user (rows 1, 2, 3, 4, 5 and 1,195 more)")):
        sasrec.read_log(write(content))


def test_an_empty_quoted_id_is_missing(write):
    with pytest.raises(DataError, match=re.escape("1 without a user (row 2)")):
        sasrec.read_log(write('user,item\na,x\n"",y\n'))


@pytest.mark.parametrize("content", ["user,item\n", "user,item", "user,item\n\n"])
def test_a_header_alone_is_refused(write, content):
    with pytest.raises(DataError, match=r"a\.csv: (there are no rows|no event is left)"):
        sasrec.read_log(write(content))


def test_a_list_of_lines_without_events_is_refused(write):
    with pytest.raises(DataError, match="there are no rows"):
        sasrec.read_log(write("\n\n", "a.txt"))


def test_nothing_left_after_dropping_is_refused(write):
    with pytest.raises(DataError, match=re.escape("no event is left; left out of 1 row: 1 without a user")):
        sasrec.read_log(write("user,item\n,x\n"), filters=drop)


def test_ids_that_look_alike_are_kept_apart_and_noted(write):
    log = sasrec.read_log(write("user,item\nbob,caf\u00e9\nbob ,cafe\u0301\n"))

    assert len(log.users) == len(log.items) == 2
    assert log.source.notes == (
        "user ids that differ from another one only in outer spaces or Unicode form: 1",
        "item ids that differ from another one only in outer spaces or Unicode form: 1",
    )
    assert "note: user ids that differ" in str(log.summary())


def test_ids_with_line_breaks_are_noted(write):
    log = sasrec.read_log(write('user,item\na,"x\nb,y"\n'))

    assert log.source.notes == (
        "rows that span several lines: 1, the longest 2 lines, at row 1; are all meant?",
        "item ids that hold a line break: 1; look for a quotation mark that swallowed other lines",
    )


def titled(title_of):
    """A thousand events, each with a title that nobody reads."""
    return "user,item,title\n" + "".join(f"u{row % 9},i{row},{title_of.get(row, 'x')}\n" for row in range(1, 1001))


@pytest.mark.parametrize("blank", ["", "\n\n"])
@pytest.mark.parametrize(
    ("title_of", "reason"),
    [
        ({100: '"Great', 800: '"Great'}, "',' expected after '\"'"),
        ({50: '"a\nb"', 100: '"a""b"c"', 800: '"'}, "',' expected after '\"'"),
        ({100: ' "', 550: '" '}, "a quotation mark stands alone inside of a field"),
        ({100: '"' + "a\n" * 70_000 + '"'}, "field larger than field limit (131072)"),
    ],
)
def test_a_stray_quotation_mark_is_refused_with_its_row_though_nobody_reads_the_column(write, blank, title_of, reason):
    line = 101 + len(blank) + (50 in title_of)
    expected = f"a.csv: row 100, from line {line} on, cannot be told from those that follow: {reason}; close and double"

    with pytest.raises(DataError, match=re.escape(expected)):
        sasrec.read_log(write(blank + titled(title_of)))


def test_rows_that_span_several_lines_are_read_and_noted(write):
    text = '"one, ""two""\r\n\nthree"'

    log = sasrec.read_log(write(titled({7: '"\n"', 100: text, 200: text})))

    assert len(log.histories.items) == 1000
    assert log.source.notes[0] == "rows that span several lines: 3, the longest 3 lines, at row 100; are all meant?"


@pytest.mark.parametrize(("end", "rows"), [("", 2), ("\n", 2), ("\n\n\n", 4)])
def test_a_log_of_one_line_a_row_has_no_note_on_lines(write, end, rows):
    log = sasrec.read_log(write(f'user,item,title\n\na,"x",""{end}'))

    assert (log.source.rows_read, len(log.source.notes)) == (rows, 0)


def test_float_ids_are_noted():
    log = sasrec.read_log(pl.DataFrame({"user": [1.0, 2.0], "item": [1, 2]}))

    assert log.users.ids.to_list() == [1, 2]
    assert log.source.notes == ("user ids came as floating-point numbers without a fraction and are read as integers",)


def test_integers_that_a_frame_with_gaps_wrote_are_text_and_noted(write):
    log = sasrec.read_log(write("user,item\n12347.0,7\n12348.0,8.0\n"))

    assert log.users.ids.to_list() == ["12347.0", "12348.0"]
    assert log.source.notes == (
        "user ids end in .0, as pandas writes integers of a column with gaps, and stay so: '12347.0'",
    )


UNTIMED = "no column has a usual name of a time, so rows are taken in their order"
ADVICE = 'pass time="..." with one of them, or time="" for the order of the rows'


@pytest.mark.parametrize(
    ("columns", "time", "notes"),
    [
        (
            "user,item,when?,a b",
            None,
            (f"{UNTIMED}; not used are when?, a b; {ADVICE}",),
        ),
        ("user,item,when?,a b", "", ()),
        ("user,item,when?,a b", "when?", ()),
        ("user,item,time,a b", None, ()),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no column has a usual name of a time")
def test_a_column_that_might_be_the_time_is_named_where_none_was_found(write, columns, time, notes):
    log = sasrec.read_log(write(f"{columns}\nu,x,1,2\n"), time=time)

    assert log.source.notes == notes


def test_rows_that_are_taken_in_their_order_unasked_are_a_warning(write):
    path = write("user,item,when?,a b\nu,x,1,2\n")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sasrec.read_log(path)

    (one,) = told
    assert one.filename == __file__
    assert str(one.message) == (
        "a.csv: no column has a usual name of a time, so rows are taken in their order; not used are when?, a b; "
        'pass time="..." with one of them, or time="" for the order of the rows'
    )


@pytest.mark.parametrize(
    ("columns", "time"), [("user,item,when?,a b", ""), ("user,item,when?,a b", "when?"), ("user,item", None)]
)
def test_the_order_of_rows_is_no_warning_where_it_was_asked_for_or_nothing_is_left_over(write, columns, time):
    path = write(f"{columns}\nu,x{',1,2' * ('when' in columns)}\n")

    with warnings.catch_warnings(record=True) as told:
        sasrec.read_log(path, time=time)

    assert not told


def test_a_column_of_dates_that_nobody_named_is_named_and_not_taken(tmp_path):
    days = [dt.date(2024, 1, 3), dt.date(2024, 1, 1), dt.date(2024, 1, 2)]
    rows = {"user": ["a"] * 3, "item": ["x", "y", "z"], "mood": ["good"] * 3, "released": days}
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")

    with pytest.warns(UserWarning, match='not used are mood, released; pass time="released", which holds dates, or'):
        log = sasrec.read_log(tmp_path / "a.parquet")

    assert histories(log) == {"a": ["x", "y", "z"]}
    assert histories(sasrec.read_log(tmp_path / "a.parquet", time="released")) == {"a": ["y", "z", "x"]}


def test_the_numbers_of_rows_that_pandas_saves_are_no_time(write):
    with warnings.catch_warnings(record=True) as told:
        sasrec.read_log(write(",user,item,rating\n0,a,x,1\n1,a,y,2\n"))
        sasrec.read_log(write("Unnamed: 0,user,item\n0,a,x\n1,a,y\n"))

    assert not told


def test_events_that_stand_in_several_rows_are_noted(write):
    once = "a,x,3\na,y,3\nb,x,3\na,x,4\n"

    doubled = sasrec.read_log(write(f"user,item,time\n{once}{once}a,y,3\n"))

    assert sasrec.read_log(write(f"user,item,time\n{once}")).source.notes == ()
    assert doubled.source.notes == (
        "events with the user, item and time of an earlier row: 5; exported twice, or are times coarse?",
    )


def test_one_event_is_a_log(write):
    log = sasrec.read_log(write("user,item,time\na,x,1\n"))

    assert histories(log) == {"a": ["x"]}
    assert log.summary().ties == 0.0


def test_a_history_of_12000_events_stays_whole(write):
    items = [n * 7919 % 12007 for n in range(12_000)]

    log = sasrec.read_log(write("a " + " ".join(map(str, items)) + "\nb 1\n", "a.txt"))

    assert log.source.format == "histories"
    assert histories(log)["a"] == items


def test_users_with_one_event_are_kept(write):
    log = sasrec.read_log(write("a x\nb x\nc y\nc x\n", "a.txt"))

    assert log.histories.lengths.tolist() == [1, 1, 2]
    assert log.source.format == "pairs"


def test_a_compressed_log_is_named_by_its_own_file(tmp_path):
    import gzip

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"user,item\r\na,x\r\na,x\r\n"))

    log = sasrec.read_log(tmp_path / "a.csv.gz")

    assert log.source.name == "a.csv.gz"
    assert histories(log) == {"a": ["x", "x"]}
    assert log.summary().repeats == 1


def test_a_file_may_be_named_by_text(write):
    assert len(sasrec.read_log(str(write("user,item\na,x\n"))).users) == 1


@pytest.mark.parametrize("bad_rows", ["refuse", "drop"])
def test_decimal_commas_of_weights_are_told_and_not_dropped(tmp_path, bad_rows):
    path = tmp_path / "odd.csv"
    path.write_text("user;item;rating\nada;x;4\nada;y;4,5\nben;x;3,5\n")

    with pytest.raises(DataError, match=r"column 'rating': weights with a comma, such as '4,5' in rows 2, 3"):
        sasrec.read_log(path, filters=sasrec.Filters(bad_rows=bad_rows))

    assert len(sasrec.read_log(path, weight="").histories.items) == 3
