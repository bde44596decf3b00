"""What every claim is tried on: small models, servers as processes, and workers that can be killed."""

import multiprocessing
import os
import random
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import final

import sasrec
from sasrec.retrieval.counting import Markov
from sasrec.retrieval.recommender import Recommender

PATIENCE = 120  # seconds for what takes one or two on a quiet machine
USERS, ITEMS = 60, 25

# A process that has imported what takes long, and forks whenever a worker is asked for. It runs nothing itself.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["sasrec.training.training", "sasrec.retrieval.loading", "sasrec.serving.service"])


@final
class Ground:
    """Models of one small log, and folders to try things in.

    Attributes:
        folder: Where all of it is.
        config: The settings of the networks, which train in an instant.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = sasrec.Config(
            width=8, length=6, dropout=0.2, batch=16, epochs=3, seed=1, threads=1, precision="float32"
        )

    @cached_property
    def log(self) -> Path:
        """Random walks of 1 to 20 events, some items repeated."""
        chances, path = random.Random(7), self.folder / "log.csv"
        rows = [f"u{u:02},i{chances.randrange(ITEMS):02}\n" for u in range(USERS) for _ in range(1 + u % 20)]
        path.write_text("user_id,item_id\n" + "".join(rows))
        return path

    @cached_property
    def models(self) -> dict[str, Path]:
        """Two networks, one of them also as ONNX, and a Markov chain, by name."""
        from sasrec.export.exporting import export_onnx

        data = sasrec.split(sasrec.read_log(self.log))
        one, two = (
            sasrec.train(data, sasrec.Config(**(self.config.to_dict() | {"seed": seed})), progress=False)
            for seed in (1, 2)
        )
        known = {"users": data.log.users, "items": data.log.items, "histories": data.log.histories}
        markov = Recommender(Markov.of(data.log.histories, items=len(data.log.items)), **known)
        paths = {name: self.folder / f"{name}.sasrec" for name in ("one", "two", "markov", "onnx")}
        for name, model in (("one", one), ("two", two), ("markov", markov)):
            model.save(paths[name])
        export_onnx(one, paths["onnx"])
        return paths

    def fresh(self, name: str) -> Path:
        """A new empty folder."""
        number = sum(one.name.startswith(f"{name}-") for one in self.folder.iterdir())
        path = self.folder / f"{name}-{number}"
        path.mkdir()
        return path


@contextmanager
def served(model: Path, *flags: str, data: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`sasrec serve` as a process, once it answers, with its address; killed at the end, if it still runs.

    Raises:
        ChildProcessError: It did not start.
    """
    command = [sys.executable, "-m", "sasrec", "serve", str(model), "--port", "0", "--data", str(data), *flags]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        told = select.select([running.stdout], [], [], PATIENCE)[0]
        lines = [running.stdout.readline() for _ in range(3)] if told else ["", "", ""]
        found = re.fullmatch(r"at (http://127\.0\.0\.1:\d+)\n", lines[2])
        if found is None:
            running.kill()
            raise ChildProcessError(f"the server did not start: {lines} {running.stderr.read()}")
        yield running, found[1]
    finally:
        running.kill()
        running.communicate()


@contextmanager
def worker(work: Callable[..., None], *arguments: object) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that works, with what it says; killed at the end.

    Args:
        work: Called with the arguments and a connection to speak through; a function of a module.
    """
    hears, says = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=work, args=(*arguments, says), daemon=True)
    process.start()
    says.close()  # so that hearing ends when the worker does
    try:
        yield process, hears
    finally:
        process.kill()
        process.join()
        hears.close()


def heard(hears: Connection) -> str | None:
    """The next thing that a worker says; None once it is dead, and nothing whole is left to hear."""
    try:
        return hears.recv_bytes().decode()
    except (EOFError, OSError):
        return None


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drafts(folder: Path) -> list[str]:
    """What killed writings left in a folder."""
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]
