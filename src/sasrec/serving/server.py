"""From a saved model to a server that runs until it is told to stop."""

import gc
import os
import re
import resource
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from sasrec.errors import ConfigError, ServingError, check_kind, is_number, is_whole
from sasrec.files import as_path
from sasrec.serving.opening import is_address

if TYPE_CHECKING:
    from sasrec.retrieval.recommender import Recommender
    from sasrec.serving.lifetime import Lifetime

_YOUNG = 10_000  # new objects after which Python looks for garbage among them
_FILES = 8192  # open files, more than the server's limit of connections with all that it opens besides
_SEARCH = threading.Lock()  # held by the server that has changed how the whole process looks for garbage


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens and keeps what it knows.

    Attributes:
        host: Address to listen on. There is no authentication: beyond this machine, put a proxy in front.
        port: Port to listen on; 0 takes a free one.
        known_as: Name that requests may bear, such as shop.example where a proxy passes it on; may be repeated. A
            server on the loopback else answers to localhost, HOST and IP addresses alone, lest a page of another site
            reach it by a name of its own; one on another address answers to any name unless one is given.
        data: Folder for events and model versions; by default the model's name with `.data` after it.
        events: Database for the events of several servers, as postgresql://HOST/DATABASE; what it does not say comes
            from libpq's environment and files, such as the password (PGPASSWORD, ~/.pgpass). Needs the extra: pip
            install 'sasrec[postgres]'. The events are in the data folder unless it is given.
        titles: File of items with a column of titles, shown in answers and searched.
        threads: CPU threads that score.
        overlap: Share of the best 10 that is to be found on average among 100,000 items or more, such as 0.999, to
            answer sooner; the share that is found is measured at the start. By default all of them are found.
        drain: Seconds between SIGTERM and the end of listening, in which /readyz says 503 and every connection is
            closed after its answer; Ctrl-C does not wait for it.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    known_as: tuple[str, ...] = ()
    data: Path | None = None
    events: str | None = field(default=None, repr=False)  # it may hold a password
    titles: Path | None = None
    threads: int = 1
    overlap: float | None = None
    drain: float = 1.0

    def __post_init__(self) -> None:
        if not is_whole(self.port, least=0) or self.port > 65535:
            raise ConfigError(f"port: expected 0 to 65535, found {self.port!r}")
        # A string given in the place of a tuple falls into letters, none of which is a name of two.
        if not isinstance(self.known_as, tuple | list) or not all(
            isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_.-]{2,}", name) for name in self.known_as
        ):
            raise ConfigError(f"known_as: expected names of hosts, as ('shop.example',), found {self.known_as!r}")
        for name in ("data", "titles"):
            if getattr(self, name) is not None:
                as_path(getattr(self, name), what=name)
        if not isinstance(self.host, str) or not self.host:
            raise ConfigError(f"host: expected an address of this machine, as '127.0.0.1', found {self.host!r}")
        if self.events is not None and not (isinstance(self.events, str) and is_address(self.events)):
            raise ConfigError("events: expected the address of a database, postgresql://HOST/DATABASE")
        if not is_whole(self.threads, least=1) or self.threads > 1024:
            raise ConfigError(f"threads: expected 1 to 1024, found {self.threads!r}")
        if self.overlap is not None and not (is_number(self.overlap) and 0 < self.overlap <= 1):
            raise ConfigError(f"overlap: expected a share above 0 and at most 1, found {self.overlap!r}")
        if not is_number(self.drain) or not 0 <= self.drain <= 3600:
            raise ConfigError(f"drain: expected 0 to 3600 seconds, found {self.drain!r}")


