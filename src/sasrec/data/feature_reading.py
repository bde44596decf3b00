"""Reading the categories of items from a file or frame."""

import os
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import polars as pl
from narwhals.stable.v2.typing import IntoFrame

from sasrec.data.columns import find_column
from sasrec.data.features import Features
from sasrec.data.formats import Table, open_file
from sasrec.data.frames import frame_table
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError

_LONG = {"feature", "value"}


def read_features(
    source: str | os.PathLike[str] | IntoFrame,
    items: Vocabulary,
    *,
    columns: Sequence[str] = (),
    separator: str | None = None,
    item: str | None = None,
) -> Features:
    """Read categories of items from a file or frame.

    Two shapes are understood: one row an item with a column for each feature, and (as RecTools has it) one row a
    value with the columns `feature` and `value`.

    Args:
        source: A file of any format that a log may have, or a frame of polars, pandas or pyarrow.
        items: The catalogue, as `log.items`; other items are left out.
        columns: Features to take, by name of their columns or in the column `feature`. May be left out in the second
            shape alone, where it takes all.
        separator: What parts several values in one text, as "|" in "Drama|War"; None takes texts whole. Lists are
            several values anyway.
        item: Column of the item ids; None looks for a usual name, or `id` in the second shape.

    Raises:
        DataError: A column is missing, the source knows none of the items, or no item has a value.
    """
    with open_file(source) if isinstance(source, str | os.PathLike) else nullcontext(frame_table(source)) as table:
        long = set(table.columns) >= _LONG
        key = find_column(table, "item", "id" if long and item is None and "id" in table.columns else item)
        if key is None:
            raise DataError(f'{table.name}: no column has a usual name of item ids; pass item="..."')
        if not long and not columns:
            others = [name for name in table.columns if name != key]
            raise DataError(f"{table.name}: name the columns that hold categories; there are {', '.join(others)}")
        frame = _long(table, key, columns) if long else _wide(table, key, columns)
    frame = frame.with_columns(_ids(frame["item"], items)).drop_nulls()
    if separator is not None:
        frame = frame.with_columns(pl.col("value").str.split(separator)).explode("value")
    frame = frame.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value") != "").unique()
    rows = items.rows(frame["item"])
    frame, rows = frame.filter(rows >= 0), rows[rows >= 0]
    if not len(frame):
        raise DataError(f"{table.name}: no item of the log has a value there; its ids are like {items.ids[0]!r}")
    pairs = frame.select("feature", "value").unique().sort("feature", "value").with_row_index("row")
    values = frame.select("feature", "value").join(pairs, on=["feature", "value"], how="left", maintain_order="left")
    order = np.lexsort((values["row"].to_numpy(), rows))
    offsets = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(items)))))
    return Features(values["row"].to_numpy()[order].astype(np.int64), offsets, tuple(pairs["feature", "value"].rows()))


def _wide(table: Table, key: str, columns: Sequence[str]) -> pl.DataFrame:
    """Columns item, feature and value (text) from one column a feature."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{table.name}: no column {missing[0]!r}; columns are {', '.join(table.columns)}")
    read = table.read([key, *columns])
    parts = []
    for name in columns:
        part = pl.DataFrame({"item": read[key], "feature": [name] * len(read), "value": read[name]})
        parts.append(
            (part.explode("value") if isinstance(read[name].dtype, pl.List) else part).cast({"value": pl.String})
        )
    return pl.concat(parts)


def _long(table: Table, key: str, columns: Sequence[str]) -> pl.DataFrame:
    """The same from one row a value."""
    read = table.read([key, "feature", "value"]).rename({key: "item"})
    read = read.cast({"feature": pl.String, "value": pl.String})
    missing = [name for name in columns if name not in read["feature"]]
    if missing:
        raise DataError(
            f"{table.name}: no feature {missing[0]!r}; there are {', '.join(read['feature'].unique().sort())}"
        )
    return read.filter(pl.col("feature").is_in(columns)) if columns else read


def _ids(ids: pl.Series, items: Vocabulary) -> pl.Series:
    # Text first: an integer column has to match text ids, and text in a file without types has to match integers.
    return ids.cast(pl.String).cast(items.ids.dtype, strict=False).alias("item")
