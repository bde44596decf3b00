"""Every file format gives the same events, and every file that cannot be read says why."""

import gzip
import os

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data import formats
from sasrec.data.formats import FORMATS, open_file
from sasrec.data.lines import most_separators
from sasrec.errors import DataError

EVENTS = [("ada", "x"), ("ada", "y"), ("bob", "x")]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, format=None):
    with open_file(path, format) as table:
        return table.format, table.read(table.columns[:2]).rows()


def refusal(path, format=None):
    with pytest.raises(DataError) as caught:
        read(path, format)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.csv", "user,item,time\nada,x,1\nada,y,2\nbob,x,3\n", "csv"),
        ("a.csv", "user,item,time\r\nada,x,1\r\nada,y,2\r\nbob,x,3", "csv"),
        ("a.csv", '"user";"item"\n"ada";"x"\n"ada";"y"\n"bob";"x"\n', "csv"),
        ("a.CSV", "\ufeffuser,item\nada,x\nada,y\nbob,x\n", "csv"),
        ("a.csv", "\n\nuser;item\nada;x\nada;y\nbob;x\n", "csv"),
        ("a.csv", "\r\nuser,item\r\nada,x\r\nada,y\r\nbob,x\r\n", "csv"),
        ("a.tsv", "user\titem\nada\tx\nada\ty\nbob\tx\n", "tsv"),
        ("a.jsonl", '{"user":"ada","item":"x"}\n{"user":"ada","item":"y"}\n{"user":"bob","item":"x"}\n', "jsonl"),
        ("a.ndjson", '\ufeff{"user":"ada","item":"x"}\n{"item":"y","user":"ada"}\n{"user":"bob","item":"x"}', "jsonl"),
        (
            "a.jsonl",
            '{"user":"ada","events":[{"item":"x","t":1},{"item":"y","t":2}]}\n{"user":"bob","events":[{"item":"x"}]}\n',
            "jsonl",
        ),
        ("a.inter", "user:token\titem:token\ttime:float\nada\tx\t1\nada\ty\t2\nbob\tx\t3\n", "inter"),
        ("a.txt", "ada x\nada\ty\n\nbob   x \n", "pairs"),
        ("a.txt", "\ufeffada x y\nbob x\n", "histories"),
        ("a.dat", "ada::x::5::1\nada::y::4::2\nbob::x::3::3\n", "movielens"),
    ],
)
def test_a_format_is_recognised_and_read(write, name, content, format):
    path = write(name, content)

    assert read(path) == (format, EVENTS)


def test_parquet_is_read_with_its_types(tmp_path):
    frame = pl.DataFrame({"user": [1, 2], "item": ["a", None], "time": [1.5, 2.5]})
    frame.write_parquet(tmp_path / "a.parquet")

    with open_file(tmp_path / "a.parquet") as table:
        found = table.read(table.columns)

    assert table.typed
    assert found.equals(frame)


def test_a_named_format_overrules_the_suffix(write):
    path = write("a.csv", "ada x y\nbob x\n")

    assert read(path, "histories") == ("histories", EVENTS)


def test_a_file_name_is_no_pattern(write):
    write("a1.csv", "user,item\nnobody,nothing\n")
    path = write("a[1]*.csv", "user,item\nada,x\nada,y\nbob,x\n")

    assert read(path) == ("csv", EVENTS)


@pytest.mark.parametrize("name", ["log?.jsonl", "log[1].jsonl", "log**.jsonl", "log[.jsonl"])
def test_a_name_of_json_lines_is_no_pattern_either(write, name):
    write("log1.jsonl", '{"user": "nobody", "item": "nothing"}\n')
    lines = "".join(f'{{"user": "{user}", "item": "{item}"}}\n' for user, item in EVENTS)

    assert read(write(name, lines)) == ("jsonl", EVENTS)