@final
@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        url: Where.
        data: Its data folder.
        events: Where the events are.
        version: The version that it began with.
        facts: The model in words.
        index: How the best items are found, in words; empty where every item is scored.
        stop: Ends it after the answers that it has begun; may be called from any thread.
    """

    url: str
    data: Path
    events: str
    version: str
    facts: str
    index: str
    stop: Callable[[], None]


def serve(
    model: "Recommender | str | Path", place: Place | None = None, *, started: Callable[[Running], None] | None = None
) -> None:
    """Serve a model over HTTP until the process is told to stop; see docs/serving.md.

    Args:
        model: A model, or the folder of one.
        place: Where and how, as `sasrec.Place(port=8000)`; its data folder of a model that is given as an object is
            `sasrec.data` in the working directory, unless it is named.
        started: Called once the server answers.

    Raises:
        ConfigError: `model` is neither of the two, or `place` is no place.
        BundleError: The model cannot be used.
        DataError: The titles cannot be read, or fit none of the items.
        OutputError: The data folder cannot be written.
        ServingError: The port is taken, the data folder is in use, the events are damaged or cannot be reached, or an
            extra is missing.
    """
    from sasrec.retrieval.recommender import Recommender

    place = Place() if place is None else place
    check_kind("place", place, Place, advice="give sasrec.Place(port=8000)")
    folder = None if place.data is None else as_path(place.data, what="data")
    titles = None if place.titles is None else as_path(place.titles, what="titles")
    place = replace(place, data=folder, titles=titles)
    if not isinstance(model, Recommender):
        run(as_path(model, what="model"), place, started=started)
        return
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model.sasrec"
        model.save(saved)
        run(saved, replace(place, data=folder or Path("sasrec.data")), started=started)


def run(model: Path, place: Place, *, started: Callable[[Running], None] | None = None) -> None:
    """Serve the model of a folder; errors as `serve`."""
    data = place.data or data_of(model)
    with ExitStack() as held:
        held.enter_context(_many_files())
        listening = held.enter_context(closing(_bound(place)))
        search = held.enter_context(_unsearched())
        lifetime = _extra()
        from sasrec.serving.versions import Folder, fingerprint

        if not os.path.isdir(data):  # of a name that is too long, too, or where nobody may enter
            fingerprint(model)  # a mistyped name must not leave a folder behind
        folder = Folder(data)
        held.callback(folder.close)
        live = lifetime(model, folder, place)
        held.callback(live.close)
        search()

        def tell() -> None:
            if started is not None:
                host, port = listening.getsockname()[:2]
                url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                service = live.service
                started(
                    Running(
                        url, data, service.store.name, service.served.version, live.facts(), live.index(), live.stop
                    )
                )

        live.run(listening, tell)


def data_of(model: Path) -> Path:
    """The data folder of a server of a model, unless another one is named."""
    whole = model.absolute()
    return whole.parent / f"{whole.name}.data"  # with_name() refuses the root, whose name is empty


@contextmanager
def _many_files() -> Iterator[None]:
    """The process may open as many files as a server can need: often 1,024 are all until a program asks for more."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if before == resource.RLIM_INFINITY or before >= wanted:
        yield
        return
    with suppress(OSError, ValueError):  # where the system refuses, fewer have to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@contextmanager
def _unsearched() -> Iterator[Callable[[], None]]:
    """Nothing is searched for garbage, until what this gives is called: then what has come since, and seldom.

    A start makes hundreds of thousands of objects, from the classes that are imported to the model, and no garbage. A
    model that is replaced has no cycles, and goes when nobody holds it any more. The requests that wait for a batch are
    more than Python's 700 new objects: while they wait, and are no garbage, they would be searched several times.

    A server that begins beside another one leaves things as that one has them, and a caller who wants less or no
    search keeps it so. What the caller had set aside stays so; then what is set aside here does too, for Python takes
    back all or nothing.
    """
    if not _SEARCH.acquire(blocking=False):
        yield lambda: None
        return
    enabled, frozen, (young, *older) = gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()

    def search() -> None:
        gc.freeze()
        gc.set_threshold(young and max(young, _YOUNG), *older)  # 0 is never
        if enabled:
            gc.enable()

    gc.disable()
    try:
        yield search
    finally:  # whoever called may go on without a server
        if not frozen:
            gc.unfreeze()
        gc.set_threshold(young, *older)
        if enabled:
            gc.enable()
        _SEARCH.release()


def _extra() -> "type[Lifetime]":
    """What needs the packages of the extra `serve`."""
    try:
        from sasrec.serving.lifetime import Lifetime
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sasrec"):
            raise
        raise ServingError(
            f"serving needs the package {error.name}, which is not installed; pip install 'sasrec[serve]'"
        ) from None
    return Lifetime


def _bound(place: Place) -> socket.socket:
    """A socket that listens; what connects before the model is loaded waits."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, ValueError) as error:  # the latter of a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise ServingError(f"host {place.host}: is no address of this machine ({reason})") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # A second server could bind the same port before the first listens, and fail too late.
        bound.listen(1024)
    except OSError as error:
        bound.close()
        raise ServingError(
            f"port {place.port} of {place.host}: cannot be listened on ({error.strerror or error}); "
            "choose another one (--port), or 0 for a free one"
        ) from None
    return bound
