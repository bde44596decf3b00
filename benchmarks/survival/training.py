"""A training is killed again and again, and goes on to the bits of one that nobody stopped."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import sasrec
from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import Ground, heard, worker
from sasrec.training import training

KILLS = 3
SETTINGS = (
    {"precision": "bfloat16"},
    {"loss": "bce", "negatives": 2},
    {"windows": "random", "schedule": "one-cycle"},
    {"windows": "rolling", "learn": "last", "norm": "pre"},
    {"loss": "sampled-softmax", "sampler": "mixed", "negatives": 7, "share_negatives": True, "item_updates": "touched"},
    {"user_width": 4, "swap_items": 0.2, "swap_users": 0.3, "dropout": 0.0},
    {"network": "stamp", "learn": "last", "positions": "none", "validate_every": 2},
    {"average": 0.9, "label_smoothing": 0.1},
)


def train(log: Path, folder: Path, config: sasrec.Config, resume: bool, says: Connection) -> None:
    """Train and save, telling of every step, each of which is kept."""
    told = SimpleNamespace(step=lambda *_: says.send_bytes(b"step"), epoch=lambda _: None)
    training.watched = lambda *_, **__: nullcontext(told)
    data = sasrec.split(sasrec.read_log(log))
    checkpoint = sasrec.Checkpoint(folder / "training", every=1e-9, resume=resume)
    sasrec.train(data, config, checkpoint=checkpoint).save(folder / "model.sasrec")


def digest(model: sasrec.Recommender) -> str:
    """All weights in one number."""
    tensors = model.scorer.network.state_dict()
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()


def killed(ground: Ground, tries: int) -> Iterator[Try]:
    """Kill a training three times, each time further on, let it end, and compare the weights."""
    chances, data = random.Random(10), sasrec.split(sasrec.read_log(ground.log))
    for number in range(tries):
        folder = ground.fresh("training")
        config = replace(ground.config, epochs=20, patience=20, **SETTINGS[number % len(SETTINGS)])
        for kill in range(KILLS):
            with worker(train, ground.log, folder, config, kill > 0) as (_, hears):
                for _ in range(chances.randrange(2, 25)):
                    if heard(hears) is None:
                        raise ChildProcessError("a training ended before it was killed")
        with worker(train, ground.log, folder, config, True) as (process, hears):
            while heard(hears) is not None:
                pass
            process.join()
        whole, found = digest(sasrec.train(data, config, progress=False)), digest(sasrec.load(folder / "model.sasrec"))
        yield Try("" if found == whole else "other weights", {"kills": KILLS})


CLAIMS = (Claim("training", "training killed three times and resumed: the same bits", 10, 1, killed),)
