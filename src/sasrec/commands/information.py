"""`sasrec info`, and the sentences about models that other commands print too."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sasrec.commands.output import in_bytes, say, wrapped
from sasrec.commands.reading import LogFlags, Reading
from sasrec.config import Config
from sasrec.errors import ConfigError
from sasrec.retrieval.answers import columns
from sasrec.words import counted

_OF_BLOCKS = ("blocks", "heads", "norm")  # which only SASRec has
_USUAL = ("width", "length", "blocks", "heads", "dropout", "norm", "loss", "batch", "learning_rate", "seed")

if TYPE_CHECKING:
    from sasrec.retrieval.recommender import Recommender


def info(path: Path, /, *, layers: bool = False, reading: LogFlags = Reading()) -> None:
    """Say what a model or a log is.

    Of a model: its kind and settings, what it knows, how it was trained, how good it was on validation. Every byte of
    it is checked. Of a log: what it holds, and how it would be split.

    Args:
        path: Folder of a model, or a log file.
        layers: Add a table of the network's layers, with the shapes and number of their weights.
    """
    if os.path.isdir(path):  # pathlib raises where a folder on the way must not be entered
        from sasrec.model import summary
        from sasrec.retrieval.loading import load
        from sasrec.retrieval.neural import Neural

        if given := reading.flags():
            raise ConfigError(f"{' '.join(given)}: {path} is no log but a model; leave out what is of a log")
        model = load(path)
        say(_about(model, path))
        if layers:
            if not isinstance(model.scorer, Neural):
                raise ConfigError(
                    f"--layers: {path} holds a model of kind {model.scorer.kind!r}, which shows no layers"
                )
            rows = [(*row[:-1], f"{row.parameters:,}") for row in summary.layers(model.scorer.network)]
            say("", *columns([summary.Layer._fields, *rows], left=(0, 1, 2)))
    elif layers:
        raise ConfigError(f"--layers: {path} is no model but a log; leave --layers out")
    else:
        log = reading.log(path)
        say(str(log.summary()), "")
        say(str(reading.divided(log)))


def _about(model: "Recommender", path: Path) -> str:
    from sasrec.report.about import extent
    from sasrec.training.blending import share_of_new, worth

    record = model.record
    config = {"recent": record["best"]["recent"]} if model.kind == "recent" else model.scorer.to_parts()[0]
    reading, usual = record.get("reading", {}), Reading().to_dict()
    known = {
        "model": f"{path} ({in_bytes(path)}), every byte verified",
        "kind": f"{model.kind}, {extent(model.scorer)}",
        "items": f"{len(model.items):,}, such as {', '.join(map(str, model.items.ids.head(3)))}",
        "added": f"{counted(record['added'], 'item')} after training" if record.get("added") else "",
        "users": f"{len(model.users):,}, such as {', '.join(map(str, model.users.ids.head(3)))}",
        "events": f"{len(model.histories.items):,} in their histories",
        "seen items": "left out of recommendations" if model.exclude_seen else "may be recommended again",
        "settings": in_words({part["name"]: part["weight"] for part in config["parts"]})
        if "parts" in config
        else chosen(config),
        "features": (record.get("features") or "").removeprefix("features: "),
        "log": record.get("log", "") + _and_events(record),
        "read with": in_words({name: value for name, value in reading.items() if usual.get(name) != value}),
        "split": record.get("split", ""),
        "times": f"in {model.time_unit!r}; the time of a request is {record['request_time']}"
        if model.time_unit and "request_time" in record
        else "",
        "automatic": "; ".join(f"{name} {reason}" for name, reason in record.get("automatic", {}).items()),
        "made": outcome(record) if "best" in record else "",
        "parts": "; ".join(map(worth, record.get("parts", ()))),
        "new items": share_of_new(record["new"]) if record.get("new") else "",
        "made with": ", ".join(f"{name} {record[name]}" for name in ("python", "torch", "processor") if name in record),
    }
    return "\n".join(wrapped(f"{name:<12}{words}", indent=12) for name, words in known.items() if words)


def _and_events(record: Mapping[str, Any]) -> str:
    taken = record.get("events")
    return f", with {counted(taken['taken'], 'event')} of a server, up to place {taken['through']:,}" if taken else ""


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def chosen(settings: Mapping[str, Any]) -> str:
    """A network's settings on one line: the usual ones, and of the others those that differ from their defaults."""
    defaults = Config().to_dict()
    # Two widths follow that of the states unless they were set, and negatives are of losses that draw some.
    inner = settings.get("width", 0) + settings.get("user_width", 0)
    defaults |= {"attention_width": inner, "feed_forward": inner}
    defaults |= {"negatives": 1, "sampler": "unseen", "item_updates": "all"}
    shown = {name: value for name, value in settings.items() if name in _USUAL or value != defaults.get(name)}
    without = () if settings.get("network", "sasrec") == "sasrec" else _OF_BLOCKS
    return in_words({name: value for name, value in shown.items() if name not in without})


def outcome(record: Mapping[str, Any]) -> str:
    """How training, counting or blending ended, from a model's record."""
    # Whoever made a model without the commands may have recorded nothing but its figures.
    best, took = record["best"], f" in {record['seconds']:,.1f} s" if "seconds" in record else ""
    valid = f"validation NDCG@10 {best['ndcg']:.4f}, HR@10 {best['hit_rate']:.4f}"
    if "counted" in record:
        tried = len(record.get("tried", ()))
        said = f"counted{took}" + (f", the best of {tried} settings" if tried > 1 else "") + f"; {valid}"
    elif record.get("parts"):
        weights = ", ".join(f"{part['name']} {part['weight']:.3g}" for part in record["parts"])
        said = f"blended{took}: {weights}; {valid}"
    elif {"epochs", "steps", "stopped"} <= record.keys() and "epoch" in best:
        said = (
            f"trained {counted(record['epochs'], 'epoch')} ({counted(record['steps'], 'step')}){took}, "
            f"{record['stopped']}; best is epoch {best['epoch']} with {valid}"
        )
        if best["epoch"] == record["epochs"]:
            said += "; as it is the last, more epochs may get further"
    else:
        said = valid
    if "refit" in record:
        again = record["refit"]
        said += f"; then refit on train + validation, {counted(again['events'], 'event')}, in {again['seconds']:,.1f} s"
    return said
