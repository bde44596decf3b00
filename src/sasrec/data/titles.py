"""Titles of items, for people to read beside the ids."""

from pathlib import Path

import polars as pl

from sasrec.data.columns import find_column, listed, read_ids, read_texts
from sasrec.data.formats import open_file
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError


def read_titles(path: str | Path, items: Vocabulary) -> pl.DataFrame:
    """The titles in a file of items, in any format that a log may have.

    Args:
        path: A file with a column of item ids and one of titles, both of a usual name.
        items: The items that titles are wanted for; others in the file are left out.

    Returns:
        Columns `item_id`, of the type of `items`, and `title`; one row an item. An item listed twice has its first
        title.

    Raises:
        DataError: The file cannot be read, lacks one of the columns or has one that cannot be read as ids or text, or
            knows none of the items.
    """
    with open_file(path) as table:
        item, title = find_column(table, "item", None), find_column(table, "title", None)
        if item is None or title is None:
            missing = "item ids" if item is None else "titles"
            raise DataError(
                f"{table.name}: no column has a usual name of {missing}; columns are {listed(table.columns)}; "
                "rename them item_id and title"
            )
        rows = table.read([item, title])
    where = f"{table.name}, column"
    ids = items.matched(read_ids(rows[item], typed=table.typed, where=f"{where} {item!r}"))
    texts = read_texts(rows[title], where=f"{where} {title!r}")
    titles = pl.DataFrame({"item_id": ids, "title": texts}).filter(items.rows(ids) >= 0)
    if titles.is_empty():
        told, known = (", ".join(map(repr, some.head(3))) for some in (rows[item], items.ids))
        raise DataError(
            f"{table.name}: no item of it is known to the model; its ids are like {told}, the model's like {known}"
        )
    return titles.unique("item_id", keep="first", maintain_order=True)
