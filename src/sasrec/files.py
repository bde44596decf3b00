"""The one place that writes durably: to a temporary name, flushed to the disk, then renamed."""

import ctypes
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sasrec.errors import OutputError, check_kind

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # of Linux and, under another name, of macOS


def sha256(data: bytes) -> str:
    """Hex digest, as manifests hold it."""
    return hashlib.sha256(data).hexdigest()


def as_path(value: str | os.PathLike[str], *, what: str = "path") -> Path:
    """The path that an argument names; ConfigError for what names none, such as a model in the place of its folder."""
    check_kind(what, value, str | os.PathLike, called="path", advice="give the name of a file or folder")
    return Path(value)


def in_utf8(path: Path | str) -> str:
    """A path or name as text, with "?" for bytes that are none: JSON, Parquet and other libraries take no such."""
    return str(path).encode(errors="replace").decode()


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
    sweep(path)  # first, for it may put back what was there
    # os.path, as pathlib raises where a folder on the way must not be entered.
    if os.path.lexists(path):
        _check_replaceable(path, folder=folder)
        if not replace:
            raise OutputError(f"{path}: exists already; choose another name, or pass replace=True to replace it")
    parent = path.absolute().parent
    if not os.path.isdir(parent):
        raise OutputError(f"{path}: the folder {parent} does not exist or cannot be entered; make it first")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{path}: the folder {parent} is not writable")


def _check_replaceable(path: Path, *, folder: bool) -> None:
    """Refuse to take the place of what nobody means to lose: the name of a device, a pipe, a link, a whole folder."""
    plain = os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path)
    if os.path.islink(path) and plain:
        raise OutputError(
            f"{path}: is a link, which no result takes the place of; name {os.path.realpath(path)} itself"
        )
    if not plain:
        raise OutputError(
            f"{path}: is a device, pipe or socket, which no result takes the place of; choose another name"
        )
    if os.path.isdir(path) and not folder:
        raise OutputError(f"{path}: is a folder, which no file takes the place of; choose another name")


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
        _flush_parent(path)


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
        _flush_parent(path)


def sweep(path: Path) -> None:
    """Remove what killed writings of `path` left beside it, and put back what one had moved; others' work stays."""
    for draft in beside(path):
        with suppress(OSError):  # it is gone by now, or cannot be put back and stays
            handle = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(handle):
                    if draft.suffix == ".old" and not os.path.lexists(path):
                        os.rename(draft / path.name, path)
                    shutil.rmtree(draft, ignore_errors=True)
            finally:
                os.close(handle)


def beside(path: Path) -> list[Path]:
    """Folders of writings, as `_draft` names them to the letter: `run.sasrec` is another one's path than `run`."""
    name, parent = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.(old|tmp)"), path.absolute().parent
    with suppress(OSError):  # of a folder that may be written and not read, or is not there
        return [parent / one for one in os.listdir(parent) if name.fullmatch(one)]
    return []


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A scratch folder beside `path`, on the same disk so that a rename is atomic; always removed."""
    folder = handle = None
    try:
        folder, handle = _draft(path)
        yield folder
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if folder is not None and handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def _draft(path: Path, suffix: str = "tmp") -> tuple[Path, int]:
    """A new scratch folder, locked by a handle to close in the end; the lock ends with the process, however it ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=f".{suffix}", dir=path.absolute().parent))
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # `sweep` of another process was faster than we
        if _lock(handle) is not False and os.path.lexists(folder):
            return folder, handle
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Whether we have the lock of a folder now; False where another one has it, None where the system has no locks."""
    import fcntl  # not on every system that can read a model

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_parent(path: Path) -> None:
    with suppress(PermissionError):  # of a folder that may be written and not read: the result is in its place
        _flush(path.absolute().parent)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders, in one step where the system can; else one is beside for a moment, and its name missing."""
    system, arguments = ctypes.CDLL(None, use_errno=True), (os.fsencode(new), os.fsencode(old))
    if linux := getattr(system, "renameat2", None):
        failed = linux(_AT_FDCWD, arguments[0], _AT_FDCWD, arguments[1], _RENAME_EXCHANGE)
    else:
        failed = getattr(system, "renamex_np", lambda *_: True)(*arguments, _RENAME_EXCHANGE)  # macOS
    if not failed:
        return
    aside, handle = _draft(old, "old")
    try:
        os.rename(old, aside / old.name)
        os.rename(new, old)
    except BaseException:
        if not os.path.lexists(old):
            os.rename(aside / old.name, old)
        raise
    finally:
        if os.path.lexists(old):
            shutil.rmtree(aside, ignore_errors=True)
        os.close(handle)
