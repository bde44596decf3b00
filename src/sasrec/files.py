"""The one place that writes durably: to a temporary name, flushed to the disk, then renamed."""

import ctypes
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sasrec.errors import OutputError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sha256(data: bytes) -> str:
    """Hex digest, as manifests hold it."""
    return hashlib.sha256(data).hexdigest()


def check_free(path: Path, *, replace: bool, folder: bool = False) -> None:
    """Refuse a path that is taken or cannot be written, before any work is done for it.

    Args:
        folder: A folder is to be written; else it is a file, which never takes the place of a folder.

    Raises:
        OutputError: The path exists and `replace` is False, or its folder is missing or not writable.
    """
    _check_free(path, replace=replace, folder=folder)
    # A system may refuse what it says is allowed, as on a disk that is full; only trying tells.
    with _temporary(path):
        pass


def _check_free(path: Path, *, replace: bool, folder: bool) -> None:
    # os.path, as pathlib raises where a folder on the way must not be entered.
    if os.path.lexists(path) and not replace:
        raise OutputError(f"{path}: exists already; choose another name, or pass replace=True to replace it")
    if os.path.isdir(path) and not folder:
        raise OutputError(f"{path}: is a folder, which no file takes the place of; choose another name")
    parent = path.absolute().parent
    if not os.path.isdir(parent):
        raise OutputError(f"{path}: the folder {parent} does not exist or cannot be entered; make it first")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{path}: the folder {parent} is not writable")


@contextmanager
def durable_file(path: Path, *, replace: bool) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when the block ends well and vanishes when it does not.

    Raises:
        OutputError: As `check_free`, or the disk refuses (full, read-only, ...).
    """
    _check_free(path, replace=replace, folder=False)
    with _temporary(path) as folder:
        draft = folder / path.name
        yield draft
        _flush(draft)
        os.replace(draft, path)
        _flush(path.absolute().parent)


def write_folder(path: Path, files: Mapping[str, Callable[[Path], object]], *, replace: bool) -> None:
    """A folder of files, whole or not at all, which whoever may enter it may read, as the umask has it.

    Args:
        files: For each name a function that writes the file at the path it is given.
        replace: Take the place of an existing folder, which stays whole until the new one is complete.

    Raises:
        OutputError: As `check_free`, or the disk refuses.
    """
    _check_free(path, replace=replace, folder=True)
    with _temporary(path) as folder:
        draft = folder / "draft"
        draft.mkdir()
        for name, write in files.items():
            write(draft / name)
            os.chmod(draft / name, draft.stat().st_mode & 0o666)  # some libraries write for their owner alone
            _flush(draft / name)
        _flush(draft)
        if path.exists():
            _exchange(draft, path)
        else:
            os.rename(draft, path)
        _flush(path.absolute().parent)


def sweep(path: Path) -> None:
    """Remove what writings of `path` left beside it that were killed; none may be at work."""
    for draft in path.absolute().parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A scratch folder beside `path`, on the same disk so that a rename is atomic; always removed."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.absolute().parent))
        yield folder
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step, so that at no instant the name is missing."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE):
        # Not this system, or not this file system: two steps, with the old one kept beside until the new one stands.
        beside = Path(tempfile.mkdtemp(prefix=f".{old.name}.", suffix=".old", dir=old.absolute().parent))
        try:
            os.rename(old, beside / old.name)
            os.rename(new, old)
        except BaseException:
            if not os.path.lexists(old):
                os.rename(beside / old.name, old)
            raise
        finally:
            if os.path.lexists(old):
                shutil.rmtree(beside, ignore_errors=True)
