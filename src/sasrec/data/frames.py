"""Frames of polars, pandas and pyarrow as tables; none but polars needs to be installed."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from narwhals.exceptions import DuplicateError
from narwhals.stable.v2.typing import IntoFrame

from sasrec.data.formats import Table, open_file
from sasrec.data.log import FrameKind
from sasrec.errors import DataError


def opened(source: str | os.PathLike[str] | IntoFrame, format: str | None = None) -> AbstractContextManager[Table]:
    """A file, or a frame, as a table for the length of a `with` block; arguments and errors as of the two for each."""
    if isinstance(source, str | os.PathLike):
        return open_file(source, format)
    if format is not None:
        raise DataError(f"format={format!r} is for files; leave it out for a frame")
    return nullcontext(frame_table(source))


def frame_table(frame: IntoFrame) -> Table:
    """A polars DataFrame or LazyFrame, pandas DataFrame or pyarrow Table, as a table whose columns are read on demand.

    Levels of pandas' index that have a name are columns like any other.

    Raises:
        DataError: It is none of these, or has two columns of one name or one whose name is no text.
    """
    try:
        wrapped, levels = _with_levels(nw.from_native(frame))
        schema = wrapped.collect_schema()
        columns = tuple(schema.names())
    except TypeError:
        wrapped = None
    except DuplicateError as error:
        raise DataError(f"the frame has several columns of one name: {' '.join(str(error).split())}") from None
    if wrapped is None or wrapped.implementation.value not in get_args(FrameKind):
        raise DataError(
            f"cannot read a log from {type(frame).__module__}.{type(frame).__qualname__}; "
            "pass a path, a polars or pandas DataFrame, or a pyarrow Table"
        )
    kind: FrameKind = wrapped.implementation.value
    if nameless := [one for one in columns if not isinstance(one, str)]:
        raise DataError(
            f"{kind} frame: the names of columns must be text, found {nameless[0]!r}; name them, "
            'e.g. frame.columns = ["user", "item", "time"]'
        )

    notes: list[str] = []

    def read(wanted: Sequence[str]) -> pl.DataFrame:
        # By place, as polars takes a name such as ^i.*$ for a pattern.
        chosen = wrapped.select(nw.nth([columns.index(one) for one in wanted]))
        if isinstance(chosen, nw.LazyFrame):
            chosen = chosen.collect()
        if kind == "pandas":
            notes[:] = [
                f"column {name!r} holds integers and text; all are read as text, so that 3 and '3' are the same"
                for name in wanted
                if isinstance(schema[name], nw.Object) and {*map(type, chosen[name].to_list())} >= {int, str}
            ]
            return pl.DataFrame([_from_pandas(chosen[name]) for name in wanted])
        return chosen.to_polars()

    dated = tuple(one for one, type_ in schema.items() if isinstance(type_, nw.Date | nw.Datetime))
    return Table(f"{kind} frame", "frame", columns, True, read, kind, notes=notes, dated=dated, levels=levels)


def _with_levels(frame: Any) -> tuple[Any, tuple[str, ...]]:
    """A frame with the levels of its index that have a name, as pandas alone has, as first columns; and their names."""
    if frame.implementation.value != "pandas":
        return frame, ()
    plain = frame.to_native()
    names = [*plain.index.names]
    # A level that was a column and stayed one holds the same once more.
    levels = [one for one in names if isinstance(one, str) and one not in plain.columns and names.count(one) == 1]
    return (nw.from_native(plain.reset_index(level=levels)) if levels else frame), tuple(levels)


def _from_pandas(series: nw.Series[Any]) -> pl.Series:
    # polars converts pandas through pyarrow, which need not be there; NumPy and Python objects always are.
    missing = series.is_null().to_numpy()
    if series.dtype.is_integer():
        # A nullable integer column would become floats, and large ids other ids.
        values = series.fill_null(0).to_numpy()
    elif series.dtype.is_float():
        values = series.to_numpy()
    elif isinstance(series.dtype, nw.Datetime):
        # NumPy gives zoned times as UTC; polars knows no whole seconds.
        values = series.to_numpy()
        values = values.astype("M8[ms]") if values.dtype == "M8[s]" else values
    else:
        return _from_objects(series.name, series.to_list(), missing)
    return pl.Series(series.name, values).set(pl.Series(missing), None)


def _from_objects(name: str, values: list[Any], missing: np.ndarray) -> pl.Series:
    if missing.any():
        values = [None if gone else value for value, gone in zip(values, missing, strict=True)]
    kinds = {type(value) for value in values} - {type(None)}
    if missing.any() and kinds == {np.ndarray}:
        values = [None if value is None else value.tolist() for value in values]
    if kinds == {int, str}:
        values = [None if value is None else str(value) for value in values]
    try:
        return pl.Series(name, values)
    except (TypeError, pl.exceptions.PolarsError):
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(
            f"pandas frame: column {name!r} holds values of {found}; make them all text or numbers"
        ) from None
