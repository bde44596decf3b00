"""Log files of every accepted format, opened and parsed into columns; nothing here knows what a user is.

    csv tsv        a header line, then one event a line; a .csv may also be separated by ; | or tab
    parquet        Apache Parquet
    jsonl          one JSON object a line: an event, or one id with a list of events
    inter          RecBole's atomic file: separated by tab, its header of `name:type`
    pairs          no header, `user item` a line, oldest event first
    histories      no header, `user item item ...`: one line a user, oldest event first
    movielens      no header, `user::item::rating::timestamp` a line

Each may be compressed with gzip or Zstandard. Text is UTF-8, with or without a byte order mark.
"""

import difflib
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec
import polars as pl

from sasrec.data.compression import LARGEST_PLAIN_BYTES, unwrapped
from sasrec.data.lines import most_separators, notes_on_lines
from sasrec.data.log import FrameKind
from sasrec.errors import DataError
from sasrec.files import in_utf8
from sasrec.words import counted

FORMATS = ("csv", "tsv", "parquet", "jsonl", "inter", "pairs", "histories", "movielens")

_SPREADSHEETS = (".xlsx", ".xls", ".ods")

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".inter": "inter",
    ".item": "inter",
    ".txt": "pairs or histories",
    ".dat": "movielens",
}
# 16 bytes a value: a Parquet file of a few kilobytes can hold more rows than any memory.
LARGEST_ROWS = LARGEST_PLAIN_BYTES // 16
# Of a header, or of a history; what has no line feed for so long is no text.
_LONGEST_LINE = 1 << 26
BLANK = pl.all_horizontal(pl.all().is_null() | (pl.all() == ""))
"""Whether a row of text holds nothing in any column."""
# A column behind the last one: a row that has something there has more fields than the header has names.
_SURPLUS = "\0surplus"
_MOST_SURPLUS = 64  # fields of a row behind the last name that are looked at


@dataclass(frozen=True)
class Table:
    """A file or frame whose column names are known and whose rows are read on demand.

    Attributes:
        name: What messages call it: the file's name, or the kind of frame.
        format: One of `FORMATS`, or "frame".
        columns: Names of all columns.
        typed: False where every value is text and numbers have still to be told from text.
        read: Gives the named columns with all their rows, in order.
        frame: The library of the frame; None for a file.
        notes: What `read` found worth telling.
        blank: Tells which rows have no value in any column, as empty lines of a text; None where rows have types.
        dated: The columns whose type is a date, or a date and time.
        levels: Those of `columns` that are levels of an index.
    """

    name: str
    format: str
    columns: tuple[str, ...]
    typed: bool
    read: Callable[[Sequence[str]], pl.DataFrame]
    frame: FrameKind | None = None
    notes: list[str] = field(default_factory=list)
    blank: Callable[[], pl.Series] | None = None
    dated: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()


@contextmanager
def open_file(source: str | os.PathLike[str], format: str | None = None) -> Iterator[Table]:
    """Open a log file for the length of a `with` block.

    Args:
        source: A regular file.
        format: One of `FORMATS`; None takes it from the suffix, and for `.txt` from the lines.
    Raises:
        DataError: The file is missing, not regular, empty, damaged, not UTF-8, not of its format, or was written to
            in the meantime.
    """
    path = Path(source)
    before = check_regular(path)
    format = _format_of(path, format)
    with unwrapped(path) as plain:
        try:
            yield _parse(plain, in_utf8(path.name), format)
        # A damaged Parquet file can make polars panic, which is no Exception.
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise DataError(f"{path.name}: {_fault(plain, format, error)}") from error
    # Half of it from before and half from after would be a log that never was.
    if not path.exists() or _state(path.stat()) != before:
        raise DataError(f"{path.name}: was changed while it was read; read it again when nothing writes to it")


