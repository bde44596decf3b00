"""`sasrec compare`."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from sasrec.commands.defaults import settings_of
from sasrec.commands.evaluation import Measure, MeasureFlags
from sasrec.commands.output import Destination, say
from sasrec.commands.reading import LogFlagsAsTrained, Reading
from sasrec.config import Config
from sasrec.data.folds import folds
from sasrec.errors import ConfigError, TrainingError, check_whole
from sasrec.files import check_free
from sasrec.presets import preset

if TYPE_CHECKING:
    from sasrec.retrieval.recommender import Recommender

_INTERRUPTED = 130  # how `sasrec.cli` leaves where nothing was to be kept


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What is trained for a comparison.

    Attributes:
        config: TOML files of settings, as for `sasrec train`; each is trained and called by the name of its file.
        preset: Published systems, as for `sasrec train`; each is trained with its settings, except those of `change`.
        change: TOML file of settings that take the place of those of every preset, as `length = 200`.
        seeds: Train each so many times, with the seed of its settings and those after it.
        folds: Instead of one split, so many by time whose test periods, each of --share, follow one another. All is
            then trained in this process, and nothing is kept.
        out: Folder to keep the trained models in; else they are not kept.
    """

    config: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = ()
    preset: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    change: Path | None = None
    seeds: int = 1
    folds: int | None = None
    out: Path | None = None

    def names(self) -> list[str]:
        """What each is called in the table."""
        return [*(path.stem for path in self.config), *self.preset]

    def configs(self) -> list[Config]:
        """The settings of each, in the order of its name.

        Raises:
            ConfigError: A file is refused, there is no such preset, or `change` has no preset to change.
        """
        if self.change is not None and not self.preset:
            raise ConfigError("--change is for presets; pass --preset NAME, or put the settings into files of --config")
        bases = map(preset, self.preset)
        changed = [base if self.change is None else settings_of(self.change, base=base) for base in bases]
        return [*map(settings_of, self.config), *changed]


def compare(
    log: Path,
    /,
    *models: Path,
    networks: Annotated[Networks, Parameter(name="*", group=Group("What is trained", sort_key=0))] = Networks(),
    measure: MeasureFlags = Measure(),
    reading: LogFlagsAsTrained = Reading(),
    output: Annotated[Destination, Parameter(name="*")] = Destination(),
    quiet: bool = False,
) -> None:
    """Set several models beside each other on one split, in one table.

    Shows how good each is, how far from the first with a 95 % interval, and what its training took. Models that are
    trained already come first, then one for each file of settings and each preset, trained in a process of its own;
    sequence rules, a last-item Markov chain and popularity stand beside them.

    Args:
        log: File of interactions, as for `sasrec train`.
        models: Folders of models of this log and split, as `sasrec train`, `count`, `blend`, `refit` or `export` writes
            them.
        quiet: Print no progress.
    """
    from sasrec.evaluation.protocol import check_protocol
    from sasrec.retrieval.loading import load
    from sasrec.studies import compare as study

    output.check(log, *models, *networks.config, networks.change)
    names = [os.path.basename(os.path.realpath(path)).removesuffix(".sasrec") for path in models] + networks.names()
    study.check_names(names)
    configs = dict(zip(networks.names(), networks.configs(), strict=True))
    _check(networks, configs, replace=output.replace)
    saved = dict(zip(names, map(load, models), strict=False))
    contestants: dict[str, Config | Recommender] = {**saved, **configs}
    content, count = reading.log(log), networks.folds
    splits = [reading.divided(content)] if count is None else folds(content, count, share=reading.share)
    for split in splits:
        check_protocol(
            split, k=measure.k, exclude_seen=measure.exclude_seen, on=measure.on, candidates=measure.candidates
        )
    if count is not None:
        rounds = study.train_rounds(splits, contestants, on=measure.on, seeds=networks.seeds, progress=not quiet)
    else:
        study.check_comparable(contestants, splits[0], on=measure.on)
        with tempfile.TemporaryDirectory(prefix="sasrec-compare-") as scratch:
            place, kept = Path(os.path.realpath(log)), networks.out or Path(scratch)
            trainings = _Trainings(place, reading, Path(scratch), kept, replace=output.replace, quiet=quiet)
            turns = range(networks.seeds)
            rounds = [(splits[0], saved | trainings.of(configs, turn, networks.seeds)) for turn in turns]
    found = study.compare_trained(
        rounds,
        k=measure.k,
        exclude_seen=measure.exclude_seen,
        on=measure.on,
        candidates=measure.candidates,
        seed=measure.seed,
    )
    say(str(found))
    output.write(found, data=splits[0] if count is None else None)


