"""Frames one after the other into one file, never all in memory."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from sasrec.errors import OutputError
from sasrec.files import durable_file, in_utf8


def check_format(path: Path) -> None:
    """Refuse a file whose name promises another format than would be written, or cannot be opened by polars.

    Raises:
        OutputError: The name ends neither in `.csv` nor in `.parquet`, and not without a suffix; or the path is not
            UTF-8.
    """
    if in_utf8(place := path.absolute()) != str(place):
        raise OutputError(f"{in_utf8(place)}: is a path that is not UTF-8 text; choose another name")
    if (suffix := path.suffix).lower() not in (".csv", ".parquet", ""):
        raise OutputError(
            f"{path}: is to end in {suffix}, which is not written; name it .csv or .parquet (Parquet without a suffix)"
        )


def write_frames(path: Path, frames: Iterator[pl.DataFrame], *, replace: bool) -> int:
    """Write frames of one schema as one file, CSV or Parquet by its suffix, which appears whole or not at all.

    Returns:
        Rows written.

    Raises:
        OutputError: As `check_format`; or the file exists and `replace` is False, or cannot be written.
        ValueError: There is no frame, so no schema.
    """
    check_format(path)
    with durable_file(path, replace=replace) as draft:
        first = next(frames, None)
        if first is None:
            raise ValueError("no frame to write")
        written = 0

        def source(
            _columns: list[str] | None, _predicate: pl.Expr | None, _rows: int | None, _size: int | None
        ) -> Iterator[pl.DataFrame]:
            # Polars pulls; there is no selection, filter or limit, as the sink wants every row.
            nonlocal written
            for frame in chain([first], frames):
                written += len(frame)
                yield frame

        rows = register_io_source(source, schema=first.schema)
        (rows.sink_csv if path.suffix.lower() == ".csv" else rows.sink_parquet)(draft)
    return written
