"""One result: a model of one row and one seed on one log, with what is needed to make it again and to compare it."""

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.measure import ROOT

FOLDER = ROOT / "benchmarks" / "results" / "accuracy"
CUT = 10

Trained = Literal["network", "blend", "refit", "ease", "ease-refit", "three"]
"""The network alone; blended with rules and kNN, and that refit on train + validation; both with EASE too; and the
networks of this seed and the two after it blended with all that counts."""

Counted = Literal["popularity", "recent", "markov", "rules", "knn", "counts", "counts-refit"]
"""What needs no training: each by itself, rules and kNN blended, and that refit."""

What = Trained | Counted


@dataclass(frozen=True)
class Result:
    """What one model reached.

    Attributes:
        log, row, seed, what: Which one it is.
        settings: What `Config()` was changed to.
        config: Every setting of the network, as it was settled; of what is counted, what was chosen.
        data: Hash of the log and the split.
        weights: Hash of the model's arrays.
        best: Epoch that was best on validation; 0 where nothing is trained.
        epochs: Epochs trained.
        valid: NDCG@10 on validation.
        ndcg, hits: NDCG@10 and HR@10 on the test, the mean over users.
        cpu_s: CPU seconds that it took, validation included, without what it was made from.
        made: Versions, processor and commit.
        parts: Weight of each part of a blend.
        places: The place of every user's target, see `pack`.
    """

    log: str
    row: str
    seed: int
    what: What
    settings: dict[str, Any]
    config: dict[str, Any]
    data: str
    weights: str
    best: int
    epochs: int
    valid: float
    ndcg: float
    hits: float
    cpu_s: float
    made: dict[str, Any]
    parts: dict[str, float]
    places: str

    def save(self, folder: Path = FOLDER) -> None:
        """Write it as JSON."""
        path = place(folder, self.log, self.row, self.seed, self.what)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def ranks(self) -> np.ndarray:
        """Rank of each user's target from 0, infinite from `CUT` on; float64 of shape (users,)."""
        return unpack(self.places)


def place(folder: Path, log: str, row: str, seed: int, what: What) -> Path:
    """The file of a result."""
    return folder / log / f"{row}-{seed}-{what}.json"


def read(path: Path) -> Result:
    """A result as it was saved."""
    return Result(**json.loads(path.read_text(encoding="utf-8")))


def pack(ranks: np.ndarray) -> str:
    """Ranks as text, exact to half a place up to `CUT`, which is what tied scores give; beyond it nothing counts."""
    halves = np.minimum(np.round(2 * ranks), 2 * CUT).astype(np.uint8)
    return base64.b64encode(zlib.compress(halves.tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    """The ranks that `pack` made text of, infinite from `CUT` on."""
    places = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.where(places < 2 * CUT, places / 2, np.inf)


def results(folder: Path = FOLDER) -> Iterator[Result]:
    """All results of a folder, by log, row, seed and kind."""
    for path in sorted(folder.glob("*/*.json")):
        yield read(path)
