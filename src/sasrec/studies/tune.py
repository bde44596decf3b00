"""Tuning: settings searched on validation alone, in a study that can be stopped and gone on with."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sasrec.config import Config, read_toml
from sasrec.data.splits import Split, known_split
from sasrec.errors import ConfigError, OutputError, ScoreError, TrainingError, check_kind, check_whole, is_number
from sasrec.files import as_path
from sasrec.locking import held
from sasrec.training.progress import told
from sasrec.training.training import train, whole
from sasrec.words import counted

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

_FIRST_TRIALS = 10  # drawn at random before the search learns from what it has seen
_NAME = "sasrec"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them.

    Attributes:
        log: Search the logarithm evenly, as suits a learning rate.
        step: Distance between neighbouring values; it divides the range, and is an integer between integers. None tries
            every number, between integers every integer.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __str__(self) -> str:
        given = ((one, getattr(self, one.name)) for one in fields(self))
        return _in_toml({one.name: value for one, value in given if value is not one.default})


Space = Mapping[str, Range | tuple[Any, ...]]
"""For each setting to search, a range of numbers or the values to choose from."""


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        settings: What was searched, as this trial had it.
        ndcg: Best validation NDCG@10 of its training; None where it could not be trained.
        epochs: Epochs trained.
        seconds: Wall seconds.
        failure: Why it could not be trained, else "".
    """

    settings: dict[str, Any]
    ndcg: float | None
    epochs: int
    seconds: float
    failure: str


