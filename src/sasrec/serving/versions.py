"""The data folder of a server: the models that it serves or has served, and which one it is now.

DATA/
  events.sqlite     what people did, with SQLite's own files beside it
  models/VERSION/   copies of models, never changed
  current.json      the version that is served, and those before it, with a checksum
  control.sock      where a running server takes commands
  lock              held by the one server of the folder

All of it is its owner's alone, whatever the mode of the folder, which may be a volume that others can enter.
"""

import fcntl
import os
import re
import shutil
import stat
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, final

import msgspec

from sasrec import bundle
from sasrec.errors import BundleError, OutputError, ServingError
from sasrec.files import durable_file, sha256, write_folder
from sasrec.retrieval.loading import manifest
from sasrec.serving.answering import LOGGER

KEPT = 3  # versions that stay on the disk: the served one and those to go back to

_OWN = ("events.sqlite", "events.sqlite-wal", "events.sqlite-shm", "models", "current.json", "control.sock", "lock")

_NAME = "[0-9a-f]{12}"
_Version = Annotated[str, msgspec.Meta(pattern=f"^{_NAME}$")]


class Course(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is served, and what was before.

    Attributes:
        version: The version that is served; None before the first.
        before: Versions to go back to, the latest first.
        given: The version of the model that the last start named. A start that names it again goes on with what is
            served; one that names another activates that.
    """

    version: _Version | None = None
    before: tuple[_Version, ...] = ()
    given: _Version | None = None

    def forward(self, version: str, *, given: str | None = None) -> "Course":
        """The course after a version is activated.

        Args:
            given: The version as a start named it, if it was one.
        """
        earlier = () if self.version is None else (self.version,)
        before = tuple(one for one in (*earlier, *self.before) if one != version)[: KEPT - 1]
        return Course(version, before, given or self.given)

    def back(self) -> "Course":
        """The course after going back to the version before.

        Raises:
            ServingError: There is none.
        """
        if not self.before:
            raise ServingError("there is no earlier version to go back to")
        return Course(self.before[0], self.before[1:], self.given)


class _Sealed(Course, frozen=True, forbid_unknown_fields=True):
    """A course as it is written; those of earlier versions of sasrec have no seal, a checksum of the rest."""

    seal: str | None = None


@final
class Folder:
    """A data folder, held by one server as long as it is open."""

    def __init__(self, path: Path) -> None:
        """Make the folder if need be, readable by its owner alone, and take hold of it.

        Raises:
            OutputError: The folder cannot be made or written, or is no server's but full of other things.
            ServingError: Another server holds it.
        """
        self.path = path
        self._keeps_all = False  # of a course that cannot be read nobody knows what it names
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            _check_own(path)
            (path / "models").mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{path}: the data folder cannot be written: {error.strerror}; choose another one (--data)"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ServingError(
                f"{path}: another server uses this data folder; stop it, or choose another one (--data)"
            ) from None
        for name in _OWN:
            _close_to_others(path / name)

    @property
    def events(self) -> Path:
        """Where the events are."""
        return self.path / "events.sqlite"

    def model(self, version: str) -> Path:
        """Where a version's model is."""
        return self.path / "models" / version

    def course(self) -> Course:
        """What was served last; where that cannot be read, nothing, with all there is to go back to."""
        course = _course(self.path)
        if course is not None:
            return course
        self._keeps_all = True
        found = [one for one in (self.path / "models").iterdir() if re.fullmatch(_NAME, one.name)]
        found.sort(key=lambda one: one.stat().st_mtime, reverse=True)
        LOGGER.error(
            "%s: is damaged, and which version was served last is unknown; the model that the start names answers, no "
            "version is deleted, and sasrec rollback goes back to: %s",
            self.path / "current.json",
            ", ".join(one.name for one in found) or "none",
        )
        return Course(before=tuple(one.name for one in found))

    def knows(self, version: str) -> bool:
        """Whether the folder holds a version."""
        return self.model(version).is_dir()

    def take(self, model: Path) -> str:
        """Copy a model into the folder, unless it is there already.

        Returns:
            Its version.

        Raises:
            BundleError: The model is missing, foreign or of a newer format, or changes meanwhile.
            OutputError: The disk refuses.
        """
        version = fingerprint(model)
        if not self.knows(version):
            _copy(model, self.model(version))
            if fingerprint(self.model(version)) != version:
                self.discard(version)
                raise BundleError(f"{model}: was replaced while it was read; try again")
        return version

    def keep(self, course: Course) -> None:
        """Make a course the one that a later start begins with, and delete what it does not name.

        Raises:
            OutputError: The disk refuses; the earlier course stands.
        """
        with durable_file(self.path / "current.json", replace=True) as draft:
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(_Sealed(course.version, course.before, course.given, _seal(course))))
        self.sweep(course)

    def sweep(self, course: Course) -> None:
        """Delete models that a course does not name, and what a server that was killed left half written."""
        for folder in (self.path / "models").iterdir():
            version = re.fullmatch(_NAME, folder.name) is not None
            if folder.name not in (course.version, *course.before) and not (version and self._keeps_all):
                shutil.rmtree(folder, ignore_errors=True)
        for draft in self.path.glob(".current.json.*.tmp"):
            shutil.rmtree(draft, ignore_errors=True)

    def discard(self, version: str) -> None:
        """Delete a version that turned out to be unusable."""
        shutil.rmtree(self.model(version), ignore_errors=True)

    def close(self) -> None:
        """Let another server have the folder."""
        os.close(self._lock)


