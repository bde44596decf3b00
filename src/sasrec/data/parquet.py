"""What a Parquet file unfolds to, read off its headers before any of it is unpacked.

A few kilobytes can stand for gigabytes, by compression or by a value with a count, and polars takes the memory that a
page's header asks for. The headers are structures of Thrift's compact protocol: fields with numbers, no names.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sasrec.errors import DataError

_MARK = b"PAR1"
# Fields by their numbers in parquet.thrift.
_ROW_GROUPS, _COLUMNS, _CHUNK = 4, 1, 3
_PACKED_BYTES, _FIRST_PAGE, _DICTIONARY = 7, 9, 11
_PAGE_BYTES, _PACKED_PAGE_BYTES, _VALUES = 2, 3, 1
_DICTIONARY_PAGE = 7
# Where each kind of page says how its values are written: a page, a dictionary, a page of version 2.
_ENCODING_OF = {5: 2, _DICTIONARY_PAGE: 2, 8: 4}
# Plain, by the two kinds of dictionary, and as runs: what sasrec writes. Values by what they share with the one before
# could unfold to any size, whatever the page's.
_ENCODINGS = {0, 2, 3, 8}


class Page(NamedTuple):
    """What a page's header says of it.

    Attributes:
        values: Values in it; none in a dictionary.
        bytes: Its size when it is unpacked, with the header.
    """

    values: int
    bytes: int


def pages(data: bytes) -> Iterator[Page]:
    """The pages of all columns of a whole file, one at a time: whoever has seen enough need not follow the others.

    Raises:
        DataError: This is no Parquet file, its headers lead nowhere, or it is written in a way that none of ours is.
    """
    try:
        if data[:4] != _MARK or data[-4:] != _MARK:
            raise DataError("is no Parquet file")
        footer = _Headers(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")).structure()
        for group in footer[_ROW_GROUPS]:
            for column in group[_COLUMNS]:
                chunk = column[_CHUNK]
                at = chunk.get(_DICTIONARY, chunk[_FIRST_PAGE])
                end = at + chunk[_PACKED_BYTES]
                while at < end:
                    headers = _Headers(data, at)
                    header = headers.structure()
                    unpacked, packed = header[_PAGE_BYTES], header[_PACKED_PAGE_BYTES]
                    values = _values(header)
                    if min(unpacked, packed, values) < 0:
                        raise DataError("a page of the Parquet file has less than nothing in it")
                    yield Page(values, headers.at - at + unpacked)
                    at = headers.at + packed
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError("the headers of the Parquet file are damaged") from None


def _values(header: dict[int, Any]) -> int:
    """The number of values of a page, none for a dictionary."""
    kinds = [kind for kind in _ENCODING_OF if kind in header]
    if len(kinds) != 1:  # which of two a reader takes is its own choice
        raise DataError("a page of the Parquet file is of no kind, or of several")
    page = header[kinds[0]]
    if (encoding := page[_ENCODING_OF[kinds[0]]]) not in _ENCODINGS:
        raise DataError(f"a page of the Parquet file is encoded as sasrec encodes none ({encoding})")
    values: int = 0 if kinds[0] == _DICTIONARY_PAGE else page[_VALUES]
    return values


class _Headers:
    """A place in the file from which structures are read."""

    def __init__(self, data: bytes, at: int) -> None:
        if at < 0:
            raise DataError("the headers of the Parquet file lie outside of it")
        self._data, self.at = data, at

    def structure(self) -> dict[int, Any]:
        """Values by the numbers of their fields."""
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._signed()
            found[field] = self._value(head & 15) if head & 15 > 2 else head & 15 == 1  # what is true is said at once
        return found

    def _value(self, kind: int) -> Any:
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 8:  # text, which nobody asks for
            length = self._number()  # which moves the place itself
            self.at += length
            return None
        if kind == 9:
            head = self._byte()
            count = self._number() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.structure()
        if kind in (1, 2, 3):
            return self._byte()
        raise DataError(f"the headers of the Parquet file hold what they never do (kind {kind})")

    def _signed(self) -> int:
        number = self._number()
        return number >> 1 ^ -(number & 1)

    def _number(self) -> int:
        number = 0
        for place in range(0, 70, 7):  # 64 bits
            byte = self._byte()
            number |= (byte & 127) << place
            if byte < 128:
                return number
        raise DataError("the headers of the Parquet file hold a number of more than 64 bits")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]