@pytest.mark.parametrize("name", ["^i.*$", "*"])
def test_a_name_of_a_column_is_no_pattern(write, name):
    with open_file(write("a.csv", f"user,{name},items\nada,x,y\n")) as table:
        rows = table.read([name, "user"]).rows()

    assert rows == [("x", "ada")]


def test_quotes_mean_nothing_in_an_atomic_file(write):
    path = write("a.inter", 'user:token\titem:token\n"ada\t12" record\n')

    assert read(path)[1] == [('"ada', '12" record')]


def test_quoted_separators_quotes_and_line_breaks_are_part_of_the_field(write):
    path = write("a.csv", 'user,item\n"a,b","say ""hi"""\n"two\nlines",x\n')

    assert read(path)[1] == [("a,b", 'say "hi"'), ("two\nlines", "x")]


def test_bars_in_a_name_do_not_part_a_header_of_commas(write):
    with open_file(write("a.csv", "user,item (a|b|c)\nu,i\n")) as table:
        assert table.columns == ("user", "item (a|b|c)")


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_what_parts_the_names_of_a_header_parts_the_fields(write, separator):
    names = ['"who, what; | or\twhen"', "item"]

    with open_file(write("a.csv", f"{separator.join(names)}\na{separator}b\n")) as table:
        rows = table.read(table.columns).rows()

    assert (table.columns, rows) == (("who, what; | or\twhen", "item"), [("a", "b")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.xlsx", "x", "a.xlsx: is a spreadsheet; save the sheet as CSV and give that"),
        ("a.doc", "x", "the suffix '.doc' tells no format; known are .csv, .tsv"),
        ("a", "x", "the suffix '' tells no format"),
        ("a.csv", "user,item,user\na,b,c\n", "the header names 'user' more than once"),
        ("a.csv", "u,i,t\na,b,1\nc,d,2,3\ne,f,4\ng,h,5,6,7\n", "more fields than the 3 of the header in rows 2, 4;"),
        ("a.csv", "u,t,i\na,b,c\na,b,c,,d\n", "more fields than the 3 of the header in row 2;"),
        ("a.csv", "u,t,i\na,b,c,,,,,,,,,d", "more fields than the 3 of the header in row 1;"),
        ("a.tsv", "u\tt\ti\na\tb\tc\t\td\n", "more fields than the 3 of the header in row 1;"),
        ("a.inter", "u:x\tt:x\ti:x\na\tb\tc\t\td\n", "more fields than the 3 of the header in row 1;"),
        ("a.csv", 'u,t,i\na,b,c\n"a\nb",c,d,\na,"\n",d,,e\n', "row 3, from line 5 on, cannot be told from those that"),
        ("a.inter", "u:token\ti:token\ti:float\na\tb\tc\n", "the header names 'i' more than once; rename one of them"),
        ("a.csv", 'u,i\n"a,b\nc,d\n', "quotation mark that is neither closed nor doubled"),
        ("a.csv", "u,i\rada,x\rbob,y\r", "lines end in a bare carriage return"),
        ("a.csv", "u,i\na,b\n".encode("utf-16"), "holds NUL bytes, as UTF-16 and binary files do"),
        ("a.csv", "u,i\nada,x\nren\xe9,y\n".encode("latin-1"), "not UTF-8 text: byte 0xe9 at offset 13; convert it"),
        ("a.csv", "user,\xe9\na,b\n".encode("latin-1"), "byte 0xe9 at offset 5"),
        ("a.csv", "\n\nuser,\xe9\na,b\n".encode("latin-1"), "byte 0xe9 at offset 7"),
        ("a.txt", "ada x\nren\xe9 y\n".encode("latin-1"), "byte 0xe9 at offset 9"),
        ("a.jsonl", '{"u":"ada"}\n{"u":"ren\xe9"}\n'.encode("latin-1"), "byte 0xe9 at offset 21"),
        ("a.jsonl", '{"u":1}\n\n{"u":\n', "line 3 is not a JSON object: Input data was truncated"),
        ("a.jsonl", '{"u":1,"t":NaN}\n', "line 1 is not a JSON object: "),
        ("a.jsonl", '[{"u":1}]\n', "line 1 is not a JSON object: "),
        (
            "a.jsonl",
            '{"u":1}\n{"u":1,"t":' + "[" * 5000 + "]" * 5000 + "}\n",
            "line 2 is nested too deeply to be read;",
        ),
        ("a.parquet", b"PAR1 and then nothing more", "cannot be read as parquet: "),
        ("a.txt", "ada x\nbob\n", "line 2 has 1 field, where each line should be `user item` or"),
        ("a.txt", "ada x 5\nbob y 3\nada z 4\n", "user 'ada' stands on more than one line"),
        ("a.dat", "1::2::5::9\n1::2\n", "line 2 has 2 fields, where each line should be `user::item::rating"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(write, name, content, message):
    path = write(name, content)

    found = refusal(path)

    assert message in found
    assert found.startswith(name)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("first", "said"), [("0,1,1,1700000001", True), ("u,2024-01-05,2024-01-05", True), ("u,u", False)]
)
def test_a_value_that_stands_twice_in_the_header_looks_like_data(write, first, said):
    told = refusal(write("a.csv", f"{first}\n{first}\n"))

    assert "more than once; rename one of them" in told
    assert told.endswith("; the first line looks like data: add a header line") == said


def test_pairs_have_two_fields_a_line(write):
    assert "line 2 has 3 fields, where each line should be `user item`" in refusal(
        write("a.txt", "a b\na b c\n"), "pairs"
    )


def test_an_unknown_format_is_answered_with_the_nearest(write):
    found = refusal(write("a.csv", "u,i\n1,2\n"), "parqet")

    assert "unknown format 'parqet'; did you mean 'parquet'?" in found
    assert ", ".join(FORMATS) in found


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path):
    pl.DataFrame({"user": ["a", "b"] * 50, "item": list(range(100))}).write_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "cut.parquet"

    for length in range(1, len(whole), 97):
        path.write_bytes(whole[:length])

        assert refusal(path).startswith("cut.parquet: cannot be read as parquet: ")


def test_a_missing_file_is_answered_with_its_neighbours(write):
    path = write("ratings.csv", "u,i\n1,2\n")

    found = refusal(path.with_name("rating.csv"))

    assert "no such file; did you mean ratings.csv?" in found


def test_a_file_in_a_missing_folder_is_missing(tmp_path):
    assert "no such file; looked in" in refusal(tmp_path / "nowhere" / "a.csv")


def test_a_directory_is_no_log(tmp_path):
    assert "a directory; name one log file in it" in refusal(tmp_path)


@pytest.mark.parametrize("folder", ["plain", "torn\udcff"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl", ".txt"])
def test_a_path_that_is_not_utf8_is_read_and_named_in_utf8(tmp_path, folder, suffix):
    path = tmp_path / folder / f"a\udcff{suffix}"
    path.parent.mkdir()
    events = pl.DataFrame(EVENTS, schema=["user", "item"], orient="row")
    content = {
        ".csv": events.write_csv().encode(),
        ".csv.gz": gzip.compress(events.write_csv().encode()),
        ".jsonl": events.write_ndjson().encode(),
        ".txt": b"".join(f"{user} {item}\n".encode() for user, item in EVENTS),
    }
    with path.open("wb") as file:
        if suffix == ".parquet":
            events.write_parquet(file)
        else:
            file.write(content[suffix])

    with open_file(path) as table:
        rows = table.read(["user", "item"]).rows()

    assert (rows, table.name) == (EVENTS, f"a?{suffix}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a" * 101, "the first line is longer than 100 bytes"),
        (b"\n\r\n" + b"u,i" + b"a" * 100, "the first line is longer than 100 bytes"),
        (b"\0" * 500, "holds NUL bytes"),
        (b'u,i\n"a,' + b"b" * 500, "line 2 is longer than 100 bytes"),
    ],
)
def test_a_line_without_an_end_takes_no_memory_to_speak_of(write, monkeypatch, content, said):
    monkeypatch.setattr(formats, "_LONGEST_LINE", 100)

    assert said in refusal(write("a.csv", content))


def test_a_first_line_as_long_as_may_be_is_read(write, monkeypatch):
    monkeypatch.setattr(formats, "_LONGEST_LINE", 8)

    assert read(write("a.csv", "\n\nus,ite\nada,x\n")) == ("csv", [("ada", "x")])


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.csv")

    assert "not a regular file" in refusal(tmp_path / "a.csv")


def test_a_device_is_no_log():
    assert "not a regular file" in refusal("/dev/zero", "csv")


def test_a_file_without_permission_says_so(write, monkeypatch):
    path = write("a.csv", "u,i\n1,2\n")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)

    assert "cannot be read: Permission denied" in refusal(path)


