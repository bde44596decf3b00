"""One bit of what lies on the disk is flipped at a time: whatever reads it refuses."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import torch

import sasrec
from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import Ground
from sasrec.errors import SasrecError
from sasrec.serving.store import Event, SqliteStore
from sasrec.training.checkpoint import State


def bundle(ground: Ground, tries: int) -> Iterator[Try]:
    """In any file of a saved network."""
    path = shutil.copytree(ground.models["two"], ground.fresh("flips") / "model.sasrec")
    return _flipped([*path.iterdir()], lambda: sasrec.load(path), tries)


def onnx(ground: Ground, tries: int) -> Iterator[Try]:
    """In any file of a network exported as ONNX."""
    path = shutil.copytree(ground.models["onnx"], ground.fresh("flips") / "model.onnx.sasrec")
    return _flipped([*path.iterdir()], lambda: sasrec.load(path), tries)


def checkpoint(ground: Ground, tries: int) -> Iterator[Try]:
    """In the state of a training that was stopped."""
    kept = sasrec.Checkpoint(ground.fresh("flips") / "training")
    kept.write(State({"step": 7, "text": "x" * 500}, {"weight": torch.arange(1000.0), "step": torch.tensor(7)}))
    return _flipped([Path(kept.path)], kept.read, tries)


def store(ground: Ground, tries: int) -> Iterator[Try]:
    """In the events of a server that was stopped. A flip may pass where a page of SQLite has unused room."""
    path = ground.fresh("flips") / "events.sqlite"
    with closing(SqliteStore(path)) as events:
        events.add([Event(f"event {n}", f"user {n % 7}", f"item {n}", n) for n in range(2000)]).result()
        events.forget("user 3").result()
        true = _known(events)

    def opened() -> bool:
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        with closing(SqliteStore(path)) as events:
            return _known(events) == true

    return _flipped([path], opened, tries)


def log(ground: Ground, tries: int) -> Iterator[Try]:
    """In the write-ahead log that a killed server leaves.

    A last transaction that is damaged looks as one that a crash cut short, which nobody can tell apart; with the mark
    of its end flipped, the one before looks like a part of it.
    """
    path = ground.fresh("flips") / "events.sqlite"
    with closing(SqliteStore(path)) as events:
        for number in range(60):
            events.add([Event(f"event {number} {n}", f"user {n}", f"item {number}", number) for n in range(4)]).result()
        left = {end: path.with_name(path.name + end).read_bytes() for end in ("", "-wal")}  # as a kill leaves them
    copy = path.with_name("copy.sqlite")
    file = copy.with_name(f"{copy.name}-wal")

    def opened() -> bool:
        copy.write_bytes(left[""])
        copy.with_name(f"{copy.name}-shm").unlink(missing_ok=True)
        with closing(SqliteStore(copy)) as events:
            return 4 * 58 <= len([*events.events(through=2**62)]) == events.last()

    file.write_bytes(left["-wal"])
    return _flipped([file], opened, tries)


def _known(store: SqliteStore) -> tuple[object, ...]:
    return [*store.events(through=2**62)], store.forgotten("user 3"), store.last(), store.id


def _flipped(files: Sequence[Path], read: Callable[[], object], tries: int) -> Iterator[Try]:
    """Flip one bit, read, and put everything back.

    Args:
        read: Refuses with an error, or gives True where what it read is the truth all the same.
    """
    chances, whole = random.Random(1000), {file: file.read_bytes() for file in sorted(files)}
    for _ in range(tries):
        file = chances.choice([*whole])
        place = chances.randrange(8 * len(whole[file]))
        flipped = bytearray(whole[file])
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            harmless = read() is True
        except SasrecError:
            yield Try(counted={"refused": 1})
        else:
            yield Try("" if harmless else f"bit {place} of {file.name} was accepted", {"harmless": harmless})
        file.write_bytes(whole[file])


CLAIMS = (
    Claim("bits-bundle", "a bit of a saved model flipped: refused", 1000, 100, bundle),
    Claim("bits-onnx", "a bit of a model exported as ONNX flipped: refused", 1000, 50, onnx),
    Claim(
        "bits-store", "a bit of the stored events flipped: refused, or nothing read is changed by it", 1000, 50, store
    ),
    Claim(
        "bits-log",
        "a bit of a killed server's write-ahead log flipped: refused, or the last one or two transactions cut off",
        1000,
        50,
        log,
    ),
    Claim("bits-state", "a bit of the state of a training flipped: refused", 1000, 100, checkpoint),
)
