"""Rows of text that span several lines, as quoted fields may, and as a stray quotation mark makes them."""

import csv
import operator
from collections.abc import Iterator
from functools import partial
from itertools import dropwhile
from pathlib import Path

import numpy as np

from sasrec.errors import DataError


def notes_on_lines(path: Path, name: str, separator: str, width: int, count: int) -> Iterator[str]:
    """How many of the rows span several lines, once the quotation marks of all columns are known to be in order.

    polars does not look into columns that nobody reads: two stray marks there swallow all rows between them. Only
    where there are fewer rows than lines is the file read once more, and that row by row.

    Args:
        path: A file without compression.
        name: What messages call it.
        separator: What parts the fields.
        width: Names in the header.
        count: Rows that were read, without the header.

    Raises:
        DataError: Text follows a closing quotation mark, a field is never closed or too long, a mark stands alone, or
            a row has more fields than the header.
    """
    if _line_count(path) == count + 1:  # the header
        return
    marks, several, longest, at, row, end = 0, 0, 0, 0, -1, 0

    def lines() -> Iterator[str]:
        nonlocal marks
        # A bare carriage return is text to polars, and the end of a row to the reader.
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                marks += line.count('"')
                yield line.replace("\r", "")

    reader = csv.reader(lines(), delimiter=separator, strict=True)
    try:
        # Blank lines before the header are no rows; those behind it are.
        for place, fields in enumerate(dropwhile(operator.not_, reader)):
            if marks % 2:
                raise csv.Error("a quotation mark stands alone inside of a field")
            if any(fields[width:]):
                raise csv.Error(f"it has more fields than the {width} of the header")
            row, height, end = place, reader.line_num - end, reader.line_num
            if row and height > 1:
                several += 1
                longest, at = (height, row) if height > longest else (longest, at)
    except csv.Error as error:
        raise DataError(
            f"{name}: row {row + 1}, from line {end + 1} on, cannot be told from those that follow: "
            f"{error}; close and double the quotation marks of fields that hold some"
        ) from None
    if several:
        yield f"rows that span several lines: {several:,}, the longest {longest:,} lines, at row {at:,}; are all meant?"


def most_separators(path: Path, separator: str) -> int:
    """How many separators stand on one line at most, be they parts of fields or not."""
    most = begun = 0
    for piece in _pieces(path):
        starts = np.append(0, np.flatnonzero(piece == 10))
        counts = np.add.reduceat(piece == ord(separator), starts, dtype=np.int64)
        counts[0] += begun
        most, begun = max(most, int(counts.max())), counts[-1]
    return most


def _line_count(path: Path) -> int:
    count, last = 0, 10
    for piece in _pieces(path):
        count, last = count + int(np.count_nonzero(piece == 10)), piece[-1]
    return count + (last != 10)


def _pieces(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb", buffering=0) as file:
        yield from (np.frombuffer(piece, np.uint8) for piece in iter(partial(file.read, 1 << 18), b""))
