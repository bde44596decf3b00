"""Reading the features of items from a file or frame."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from narwhals.stable.v2.typing import IntoFrame

from sasrec.data.columns import find_column, listed, read_ids, read_texts
from sasrec.data.features import Features, Recipe
from sasrec.data.formats import Table
from sasrec.data.frames import opened
from sasrec.data.sequences import offsets_of
from sasrec.data.vectors import ARRAY, VECTOR, array_table, centre_and_scale, read_vectors, standardised
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError

_LONG = {"feature", "value"}

Source = str | os.PathLike[str] | IntoFrame


def read_features(
    source: Source,
    items: Vocabulary,
    *,
    columns: Sequence[str] = (),
    separator: str | None = None,
    vector: str | None = None,
    item: str | None = None,
) -> Features:
    """Read categories and vectors of items from a file or frame.

    Two shapes are understood: one row an item with a column for each feature, and (as RecTools has it) one row a
    value with the columns `feature` and `value`, which has no vectors. Besides, a file `NAME.npy` is an array with a
    row for each item, whose ids stand in `NAME.ids`, one a line.

    From vectors the mean of the items' vectors is taken, and all are divided by one number, such that their mean
    squared length is 1: how large their numbers are beside one another stays as it was given.

    Args:
        source: A file of any format that a log may have, an array, or a frame of polars, pandas or pyarrow.
        items: The catalogue, as `log.items`; other items are left out.
        columns: Features to take, by name of their columns or in the column `feature`. May be left out in the second
            shape, where it takes all, and where there are vectors.
        separator: What parts several values in one text, as "|" in "Drama|War"; None takes texts whole. Lists are
            several values anyway.
        vector: Column of vectors, each a list of equally many numbers; or what the names of numbered columns begin
            with, as "v" for v0, v1, v2. An array needs no name.
        item: Column of the item ids; None looks for a usual name, or `id` in the second shape.

    Raises:
        DataError: A column is missing, wanted twice or cannot be read as ids or text, a vector is none, the source
            knows none of the items, or no item has a feature.
    """
    with _opened(source) as table:
        if table.format == ARRAY:
            vector = VECTOR
        recipe = Recipe(tuple(columns), separator, item, vector=vector)
        name, values = table.name, _values(table, recipe, items)
        found = None if vector is None else read_vectors(table, _key(table, item), vector, items)
    if found is None and (vector is not None or not len(values)):
        what = "value" if vector is None else "vector"
        raise DataError(f"{name}: no item of the log has a {what} there; its ids are like {items.ids[0]!r}")
    if found is not None:
        centre, scale = centre_and_scale(*found)
        if not scale > 0:
            raise DataError(f"{name}: all vectors of {vector!r} are the same and tell no items apart; leave them out")
        recipe = replace(recipe, centre=tuple(centre.tolist()), scale=scale)
    pairs = values.select("feature", "value").unique().sort("feature", "value")
    return _assembled(values, found, replace(recipe, values=tuple(pairs.rows())), items)


def read_more(source: Source, items: Vocabulary, recipe: Recipe) -> Features:
    """Read the features of other items as a recipe says; values that it does not know are left out.

    Raises:
        DataError: As `read_features`, or vectors are longer or shorter than those of the recipe.
    """
    with _opened(source) as table:
        values = _values(table, recipe, items)
        found = None if recipe.vector is None else read_vectors(table, _key(table, recipe.item), recipe.vector, items)
        if found is not None and found[0].shape[1] != len(recipe.centre):
            raise DataError(
                f"{table.name}: vectors of {found[0].shape[1]:,} numbers; the model was trained with vectors of "
                f"{len(recipe.centre):,}"
            )
    return _assembled(values, found, recipe, items)


def read_items(source: Source, like: Vocabulary, *, item: str | None = None) -> Vocabulary:
    """The items that a table of features has and a catalogue has not.

    Raises:
        DataError: An id cannot be one of the catalogue's kind, as text among integers, or no log may have it.
    """
    with _opened(source) as table:
        given = _read(table, _key(table, item), ())[0].drop_nulls()
    ids = like.matched(given)
    if ids.null_count():
        wrong = given.filter(ids.is_null())[0]
        raise DataError(f"{table.name}: the id {wrong!r} is no integer, as all that the model knows are")
    return Vocabulary(ids.filter(like.rows(ids) < 0).unique().sort(), "item")


def _opened(source: Source) -> AbstractContextManager[Table]:
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == f".{ARRAY}":
        return nullcontext(array_table(Path(source)))
    return opened(source)


def _key(table: Table, item: str | None) -> str:
    """The column of item ids."""
    key = find_column(table, "item", "id" if _is_long(table) and item is None and "id" in table.columns else item)
    if key is None:
        raise DataError(f'{table.name}: no column has a usual name of item ids; pass item="..."')
    return key


def _read(table: Table, key: str, columns: Sequence[str]) -> tuple[pl.Series, pl.DataFrame]:
    """The ids of the items, and the other columns as they are."""
    wanted = [key, *columns]
    if doubled := [name for name in columns if wanted.count(name) > 1]:
        raise DataError(f"{table.name}: column {doubled[0]!r} is wanted more than once; name it once, and not the ids'")
    read = table.read(wanted)
    return read_ids(read[key], typed=table.typed, where=f"{table.name}, column {key!r}"), read


def _is_long(table: Table) -> bool:
    return set(table.columns) >= _LONG


def _values(table: Table, recipe: Recipe, items: Vocabulary) -> pl.DataFrame:
    """Row of the item, feature and value (text) of every category that an item has, none twice."""
    key, columns = _key(table, recipe.item), recipe.columns
    long = _is_long(table) and recipe.vector is None
    if not long and not columns and recipe.vector is None:
        others = [name for name in table.columns if name != key]
        raise DataError(f"{table.name}: name the columns that hold categories or vectors; there are {listed(others)}")
    frame = _long(table, key, columns) if long else _wide(table, key, columns)
    frame = frame.with_columns(items.matched(frame["item"]).alias("item")).drop_nulls()
    if recipe.separator is not None:
        frame = frame.with_columns(pl.col("value").str.split(recipe.separator)).explode("value")
    frame = frame.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value") != "").unique()
    frame = frame.with_columns(pl.Series("row", items.rows(frame["item"])))
    return frame.filter(pl.col("row") >= 0).select("row", "feature", "value")


def _wide(table: Table, key: str, columns: Sequence[str]) -> pl.DataFrame:
    """Columns item, feature and value (text) from one column a feature."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{table.name}: no column {missing[0]!r}; columns are {listed(table.columns)}")
    ids, read = _read(table, key, columns)
    parts = [pl.DataFrame(schema={"item": ids.dtype, "feature": pl.String, "value": pl.String})]
    for name in columns:
        values = read[name]
        if isinstance(values.dtype, pl.Array):
            values = values.cast(pl.List(values.dtype.inner))
        part = pl.DataFrame({"item": ids, "feature": [name] * len(read), "value": values})
        part = part.explode("value") if isinstance(values.dtype, pl.List) else part
        texts = _read_values(part["value"], where=f"{table.name}, column {name!r}")
        parts.append(part.with_columns(value=texts))
    return pl.concat(parts)


