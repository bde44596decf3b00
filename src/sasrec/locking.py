"""One writer of a path at a time, one result in a place, and none in that of what is read."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import permutations, product
from pathlib import Path

from sasrec.errors import OutputError
from sasrec.files import check_free


@contextmanager
def held(path: Path, *, doing: str) -> Iterator[None]:
    """Keep a path to this block: whoever else asks for it meanwhile, in this process or another one, is refused.

    The hold is a lock of the system on a file beside, so that it ends with the process, however that ends.

    Args:
        doing: What the holder does, for the message to others: "a training writes there".

    Raises:
        OutputError: Another one holds it, or the system cannot lock files there.
    """
    import fcntl  # not on every system that can read a model

    check_free(path, replace=True, folder=True)
    lock = path.absolute().parent / f".{path.name}.lock"
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before may have removed the file between our opening it and locking it.
            alone = os.path.samestat(os.fstat(handle), os.lstat(lock))
        except (BlockingIOError, FileNotFoundError):
            alone = False
        except OSError as error:
            raise OutputError(f"{path}: cannot be locked against others: {error.strerror}") from None
        if not alone:
            raise OutputError(f"{path}: {doing} at this moment; wait until it ends, or choose another name")
        try:
            yield
        finally:
            os.unlink(lock)
    finally:
        os.close(handle)


def check_apart(*paths: Path | None) -> None:
    """Refuse to write two results in one place, or one inside the other; None is no place.

    Raises:
        OutputError: Two would meet.
    """
    for one, other in permutations([path for path in paths if path is not None], 2):
        if _lies_in(one, other):
            raise OutputError(f"{one}: is where {other} is to be written, or inside it; choose another name")


def check_kept(*written: Path | None, read: Iterable[Path | None]) -> None:
    """Refuse to write over what is read, or into it, whatever may be replaced; None is no place.

    Raises:
        OutputError: It would not be kept as it is.
    """
    for one, other in product(written, read):
        if one is not None and other is not None and _lies_in(one, other):
            raise OutputError(f"{one}: is where {other} is read from, or inside it; choose another name")


def _lies_in(one: Path, other: Path) -> bool:
    return os.path.realpath(other) in {os.path.realpath(one), *map(str, Path(os.path.realpath(one)).parents)}