def check_regular(path: Path) -> tuple[int, ...]:
    """Refuse what is no file to read, with DataError; else what would be different if it were changed from here on."""
    try:
        found = path.stat()
        # A pipe would be waited for, so it is told apart before anything opens it.
        if stat.S_ISDIR(found.st_mode):
            raise DataError(f"{path}: a directory; name one log file in it")
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: a pipe, socket or device, not a regular file; save its content to a file first")
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        near = difflib.get_close_matches(path.name, _names(path.parent))
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; looked in {path.parent.absolute()}"
        raise DataError(f"{path}: no such file{hint}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if found.st_size == 0:
        raise DataError(f"{path.name}: the file is empty")
    return _state(found)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it is none, or must not be read
        return []


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _format_of(path: Path, format: str | None) -> str:
    if format is not None:
        if format not in FORMATS:
            near = difflib.get_close_matches(format, FORMATS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{path.name}: unknown format {format!r}{hint}; formats are {', '.join(FORMATS)}")
        return format
    inner = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    suffix = inner.suffix.lower()
    if suffix in _SPREADSHEETS:
        raise DataError(f"{path.name}: is a spreadsheet; save the sheet as CSV and give that")
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{path.name}: the suffix {suffix!r} tells no format; known are {', '.join(_SUFFIXES)}, "
            f"each also with .gz or .zst; or pass format= with one of {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix]


def _parse(path: Path, name: str, format: str) -> Table:
    if format == "parquet":
        return _table(_parquet(path, name), name, format, typed=True)
    first_line = _first_line(path, name)
    if format == "jsonl":
        return _table(_json_lines(path), name, format, typed=True)
    if format in ("csv", "tsv", "inter"):
        separator = _separator(first_line) if format == "csv" else "\t"
        rows = _delimited(path, name, separator, format)
        width = len(rows.collect_schema()) - 1
        notes = None if format == "inter" else partial(notes_on_lines, path, name, separator, width)
        return _table(rows, name, format, notes=notes)
    if format == "movielens":
        return _table(_movielens(path, name).lazy(), name, format)
    lines = _fields_of_lines(path, " ")
    if format not in FORMATS:
        format = "pairs" if (lines["fields"].list.len() == 2).all() else "histories"
    events = _pairs(lines, name) if format == "pairs" else _histories(lines, name)
    return _table(events.lazy(), name, format)


def _table(
    rows: pl.LazyFrame,
    name: str,
    format: str,
    *,
    typed: bool = False,
    notes: Callable[[int], Iterator[str]] | None = None,
) -> Table:
    schema = rows.collect_schema()
    columns = schema.names()
    hidden = [_SURPLUS] if _SURPLUS in columns else []

    def read(wanted: Sequence[str]) -> pl.DataFrame:
        # By place, as polars takes a name such as ^i.*$ for a pattern.
        frame = rows.select(pl.nth([columns.index(one) for one in (*wanted, *hidden)])).collect()
        if hidden:
            ragged = frame.drop_in_place(_SURPLUS).is_not_null().arg_true()
            if len(ragged):
                raise DataError(
                    f"{name}: more fields than the {len(columns) - 1} of the header in {row_list(ragged)}; "
                    "quote the fields that hold a separator"
                )
        table.notes[:] = notes(len(frame)) if notes else ()
        return frame

    def blank() -> pl.Series:
        return rows.select(blank=BLANK).collect()["blank"]

    named = tuple(one for one in columns if one not in hidden)
    dated = tuple(one for one, type_ in schema.items() if type_ in (pl.Date, pl.Datetime))
    table = Table(name, format, named, typed, read, blank=None if typed else blank, dated=dated)  # for `read` to note
    return table


def _parquet(path: Path, name: str) -> pl.LazyFrame:
    rows = pl.scan_parquet(path, glob=False)
    count = rows.select(pl.len()).collect().item()
    if count > LARGEST_ROWS:
        raise DataError(
            f"{name}: says that it holds {count:,} rows, more than the {LARGEST_ROWS:,} that are read at once; "
            "if that is right, split it"
        )
    return rows


def header_hint(names: Sequence[str]) -> str:
    """What to do where a first line of data was taken for a header, as numbers and dates among its names tell."""
    value = re.compile(r"-?\d+(\.\d+)?|(\d{4}[/.-]\d\d?[/.-]\d\d?|\d\d?[/.-]\d\d?[/.-]\d{4})([T ,].*)?", re.ASCII)
    data = any(value.fullmatch(one) for one in names)
    return "; the first line looks like data: add a header line" if data else ""


def row_list(rows: pl.Series) -> str:
    """Words for zero-based row numbers: the first five, counted from 1 without the header."""
    shown = ", ".join(f"{row + 1}" for row in rows.head(5))
    return f"row{'s' if len(rows) > 1 else ''} {shown}" + (f" and {len(rows) - 5:,} more" if len(rows) > 5 else "")


def _delimited(path: Path, name: str, separator: str, format: str) -> pl.LazyFrame:
    # Every value is read as text: a number would lose its leading zeros, `NA` its name.
    def scan(schema: dict[str, type[pl.String]] | None = None) -> pl.LazyFrame:
        return pl.scan_csv(
            path,
            separator=separator,
            quote_char=None if format == "inter" else '"',  # it means nothing in an atomic file, so it stays in the id
            infer_schema=False,
            schema=schema,
            missing_columns="insert" if schema else "raise",
            truncate_ragged_lines=True,
            glob=False,
        )

    given = scan().collect_schema().names()
    names = [one.partition(":")[0] for one in given] if format == "inter" else given
    # polars renames the second `item` to `item_duplicated_0`.
    counts = Counter(re.sub(r"_duplicated_\d+$", "", one) for one in names)
    if doubled := [one for one in names if counts[one] > 1]:
        raise DataError(
            f"{name}: the header names {doubled[0]!r} more than once; rename one of them{header_hint(doubled)}"
        )
    # Each column costs time, so there are no more than the longest line needs.
    extra = range(len(names), min(max(most_separators(path, separator), len(names)), len(names) + _MOST_SURPLUS) + 1)
    rows = scan(dict.fromkeys((*given, *(f"{_SURPLUS}{place}" for place in extra)), pl.String))
    beyond = pl.coalesce(pl.nth(extra)).alias(_SURPLUS)
    return rows.select(*(pl.nth(place).alias(one) for place, one in enumerate(names)), beyond)


def _json_lines(path: Path) -> pl.LazyFrame:
    # All lines decide the types: an id may be a number a million times and then text.
    # This reader alone has no glob=False: without escapes a name with a * or a [ stands for others.
    rows = pl.scan_ndjson(glob.escape(str(path)), infer_schema_length=None)
    schema = rows.collect_schema()
    nested = [one for one, type_ in schema.items() if isinstance(type_, pl.List) and isinstance(type_.inner, pl.Struct)]
    if len(schema) == 2 and len(nested) == 1:
        return rows.explode(nested[0], empty_as_null=False).unnest(nested[0])
    return rows


def _fields_of_lines(path: Path, separator: str) -> pl.DataFrame:
    """`number` of each line that is not blank, from 1, and its `fields`, a list of text."""
    line = pl.col("line")
    if separator == " ":
        line = line.str.replace_all(r"[ \t]+", " ").str.strip_chars(" ")
    lines = pl.scan_lines(path, name="line", row_index_name="number", row_index_offset=1, glob=False)
    return lines.with_columns(line).filter(line != "").select("number", fields=line.str.split(separator)).collect()


def _require_fields(lines: pl.DataFrame, fits: pl.Expr, name: str, shape: str) -> None:
    wrong = lines.filter(~fits)
    if len(wrong):
        number, fields = wrong.row(0)
        parted = "" if "::" in shape else ", parted by spaces or tabs"
        raise DataError(
            f"{name}: line {number} has {counted(len(fields), 'field')}, where each line should be {shape}{parted}"
        )


def _pairs(lines: pl.DataFrame, name: str) -> pl.DataFrame:
    fields = pl.col("fields")
    _require_fields(lines, fields.list.len() == 2, name, "`user item`")
    return lines.select(user=fields.list.get(0), item=fields.list.get(1))


def _histories(lines: pl.DataFrame, name: str) -> pl.DataFrame:
    fields = pl.col("fields")
    _require_fields(lines, fields.list.len() >= 2, name, "`user item` or `user item item ...`")
    users = lines.select(user=fields.list.first())["user"]
    again = users.filter(users.is_duplicated())
    if len(again):
        raise DataError(
            f"{name}: user {again[0]!r} stands on more than one line; histories need one line a user and pairs "
            "two fields a line; for a table with more columns add a header and save it as .csv or .tsv"
        )
    return lines.select(user=fields.list.first(), item=fields.list.slice(1)).explode("item", empty_as_null=False)


def _movielens(path: Path, name: str) -> pl.DataFrame:
    names = ("user", "item", "rating", "timestamp")
    lines = _fields_of_lines(path, "::")
    _require_fields(lines, pl.col("fields").list.len() == len(names), name, "`user::item::rating::timestamp`")
    return lines.select(pl.col("fields").list.get(place).alias(one) for place, one in enumerate(names))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, of which one that is too long is given cut off, one byte beyond the longest."""
    return iter(partial(file.readline, _LONGEST_LINE + 1), b"")


def _first_line(path: Path, name: str) -> str:
    with path.open("rb") as file:
        # Blank ones before the header are skipped by polars, too.
        line = next((line for line in _lines(file) if line.strip(b"\r\n")), b"")
        start = file.tell() - len(line)
    if b"\0" in line:
        raise DataError(f"{name}: holds NUL bytes, as UTF-16 and binary files do; save it as UTF-8 text")
    if b"\r" in line.rstrip(b"\r\n"):
        raise DataError(f"{name}: lines end in a bare carriage return; save it with line feeds")
    if len(line) > _LONGEST_LINE:
        raise DataError(f"{name}: the first line is longer than {_LONGEST_LINE:,} bytes; save it with line feeds")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: {_not_utf8(line, error, start)}") from None


def _separator(header: str) -> str:
    # Where a comma is the decimal sign, spreadsheets separate by semicolon. A quoted name may hold any of these.
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=bare.count) if re.search("[,;\t]", bare) else "|"


def _fault(path: Path, format: str, error: BaseException) -> str:
    """What is wrong with a file that polars refused, and where, as far as that can be found."""
    if isinstance(error, pl.exceptions.NoDataError):
        return "holds nothing but blank lines"
    reason = f"cannot be read as {format}: {str(error).strip().splitlines()[0]}"
    if format == "parquet":
        return f"{reason}; if it was cut short, copy or download it again"
    if format in ("csv", "tsv"):
        reason += "; look for a quotation mark that is neither closed nor doubled"
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), start=1):
            if len(line) > _LONGEST_LINE:
                return f"line {number} is longer than {_LONGEST_LINE:,} bytes; save it with line feeds"
            try:
                line.decode()
                if format == "jsonl" and line.strip():
                    msgspec.json.decode(line, type=dict)
            except UnicodeDecodeError as fault:
                return _not_utf8(line, fault, offset)
            except msgspec.DecodeError as fault:
                return f"line {number} is not a JSON object: {fault}"
            except RecursionError:
                return f"line {number} is nested too deeply to be read; leave the field out that is"
            offset += len(line)
    return reason


def _not_utf8(line: bytes, error: UnicodeDecodeError, offset: int) -> str:
    byte = line[error.start]
    return (
        f"not UTF-8 text: byte 0x{byte:02x} at offset {offset + error.start:,}; convert it first, "
        "e.g. iconv -f latin1 -t utf-8"
    )
