"""One row with one seed on one log: trained or counted, blended, refit, and tested once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sasrec
from benchmarks.accuracy.results import CUT, FOLDER, Counted, Result, Trained, pack, place, read
from benchmarks.accuracy.rows import COUNTED, ROWS
from benchmarks.measure import ROOT
from benchmarks.turns import commit
from sasrec.files import sha256
from sasrec.training.counting import Countable
from sasrec.training.machine import describe
from sasrec.training.training import whole

KEPT = ROOT / "benchmarks" / "results" / "local" / "accuracy"


@dataclass(frozen=True)
class Bench:
    """A log at hand, with the models that were made of it so far.

    Attributes:
        again: Networks are trained with every setting as the kept result of the same name has it, whatever the
            defaults and rows are today.
    """

    name: str
    data: sasrec.Split
    folder: Path = FOLDER
    again: bool = False
    counts: dict[Countable, sasrec.Recommender] = field(default_factory=dict)
    networks: dict[tuple[str, int], sasrec.Recommender] = field(default_factory=dict)

    def run(self, row: str, seed: int, whats: Sequence[Trained]) -> Iterator[Result]:
        """Make what is not there yet of one row, and give it as it is saved."""
        missing = [what for what in whats if not place(self.folder, self.name, row, seed, what).exists()]
        if not missing:
            return
        network = self._network(row, seed)
        blends: dict[str, sasrec.Recommender] = {}
        for what in missing:
            kind, _, again = ("blend", "-", "refit") if what == "refit" else what.partition("-")
            if what == "network":
                model = network
            else:
                model = blends[kind] = blends.get(kind) or self._blend(row, seed, kind)
                model = sasrec.refit(model, self.data) if again else model
            training = network.record
            result = Result(
                self.name,
                row,
                seed,
                what,
                settings=ROWS[row].on(self.name),
                config=network.scorer.to_parts()[0],
                best=training["best"]["epoch"],
                epochs=training["epochs"],
                **self._tested(model, refit=bool(again)),
            )
            result.save(self.folder)
            yield result

    def count(self, whats: Sequence[Counted]) -> Iterator[Result]:
        """Count what is not there yet, and give it as it is saved."""
        for what in whats:
            if place(self.folder, self.name, COUNTED, 0, what).exists():
                continue
            if what in ("counts", "counts-refit"):
                model = sasrec.blend(self.data, [self._counted("rules"), self._counted("knn")])
                model = sasrec.refit(model, self.data) if what == "counts-refit" else model
            else:
                model = self._counted(what)
            config = model.scorer.to_parts()[0]
            tested = self._tested(model, refit=what == "counts-refit")
            result = Result(self.name, COUNTED, 0, what, settings={}, config=config, best=0, epochs=0, **tested)
            result.save(self.folder)
            yield result

    def _counted(self, kind: Countable) -> sasrec.Recommender:
        if kind not in self.counts:
            self.counts[kind] = sasrec.count(self.data, kind)
        return self.counts[kind]

    def _blend(self, row: str, seed: int, kind: str) -> sasrec.Recommender:
        networks = [self._network(row, seed + more) for more in range(3 if kind == "three" else 1)]
        counts: tuple[Countable, ...] = ("rules", "knn") if kind == "blend" else ("rules", "knn", "ease")
        return sasrec.blend(self.data, [*networks, *(self._counted(one) for one in counts)])

    def _network(self, row: str, seed: int) -> sasrec.Recommender:
        if (row, seed) not in self.networks:
            self.networks[row, seed] = self._kept(row, seed) or self._trained(row, seed)
        return self.networks[row, seed]

    def _kept(self, row: str, seed: int) -> sasrec.Recommender | None:
        """The network of an earlier run, if its weights are those of the result."""
        kept, told = self._file(row, seed), place(self.folder, self.name, row, seed, "network")
        network = sasrec.load(kept) if kept.exists() and told.exists() else None
        return network if network and hashed(network) == read(told).weights else None

    def _trained(self, row: str, seed: int) -> sasrec.Recommender:
        settings = settled(self.name, row, seed) if self.again else {**ROWS[row].on(self.name), "seed": seed}
        file = self._file(row, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        state = file.with_suffix(".state")
        checkpoint = sasrec.Checkpoint(state, resume=state.exists())  # hours of training outlive who stops them
        network = whole(sasrec.train(self.data, sasrec.Config.from_dict(settings), checkpoint=checkpoint))
        network.save(file, replace=True)
        checkpoint.remove()
        return network

    def _file(self, row: str, seed: int) -> Path:
        return KEPT / ("again" if self.again else "") / self.name / f"{row}-{seed}.sasrec"

    def _tested(self, model: sasrec.Recommender, *, refit: bool) -> dict[str, Any]:
        report, record = sasrec.evaluate(model, self.data, k=CUT), model.record
        return {
            "data": self.data.fingerprint,
            "weights": hashed(model),
            "valid": round(record["best"]["ndcg"], 6),
            "ndcg": round(report[f"NDCG@{CUT}"], 6),
            "hits": round(report[f"HR@{CUT}"], 6),
            "cpu_s": (record["refit"] if refit else record)["cpu_seconds"],
            "made": {**describe(), "commit": commit()},
            "parts": {one["name"]: round(one["weight"], 6) for one in record.get("parts", ())},
            "places": pack(report.rows[0].ranks),
        }


def settled(log: str, row: str, seed: int) -> dict[str, Any]:
    """Every setting of a kept network; what was no setting yet when it was trained, as it was then.

    Raises:
        FileNotFoundError: No such network is kept.
    """
    return {"average": 0.0, "label_smoothing": 0.0, **read(place(FOLDER, log, row, seed, "network")).config}


def hashed(model: sasrec.Recommender) -> str:
    """A hash of all arrays of a model."""
    _, tensors = model.scorer.to_parts()
    return sha256(b"".join(name.encode() + tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors)))
