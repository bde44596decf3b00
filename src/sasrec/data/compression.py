"""Compressed log files as plain temporary ones, bounded in size and whole to the last byte."""

import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from sasrec.errors import DataError
from sasrec.files import in_utf8

# A few kilobytes can hold gigabytes; beyond this the caller decompresses by hand, knowingly.
LARGEST_PLAIN_BYTES = 8 << 30

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
# One Zstandard block of 4 bytes can stand for 128 KiB, so small pieces bound the memory of a step (32 MiB).
_PIECE_BYTES = 1024


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@contextmanager
def unwrapped(path: Path, *, name: str | None = None, layers: int = 4) -> Iterator[Path]:
    """A path to the same content without compression and without a UTF-8 byte order mark.

    The first bytes decide, not the suffix. The path is the given one where nothing is to be taken off
    and it is UTF-8; otherwise that of a temporary copy, or link, that lives as long as the `with` block.

    Args:
        path: A regular file.
        name: What messages call it; None takes the file's own name.
        layers: Compressions and marks, one inside of the other, that are taken off at most.

    Raises:
        DataError: The compressed file is cut short, damaged or larger than `LARGEST_PLAIN_BYTES` when unpacked, has
            more layers, or nothing on this machine reads its compression.
    """
    name = name or path.name
    with path.open("rb") as file:
        head = file.read(4)
    make_decoder: Callable[[], _Decoder] | None = None
    if head.startswith(_GZIP):
        make_decoder = partial(zlib.decompressobj, wbits=31)
    elif head == _ZSTANDARD:
        make_decoder = _zstandard(name)
    elif path.suffix.lower() in (".gz", ".zst"):
        raise DataError(f"{name}: not a {path.suffix} file, whose first bytes would say so; rename or mend it")
    elif not head.startswith(_BYTE_ORDER_MARK):
        if in_utf8(path) == str(path):
            yield path
            return
        with _scratch(name) as folder:
            # polars opens no file whose path is not UTF-8.
            link = folder / "plain"
            link.symlink_to(path.absolute())
            yield link
        return
    if not layers:
        raise DataError(
            f"{name}: is compressed, or has byte order marks, again and again; unpack it first and name the plain file"
        )
    with _scratch(name) as folder:
        plain = folder / "plain"
        try:
            if make_decoder is None:
                with path.open("rb") as source, plain.open("wb") as target:
                    source.seek(len(_BYTE_ORDER_MARK))
                    shutil.copyfileobj(source, target)
            else:
                _decompress(path, plain, make_decoder, name)
        except OSError as error:
            raise _refused(name, error) from error
        # What was inside may have a mark, or be compressed once more.
        with unwrapped(plain, name=name, layers=layers - 1) as inner:
            yield inner


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    try:
        scratch = tempfile.TemporaryDirectory(prefix="sasrec-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _refused(name, error) from error
    with scratch as folder:
        yield Path(folder)


def _refused(name: str, error: OSError) -> DataError:
    place = tempfile.tempdir or "a temporary folder"  # the chosen one, unless there was none to choose
    return DataError(
        f"{name}: cannot be unpacked into {place}: {error.strerror}; make room there, or set TMPDIR to another folder"
    )


def _zstandard(name: str) -> Callable[[], _Decoder]:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor

        return ZstdDecompressor
    try:
        import zstandard
    except ImportError:
        raise DataError(
            f'{name}: Zstandard needs one more package; pip install "sasrec[zstd]", or unpack the file'
        ) from None
    return lambda: zstandard.ZstdDecompressor().decompressobj()


def _decompress(path: Path, plain: Path, make_decoder: Callable[[], _Decoder], name: str) -> None:
    decoder, size = make_decoder(), 0
    with path.open("rb") as source, plain.open("wb") as target:
        try:
            for piece in iter(partial(source.read, _PIECE_BYTES), b""):
                rest = piece
                while rest:
                    if decoder.eof:
                        # Several compressed files one after the other make one, as with `cat`.
                        decoder = make_decoder()
                    size += target.write(decoder.decompress(rest))
                    if size > LARGEST_PLAIN_BYTES:
                        raise DataError(
                            f"{name}: unpacks to more than {LARGEST_PLAIN_BYTES:,} bytes; "
                            "if that is right, unpack it first and name the plain file"
                        )
                    rest = decoder.unused_data
        # zlib.error and zstandard.ZstdError share no base below Exception.
        except Exception as error:
            if isinstance(error, DataError | OSError):
                raise
            raise DataError(f"{name}: the compressed data is damaged after {size:,} bytes: {error}") from error
    if not decoder.eof:
        raise DataError(f"{name}: the compressed file is cut short after {size:,} bytes; copy or download it again")