@pytest.mark.parametrize("content", ["\n\n\n", "\r\n\r\n"])
def test_a_table_of_blank_lines_is_told_as_such(write, content):
    path = write("a.csv", content)

    assert refusal(path) == "a.csv: holds nothing but blank lines"


def test_a_file_that_is_written_to_while_it_is_read_is_refused(write):
    path = write("a.csv", "user,item\nada,x\n")

    with pytest.raises(DataError, match="was changed while it was read"), open_file(path):
        path.write_text("user,item\nada,x\nbob,y\n")


def test_a_file_that_is_exchanged_while_it_is_read_is_refused(write):
    path, other = write("a.csv", "user,item\nada,x\n"), write("b.csv", "user,item\nada,x\n")

    with pytest.raises(DataError, match="was changed while it was read"), open_file(path):
        other.replace(path)


def test_a_parquet_file_of_more_rows_than_memory_holds_is_refused_before_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": ["ada"] * 11, "item": ["x"] * 11}).write_parquet(path)
    monkeypatch.setattr(formats, "LARGEST_ROWS", 10)

    assert refusal(path) == (
        "a.parquet: says that it holds 11 rows, more than the 10 that are read at once; if that is right, split it"
    )


@pytest.mark.parametrize("tail", ["", ",", ",,,,", "," * 200])
@pytest.mark.parametrize("wanted", [["user", "item"], ["user"], ["item", "title", "user"]])
def test_empty_fields_behind_the_last_name_are_no_fault(write, tail, wanted):
    path = write("a.csv", f'user,title,item\na,b,c{tail}\nd,"many, many, many, commas",f\n')

    with open_file(path) as table:
        rows = table.read(wanted).to_dicts()

    whole = ({"user": "a", "title": "b", "item": "c"}, {"user": "d", "title": "many, many, many, commas", "item": "f"})
    assert rows == [{name: row[name] for name in wanted} for row in whole]


@given(st.lists(st.lists(st.sampled_from(["", "a", "b"]), min_size=1, max_size=8), min_size=1, max_size=20))
def test_exactly_the_rows_with_something_behind_the_last_name_are_refused(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("ragged") / "a.csv"
    path.write_text("\n".join(["x,y,z", *(",".join(row) for row in rows)]) + "\n")
    wrong = [place for place, row in enumerate(rows, start=1) if any(row[3:])]

    with open_file(path) as table:
        if not wrong:
            assert len(table.read(["x", "z"])) == len(rows)
            return
        with pytest.raises(DataError, match=f"header in rows? {', '.join(map(str, wrong[:5]))}[; ]"):
            table.read(["x", "z"])


@pytest.mark.parametrize("size", [1, 3, 7, 1 << 18])
def test_the_separators_of_a_line_are_counted_over_the_pieces_of_a_file(write, monkeypatch, size):
    content = ",,,\n,\n\na,b,c,d,e,f\n,,"
    pieces = [np.frombuffer(content[at : at + size].encode(), np.uint8) for at in range(0, len(content), size)]
    monkeypatch.setattr("sasrec.data.lines._pieces", lambda path: iter(pieces))

    assert most_separators(write("a.csv", content), ",") == 5
