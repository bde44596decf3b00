"""The systems, and what is measured of each."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.measure import Case
from benchmarks.peers.checkouts import checkout
from benchmarks.peers.environments import ENVIRONMENTS
from benchmarks.run import Run

NDCG = 0.060  # validation NDCG@10 on Beauty that `quality` cases train to


@dataclass(frozen=True)
class System:
    """Somebody's code.

    Attributes:
        title: What it is called in a table.
        driver: Module of `drivers` that runs it.
        environment: The one of `ENVIRONMENTS` that it runs in; empty for our own.
        package: What its version is told by, in that environment.
        checkout: A file of it in the folder of checkouts, where it is no package.
        home: Where its repository is.
    """

    title: str
    driver: str
    environment: str = ""
    package: str = ""
    checkout: str = ""
    home: str = ""

    def gap(self) -> str:
        """Why it cannot run here: its checkout is not there. Empty where it is, or none is needed."""
        try:
            if self.checkout:
                checkout(self.checkout)
        except FileNotFoundError as error:
            return f"{error}; clone {self.home} there"
        return ""

    def versions(self) -> dict[str, str]:
        """What it ran with, as its requirements pin it."""
        if not self.environment:
            return {}
        environment = ENVIRONMENTS[self.environment]
        named = environment.versions()
        engine = next(name for name in ("tensorflow", "tensorflow-cpu", "torch") if name in named)
        return {"python": environment.python} | {name: named[name] for name in (self.package, engine) if name}


SYSTEMS = {
    "sasrec": System("sasrec", "sasrec"),
    "paper": System(
        "SASRec, the authors' code",
        "authors",
        "tensorflow1",
        checkout="SASRec/model.py",
        home="github.com/kang205/SASRec",
    ),
    "recommenders": System("Recommenders", "recommenders", "tensorflow2", package="recommenders"),
    "seanswyi": System(
        "sasrec-pytorch of seanswyi",
        "seanswyi",
        "torch",
        checkout="sasrec-pytorch/src/trainer.py",
        home="github.com/seanswyi/sasrec-pytorch",
    ),
    "rectools": System("RecTools", "rectools", "rectools", package="RecTools"),
    "recohut": System(
        "RecLearn (RecoHut)",
        "reclearn",
        "tensorflow2",
        checkout="RecLearn/reclearn/models/matching/sasrec.py",
        home="github.com/ZiyaoGeng/RecLearn",
    ),
    "freerec": System(
        "RecBoard on FreeRec",
        "recboard",
        "freerec",
        package="freerec",
        checkout="RecBoard/SASRec/main.py",
        home="github.com/MTandHJ/RecBoard",
    ),
    "esasrec": System("eSASRec, as RecTools ships it", "rectools", "rectools", package="RecTools"),
    "ssept": System(
        "SSE-PT, the authors' code",
        "authors",
        "tensorflow1",
        checkout="SSE-PT/model_v1.py",
        home="github.com/wuliwei9278/SSE-PT",
    ),
    "stamp": System(
        "STAMP of RecBoard on FreeRec",
        "recboard",
        "freerec",
        package="freerec",
        checkout="RecBoard/STAMP/main.py",
        home="github.com/MTandHJ/RecBoard",
    ),
    "replay": System("RePlay", "replay", "replay", package="replay-rec"),
    "recbole": System("RecBole", "recbole", "recbole", package="recbole"),
    "pmixer": System(
        "SASRec.pytorch of pmixer",
        "pmixer",
        "torch",
        checkout="SASRec.pytorch/python/model.py",
        home="github.com/pmixer/SASRec.pytorch",
    ),
}
"""Every system by its name; that of a preset is the preset's."""

# Steps that are timed, 0 for a whole epoch: a system that is slow is timed on a part of one.
SAME = [
    ("sasrec", "softmax", 0),
    ("freerec", "softmax", 0),
    ("replay", "softmax", 8),
    ("recbole", "softmax", 20),
    ("rectools", "softmax", 6),
    ("sasrec", "bce", 0),
    ("freerec", "bce", 0),
    ("replay", "bce", 0),
    ("rectools", "bce", 0),
    ("pmixer", "bce", 0),
    ("seanswyi", "bce", 0),
    ("recommenders", "bce", 0),
    ("paper", "bce", 0),
]
PRESETS = {
    "paper": 0,
    "recommenders": 50,
    "seanswyi": 0,
    "rectools": 3,
    "recohut": 0,
    "freerec": 0,
    "esasrec": 3,
    "ssept": 50,
    "stamp": 0,
}
LOSSES = {"softmax": "exact cross-entropy", "bce": "binary cross-entropy, 1 negative"}


def settings(_run: Run) -> dict[str, dict[str, Any]]:
    """Settings as plain values: those of the comparison, by loss, and every preset."""
    import sasrec

    same = sasrec.Config(
        width=64,
        blocks=2,
        length=50,
        positions="learned",
        windows="last",
        initial="small",
        batch=128,
        dropout=0.2,
        feed_forward=64,
        loss="softmax",
        average=0.0,  # none of the others has one
    )
    long = dataclasses.replace(same, length=200)
    chosen = {loss: dataclasses.replace(same, loss=loss) for loss in LOSSES}
    chosen |= {name: sasrec.preset(name) for name in PRESETS} | {"long": long}
    chosen["float32"] = dataclasses.replace(same, precision="float32")
    soon = dataclasses.replace(same, learning_rate=0.003, dropout=0.1)
    ours = dataclasses.replace(
        soon, loss="sampled-softmax", negatives=1024, average=0.99, initial="counted", learning_rate=0.004
    )
    chosen |= {"soon.freerec": soon, "soon.sasrec": ours}
    return {name: _plain(config.to_dict()) for name, config in chosen.items()}


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """With a number of negatives, for other systems know no "auto"."""
    return {**config, "negatives": 1 if config["negatives"] == "auto" else config["negatives"]}


def cases(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Case]:
    """Every case by its name: table, what is compared, system."""
    return {case.name: case for case in (*_same(configs), *_presets(configs), *_others(configs))}


def system_of(case: Case) -> System:
    """Whose code a case runs."""
    return SYSTEMS[case.name.rpartition(".")[2]]


def _same(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Case]:
    for name, loss, steps in SAME:
        yield _epoch(f"same.{loss}.{name}", name, configs[loss], steps)
    # The others multiply in float32, where ours takes bfloat16 by itself on a processor that is faster with it.
    yield replace(_epoch("same.float32.sasrec", "sasrec", configs["float32"], 0), title="sasrec, products in float32")


def _presets(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Case]:
    for name, steps in PRESETS.items():
        yield _epoch(f"preset.{name}.sasrec", "sasrec", configs[name], 0)
        yield _epoch(f"preset.{name}.{name}", name, configs[name], steps)


def _others(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[Case]:
    for name in ("sasrec", "freerec"):
        yield _epoch(f"ml1m.softmax.{name}", name, configs["long"], 0)
    for name in ("sasrec", "freerec"):
        for kind, config in (("softmax", "softmax"), ("soon", f"soon.{name}")):
            chosen = {"driver": SYSTEMS[name].driver, "config": configs[config], "ndcg": NDCG}
            yield Case(f"quality.{kind}.{name}", SYSTEMS[name].title, "peers.quality:sample", chosen)


def _epoch(name: str, system: str, config: Mapping[str, Any], steps: int) -> Case:
    chosen = {"driver": SYSTEMS[system].driver, "config": config, "steps": steps}
    return Case(name, SYSTEMS[system].title, "peers.epoch:sample", chosen)
