"""SQLite's write-ahead log, looked at before SQLite does: a log that is damaged is told from one that ends early.

SQLite reads a log up to the first frame that does not match its checksum, and takes the rest for what a crash left
half written. A flipped bit in the middle would so undo everything after it, without a word.
"""

import struct
from pathlib import Path
from typing import NamedTuple

_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_MAGIC = 0x377F0682  # with the last bit set, checksums are over big-endian words
_WORD = 2**32 - 1


class _Sums(NamedTuple):
    """The two running sums of a checksum."""

    first: int
    second: int

    def over(self, data: bytes, *, big: bool) -> "_Sums":
        first, second = self
        words = struct.unpack(f"{'>' if big else '<'}{len(data) // 4}I", data)
        for even, odd in zip(words[::2], words[1::2], strict=True):
            first = first + even + second & _WORD
            second = second + odd + first & _WORD
        return _Sums(first, second)


def is_damaged(log: Path) -> bool:
    """Whether a log holds whole transactions after something that does not match its checksum.

    A transaction is begun once the one before is on the disk. So what a crash leaves half written is the last one
    alone: it is never called damaged, whatever has become of it.

    Args:
        log: The file, which need not be there; nobody may write to it meanwhile.

    Source:
        The file format of SQLite, https://www.sqlite.org/fileformat2.html#walformat
    """
    data = log.read_bytes() if log.exists() else b""
    if len(data) < _HEADER.size:
        return False
    magic, _, page, _, *salts, first, second = _HEADER.unpack_from(data)
    big, sums = bool(magic & 1), _Sums(0, 0).over(data[: _HEADER.size - 8], big=bool(magic & 1))
    whole = magic | 1 == _MAGIC | 1 and sums == (first, second)
    if not whole:  # the frames have the salts too, and our pages are SQLite's usual ones
        page, salts = 4096, list(_FRAME.unpack_from(data.ljust(_HEADER.size + _FRAME.size, b"\0"), _HEADER.size)[2:4])
    ended = False  # whether a transaction has ended since something did not match
    for start in range(_HEADER.size, len(data) - _FRAME.size - page + 1, _FRAME.size + page):
        _, committed, *found, first, second = _FRAME.unpack_from(data, start)
        if whole:
            body = data[start : start + 8] + data[start + _FRAME.size : start + _FRAME.size + page]
            sums = sums.over(body, big=big)
            whole = found == salts and sums == (first, second)
        if not whole and found == salts:
            if ended:
                return True
            ended = bool(committed)
    return False
