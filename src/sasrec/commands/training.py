"""`sasrec train`."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from sasrec import bundle
from sasrec.commands.information import chosen, outcome
from sasrec.commands.output import in_bytes, say, suggest, typed, wrapped
from sasrec.commands.reading import LogFlags, Reading
from sasrec.config import Config
from sasrec.data.feature_reading import read_features
from sasrec.data.features import Features
from sasrec.data.splits import Holdout
from sasrec.data.vocab import Vocabulary
from sasrec.errors import ConfigError, OutputError
from sasrec.files import check_free
from sasrec.locking import check_apart, check_kept, held

if TYPE_CHECKING:
    from sasrec.retrieval.recommender import Recommender
    from sasrec.training.checkpoint import Checkpoint

WRITES = "another command writes there"  # what whoever holds a place for a model does


@dataclass(frozen=True, kw_only=True)
class Written:
    """What training writes.

    Attributes:
        out: Folder to save the model to; checked before anything is read.
        history: File to which a line of JSON is added after every epoch.
        replace: Take the place of a model, and add to a history, that is there already.
        checkpoint_every: Minutes after which the state of the training is written to OUT.training, time and again, so
            that it can go on after a crash; 0 writes none. The file goes when the model is saved.
        resume: Go on with the training whose state is in OUT.training: the same command as before, and this.
    """

    out: Path
    history: Path | None = None
    replace: bool = False
    checkpoint_every: float = 10.0
    resume: bool = False

    def check(self, *read: Path | None) -> "Checkpoint | None":
        """Where the state of the training goes, after refusing places that are taken.

        What a killed training left half saved is removed; so the place must be held.

        Args:
            read: The files that the training reads, which stay as they are.

        Raises:
            OutputError: A place is taken or cannot be written.
            BundleError: There is no training to go on with.
            ConfigError: The interval is none.
        """
        from sasrec.training.checkpoint import Checkpoint

        path, checkpoint = self.out.with_name(f"{self.out.name}.training"), None
        check_apart(self.history, self.out, path)
        # That a folder is no file, reading it says.
        files = [one for one in read if one is not None and not os.path.isdir(one)]
        check_kept(self.history, self.out, path, read=files)
        if not self.checkpoint_every >= 0:
            raise ConfigError(f"--checkpoint-every: expected minutes >= 0, found {self.checkpoint_every:g}")
        if self.checkpoint_every:
            checkpoint = Checkpoint(path, every=self.checkpoint_every, resume=self.resume)
            checkpoint.check()
        elif self.resume:
            raise ConfigError("--resume: goes on from a checkpoint; let --checkpoint-every be more than 0")
        bundle.check_free(self.out, replace=self.replace)
        if self.history is not None:
            check_free(self.history, replace=self.replace or self.resume)
        return checkpoint

    def save(self, model: "Recommender", checkpoint: "Checkpoint | None") -> None:
        """Save what was trained; OutputError, which says how it is saved after all where its state was kept."""
        try:
            model.save(self.out, replace=self.replace)
        except OutputError as error:
            if checkpoint is None or not os.path.exists(checkpoint.path):
                raise
            raise OutputError(f"{error}; what was trained is kept: --resume goes on from {checkpoint.path}") from None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where settings come from that are not given as flags; `sasrec.commands.defaults` reads them from there.

    Attributes:
        preset: Take the settings of a published system: paper, recommenders, seanswyi, rectools, recohut, freerec,
            esasrec, ssept or stamp; see docs/presets.md. The file and flags go before it.
        file: TOML file with any of the settings below under "Network and training", as `width = 128`; flags go
            before it.
    """

    preset: str | None = None
    file: Annotated[Path | None, Parameter(name="--config")] = None


