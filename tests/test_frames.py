"""Frames of three libraries, with the same content, give the same log."""

import datetime as dt
import subprocess
import sys

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import sasrec
from sasrec.errors import DataError

CONTENT = {
    "user_id": ["007", "NA", "Zo\u00eb", "007"],
    "item_id": [9007199254740993, 2, 3, 2],
    "weight": [1.0, 2.5, 1.0, 0.5],
    "datetime": [dt.datetime(2024, 1, day, 12) for day in (4, 3, 2, 1)],
}


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (pl.DataFrame(CONTENT), "polars"),
        (pl.LazyFrame(CONTENT), "polars"),
        (pd.DataFrame(CONTENT), "pandas"),
        (pd.DataFrame(CONTENT).astype({"user_id": object}), "pandas"),
        (pd.DataFrame(CONTENT).astype({"user_id": "category", "item_id": "Int64"}), "pandas"),
        (pd.DataFrame(CONTENT).astype({"datetime": "datetime64[s]", "item_id": object}), "pandas"),
        (pd.DataFrame(CONTENT).assign(datetime=lambda one: one.datetime.dt.tz_localize("UTC")), "pandas"),
        (pd.DataFrame(CONTENT).convert_dtypes(dtype_backend="pyarrow"), "pandas"),
        (pa.table(CONTENT), "pyarrow"),
    ],
)
def test_every_kind_of_frame_gives_the_same_log(frame, kind):
    expected = sasrec.read_log(pl.DataFrame(CONTENT)).content_hash

    log = sasrec.read_log(frame)

    assert log.source.frame == kind
    assert log.source.name == f"{kind} frame"
    assert log.source.format == "frame"
    assert log.content_hash == expected
    assert log.users.ids.to_list() == ["007", "NA", "Zo\u00eb"]
    assert log.items.ids.to_list() == [2, 3, 9007199254740993]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_whatever_pandas_takes_for_missing_is_a_missing_id(missing, dtype):
    frame = pd.DataFrame({"user": pd.Series(["a", missing, "c"], dtype=dtype), "item": [1, 2, 3]})

    with pytest.raises(DataError, match=r"1 without a user \(row 2\)"):
        sasrec.read_log(frame)


def test_a_nullable_integer_column_of_pandas_keeps_large_ids():
    frame = pd.DataFrame({"user": pd.array([9007199254740993, None], dtype="Int64"), "item": [1, 2]})

    log = sasrec.read_log(frame, filters=sasrec.Filters(bad_rows="drop"))

    assert log.users.ids.to_list() == [9007199254740993]


def test_numbers_and_text_in_one_pandas_column_are_text():
    log = sasrec.read_log(pd.DataFrame({"user": [1, "a", 1], "item": ["x", "y", "z"]}))

    assert log.users.ids.to_list() == ["1", "a"]


def test_missing_times_of_pandas_are_bad_rows():
    frame = pd.DataFrame({"user": [1, 1], "item": [1, 2], "time": pd.to_datetime(["2024-01-01", None])})

    with pytest.raises(DataError, match=r"1 without a readable, finite time \(row 2\)"):
        sasrec.read_log(frame)


def test_a_pandas_column_of_strange_objects_is_refused_by_name():
    with pytest.raises(DataError, match="column 'user' holds values of float, str"):
        sasrec.read_log(pd.DataFrame({"user": [1.5, "a"], "item": [1, 2]}))


def test_columns_that_play_no_part_are_never_converted():
    frame = pd.DataFrame({"user": [1], "item": [2], "other": [object()]})

    assert len(sasrec.read_log(frame, time="").users) == 1


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([[1, 2, 3]], columns=["user", "item", "user"]),
        pa.Table.from_arrays([pa.array([1])] * 3, names=["user", "item", "user"]),
    ],
)
def test_two_columns_of_one_name_are_refused(frame):
    with pytest.raises(DataError, match=r"several columns of one name: .*'user'"):
        sasrec.read_log(frame)


@pytest.mark.parametrize("names", [{}, {"user": 0, "item": 1}])
def test_columns_without_names_are_refused(names):
    frame = pd.DataFrame([["a", "x", 3], ["b", "y", 4]])

    with pytest.raises(DataError, match=r"pandas frame: the names of columns must be text, found 0; name them, e\.g\."):
        sasrec.read_log(frame, **names)


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.table])
@pytest.mark.parametrize("name", ["^i.*$", "*", "user*"])
def test_a_name_of_a_column_is_no_pattern(kind, name):
    frame = kind({"user": ["a"], name: ["7"], "items": ["y"]})

    log = sasrec.read_log(frame, item=name, time="")
    timed = sasrec.read_log(frame, item="items", time=name, weight="")
    weighed = sasrec.read_log(frame, item="items", time="", weight=name)

    assert log.items.ids.to_list() == ["7"]
    assert (timed.histories.times.tolist(), weighed.histories.weights.tolist()) == ([7], [7.0])


