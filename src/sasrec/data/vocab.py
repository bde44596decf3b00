"""Raw ids and their rows: the only place where one becomes the other."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from unicodedata import normalize

import numpy as np
import polars as pl

from sasrec.errors import DataError, UnknownIdError
from sasrec.words import counted

Id = str | int

INTEGER = "^(?:0|-?[1-9][0-9]{0,18}|1[0-9]{19})$"
"""The text of an integer that comes back from it unchanged; 007, +7 and -0 do not, nor digits of other scripts."""


def integers(text: pl.Series, type_: type[pl.DataType] | pl.DataType) -> pl.Series:
    """The integers that text ids are; null where one is none, or none of this type."""
    return text.set(~text.str.contains(INTEGER), None).cast(type_, strict=False)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The distinct ids of one kind, sorted, so that a row never depends on the order of the file.

    Attributes:
        ids: Distinct raw ids in ascending order; text (`pl.String`) or integers
            (`pl.Int64`, or `pl.UInt64` where the values need it). Row r names `ids[r]`.
        kind: What the ids name, for messages: "user" or "item".
    """

    ids: pl.Series
    kind: str

    def __post_init__(self) -> None:
        if self.ids.dtype not in (pl.String, pl.Int64, pl.UInt64):
            raise DataError(f"{self.kind} ids must be text or integers, found {self.ids.dtype}")
        if self.ids.null_count() or not self.ids.is_sorted() or self.ids.n_unique() != len(self.ids):
            raise DataError(f"{self.kind} vocabulary is not a sorted list of distinct ids")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def integer(self) -> bool:
        """True where the raw ids are integers, False where they are text."""
        return self.ids.dtype != pl.String

    @cached_property
    def _row_of(self) -> dict[object, int]:
        return {raw: row for row, raw in enumerate(self.ids.to_list())}

    def rows(self, raw: Iterable[Id]) -> np.ndarray:
        """Row of each raw id, int64 of shape (len(raw),); -1 where the id is unknown."""
        return np.fromiter((self._row(_plain(one)) for one in raw), dtype=np.int64)

    def _row(self, one: object) -> int:
        try:
            # bool is an int to Python; True must not become item 1.
            return -1 if isinstance(one, bool) else self._row_of.get(one, -1)
        except TypeError:  # a list, say, is no id
            return -1

    def known_rows(self, raw: Iterable[Id]) -> np.ndarray:
        """As `rows`, int64 of shape (ids,); UnknownIdError, which names the first five, where an id is unknown."""
        raw = list(raw)
        rows = self.rows(raw)
        if (rows < 0).any():
            raise UnknownIdError(self.unknown_message([one for one, row in zip(raw, rows, strict=True) if row < 0]))
        return rows

    def matched(self, ids: pl.Series) -> pl.Series:
        """Ids of another table as those here are, text or integers; null where they cannot be."""
        # Text first: an integer column has to match text ids, and text in a file without types has to match integers.
        text = ids.cast(pl.String)
        return integers(text, self.ids.dtype) if self.integer else text

    def unknown_message(self, unknown: list[Id]) -> str:
        """The sentence that names unknown ids and, where the type is the likely cause, says so."""
        shown = ", ".join(repr(_plain(one)) for one in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        message = f"{counted(len(unknown), f'unknown {self.kind}')}: {shown}; known are {len(self):,}"
        if not any(isinstance(_plain(one), int if self.integer else str) for one in unknown):
            message += f", whose ids are {'integers' if self.integer else 'text'}"
        forms = (normalize(form, one) for one in unknown[:5] if isinstance(one, str) for form in ("NFC", "NFD"))
        if near := next((one for one in forms if self._row(one) >= 0), None):
            return f"{message}, and {near!a} among them, which is the same text in another Unicode form"
        return f"{message}, such as {self.ids[0]!r}" if len(self) else message

    def raw(self, rows: np.ndarray) -> pl.Series:
        """Raw ids of the given rows, of whatever shape and each from 0 to below the number of ids, in their order."""
        # As polars' own kind of index: it takes any other on a longer way, some through its pool of threads.
        return self.ids[pl.Series(rows.astype(np.uint32).ravel())]

    def parse(self, text: str) -> Id:
        """A raw id from text, as typed on a command line: the text itself, or an integer where ids are integers."""
        return int(text) if self.integer and re.fullmatch(INTEGER, text) else text  # "01" is another id than 1


def _plain(one: object) -> object:
    return one.item() if isinstance(one, np.generic) else one