def _check(networks: Networks, configs: dict[str, Config], *, replace: bool) -> None:
    """Refuse what cannot be done before anything is read or trained."""
    from sasrec import bundle

    check_whole("seeds", networks.seeds, least=1)
    check_whole("folds", 2 if networks.folds is None else networks.folds, least=2)
    if networks.seeds > 1 and not configs:
        raise ConfigError("--seeds is for what --config and --preset train; leave it out")
    if networks.out is None:
        return
    if networks.folds is not None or not configs:
        raise ConfigError("--out keeps what --config and --preset train on one split; leave it out")
    there = os.path.isdir(networks.out)
    if not there:
        check_free(networks.out, replace=False)
    for name in configs if there else ():
        for turn in range(networks.seeds):
            bundle.check_free(networks.out / _file(name, configs[name].seed + turn, networks.seeds), replace=replace)


def _file(name: str, seed: int, seeds: int) -> str:
    return f"{name}-seed{seed}.sasrec" if seeds > 1 else f"{name}.sasrec"


@dataclass(frozen=True)
class _Trainings:
    """Runs of `sasrec train`: a process each, so that time and memory are those of one training.

    Each ends with this process, however that ends.
    """

    log: Path
    reading: Reading
    scratch: Path
    folder: Path
    replace: bool
    quiet: bool

    def of(self, configs: dict[str, Config], turn: int, turns: int) -> "dict[str, Recommender]":
        """Every configuration trained once, with the seed of this turn.

        Raises:
            TrainingError: One was not trained; its process has said why.
            KeyboardInterrupt: One was interrupted; a network that is half trained compares with nothing.
        """
        from sasrec.retrieval.loading import load
        from sasrec.studies.compare import announce
        from sasrec.training.progress import told
        from sasrec.training.training import whole

        made = {}
        for name, config in configs.items():
            announce(told(not self.quiet), name, turn + 1, turns)
            seeded = replace(config, seed=config.seed + turn)
            self.folder.mkdir(exist_ok=True)
            out = self.folder / _file(name, seeded.seed, turns)
            code = self._run(seeded, out)
            if code not in (0, _INTERRUPTED):
                raise TrainingError(f"{name}: was not trained, its process left with exit code {code}")
            if code == _INTERRUPTED:
                raise KeyboardInterrupt
            made[name] = whole(load(out))
        return made

    def _run(self, config: Config, out: Path) -> int:
        settings = self.scratch / "settings.toml"
        settings.write_text(config.to_toml(), encoding="utf-8")
        flags = ["--out", str(out.resolve()), "--config", str(settings), *(["--replace"] if self.replace else [])]
        # Progress goes to standard error; what `train` says on standard output is not part of the comparison.
        # A comparison starts anew: nobody would go on with one of its trainings.
        flags += ["--checkpoint-every", "0", *(["--quiet"] if self.quiet else [])]
        command = [sys.executable, "-m", "sasrec.commands.attached", str(self.scratch), "train", str(self.log)]
        command += [*flags, *self.reading.flags()]
        pipe, held = os.pipe()
        try:
            return subprocess.run(command, stdin=pipe, stdout=subprocess.DEVNULL, check=False).returncode  # noqa: S603  # our own
        finally:
            os.close(pipe)
            os.close(held)