@dataclass(frozen=True)
class Tuning:
    """What a search has found; `print` shows the trials, best first.

    Attributes:
        best: The settings of the best trial, to train with.
        trials: In the order in which they were tried.
        data: Fingerprint of the split.
    """

    best: Config
    trials: tuple[Trial, ...]
    data: str

    def __repr__(self) -> str:
        ranked = sorted(enumerate(self.trials, start=1), key=lambda one: 1.0 if one[1].ndcg is None else -one[1].ndcg)
        lines = [f"{counted(len(self.trials), 'trial')} by validation NDCG@10 (the test part was not looked at)"]
        for number, trial in ranked:
            value = "failed" if trial.ndcg is None else f"{trial.ndcg:.4f}"
            took = f"{trial.epochs:>4} epochs  {trial.seconds:>7.1f} s"
            note = f"  ({trial.failure})" if trial.failure else ""
            lines.append(f"{value:>8}  trial {number:>3}  {took}  {_words(trial)}{note}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        trials = [{field.name: getattr(trial, field.name) for field in fields(trial)} for trial in self.trials]
        return {"data": self.data, "best": self.best.to_dict(), "trials": trials}


def tune(
    data: Split,
    space: Space,
    *,
    base: Config = Config(),
    trials: int = 20,
    study: str | Path | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Tuning:
    """Search settings by the best validation NDCG@10 of a training with each; the test part is never looked at.

    The first ten trials are random, the others drawn by a tree-structured Parzen estimator from what was found so
    far (Bergstra et al., NeurIPS 2011; Optuna). What is tried next depends on the seed and on the finished trials
    alone, so a search that was stopped goes on as if it had not been.

    Args:
        space: What to search, by name of a setting.
        base: All other settings.
        trials: How many in all, those of an earlier run of the same study among them.
        study: File to keep finished trials in, for going on with them later; None keeps nothing.
        progress: True tells of every trial on standard error, False of none; None does so on a terminal.

    Raises:
        ConfigError: The space names no setting or a value that is refused, or `study` is of another search.
        DataError: As `sasrec.train`.
        OutputError: `study` cannot be written, or another search goes on with it at this moment.
        TrainingError: Every trial failed, or Ctrl-C came before the first was done.
    """
    known_split(data)
    check_kind("base", base, Config, advice="settings go into sasrec.Config(...)")
    check_kind("space", space, Mapping, called="dict", advice="give values or a Range by the name of each setting")
    _check_space(space)
    check_whole("trials", trials, least=1)
    check_whole("seed", seed, least=0)
    asked = {"data": data.fingerprint, "space": _plain(space), "base": base.to_dict(), "seed": seed}
    tell = told(progress)
    alone = "another search tries the same settings"
    with nullcontext() if study is None else held(Path(os.path.realpath(as_path(study, what="study"))), doing=alone):
        search = _opened(study, asked)
        done = _finished(search)
        while len(done) < trials and _try(search, data, space, base, seed=seed + len(done)):
            done = _finished(search)
            tell(f"{len(done)} of {trials}: {_line(_trial(done[-1]))}")
    found = tuple(map(_trial, done))
    best = max((one for one in found if one.ndcg is not None), key=lambda one: one.ndcg or 0.0, default=None)
    if best is None:
        why = found[-1].failure if found else "interrupted before the first trial was done"
        raise TrainingError(f"no trial could be trained: {why}")
    return Tuning(replace(base, **best.settings), found, data.fingerprint)


def read_space(path: str | Path) -> tuple[Space, Config]:
    """A search from a TOML file: settings to keep, and under `[space]` those to search.

    A list gives values to choose from, a table a range: `dropout = [0.2, 0.5]`, `width = {low = 32, high = 128,
    step = 32}`, `learning_rate = {low = 1e-4, high = 1e-2, log = true}`.

    Raises:
        ConfigError: The file cannot be read, or says anything else.
    """
    content = read_toml(path)
    searched = content.pop("space", None)
    if not isinstance(searched, dict) or not searched:
        raise ConfigError(f"{path}: has no [space] with settings to search, such as dropout = [0.2, 0.5]")
    if doubled := [name for name in searched if name in content]:
        raise ConfigError(f"{path}: {doubled[0]} is both kept above [space] and searched under it; leave one out")
    space: dict[str, Range | tuple[Any, ...]] = {}
    for name, values in searched.items():
        if isinstance(values, list):
            space[name] = tuple(values)
        elif isinstance(values, dict) and {"low", "high"} <= values.keys() <= {"low", "high", "log", "step"}:
            space[name] = Range(**values)
        else:
            found = _in_toml(values) if isinstance(values, dict) else repr(values)
            raise ConfigError(f"{path}: {name}: expected a list or {{low, high, log, step}}, found {found}")
    base = Config.from_dict(content, where=str(path))
    _check_space(space)
    return space, base


def _check_space(space: Space) -> None:
    if not space:
        raise ConfigError("space: names no setting to search")
    for name, values in space.items():
        if not isinstance(values, Range | Sequence) or isinstance(values, str):
            raise ConfigError(f"space: {name}: expected a list of values or a Range, found {values!r}")
        ends = (values.low, values.high) if isinstance(values, Range) else values
        if not ends:
            raise ConfigError(f"space: {name} has no values")
        if isinstance(values, Range):
            _check_range(name, values)
        for one in ends:
            # Two settings that do not go together fail as a trial, not as a space.
            try:
                Config.check(name, one)
            except ConfigError as error:
                raise ConfigError(f"space: {error}") from None


def _check_range(name: str, values: Range) -> None:
    low, high, step = values.low, values.high, values.step
    log: object = values.log
    if not isinstance(log, bool):
        raise ConfigError(f"space: {name}: log must be true or false, found {values}")
    ordered = is_number(low) and is_number(high) and -math.inf < low <= high < math.inf
    if not ordered or (log and (low <= 0 or step is not None)):
        raise ConfigError(
            f"space: {name}: low must be at most high, and with log above 0 and without step, found {values}"
        )
    if step is not None and not (is_number(step) and 0 < step < math.inf and _divides(step, low, high)):
        raise ConfigError(
            f"space: {name}: step must be above 0, divide the range, and be whole between integers, found {values}"
        )


def _divides(step: float, low: float, high: float) -> bool:
    """Whether steps lead from end to end, of decimal fractions as they are written."""
    start, end, pace = (Fraction(str(one)) for one in (low, high, step))
    integers = all(isinstance(one, int) for one in (low, high))
    return (end - start) % pace == 0 and (pace.denominator == 1 or not integers)


def _opened(path: str | Path | None, asked: dict[str, Any]) -> "Study":
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage
    except ImportError:
        raise ConfigError("tuning needs Optuna; install it with: pip install 'sasrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if path is not None:
        try:
            Path(path).open("a").close()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another file") from None
    try:
        storage = None if path is None else JournalStorage(JournalFileBackend(str(path)))
        search = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not a study of sasrec: {error}; choose another file") from None
    kept = search.user_attrs.get("asked")
    if kept is None:
        search.set_user_attr("asked", asked)
    elif kept != json.loads(json.dumps(asked)):
        differing = ", ".join(name for name in asked if kept.get(name) != json.loads(json.dumps(asked[name])))
        raise ConfigError(f"{path}: is a study of another {differing}; choose another file for this search")
    return search


def _try(search: "Study", data: Split, space: Space, base: Config, *, seed: int) -> bool:
    """One trial; False where it was interrupted: what has begun is no finished trial of the study."""
    import optuna

    # A sampler of its own for each trial: what it draws must not depend on what ran in this process before.
    search.sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=_FIRST_TRIALS)
    trial = search.ask()
    settings = {name: _suggest(trial, name, values) for name, values in space.items()}
    trial.set_user_attr("settings", settings)
    started = time.perf_counter()
    try:
        record = whole(train(data, replace(base, **settings), progress=False)).record
    except KeyboardInterrupt:
        return False
    except (ConfigError, TrainingError, ScoreError) as error:
        if isinstance(error, TrainingError) and error.interrupted:
            return False
        trial.set_user_attr("failure", str(error))
        search.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return True
    trial.set_user_attr("epochs", record["epochs"])
    trial.set_user_attr("seconds", round(time.perf_counter() - started, 3))
    search.tell(trial, record["best"]["ndcg"])
    return True


def _suggest(trial: "OptunaTrial", name: str, values: Range | tuple[Any, ...]) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(name, values)
    if all(isinstance(one, int) for one in (values.low, values.high)):
        return trial.suggest_int(name, int(values.low), int(values.high), step=int(values.step or 1), log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def _finished(search: "Study") -> list["FrozenTrial"]:
    return [one for one in search.get_trials(deepcopy=False) if one.state.name in ("COMPLETE", "PRUNED")]


def _trial(one: "FrozenTrial") -> Trial:
    kept = one.user_attrs
    return Trial(kept["settings"], one.value, kept.get("epochs", 0), kept.get("seconds", 0.0), kept.get("failure", ""))


def _line(trial: Trial) -> str:
    return f"{'failed' if trial.ndcg is None else f'{trial.ndcg:.4f}'}  {_words(trial)}"


def _words(trial: Trial) -> str:
    return ", ".join(f"{name}={_shown(one)}" for name, one in trial.settings.items())


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _in_toml(values: Mapping[str, Any]) -> str:
    # JSON writes texts, numbers and truth values as TOML does.
    return f"{{{', '.join(f'{name} = {json.dumps(value, default=str)}' for name, value in values.items())}}}"


def _plain(space: Space) -> dict[str, Any]:
    return {
        name: [values.low, values.high, values.log, values.step] if isinstance(values, Range) else list(values)
        for name, values in space.items()
    }
