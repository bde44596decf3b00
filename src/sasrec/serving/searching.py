"""Items found by what their id or title contains."""

from collections.abc import Sequence
from typing import final

import polars as pl


@final
class Search:
    """Ids and titles without the case of their letters."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str | None] | None) -> None:
        """Args: titles: One for each id, None where it has none."""
        lower = [
            pl.Series("id", ids, dtype=pl.String),
            pl.Series("title", titles or [None] * len(ids), dtype=pl.String),
        ]
        self._table = pl.DataFrame([one.str.to_lowercase() for one in lower]).with_row_index("row")

    def rows(self, words: str, *, limit: int) -> list[int]:
        """Where the id or title contains the words: first an id that is equal, then what begins with them."""
        wanted = words.lower()
        either = pl.col("id"), pl.col("title")
        contains = pl.any_horizontal(*(one.str.contains(wanted, literal=True) for one in either))
        begins = pl.any_horizontal(*(one.str.starts_with(wanted) for one in either))
        found = self._table.filter(contains).select("row", equal=pl.col("id") == wanted, begins=begins)
        order = found.sort("equal", "begins", "row", descending=[True, True, False], nulls_last=True)
        return order["row"].head(limit).to_list()
