"""What comes in as users and goes out as a frame, in the caller's own kind, or as text."""

import warnings
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral
from typing import Any, Literal, get_args

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from narwhals.stable.v2.typing import IntoFrame, IntoSeries

from sasrec.data.log import FrameKind
from sasrec.data.vocab import Id, Vocabulary
from sasrec.errors import ConfigError, DataError, UnknownIdError
from sasrec.files import in_utf8

Ids = Iterable[Id] | IntoSeries | IntoFrame
"""Raw ids as a list, array, series or one-column frame of polars, pandas or pyarrow."""

Unknown = Literal["raise", "skip", "ignore", "popular"]
"""What to do about an id that the model does not know."""


def listed(ids: Ids, *, what: str) -> tuple[list[Id], FrameKind | None]:
    """Raw ids from a list, array, series or one-column frame, and the frame library they came from, if any.

    Raises:
        DataError: A single text is given where a list is meant, or a frame has several columns.
    """
    if isinstance(ids, str | bytes):
        raise DataError(f"{what}: expected a list of ids, found the single text {ids!r}; pass [{ids!r}]")
    if isinstance(ids, list):
        return list(ids), None
    native = nw.from_native(ids, pass_through=True, allow_series=True)
    if isinstance(native, nw.LazyFrame):
        native = native.collect()
    if isinstance(native, nw.DataFrame):
        if len(native.columns) != 1:
            raise DataError(f"{what}: expected one column of ids, found {', '.join(native.columns)}; select one")
        native = native[native.columns[0]]
    if isinstance(native, nw.Series):
        kind = native.implementation.value
        return native.to_list(), kind if kind in ("polars", "pandas", "pyarrow") else None
    # Arrays of NumPy and pyarrow hold values of their own kind, which no id equals; the list has Python's.
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        advice = f"; pass [{ids!r}]" if isinstance(ids, int) else ""
        raise DataError(f"{what}: expected a list of ids, found {ids!r}{advice}")
    return list(values), None


def framed(answer: pl.DataFrame, kind: FrameKind) -> Any:
    """The answer as a frame of the given library, which is imported only here."""
    if kind == "pandas":
        import pandas

        # Column by column: polars' own conversion needs pyarrow, which need not be installed.
        return pandas.DataFrame({name: answer[name].to_list() for name in answer.columns})
    if kind == "pyarrow":
        return answer.to_arrow()
    return answer


def found(ids: Vocabulary, raw: list[Id], unknown: Unknown, *, depth: int = 3) -> np.ndarray:
    """Rows of raw ids, -1 where unknown; raises or warns of those as the caller chose.

    Args:
        depth: How many calls up a warning is laid to; 3 is whoever called the function that asks.

    Raises:
        UnknownIdError: An id is unknown (with unknown="raise").
        ConfigError: `unknown` is none of its values.
    """
    if unknown not in get_args(Unknown):
        raise ConfigError(f"unknown: expected 'raise', 'skip', 'ignore' or 'popular', found {unknown!r}")
    if unknown == "raise":
        return ids.known_rows(raw)
    rows = ids.rows(raw)
    if unknown == "skip" and (rows < 0).any():
        missing = [one for one, row in zip(raw, rows, strict=True) if row < 0]
        warnings.warn(f"skipped {ids.unknown_message(missing)}", stacklevel=depth)
    return rows


def as_given(raw: list[Id], rows: np.ndarray, ids: Vocabulary) -> pl.Series:
    """The model's own ids where it knows them, else the given ones; all as text where one of these does not fit.

    Args:
        rows: The row of each id, -1 where it is unknown.

    Raises:
        UnknownIdError: An unknown id is no UTF-8 text.
    """
    own = ids.raw(np.maximum(rows, 0))
    unknown = np.flatnonzero(rows < 0)
    if not len(unknown):
        return own
    shown: list[object] = own.to_list()
    for place in unknown:
        shown[place] = raw[place]
    torn: list[Id] = [one for one in shown if isinstance(one, str) and in_utf8(one) != one]
    if torn:
        raise UnknownIdError(f"{ids.unknown_message(torn)}; an id is UTF-8 text, so no answer can name it")
    fitting = Integral if ids.integer else str
    try:
        if all(isinstance(one, fitting) and not isinstance(one, bool) for one in shown):
            return pl.Series(shown, dtype=ids.ids.dtype)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):  # an integer that is too large
        pass
    return pl.Series([str(one) for one in shown], dtype=pl.String)


def columns(rows: Sequence[Sequence[str]], *, left: Collection[int]) -> list[str]:
    """Rows of cells as lines of text, those of the columns at some places flush left and all others flush right."""
    from rich.cells import cell_len  # here, as it takes longer to import than all of the above

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]

    def padded(cell: str, at: int) -> str:
        space = " " * (widths[at] - cell_len(cell))  # wide letters, as of Japanese, take two places
        return cell + space if at in left else space + cell

    return ["  ".join(padded(cell, at) for at, cell in enumerate(row)).rstrip() for row in rows]
