"""`sasrec train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from sasrec.commands.information import chosen, outcome
from sasrec.commands.output import in_bytes, say, suggest, wrapped
from sasrec.commands.reading import LogFlags, Reading
from sasrec.config import Config
from sasrec.data.feature_reading import read_features
from sasrec.data.features import Features
from sasrec.data.vocab import Vocabulary
from sasrec.errors import ConfigError
from sasrec.files import check_apart, check_free


@dataclass(frozen=True, kw_only=True)
class Written:
    """What training writes.

    Attributes:
        out: Folder to save the model to; checked before anything is read.
        history: File to which a line of JSON is added after every epoch.
        replace: Take the place of a model, and add to a history, that is there already.
    """

    out: Path
    history: Path | None = None
    replace: bool = False

    def check(self) -> None:
        """Refuse a place that is taken; OutputError."""
        from sasrec import bundle

        check_apart(self.history, self.out)
        bundle.check_free(self.out, replace=self.replace)
        if self.history is not None:
            check_free(self.history, replace=self.replace)


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
    """Categories of the items, which the network learns vectors of.

    Attributes:
        features: File of items with their categories, in any format that a log may have.
        feature: Columns to take; of a file with the columns `feature` and `value`, features.
        separator: What parts several values in one text.
    """

    features: Path | None = None
    feature: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    separator: str | None = None

    def read(self, items: Vocabulary) -> Features | None:
        """The features, or None where no file is given; DataError as `read_features`."""
        if self.features is None:
            if self.feature or self.separator:
                raise ConfigError("--feature and --separator are of a file of items; pass --features FILE")
            return None
        return read_features(self.features, items, columns=self.feature, separator=self.separator)


def train(
    log: Path,
    /,
    *,
    written: Annotated[Written, Parameter(name="*")],
    reading: LogFlags = Reading(),
    config: Annotated[Config, Parameter(name="*", group=Group("Network and training", sort_key=2))] = Config(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Categories of items", sort_key=3))
    ] = FeatureFlags(),
    origin: Annotated[Origin, Parameter(name="*")] = Origin(),  # noqa: ARG001  # `commands.defaults` reads it
    quiet: bool = False,
) -> None:
    """Train a network on a log and save it.

    Shows what the log holds, how it is split and which settings were chosen, then trains until the validation part
    gets no better, and keeps the weights of the best epoch. The test part is not looked at: `sasrec evaluate` does
    that. Ctrl-C ends training early and still saves the best so far.

    Args:
        log: File of interactions: CSV, TSV, Parquet, JSON lines, RecBole `.inter`, or text of user and item; also
            compressed (.gz, .zst).
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.training import loop, settling
    from sasrec.training.machine import peak_memory

    written.check()
    content = reading.log(log)
    data = reading.divided(content)
    features = categories.read(content.items)
    if not quiet:
        say(str(content.summary()), "", str(data), *([str(features)] if features else []), "")
        taken = settling.settled(config, data.train, items=len(content.items))
        say(wrapped(f"settings: {chosen(taken.to_dict())}"))
        for name, reason in settling.reasons(config, taken, data.train, items=len(content.items)).items():
            say(wrapped(f"{name}: {reason}"))
        say("")
    model = loop.train(data, config, history=written.history, features=features, progress=not quiet)
    model.record |= {"log": log.name, "reading": reading.to_dict(), "peak_memory": peak_memory()}
    out = written.out
    model.save(out, replace=written.replace)
    if not quiet:
        user, item = model.users.ids[0], model.items.ids[0]
        say(outcome(model.record), f"saved to {out} ({in_bytes(out)})", "")
        suggest(
            ["evaluate", out, log],
            ["recommend", out, "--user", str(user)],
            ["similar", out, str(item)],
            ["info", out],
        )
