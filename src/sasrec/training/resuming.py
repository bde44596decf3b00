"""What a training is, and all that changes in it: so it goes on where another of the same kind stopped."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from torch import Tensor

from sasrec.config import Config
from sasrec.data.features import Features
from sasrec.data.splits import Split
from sasrec.errors import ConfigError, DataError
from sasrec.training.epochs import Course, EpochResult
from sasrec.training.machine import describe, has_device
from sasrec.training.negatives import Draw
from sasrec.training.steps import Place, Training, drawing

_OF_THE_MACHINE = ("threads", "precision", "device")  # settings whose "auto" is settled by where, not by what


class State(NamedTuple):
    """What changes while a network is trained.

    Attributes:
        values: Numbers, texts and lists, as JSON holds them.
        tensors: The rest; a name begins with that of the part that it belongs to, and a dot.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, by their names within it."""
        start = f"{name}."
        return {key.removeprefix(start): tensor for key, tensor in self.tensors.items() if key.startswith(start)}


def under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the name of the part that they belong to; `State.part` gives them back."""
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def state_of(training: Training, course: Course) -> State:
    """All that changes, for `restore`; between two steps."""
    learned = _learned(training)
    came = {
        "seconds": course.clock.seconds,
        "cpu_seconds": course.clock.cpu_seconds,
        "results": [asdict(result) for result in course.results],
        "began": course.began,
        "loss": course.loss,
    }
    tensors = {**under("training", learned.tensors), **under("course", course.weights)}
    return State({"training": learned.values, "course": came}, tensors)


def restore(state: State, training: Training, course: Course) -> None:
    """Go on as another training of the same settings and histories did.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, RuntimeError, AttributeError: The state is of something else.
    """
    _relearn(training, State(state.values["training"], state.part("training")))
    values = state.values["course"]
    course.clock.add(*msgspec.convert((values["seconds"], values["cpu_seconds"]), tuple[float, float]))
    course.results = msgspec.convert(values["results"], list[EpochResult])
    course.began, course.loss = msgspec.convert((values["began"], values["loss"]), tuple[float | None, float | None])
    course.weights = state.part("course")


def _learned(training: Training) -> State:
    values = {
        "step": training.step,
        "place": None if training.place is None else asdict(training.place),
        "rng": training.rng.bit_generator.state,
    }
    tensors = {
        **under("network", training.network.state_dict()),
        **under("optimiser", training.optimiser.tensors()),
        **under("average", {} if training.average is None else training.average.weights),
        **under("dropout", training.drop.tensors()),
    }
    return State(values, tensors)


def _relearn(training: Training, state: State) -> None:
    training.step = msgspec.convert(state.values["step"], int)
    training.place = msgspec.convert(state.values["place"], Place | None)
    training.rng = drawing(state.values["rng"])
    training.network.load_state_dict(state.part("network"))
    training.optimiser.restore(state.part("optimiser"))
    if training.average is not None:
        training.average.restore(state.part("average"))
    training.drop.restore(state.part("dropout"))


def identity(config: Config, data: Split, *, features: Features | None, draw: Draw | None) -> dict[str, Any]:
    """What a training is, that another must have in common with it to go on where it stopped.

    Args:
        config: Settings without "auto".
        data: What it learns from and is judged on.
        draw: The caller's own sampler, of which no more can be known than whether there is one.
    """
    return {
        "log": data.log.content_hash,
        "split": f"{data.how}: {data.rule}",
        "config": config.to_dict(),
        "features": None if features is None else features.digest,
        "own_sampler": draw is not None,
        "machine": describe(),
    }


def as_begun(path: str | Path, found: Mapping[str, Any], asked: Config, taken: Config) -> Config:
    """Settings of a training that goes on, perhaps on another machine than it began on.

    What was asked as "auto" and is settled by the machine is as it was there, with a warning; a device that is not
    here stays what it is here.

    Args:
        path: Where the training stands that is to go on.
        found: Its settings.
        asked: The settings that were asked for now.
        taken: The same without "auto".

    Raises:
        KeyError, ConfigError: What was found are no settings.
    """
    auto = {name: found[name] for name in _OF_THE_MACHINE if getattr(asked, name) == "auto"}
    kept = {name: value for name, value in auto.items() if value != getattr(taken, name)}
    if "device" in kept and not has_device(kept["device"]):
        del kept["device"]
    begun = replace(taken, **kept)
    if kept:
        told = ", ".join(
            f"{name}={value!r}, which would be {getattr(taken, name)!r} here" for name, value in kept.items()
        )
        warnings.warn(f"{path}: goes on with {told}", stacklevel=2)
    return begun


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
        raise ConfigError(f"{path}: the features of items differ; {rest}")
    if found["own_sampler"] != here["own_sampler"]:
        raise ConfigError(f"{path}: one of the two has a sampler of the caller's own (draw); {rest}")
    machines = found["machine"], here["machine"]
    moved = [f"{name} {machines[0].get(name)} there and {machines[1].get(name)} here" for name in _names(*machines)]
    if moved:
        warnings.warn(f"{path}: goes on, perhaps not to the same bits: {', '.join(moved)}", stacklevel=2)


def _names(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]
