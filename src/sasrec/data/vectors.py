"""Vectors of items as they are given: found in a table, checked number by number, and brought to one scale."""

import re
from pathlib import Path
from tokenize import TokenError

import numpy as np
import polars as pl

from sasrec.data.columns import listed, read_ids
from sasrec.data.formats import LARGEST_ROWS, Table, check_regular
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError
from sasrec.files import in_utf8

ARRAY = "npy"
VECTOR = "vector"
"""What the vectors of an array file are called, as it has no names of columns."""

_WIDEST = 65_536
_LARGEST_NUMBER = 1e18  # the squares of larger ones, added up, could leave float32


# What NumPy makes of a damaged header, which it reads as Python reads a literal.
_FAULTS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    TokenError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
)


def array_table(path: Path) -> Table:
    """The array in `NAME.npy` as a table of vectors, with the ids of its rows from `NAME.ids`, one a line.

    Raises:
        DataError: One of the two cannot be read, or they do not fit each other.
    """
    names = path.with_suffix(".ids")
    try:
        for one in (path, names):
            check_regular(one)
        # Mapped, so that a header that promises more than the file holds is refused before any memory is taken.
        with np.errstate(over="ignore"):  # of such a promise, which is refused
            array = np.lib.format.open_memmap(path, mode="r")
        ids = names.read_text(encoding="utf-8-sig").splitlines()
    except _FAULTS as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path.name}: cannot be read as an array with its ids in {names.name}: {reason}") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: expected rows of numbers, found shape {array.shape} of {array.dtype}")
    if len(ids) != len(array):
        raise DataError(
            f"{names.name}: {len(ids):,} ids for the {len(array):,} rows of {path.name}; one a line is needed"
        )
    columns = {"item_id": pl.Series(ids, dtype=pl.String), VECTOR: pl.Series(np.asarray(array))}
    return Table(in_utf8(path.name), ARRAY, tuple(columns), False, lambda wanted: pl.DataFrame(columns).select(wanted))


def read_vectors(table: Table, key: str, name: str, items: Vocabulary) -> tuple[np.ndarray, np.ndarray] | None:
    """The vectors of a catalogue.

    Args:
        key: Column of the item ids.
        name: Column of vectors, or what numbered columns begin with.

    Returns:
        Vectors, float64 of shape (items, numbers) with 0 where there is none, and whether an item has one; None where
        no item has.

    Raises:
        DataError: There are no such columns, ids cannot be ones of a log, a vector is too long or not like the others
            or holds something that is no finite number, or an item has two.
    """
    columns = _columns(table, key, name)
    if not 1 <= len(columns) <= _WIDEST:
        raise DataError(f"{table.name}: {len(columns):,} columns {name}0, {name}1, ...; at most {_WIDEST:,} are read")
    if key in columns:
        raise DataError(f"{table.name}: column {key!r} cannot be both item ids and vectors; name another one")
    frame = table.read([key, *columns])
    ids = items.matched(read_ids(frame[key], typed=table.typed, where=f"{table.name}, column {key!r}"))
    rows = items.rows(ids)
    empty = frame.select(pl.all_horizontal(pl.nth(range(1, len(columns) + 1)).is_null())).to_series()
    chosen = (rows >= 0) & ~empty.to_numpy()
    frame, rows = frame.filter(chosen), rows[chosen]
    if not len(frame):
        return None
    twice = np.flatnonzero(np.bincount(rows, minlength=len(items)) > 1)
    if len(twice):
        raise DataError(f"{table.name}: item {items.ids[int(twice[0])]!r} has several vectors; leave one of them")
    numbers = _from_lists(table, frame[name], name) if columns == [name] else _from_columns(table, frame, columns)
    wrong = np.flatnonzero(~(np.abs(numbers) <= _LARGEST_NUMBER).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{table.name}: the vector of item {items.ids[int(rows[wrong[0]])]!r} holds what is no finite number, or "
            f"one beyond {_LARGEST_NUMBER:g}; mend it, or leave it empty"
        )
    vectors, known = np.zeros((len(items), numbers.shape[1])), np.zeros(len(items), dtype=bool)
    vectors[rows], known[rows] = numbers, True
    return vectors, known


def centre_and_scale(vectors: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of the known vectors, and the root of the mean squared distance from it.

    Args:
        vectors: Of shape (items, numbers).
        known: Whether an item has one, bool of shape (items,); at least one has.
    """
    centre = vectors[known].mean(axis=0)
    return centre, float(np.sqrt(((vectors[known] - centre) ** 2).sum(axis=1).mean()))


def standardised(vectors: np.ndarray, known: np.ndarray, centre: np.ndarray, scale: float) -> np.ndarray:
    """The vectors from the centre, on that scale, float32 of the same shape; 0, which is the mean, where there is none.

    Arguments as of `centre_and_scale`, and what it gives.
    """
    return np.where(known[:, None], (vectors - centre) / scale, 0.0).astype(np.float32)


def _columns(table: Table, key: str, name: str) -> list[str]:
    if name in table.columns:
        return [name]
    numbered = {one for one in table.columns if re.fullmatch(re.escape(name) + r"\d+", one)}
    columns = [f"{name}{place}" for place in range(len(numbered))]
    if not columns:
        others = [one for one in table.columns if one != key]
        raise DataError(
            f"{table.name}: no column {name!r}, nor columns {name}0, {name}1, ...; columns are {listed(others)}"
        )
    if set(columns) != numbered:
        missing = next(one for one in columns if one not in numbered)
        raise DataError(f"{table.name}: the columns of the vector are not numbered from 0 without gaps: no {missing!r}")
    return columns


def _from_lists(table: Table, column: pl.Series, name: str) -> np.ndarray:
    kind = column.dtype
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
    if inner is None or not (inner.is_numeric() or inner == pl.Null):
        raise DataError(
            f"{table.name}: column {name!r} holds {kind}, not lists of numbers; give lists, or a column for each "
            f"number ({name}0, {name}1, ...)"
        )
    lists = column.cast(pl.List(pl.Float64))
    widths = lists.list.len().unique().sort().to_list() or [0]
    if len(widths) > 1 or not 1 <= widths[0] <= _WIDEST or len(lists) * widths[0] > LARGEST_ROWS:
        found = " and ".join(f"{one:,}" for one in (widths[0], *widths[-1:][: len(widths) - 1]))
        raise DataError(
            f"{table.name}: vectors must all have the same number of numbers, from 1 to {_WIDEST:,}; those of {name!r} "
            f"have {found}"
        )
    return lists.explode(empty_as_null=False).fill_null(np.nan).to_numpy().reshape(len(lists), widths[0])


def _from_columns(table: Table, frame: pl.DataFrame, columns: list[str]) -> np.ndarray:
    numbers = frame.select(pl.nth(range(1, len(columns) + 1)).cast(pl.Float64, strict=False).fill_null(np.nan))
    if len(frame) * len(columns) > LARGEST_ROWS:
        raise DataError(f"{table.name}: {len(frame):,} vectors of {len(columns):,} numbers are too many to hold")
    return numbers.to_numpy()
