"""`sasrec retrain`: from a log and what a server was told since to the next version of its model."""

import shlex
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from sasrec.commands.counting import Saved
from sasrec.commands.information import outcome
from sasrec.commands.output import in_bytes, say, suggest
from sasrec.commands.reading import LogFlagsAsTrained, Reading
from sasrec.commands.training import FeatureFlags
from sasrec.errors import ConfigError, DataError, ServingError
from sasrec.evaluation.intervals import Interval, paired_interval
from sasrec.evaluation.metrics import ndcg
from sasrec.serving.opening import open_store
from sasrec.serving.server import data_of
from sasrec.serving.snapshot import Snapshot, with_events
from sasrec.words import counted

if TYPE_CHECKING:
    from sasrec.data.features import Features
    from sasrec.data.log import Log
    from sasrec.data.splits import Split
    from sasrec.evaluation.protocol import Report
    from sasrec.retrieval.recommender import Recommender

_UNTIL_NOW = "served until now"
_MAY_HAVE_SEEN = "may have seen these targets: it was trained with another reading or split, or does not say with which"


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server whose events are taken; it may be running, and goes on meanwhile.

    Attributes:
        data: Its data folder; by default the model's name with `.data` after it.
        events: Where its events are, if not in the data folder: a file, such as a copy on another machine, or the
            database of `sasrec serve --events`.
        activate: Let the running server answer with the new model in the end, unless it is worse than the one before,
            or another was activated meanwhile.
    """

    data: Path | None = None
    events: str | None = field(default=None, repr=False)  # it may hold a password
    activate: bool = False


def retrain(
    model: Path,
    log: Path,
    /,
    *,
    saved: Annotated[Saved, Parameter(name="*")],
    server: Annotated[Server, Parameter(name="*", group=Group("Server", sort_key=0))] = Server(),
    refit: bool = False,
    reading: LogFlagsAsTrained = Reading(),
    categories: Annotated[
        FeatureFlags, Parameter(name="*", group=Group("Features of items, as in training", sort_key=3))
    ] = FeatureFlags(),
    quiet: bool = False,
) -> None:
    """Train the model that is served once more, with the events that came in since.

    Takes the log and every event of the server as one log, splits it as in training, and makes a model with the
    settings of the one that is served. Then says how good it is on the test part, beside the one that is served and
    models that only count. Users and items that are new are learned; who was forgotten is left out of everything.

    Args:
        model: Folder that the server was started with; where it has activated another one since, that is taken.
        log: The log that it was trained on, or a newer one.
        refit: In the end, train once more on training and validation part together, for release. Where the model that
            is served was refit, this is always done.
        quiet: Print nothing but warnings and errors.
    """
    from sasrec.retrieval.loading import load
    from sasrec.serving.administration import answers
    from sasrec.serving.versions import served
    from sasrec.training.costs import peak_memory

    with saved.held():
        data = server.data or data_of(model)
        running = answers(data)
        if server.activate and not running:
            raise ServingError(f"{data}: no server runs on this data folder; start it, or leave --activate out")
        before = load(replaced := served(data, model, running=running))
        _check_table(before, categories)
        alike = _alike(before, reading)
        content, snapshot = _content(reading, log, server.events or data / "events.sqlite", before)
        split, features = reading.divided(content), categories.read(content.items)
        if not quiet:
            say(str(snapshot), "", str(content.summary()), "", str(split), *([str(features)] if features else []), "")
        made, report = _made(before, split, features, refit=refit, quiet=quiet)
        report = report if alike else replace(report, notes=(*report.notes, f"{_UNTIL_NOW!r} {_MAY_HAVE_SEEN}"))
        made.record |= {"log": content.source.name, "reading": reading.to_dict(), "events": snapshot.to_dict()}
        made.record["peak_memory"] = peak_memory()
        made = _with_items_of(before, made, categories, quiet=quiet)
        made.save(saved.out, replace=saved.replace)
        gain = paired_interval(*(ndcg(row.ranks, 10) for row in report.rows[:2]))
        if not quiet:
            say(str(report), f"NDCG@10 of this model minus that of the one served until now: {gain}", "")
            say(outcome(made.record), f"saved to {saved.out} ({in_bytes(saved.out)})", "")
        if server.activate:
            unchanged = served(data, model, running=True) == replaced
            _activate(saved.out, data, gain if alike else None, unchanged=unchanged, quiet=quiet)
        elif not quiet:
            suggest(["activate", data, saved.out])


def _check_table(before: "Recommender", categories: FeatureFlags) -> None:
    """Refuse a table of items that the model cannot use, or none where it needs one, before anything is read."""
    if before.record.get("features") is None:
        if categories.features is not None:
            raise ConfigError("--features: the model that is served was trained without; leave the table out")
        return
    if categories.features is not None:
        return
    table = before.record.get("item_table") or {}
    flags = ["--features", "FILE", *(["--feature", *table["columns"]] if table.get("columns") else [])]
    flags += [f"--{name}={table[name]}" for name in ("separator", "vector") if table.get(name)]
    raise ConfigError(
        f"features: the model that is served was trained with them ({before.record['features']}); pass a table of the "
        f"items there are now: {shlex.join(flags)}"
    )


def _with_items_of(
    before: "Recommender", made: "Recommender", categories: FeatureFlags, *, quiet: bool
) -> "Recommender":
    """The new model, with what the table tells of items that were added to the one before; warns of others it lacks."""
    from sasrec.retrieval.additions import add_items

    if before.record.get("added") and categories.features is not None:
        with suppress(ConfigError, DataError):  # what it cannot rank, or the table has no longer, is named below
            made = add_items(made, categories.features)
            if not quiet:
                added = counted(made.record["added"], "item")
                say(f"added {added} of {categories.features} that nobody has had yet", "")
    known = {*map(str, made.items.ids)}  # an event of a text id makes text of integers
    if left := [one for one in before.items.ids if str(one) not in known]:
        warnings.warn(
            f"{len(left):,} of the {len(before.items):,} items that are served until now are not in the new model, "
            f"such as {left[0]!r}: nobody had them in the log or in an event, or filters left them out",
            stacklevel=2,
        )
    return made


def _alike(before: "Recommender", reading: Reading) -> bool:
    """Whether what is held out now was held out from the model that is served too; warns where nobody can tell."""
    told = before.record.get("reading")
    if told is not None and reading.holds_out_as(Reading.recorded(told)):
        return True
    warnings.warn(
        f"the model that is served {_MAY_HAVE_SEEN}, so the two do not compare, and --activate does not ask which is "
        "better",
        stacklevel=2,
    )
    return False


def _content(reading: Reading, log: Path, events: str | Path, before: "Recommender") -> "tuple[Log, Snapshot]":
    """The log with the events of a store, filtered as one, and which events these are."""
    store = open_store(events, writable=False)
    try:
        rows = reading.unfiltered().log(log)
        content, snapshot = with_events(rows, store, filters=reading.kept())
    finally:
        store.close()
    earlier = before.record.get("events", {})
    if earlier.get("taken") and earlier.get("store") != snapshot.store:
        warnings.warn(
            f"the model that is served holds {counted(earlier['taken'], 'event')} of another store; what the log has "
            "not of them is not in the new model",
            stacklevel=2,
        )
    return content, snapshot


def _made(
    before: "Recommender", data: "Split", features: "Features | None", *, refit: bool, quiet: bool
) -> "tuple[Recommender, Report]":
    """The new model, and how good it is beside the one before."""
    from sasrec.evaluation.earlier import beside
    from sasrec.evaluation.protocol import check_times, evaluate
    from sasrec.training import refitting, retraining

    check_times({_UNTIL_NOW: before}, data)  # hours before it would be measured
    made = retraining.retrain(before, data, features=features, progress=not quiet)
    if "refit" in before.record:  # the two are measured as they are served: both refit, or neither
        made = refitting.refit(made, data, features=features, progress=not quiet)
    report = beside(evaluate(made, data), before, data, name=_UNTIL_NOW)
    if refit and "refit" not in made.record:
        made = refitting.refit(made, data, features=features, progress=not quiet)
    return made, report


def _activate(model: Path, data: Path, gain: Interval | None, *, unchanged: bool, quiet: bool) -> None:
    """Let the server answer with the model, if nothing speaks against it; ServingError.

    Args:
        gain: How much better it is; None where it cannot be compared.
        unchanged: The server answers with the same version as before the training.
    """
    from sasrec.serving.administration import Command, send

    why = ""
    if not unchanged:
        why = "another version was activated meanwhile, with which this one was not compared"
    elif gain is not None and gain.high < 0:
        why = f"NDCG@10 is lower than that of the model that is served ({gain.low:+.4f} to {gain.high:+.4f})"
    if why:
        raise ServingError(
            f"{model}: {why}, so it was saved and not activated; sasrec activate {data} {model} does it all the same"
        )
    version = send(Command("activate", str(model.absolute())), data)
    if not quiet:
        say(f"version {version} answers now")
