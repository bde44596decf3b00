"""What comes in as users and goes out as a frame, in the caller's own kind."""

from collections.abc import Iterable
from typing import Any, Literal

import narwhals.stable.v2 as nw
import polars as pl
from narwhals.stable.v2.typing import IntoFrame, IntoSeries

from sasrec.data.log import FrameKind
from sasrec.data.vocab import Id
from sasrec.errors import DataError

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