@pytest.mark.parametrize("source", [[("a", "x")], {"user": [1]}, None, 5, np.zeros((2, 2))])
def test_what_is_no_frame_is_refused(source):
    with pytest.raises(DataError, match=r"cannot read a log from .*; pass a path, a polars or pandas DataFrame"):
        sasrec.read_log(source)


def test_a_frame_has_no_file_format():
    with pytest.raises(DataError, match="format='csv' is for files"):
        sasrec.read_log(pl.DataFrame(CONTENT), format="csv")


def test_pandas_is_read_where_pyarrow_is_not_installed():
    code = """if True:
        import sys
        sys.modules["pyarrow"] = None
        import pandas as pd, sasrec
        log = sasrec.read_log(pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "time": [1.5, 2.5]}))
        print(log.users.ids.to_list())
    """

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "['a', 'b']\n"


def test_a_file_is_read_without_pandas_and_pyarrow(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,time\na,x,1\n")
    code = """if True:
        import sys, sasrec
        print(sasrec.read_log(sys.argv[1]).users.ids.to_list(), {"pandas", "pyarrow", "torch"} & set(sys.modules))
    """

    command = [sys.executable, "-c", code, str(tmp_path / "a.csv")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)

    assert found.stdout == "['a'] set()\n"


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.table])
def test_a_column_of_dates_that_nobody_named_is_named_and_not_taken(kind):
    rows = {"user": ["a", "a"], "item": [1, 2], "when": [dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 1)]}

    with pytest.warns(UserWarning, match='pass time="when", which holds dates, or time="" for the order of the rows'):
        log = sasrec.read_log(kind(rows))

    assert log.items.raw(log.histories[0]).to_list() == [1, 2]
    assert sasrec.read_log(kind(rows), time="").source.columns.time is None


@pytest.mark.parametrize("levels", ["when", ["user_id", "when"], ["item_id"], ["when", "item_id", "user_id"]])
@pytest.mark.parametrize("stay", [True, False])
def test_named_levels_of_an_index_are_columns(levels, stay):
    rows = pd.DataFrame({"user_id": ["a", "b", "a"], "item_id": [1, 2, 3], "when": pd.to_datetime([30, 20, 10])})
    expected = sasrec.read_log(rows, time="when")

    log = sasrec.read_log(rows.set_index(levels, drop=not stay), time="when")

    assert log.content_hash == expected.content_hash
    assert log.source.columns == expected.source.columns


def test_a_level_of_dates_that_nobody_named_is_named():
    rows = pd.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2], "when": pd.to_datetime([30, 20])})

    with pytest.warns(UserWarning, match='pass time="when", which holds dates'):
        sasrec.read_log(rows.set_index("when"))


@pytest.mark.parametrize("name", ["date", "item", "user", "id"])
def test_a_column_comes_before_a_level_that_could_be_the_same(name):
    rows = pd.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2], "timestamp": [1, 2]})

    log = sasrec.read_log(rows.set_index(pd.Index([5, 3], name=name)))

    assert log.source.columns == sasrec.read_log(rows).source.columns
    assert log.source.notes == ()


def test_levels_of_one_name_are_no_columns():
    rows = pd.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2]})

    log = sasrec.read_log(rows.set_index([pd.Index([1, 2], name="q"), pd.Index([1, 2], name="q")]))

    assert len(log.users) == 2


def test_a_level_without_a_name_is_no_column():
    rows = pd.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2]}, index=pd.Index([5, 3]))

    assert sasrec.read_log(rows).source.notes == ()


def test_a_wrapped_frame_counts_as_what_it_wraps():
    assert sasrec.read_log(nw.from_native(pl.DataFrame(CONTENT))).source.frame == "polars"


def test_integers_and_text_in_one_column_of_pandas_are_read_as_text_with_a_note():
    frame = pd.DataFrame({"user": ["u", "u", "v"], "item": [3, "3", "a"], "time": [1, 2, 3]})

    log = sasrec.read_log(frame)

    assert log.items.ids.to_list() == ["3", "a"]
    note = "column 'item' holds integers and text; all are read as text, so that 3 and '3' are the same"
    assert note in log.source.notes
    assert not sasrec.read_log(frame.astype({"item": str})).source.notes


@pytest.mark.parametrize("frame", [pl.DataFrame(), pd.DataFrame()])
def test_a_frame_without_columns_is_told_so(frame):
    with pytest.raises(DataError, match="frame: has no columns; give one of users and one of items"):
        sasrec.read_log(frame)