def _check_own(path: Path) -> None:
    """Refuse a folder of other things, as the working folder, unless a server has used it before; OutputError."""
    names = {name for name in os.listdir(path) if not name.startswith(".")} - {"lost+found"}  # of a disk of its own
    if {"lock", "models"} <= names:
        return
    others = sorted(names.difference(_OWN))
    if "models" in names:  # where whatever is no version that is served will be deleted
        others += [f"models/{name}" for name in os.listdir(path / "models") if not re.fullmatch(_NAME, name)]
    if others:
        raise OutputError(
            f"{path}: holds what is not of a server's data: {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}"
            "; choose a new or empty folder (--data)"
        )


def _close_to_others(path: Path) -> None:
    """Let the owner alone read what an earlier server, a copy or a volume left open to others."""
    with suppress(OSError):  # it is not there, or somebody else's
        if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            path.chmod(mode & ~0o077)


def served(data: Path, model: Path, *, running: bool) -> Path:
    """The model that a server of a data folder answers with, or would if it were started with a model.

    Args:
        running: A server of the folder answers at this moment; whatever it was started with.

    Raises:
        BundleError: As `fingerprint`.
        ServingError: What is served is not known.
    """
    course = _course(data)
    if course is None:
        raise ServingError(
            f"{data / 'current.json'}: is damaged, so which version is served is unknown; start a server on the folder "
            "again, which writes it anew"
        )
    if course.version is None or not (running or course.given == fingerprint(model)):
        return model
    return data / "models" / course.version


def _course(data: Path) -> Course | None:
    """What is written; empty before the first server, None where it cannot be read."""
    try:
        found = msgspec.json.decode((data / "current.json").read_bytes(), type=_Sealed)
    except FileNotFoundError:
        return Course()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    course = Course(found.version, found.before, found.given)
    return course if found.seal in (None, _seal(course)) else None


def _seal(course: Course) -> str:
    return sha256(msgspec.json.encode(course))[:16]


def fingerprint(model: Path) -> str:
    """Twelve hex digits that follow from every byte of a model, as its manifest has checksums of all of them.

    Raises:
        BundleError: The folder is missing or foreign, or its manifest is damaged.
    """
    manifest(model)
    return sha256(bundle.read(model, "manifest.json"))[:12]


def _copy(model: Path, path: Path) -> None:
    """The same files in another place, all or none, and never in memory; they are checked when they are loaded."""

    def copied(name: str, draft: Path) -> None:
        with ExitStack() as opened:
            file = bundle.regular(model, name)
            try:
                source = opened.enter_context(open(file, "rb"))
            except OSError as error:  # of the model, where those that come later are of the copy
                raise BundleError(f"{file}: cannot be read: {error.strerror}") from None
            shutil.copyfileobj(source, opened.enter_context(open(draft, "wb")))

    files = (*manifest(model).files, "manifest.json")
    write_folder(path, {name: partial(copied, name) for name in files}, replace=False)