@dataclass(frozen=True, kw_only=True)
class FeatureFlags:
    """What is known of the items beside who had them, which the network learns to use.

    Attributes:
        features: File of items with their categories or vectors, in any format that a log may have; or an array
            NAME.npy, with the ids of its rows in NAME.ids, one a line.
        feature: Columns of categories; of a file with the columns `feature` and `value`, features.
        separator: What parts several categories in one text.
        vector: Column of vectors, each a list of numbers; or what the names of numbered columns begin with, as v of
            v0, v1, v2.
    """

    features: Path | None = None
    feature: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    separator: str | None = None
    vector: str | None = None

    def read(self, items: Vocabulary) -> Features | None:
        """The features, or None where no file is given; DataError as `read_features`."""
        if self.features is None:
            if self.feature or self.separator or self.vector:
                raise ConfigError("--feature, --separator and --vector are of a file of items; pass --features FILE")
            return None
        return read_features(self.features, items, columns=self.feature, separator=self.separator, vector=self.vector)


def train(
    log: Path,
    /,
    *,
    written: Annotated[Written, Parameter(name="*")],
    reading: LogFlags = Reading(),
    config: Annotated[Config, Parameter(name="*", group=Group("Network and training", sort_key=2))] = Config(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Features of items", sort_key=3))
    ] = FeatureFlags(),
    origin: Annotated[Origin, Parameter(name="*")] = Origin(),
    quiet: bool = False,
) -> None:
    """Train a network on a log and save it.

    Shows what the log holds, how it is split and which settings were chosen, then trains until the validation part
    gets no better, and keeps the weights of the best epoch. The test part is not looked at: `sasrec evaluate` does
    that. Ctrl-C or SIGTERM ends training early and still saves the best so far. What was stopped, even by a crash, goes
    on with --resume to the same bits as if it had not been.

    Args:
        log: File of interactions: CSV, TSV, Parquet, JSON lines, RecBole `.inter`, or text of user and item; also
            compressed (.gz, .zst).
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.training import settling, training
    from sasrec.training.costs import peak_memory

    bundle.check_named(written.out)
    with held(written.out, doing=WRITES):
        checkpoint = written.check(log, categories.features, origin.file)
        content = reading.log(log)
        data = reading.divided(content)
        features = categories.read(content.items)
        settling.check(data, data.train, data.valid, config, features)
        if not quiet:
            say(str(content.summary()), "", str(data), *([str(features)] if features else []), "")
            taken = settling.settled(config, data.train, items=len(content.items))
            taken = taken if checkpoint is None else checkpoint.continued(config, taken)
            say(wrapped(f"settings: {chosen(taken.to_dict())}"))
            for name, reason in settling.reasons(config, taken, data.train, items=len(content.items)).items():
                say(wrapped(f"{name}: {reason}"))
            say(wrapped(_seen(data.valid)), "")
        model = training.train(
            data, config, history=written.history, features=features, checkpoint=checkpoint, progress=not quiet
        )
        model.record |= {"log": content.source.name, "reading": reading.to_dict(), "peak_memory": peak_memory()}
        written.save(model, checkpoint)
        later = _left(checkpoint, finished=model.record["stopped"] != "interrupted")
    if quiet and later:
        warnings.warn(later, stacklevel=2)
    if not quiet:
        out = written.out
        say(outcome(model.record), f"saved to {out} ({in_bytes(out)})", later)
        suggest(
            ["evaluate", out, log],
            ["recommend", out, *typed(model.users, "--user")],
            ["similar", out, *typed(model.items)],
            ["info", out],
        )


def _seen(holdout: Holdout) -> str:
    """Whether what a user had may be recommended again, and why; nothing where nobody is validated on."""
    from sasrec.training.settling import has_repeats

    if not len(holdout):
        return ""
    kept = "may be recommended again" if has_repeats(holdout) else "left out of recommendations"
    return (
        f"seen items: {kept}, as {holdout.repeated.mean():.1%} of validation targets are items that the user had before"
    )


def _left(checkpoint: "Checkpoint | None", *, finished: bool) -> str:
    """Remove what a finished training needs no more; of one that is not, a line that says how it goes on."""
    if checkpoint is None:
        return "" if finished else "interrupted, with no state to go on from\n"
    if finished:
        checkpoint.remove()
        return ""
    return f"not finished: the same command with --resume --replace goes on from {checkpoint.path}\n"