def _read_values(values: pl.Series, *, where: str) -> pl.Series:
    """Values as text; 1990.0 is 1990, as a single gap makes floats of a whole column."""
    return read_texts(values, where=where).str.replace(r"(?-u)^(-?\d+)\.0$", "$1")


def _long(table: Table, key: str, columns: Sequence[str]) -> pl.DataFrame:
    """The same from one row a value."""
    ids, read = _read(table, key, ("feature", "value"))
    where = f"{table.name}, column"
    texts = {
        "feature": read_texts(read["feature"], where=f"{where} 'feature'"),
        "value": _read_values(read["value"], where=f"{where} 'value'"),
    }
    read = pl.DataFrame({"item": ids, **texts})
    missing = [name for name in columns if name not in read["feature"]]
    if missing:
        there = listed(read["feature"].unique().sort().to_list())
        raise DataError(f"{table.name}: no feature {missing[0]!r}; there are {there}")
    return read.filter(pl.col("feature").is_in(columns)) if columns else read


def _assembled(
    values: pl.DataFrame, found: tuple[np.ndarray, np.ndarray] | None, recipe: Recipe, items: Vocabulary
) -> Features:
    row_of = {pair: row for row, pair in enumerate(recipe.values)}
    rows = np.array([row_of.get(pair, -1) for pair in values.select("feature", "value").rows()], dtype=np.int64)
    owners = values["row"].to_numpy()[rows >= 0]
    rows = rows[rows >= 0]
    order = np.lexsort((rows, owners))
    offsets = offsets_of(np.bincount(owners, minlength=len(items)))
    vectors, known = None, None
    if recipe.vector is not None:
        centre = np.array(recipe.centre)
        raw, known = found or (np.zeros((len(items), len(centre))), np.zeros(len(items), dtype=bool))
        vectors = standardised(raw, known, centre, recipe.scale)
    return Features(rows[order], offsets, vectors, known, recipe)
