"""Items found by what their id or title contains."""

from typing import final

import polars as pl

from sasrec.serving.answering import Served
from sasrec.serving.api import FoundItem


@final
class Search:
    """The ids and titles of one version, without the case of their letters."""

    def __init__(self, served: Served) -> None:
        """Args: served: The version whose items are searched."""
        self.served = served
        texts = pl.Series("id", served.items.texts, dtype=pl.String)
        titles = pl.Series("title", served.titles or [None] * len(texts), dtype=pl.String)
        self._table = pl.DataFrame([texts.str.to_lowercase(), titles.str.to_lowercase()]).with_row_index("row")

    def find(self, words: str, *, limit: int) -> list[FoundItem]:
        """Items whose id or title contains the words: first an id that is equal, then what begins with them."""
        wanted = words.lower()
        either = pl.col("id"), pl.col("title")
        contains = pl.any_horizontal(*(one.str.contains(wanted, literal=True) for one in either))
        begins = pl.any_horizontal(*(one.str.starts_with(wanted) for one in either))
        found = self._table.filter(contains).select("row", equal=pl.col("id") == wanted, begins=begins)
        order = found.sort("equal", "begins", "row", descending=[True, True, False], nulls_last=True)
        titles = self.served.titles
        return [
            FoundItem(self.served.items.texts[row], None if titles is None else titles[row])
            for row in order["row"].head(limit).to_list()
        ]
