"""Frames one after the other into one file, never all in memory."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from sasrec.files import durable_file


def write_frames(path: Path, frames: Iterator[pl.DataFrame], *, replace: bool) -> int:
    """Write frames of one schema as one file, CSV by its suffix or else Parquet, which appears whole or not at all.

    Returns:
        Rows written.

    Raises:
        OutputError: The file exists and `replace` is False, or cannot be written.
        ValueError: There is no frame, so no schema.
    """
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
