"""`sasrec count`, `sasrec blend` and `sasrec refit`: what is made without a search for weights of a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from sasrec.commands.information import outcome
from sasrec.commands.output import in_bytes, say, suggest, typed
from sasrec.commands.reading import LogFlags, LogFlagsAsTrained, Reading
from sasrec.commands.training import WRITES, FeatureFlags
from sasrec.errors import ConfigError
from sasrec.files import in_utf8
from sasrec.locking import held

if TYPE_CHECKING:
    from sasrec.data.log import Log
    from sasrec.retrieval.recommender import Recommender

_Counted = Literal["popularity", "recent", "markov", "rules", "knn", "ease", "content"]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Where a model is written to.

    Attributes:
        out: Folder to save the model to; checked before anything is read.
        replace: Take the place of a model that is there already.
    """

    out: Path
    replace: bool = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Refuse a place that is taken, and let no other command have it inside the block; OutputError."""
        from sasrec import bundle

        bundle.check_named(self.out)
        with held(self.out, doing=WRITES):
            bundle.check_free(self.out, replace=self.replace)
            yield

    def write(self, model: "Recommender", log: Path, reading: Reading, *, quiet: bool) -> None:
        """Save a model with where it came from, and say what it is and what to do next."""
        model.record |= {"log": in_utf8(log.name), "reading": reading.to_dict()}
        model.save(self.out, replace=self.replace)
        if not quiet:
            say(outcome(model.record), f"saved to {self.out} ({in_bytes(self.out)})", "")
            suggest(["evaluate", self.out, log], ["recommend", self.out, *typed(model.users, "--user")])


def count(
    log: Path,
    /,
    *,
    model: _Counted = "rules",
    saved: Annotated[Saved, Parameter(name="*")],
    reading: LogFlags = Reading(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Features of items, for content", sort_key=3))
    ] = FeatureFlags(),
    quiet: bool = False,
) -> None:
    """Count a model that needs no training, and save it.

    The best of a few settings by validation NDCG@10 is kept; the test part is not looked at. Takes seconds.

    Args:
        log: File of interactions, as for `sasrec train`.
        model: What is popular, what is popular of late ("recent"), what followed the last item ("markov"), what soon
            follows the last items ("rules"), what shares histories with them ("knn"), what tells a user's items from
            others ("ease", for at most 16,384 items: minutes and gigabytes for 10,000), or what is like the last items
            by its features, whoever had it ("content").
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.training import counting

    if model == "content" and categories.features is None:
        raise ConfigError("--model content ranks by what items are; pass --features FILE with their table")
    with saved.held():
        content = reading.log(log)
        data, features = reading.divided(content), categories.read(content.items)
        if not quiet:
            say(str(content.summary()), "", str(data), *([str(features)] if features else []), "")
        made = counting.count(data, model, features=features, progress=not quiet)
        saved.write(made, log, reading, quiet=quiet)


def blend(
    log: Path,
    /,
    *models: Path,
    counts: Annotated[tuple[_Counted, ...], Parameter(consume_multiple=True)] = ("rules", "knn"),
    saved: Annotated[Saved, Parameter(name="*")],
    reading: LogFlagsAsTrained = Reading(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Features of items, for content", sort_key=3))
    ] = FeatureFlags(),
    quiet: bool = False,
) -> None:
    """Make one model of several, and save it.

    The weights are those that rank the validation part best; the test part is not looked at. Says what each part is
    worth beside the others, and leaves out what adds nothing. With --features content takes part, and ranks what nobody
    had in training.

    Args:
        log: The log that the models were trained on.
        models: Folders that `sasrec train` or `sasrec count` wrote, from this log and split.
        counts: Models to count for the blend, as `sasrec count --model`, unless one of the kind is given.
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.retrieval.loading import load
    from sasrec.training import blending

    with saved.held():
        made = [load(path) for path in models]
        content = reading.log(log)
        data, features = reading.divided(content), categories.read(content.items)
        given = [model.record.get("counted") for model in made]  # counted again, such a one would be the same
        lacking = [name for name in counts if name not in given]
        found = blending.blend(data, [*made, *lacking], features=features, progress=not quiet)
        saved.write(found, log, reading, quiet=quiet)


def refit(
    model: Path,
    log: Path,
    /,
    *,
    saved: Annotated[Saved, Parameter(name="*")],
    reading: LogFlagsAsTrained = Reading(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Features of items, as in training", sort_key=3))
    ] = FeatureFlags(),
    quiet: bool = False,
) -> None:
    """Train or count a model once more on training and validation part together, for release.

    Settings, weights of a blend and the number of epochs stay as they were chosen on validation; the test part is not
    looked at. `sasrec evaluate` names the figures of a refit model apart: evaluate the model itself as well.

    Args:
        model: Folder that `sasrec train`, `count` or `blend` wrote.
        log: The log that it was trained on.
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.retrieval.loading import load
    from sasrec.training import refitting

    with saved.held():
        made = load(model)
        content: Log = reading.log(log)
        features = categories.read(content.items)
        found = refitting.refit(made, reading.divided(content), features=features, progress=not quiet)
        saved.write(found, log, reading, quiet=quiet)
