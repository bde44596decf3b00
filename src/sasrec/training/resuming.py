"""Which training may go on where another stopped, and the saving that it takes."""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final

from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.splits import Split
from sasrec.errors import BundleError, ConfigError, DataError, SasrecError
from sasrec.training.checkpoint import Checkpoint, State, under
from sasrec.training.machine import describe


class Part(Protocol):
    """Something that changes while a network is trained."""

    def state(self) -> State:
        """All that changes."""
        ...

    def restore(self, state: State) -> None:
        """Be as another was."""
        ...


@final
class Keeper:
    """Writes the state of a training every so often, and puts it back.

    Args:
        checkpoint: Where, and how often.
        same: What the training is; see `identity`.
        training: The state of its network, its optimiser and its draws.
        course: The state of its epochs.
    """

    def __init__(self, checkpoint: Checkpoint, same: Mapping[str, Any], training: Part, course: Part) -> None:
        self._checkpoint, self._same = checkpoint, same
        self._parts = {"training": training, "course": course}
        self._saved = time.monotonic()

    def save_if_due(self) -> None:
        """Write, if it is time; OutputError."""
        if time.monotonic() - self._saved >= 60 * self._checkpoint.every:
            self.save()

    def save(self) -> None:
        """Write; OutputError."""
        values: dict[str, Any] = {"same": self._same}
        tensors: dict[str, Tensor] = {}
        for name, part in self._parts.items():
            state = part.state()
            values[name] = state.values
            tensors |= under(name, state.tensors)
        self._checkpoint.write(State(values, tensors))
        self._saved = time.monotonic()

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
            for name, part in self._parts.items():
                part.restore(State(state.values[name], state.part(name)))
        except SasrecError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, AttributeError) as error:
            raise BundleError(f"{path}: is whole but does not fit together: {error}") from None
        return True


def identity(data: Split, config: Config, *, features: Features | None, own_sampler: bool) -> dict[str, Any]:
    """What a training is, that another must have in common with it to go on where it stopped.

    Args:
        config: Settings without "auto".
        own_sampler: Whether negatives are drawn by a function of the caller's, of which no more can be known.
    """
    return {
        "log": data.log.content_hash,
        "split": f"{data.how}: {data.rule}",
        "config": config.to_dict(),
        "features": None if features is None else features.digest,
        "own_sampler": own_sampler,
        "machine": describe(),
    }


def check_same(path: str | Path, found: Mapping[str, Any], here: Mapping[str, Any], *, log: str) -> None:
    """Refuse to go on with a training that is another one.

    Args:
        path: Where the training stands that is to go on.
        found: Its identity.
        here: The identity of the one that was asked for.
        log: Name of its log, for messages.

    Raises:
        DataError: Log or split differ.
        ConfigError: Settings, features or sampler differ.
    """
    rest = f"give what {path} began with, or remove that file to start anew"
    if found["log"] != here["log"]:
        raise DataError(
            f"{log}: holds other events than the log that {path} was trained on, or was read otherwise; {rest}"
        )
    if found["split"] != here["split"]:
        raise DataError(f"{log}: the split was {found['split']!r} for {path} and is {here['split']!r} here; {rest}")
    settings = found["config"], here["config"]
    changed = [
        f"{name}={settings[0].get(name)!r} there and {settings[1].get(name)!r} here" for name in _names(*settings)
    ]
    if changed:
        raise ConfigError(f"{path}: settings differ: {', '.join(changed)}; {rest}")
    if found["features"] != here["features"]:
        raise ConfigError(f"{path}: the categories of items differ; {rest}")
    if found["own_sampler"] != here["own_sampler"]:
        raise ConfigError(f"{path}: one of the two has a sampler of the caller's own (draw); {rest}")
    machines = found["machine"], here["machine"]
    moved = [f"{name} {machines[0].get(name)} there and {machines[1].get(name)} here" for name in _names(*machines)]
    if moved:
        warnings.warn(f"{path}: goes on, perhaps not to the same bits: {', '.join(moved)}", stacklevel=2)


def _names(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]
