"""A disk that is full: a clear error, what was there is whole, and everything goes on once there is room again."""

import os
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, final

import sasrec
from benchmarks.survival.claims import Claim, Try
from benchmarks.survival.ground import PATIENCE, Ground, contents, served
from sasrec.client import Client
from sasrec.errors import SasrecError, ServingError
from sasrec.serving.administration import Command, send
from sasrec.serving.api import NewEvent

SIZE = 16 * 2**20  # bytes of the small disk
PAGE = 4096


class Disk(Protocol):
    """Somewhere that can be full.

    Attributes:
        name: Which kind it is.
        folder: On it.
    """

    name: str
    folder: Path

    def leave(self, pages: int, process: int) -> None:
        """Leave room for so many pages to a process."""
        ...

    def free(self, process: int) -> None:
        """Let there be room again."""
        ...


@final
class SmallDisk:
    """A file system in memory, which a file of ballast fills."""

    name = "on a small file system"

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def leave(self, pages: int, process: int) -> None:
        """See `Disk`."""
        self.free(process)
        with open(self._ballast, "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, PAGE * (os.statvfs(self.folder).f_bavail - pages))

    def free(self, process: int) -> None:  # noqa: ARG002  # it is full, or not, for all of them
        """See `Disk`."""
        self._ballast.unlink(missing_ok=True)


@final
class LimitedFiles:
    """A limit on the size of files, for where no file system can be made: the kernel refuses what goes beyond it."""

    name = "by a limit on the size of files"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, pages: int, process: int) -> None:
        """See `Disk`."""
        resource.prlimit(process, resource.RLIMIT_FSIZE, (PAGE * pages, resource.RLIM_INFINITY))

    def free(self, process: int) -> None:
        """See `Disk`."""
        resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def full_disk(folder: Path) -> Iterator[Disk]:
    """A disk that can be filled: a real one where we may make it, which takes the rights of root."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        yield LimitedFiles(folder)
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full_while_saving(ground: Ground, tries: int) -> Iterator[Try]:
    """Save over a model with too little room for the new one, then with enough."""
    with full_disk(ground.fresh("disk")) as disk:
        yield from saved(ground, tries, disk)


def saved(ground: Ground, tries: int, disk: Disk) -> Iterator[Try]:
    """See `full_while_saving`."""
    chances, path, here = random.Random(507), disk.folder / "model.sasrec", os.getpid()
    models = [sasrec.load(ground.models[name]) for name in ("one", "two")]
    sizes = [-(-len(data) // PAGE) for data in contents(ground.models["one"]).values()]
    # A file system counts the pages of all files together, a limit those of each.
    most = sum(sizes) - 1 if isinstance(disk, SmallDisk) else max(sizes) - 1
    models[0].save(path)
    for number in range(tries):
        before, new = contents(path), models[1 - number % 2]
        disk.leave(chances.randrange(most + 1), here)
        try:
            refusal = _refusal(lambda new=new: new.save(path, replace=True))
        finally:
            disk.free(here)
        faults = [
            "" if "cannot be written" in refusal else f"the refusal was {refusal!r}",
            "" if contents(path) == before else "the model before is not whole",
            "" if {*os.listdir(disk.folder)} == {path.name} else "something is left on the disk",
        ]
        new.save(path, replace=True)
        faults.append("" if contents(path) != before else "nothing is saved once there is room")
        yield Try("; ".join(filter(None, faults)), {disk.name: 1})


def full_while_serving(ground: Ground, tries: int) -> Iterator[Try]:
    """Fill the disk under a server, send it events, commands and questions, make room, and start it again."""
    with full_disk(ground.fresh("disk")) as disk:
        yield from stored(ground, tries, disk)


def stored(ground: Ground, tries: int, disk: Disk) -> Iterator[Try]:
    """See `full_while_serving`."""
    data, models = disk.folder / "data", [ground.models["one"], ground.models["two"]]
    for number in range(tries):
        user, other = f"reader {number}", models[1 - number % 2]
        with served(models[0], data=data) as (running, url), Client(url, timeout=PATIENCE) as client:
            version, kept = client.model().model_version, _sent(client, user, 0)
            disk.leave(0, running.pid)
            more, refusal = _sent_until_refused(client, user, kept)
            faults = [
                "" if refusal.startswith("507 ") else f"events were refused with {refusal!r}",
                "" if len(client.history(user, limit=1000).events) == kept + more else "the history is another one",
                "" if client.recommend(user).source == "model" else "no recommendation",
            ]
            told = _refusal(lambda other=other: send(Command("activate", str(other)), data))
            faults.append("" if f"version {version} goes on" in told else f"a version was refused with {told!r}")
            disk.free(running.pid)
            kept += more + _sent(client, user, kept + more)
            version = send(Command("activate", str(other)), data)
            running.send_signal(signal.SIGTERM)
            running.wait(PATIENCE)
        with served(models[0], data=data) as (_, url), Client(url, timeout=PATIENCE) as client:
            found = len(client.history(user, limit=1000).events), client.model().model_version
        faults.append("" if found == (kept, version) else f"after a restart there is {found}, not {kept, version}")
        yield Try("; ".join(filter(None, faults)), {disk.name: 1, "events stored": kept})


def _sent(client: Client, user: str, before: int) -> int:
    """Store events that take room, after so many of the same user; how many."""
    events = [NewEvent(f"{user} {before + n}", user, "x" * 900 if n else "i03") for n in range(20)]
    return client.add_all(events).stored


def _sent_until_refused(client: Client, user: str, before: int) -> tuple[int, str]:
    """What the log of writes had room for on the full disk, and the words with which the rest was refused."""
    more = 0
    while True:
        try:
            more += _sent(client, user, before + more)
        except ServingError as error:
            return more, f"{error.status} {error}"


def _refusal(work: Callable[[], object]) -> str:
    """The words of an error; empty where there is none."""
    try:
        work()
    except SasrecError as error:
        return str(error)
    return ""


CLAIMS = (
    Claim(
        "disk-saving",
        "disk full while a model is saved: a clear error, the model before bit for bit, then saved",
        100,
        10,
        full_while_saving,
    ),
    Claim(
        "disk-serving",
        "disk full under a server: 507, all that was stored there, answers go on, then stores again",
        10,
        1,
        full_while_serving,
    ),
)
