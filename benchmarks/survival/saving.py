"""Killed at any moment of saving a model or activating a version: the old one or the new one is there, whole."""

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import sasrec
from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import PATIENCE, Ground, contents, drafts, heard, worker
from sasrec.files import sweep
from sasrec.serving.api import Recommend
from sasrec.serving.service import Service
from sasrec.serving.versions import Folder, fingerprint

BEGUN, DONE = "begun", "done"


def save_for_ever(path: Path, models: Sequence[Path], says: Connection) -> None:
    """Save one model after the other to one place."""
    loaded = [(model.name, sasrec.load(model)) for model in models]
    for name, model in itertools.cycle(loaded):
        says.send_bytes(f"{BEGUN} {name}".encode())
        model.save(path, replace=True)
        says.send_bytes(f"{DONE} {name}".encode())


def activate_for_ever(data: Path, models: Sequence[Path], says: Connection) -> None:
    """Activate one model after the other, as a server does."""
    service = Service(models[0], Folder(data))
    for model in itertools.cycle(models):
        says.send_bytes(f"{BEGUN} {model.name}".encode())
        service.activate(model)
        says.send_bytes(f"{DONE} {model.name}".encode())


def killed_while_saving(ground: Ground, tries: int) -> Iterator[Try]:
    """Save two models over each other until killed, and compare every byte of what is there."""
    folder, models = ground.fresh("saving"), [ground.models["one"], ground.models["two"]]
    path, whole = folder / "model.sasrec", {model.name: contents(model) for model in models}
    for possible in _killed(save_for_ever, path, models, tries):
        left, found = drafts(folder), contents(path)
        sweep(path)
        names = [name for name, files in whole.items() if files == found]
        failed = "" if {*names} & possible else f"there is {names or 'a model that is neither'}, expected {possible}"
        yield Try(failed, {"in the middle": bool(left)})


def killed_while_activating(ground: Ground, tries: int) -> Iterator[Try]:
    """Activate three models in turn until killed, and start again: what answers, and what is left on the disk."""
    data, models = ground.fresh("activating") / "data", [ground.models[name] for name in ("one", "two", "markov")]
    names = {fingerprint(model): model.name for model in models}
    offline = {model.name: _best(model) for model in models}
    for possible in _killed(activate_for_ever, data, models, tries):
        left = drafts(data) + drafts(data / "models")
        with closing(Folder(data)) as folder:
            service = Service(models[0], folder)
            with closing(service.store):
                name = names[service.served.version]
                (answer,) = service.answer([Recommend("u19", k=3)])
                best = [one.item for one in answer.items]
            kept = {service.course.version, *service.course.before}
            faults = [
                "" if name in possible else f"{name} is served, expected {possible}",
                "" if best == offline[name] else f"{name} answers {best}, expected {offline[name]}",
                "" if {*os.listdir(data / "models")} <= kept and not drafts(data) else "half a version is left",
            ]
        yield Try("; ".join(filter(None, faults)), {"in the middle": bool(left)})


def _best(model: Path) -> list[str]:
    return sasrec.load(model).recommend(["u19"], k=3)["item_id"].to_list()


def _killed(work: Callable[..., None], place: Path, models: Sequence[Path], tries: int) -> Iterator[set[str]]:
    """Kill a worker again and again, each time at another moment; gives what may be there: the last done, or begun."""
    chances, done = random.Random(100), None
    for _ in range(tries):
        with worker(work, place, models) as (process, hears):
            said, times = [], []
            for _ in range(chances.randrange(4, 9)):
                if (one := heard(hears)) is None:
                    raise ChildProcessError(f"{work.__name__} ended by itself")
                said.append(one)
                times.append(time.perf_counter())
            # Not a message but a moment between two of them: everything that is done to files lies there.
            time.sleep(chances.random() * (times[-1] - times[0]) / (len(times) - 1) * 2)
            process.kill()
            process.join(PATIENCE)
            while (one := heard(hears)) is not None:
                said.append(one)
        for one in said:
            what, name = one.split()
            begun, done = (name, done) if what == BEGUN else (None, name)
        yield {name for name in (done, begun) if name is not None}


CLAIMS = (
    Claim(
        "saving",
        "killed while a model is saved over another: the old one or the new one, bit for bit",
        100,
        4,
        killed_while_saving,
    ),
    Claim(
        "activating",
        "killed while versions are activated: the next start answers as the old or the new one",
        100,
        3,
        killed_while_activating,
    ),
)
