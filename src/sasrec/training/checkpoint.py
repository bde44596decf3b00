"""The state of a training on the disk, so that a training that was stopped goes on to the same bits. No pickle.

One safetensors file: the tensors of the state, and in its header the rest of it as JSON, with a checksum of both.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.splits import Split
from sasrec.errors import BundleError, ConfigError, OutputError, SasrecError, is_number
from sasrec.files import as_path, check_free, durable_file, sweep
from sasrec.locking import held
from sasrec.training.epochs import Course, EpochResult, Watcher
from sasrec.training.negatives import Draw
from sasrec.training.resuming import State, as_begun, check_same, identity, restore, state_of
from sasrec.training.steps import Training

FORMAT = "sasrec-training"
VERSION = 1
TRAINS = "another training writes there"  # what whoever holds a path of a training does


@final
@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept while it runs, so that it can go on after it was stopped.

    It goes on in the middle of an epoch, and to the same bits as if it had never been stopped, where seed, threads and
    machine are the same.

    Attributes:
        path: A file, written whole or not at all. It stays until `remove`, for when the trained model is saved.
        every: Minutes from one writing to the next; the state is written after an interrupt too.
        resume: Go on with the training that the file holds. If False, there must be no such file.
    """

    path: str | Path
    every: float = 10.0
    resume: bool = False

    def __post_init__(self) -> None:
        """Check the path and the interval; ConfigError."""
        as_path(self.path)
        if not is_number(self.every) or not self.every > 0:
            raise ConfigError(f"every: expected a number of minutes above 0, found {self.every!r}")

    def check(self) -> None:
        """Refuse what cannot be gone on with, or would be lost, before any work is done.

        Raises:
            BundleError: There is no training to go on with.
            OutputError: There is one, and `resume` is False; or the file cannot be written.
        """
        path = Path(self.path)
        if self.resume and not os.path.lexists(path):
            raise BundleError(f"{path}: there is no stopped training to go on with; start one without resume=True")
        if os.path.lexists(path) and not self.resume:
            raise OutputError(
                f"{path}: holds a training that was stopped, or whose model was not saved; pass resume=True to go on "
                "with it, or remove the file to start anew"
            )
        check_free(path, replace=self.resume)

    def continued(self, asked: Config, taken: Config) -> Config:
        """Settings without "auto" for the training that goes on here, if one does; see `as_begun`.

        What is wrong with the file is for `read` to say.
        """
        if not (self.resume and os.path.isfile(self.path)):
            return taken
        try:
            with safe_open(self.path, framework="pt") as file:  # the header alone, without what it is a header of
                found = json.loads(file.metadata()["state"])["same"]["config"]
            return as_begun(self.path, found, asked, taken)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
            return taken

    def keeper(
        self, training: Training, course: Course, data: Split, *, features: Features | None, draw: Draw | None
    ) -> "Keeper":
        """What writes the state of a training here while it runs; for the arguments see `identity`."""
        return Keeper(self, identity(training.config, data, features=features, draw=draw), training, course)

    @contextmanager
    def held(self) -> Iterator[None]:
        """`check`, and let no other training have the file inside the block; errors as there, and OutputError."""
        with held(Path(self.path), doing=TRAINS):
            self.check()
            yield

    def write(self, state: State) -> None:
        """Put a state in the place of the one before, which stays whole until the new one is.

        Raises:
            OutputError: The disk refuses.
        """
        path = Path(self.path)
        text = json.dumps({"format": FORMAT, "version": VERSION, **state.values}, sort_keys=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        header = {"state": text, "sha256": _digest(text, tensors)}
        try:
            with durable_file(path, replace=True) as draft:
                safetensors.torch.save_file(tensors, draft, metadata=header)
        except (SafetensorError, OutputError) as error:
            what = str(error).removeprefix(f"{path}: ").removeprefix("cannot be written: ")
            rest = "make room and train again"
            if path.exists():
                rest = "the state written before is whole: make room, then pass resume=True to go on with it"
            raise OutputError(f"{path}: the state of the training cannot be written: {what}; {rest}") from None

    def read(self) -> State:
        """The state that was written last, every byte checked.

        Raises:
            BundleError: The file is missing, foreign, damaged or of a newer format.
        """
        path = Path(self.path)
        damaged = BundleError(f"{path}: is damaged or not the state of a training; remove it to start anew")
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise BundleError(f"{path}: is not a regular file")
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                # Copies, as what is opened is a view of a file that the next writing replaces.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
            text = header["state"]
            if header["sha256"] != _digest(text, tensors):
                raise damaged
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise damaged
            version = values["version"]
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise error if isinstance(error, BundleError) else damaged from None
        if version != VERSION:
            raise BundleError(
                f"{path}: has format version {version}, this sasrec reads {VERSION}; take the sasrec that wrote it"
            )
        return State(values, tensors)

    def remove(self) -> None:
        """Delete the file, once the trained model is saved, and what a killed writing left of it."""
        Path(self.path).unlink(missing_ok=True)
        sweep(Path(self.path))


@final
class Keeper:
    """Watches a training and writes its state every so often, and puts it back.

    Args:
        checkpoint: Where, and how often.
        same: What the training is; see `identity`.
    """

    def __init__(self, checkpoint: Checkpoint, same: Mapping[str, Any], training: Training, course: Course) -> None:
        self._checkpoint, self._same = checkpoint, same
        self._training, self._course = training, course
        self._saved = time.monotonic()

    def step(self, epoch: int, loss: float) -> None:  # noqa: ARG002  # see `Watcher`
        """Write, if it is time; OutputError."""
        if time.monotonic() - self._saved >= 60 * self._checkpoint.every:
            self.save()

    def epoch(self, result: EpochResult) -> None:  # noqa: ARG002  # see `Watcher`
        """Write after the last, for what is trained to be saved once more if that fails; else the next step has it."""
        if self._course.over(self._training.config) is not None:
            with suppress(OutputError):  # a state that cannot be written takes nothing from what is trained
                self.save()

    def save(self) -> None:
        """Write; OutputError."""
        state = state_of(self._training, self._course)
        self._checkpoint.write(State({"same": self._same, **state.values}, state.tensors))
        self._saved = time.monotonic()

    def guarding(self, watcher: Watcher) -> Watcher:
        """Tells a watcher, and writes before an error of the system that it meets passes on, such as a full disk."""
        return _Guarding(watcher, self)

    def resumed(self, *, log: str) -> bool:
        """Put back what was written last, if the checkpoint is one to go on from; whether it is.

        Args:
            log: Name of the log, for messages.

        Raises:
            BundleError: There is nothing, or it is damaged.
            ConfigError: It is of other settings.
            DataError: It is of another log or split.
        """
        if not self._checkpoint.resume:
            return False
        state, path = self._checkpoint.read(), self._checkpoint.path
        try:
            check_same(path, state.values["same"], self._same, log=log)
            restore(state, self._training, self._course)
        except SasrecError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, AttributeError) as error:
            raise BundleError(f"{path}: is whole but does not fit together: {error}") from None
        return True


@final
class _Guarding:
    """See `Keeper.guarding`."""

    def __init__(self, watcher: Watcher, keeper: Keeper) -> None:
        self._watcher, self._keeper = watcher, keeper

    def step(self, epoch: int, loss: float) -> None:
        with self._kept():
            self._watcher.step(epoch, loss)

    def epoch(self, result: EpochResult) -> None:
        with self._kept():
            self._watcher.epoch(result)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                self._keeper.save()
            raise


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 of all that is in a file, whatever its layout."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
