"""What holds for every test: one thread, shapes checked, the same examples in every run."""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import hypothesis
import pytest
from jaxtyping import install_import_hook

# Read by torch when a test, or a command that a test starts, imports it; several test runs may share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The shapes in the signatures of these modules are checked at every call. The hook must stand before their import.
install_import_hook(["sasrec.model", "sasrec.training.losses"], "beartype.beartype")

# A deadline would make a test depend on how busy the machine is, and random examples on luck.
hypothesis.settings.register_profile(
    "sasrec", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("sasrec")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undoes the thread count that an earlier test may have set through `train`."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def log_of():
    """Makes a log from raw histories, `{user: [item, ...]}` with the oldest event first."""
    import polars as pl

    import sasrec

    def build(histories):
        rows = [(user, item) for user, items in histories.items() for item in items]
        return sasrec.read_log(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))

    return build


@pytest.fixture(scope="session")
def walks(log_of):
    """A log of 60 users and 25 items with text ids: random walks of 1 to 20 events, some items repeated."""
    import numpy as np

    rng = np.random.default_rng(7)
    return log_of({f"u{u:02}": [f"i{i:02}" for i in rng.integers(0, 25, 1 + u % 20)] for u in range(60)})


@pytest.fixture(scope="session")
def small_config():
    """The settings of a network that trains in an instant, every draw and number format fixed."""
    import sasrec

    return sasrec.Config(
        width=8,
        length=6,
        positions="learned",
        windows="last",
        dropout=0.2,
        label_smoothing=0.0,
        batch=16,
        epochs=3,
        seed=1,
        threads=1,
        precision="float32",
    )


@pytest.fixture(scope="session")
def small_model(walks, small_config):
    """A network trained on `walks`; tests must not change it."""
    import sasrec

    return sasrec.train(sasrec.split(walks), small_config)


@pytest.fixture
def model_of_a_gpu(small_model, walks, monkeypatch):
    """`small_model` as if it had been trained on a GPU, where there is none."""
    from dataclasses import replace

    import torch

    import sasrec
    from sasrec.retrieval.neural import Neural

    for kind in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(kind, "is_available", lambda: False)
    scorer = Neural(small_model.scorer.network, replace(small_model.scorer.config, device="cuda"))
    return sasrec.Recommender.of_log(scorer, walks, record=small_model.record)


@pytest.fixture(scope="session")
def timed_rows():
    """Events of 40 users and 15 items since 2001, in seconds, with gaps from no time to months; a frame."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(3)
    rows = []
    for user in range(40):
        times = 1_000_000_000 + np.cumsum(rng.choice([0, 30, 4_000, 86_400, 60 * 86_400], 4 + user % 9))
        rows += [(f"u{user:02}", f"i{rng.integers(15):02}", int(time)) for time in times]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture(scope="session")
def timed_config(small_config):
    """The settings of a network that looks at times in every way, and learns enough for them to matter."""
    from dataclasses import replace

    return replace(small_config, times="both", positions="both", learning_rate=0.05, average=0.0)


@pytest.fixture(scope="session")
def timed_model(timed_rows, timed_config):
    """A network that looks at times, trained on `timed_rows`; tests must not change it."""
    import sasrec

    return sasrec.train(sasrec.split(sasrec.read_log(timed_rows)), timed_config, progress=False)


@pytest.fixture
def held_model(monkeypatch):
    """Served models answer nothing until they are let go on: events to set for that, and set once one has begun."""
    from sasrec.serving.answering import Served

    go_on, begun = threading.Event(), threading.Event()
    answer = Served.answer

    def slow(self, requests):
        begun.set()
        assert go_on.wait(60)  # seconds, for what takes none on a quiet machine
        return answer(self, requests)

    monkeypatch.setattr(Served, "answer", slow)
    return go_on, begun


@pytest.fixture
def client(running):
    """A client of the server that a test module runs."""
    from sasrec.client import Client

    with Client(running.url) as client:
        yield client


@pytest.fixture(scope="session")
def serving():
    """Starts a real server in a thread: `with serving(model, data=folder) as running`."""
    import sasrec

    @contextmanager
    def start(model, **options):
        told = queue.SimpleQueue()

        def work():
            try:
                sasrec.serve(model, sasrec.Place(port=0, **options), started=told.put)
            except BaseException as error:  # noqa: BLE001  # raised again below
                told.put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        running = told.get(timeout=60)
        if isinstance(running, BaseException):
            raise running
        try:
            yield running
        finally:
            running.stop()
            thread.join(timeout=60)

    return start


@pytest.fixture(scope="session")
def process():
    """Starts `sasrec serve` as a process: `with process(model, data=folder) as (running, url)`."""
    from benchmarks.survival.ground import served

    return served


class Cluster:
    """A PostgreSQL server of its own, which listens on a socket in its folder alone.

    Its settings are those that it comes with, `fsync` among them.
    """

    def __init__(self, programs):
        self.programs = programs
        # Not in a folder of pytest's, which only its owner may enter: PostgreSQL refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="sasrec-postgres-"))
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.run("initdb", "--pgdata=data", "--username=tests", "--auth=trust", "--encoding=UTF8", "--no-locale")
        with open(self.folder / "data" / "postgresql.conf", "a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\n")
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text("local all locked scram-sha-256\nlocal all all trust\n")

    def run(self, program, *words):
        """One of PostgreSQL's programs, as the user that owns the folder."""
        command = [self.programs / program, *words]
        options = {"user": self.user, "extra_groups": []} if self.user else {}
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, (program, done.stdout, done.stderr)

    def start(self):
        self.run("pg_ctl", "start", "--wait", "--pgdata=data", "--log=log")

    def crash(self):
        """End at once, as in a crash: what was not on the disk is lost."""
        self.run("pg_ctl", "stop", "--wait", "--pgdata=data", "--mode=immediate")

    def address(self, database="postgres", user="tests"):
        return f"postgresql://{user}@{quote(str(self.folder), safe='')}/{database}"

    def execute(self, statement):
        import psycopg

        with psycopg.connect(self.address(), autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else None


@pytest.fixture(scope="session")
def cluster():
    """A real PostgreSQL server for the tests of events in a database; `make test` installs it where it can."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders or not (folders[-1] / "initdb").exists():
        pytest.skip("PostgreSQL IS NOT INSTALLED, so events in a database are not tested; apt install postgresql")
    cluster = Cluster(folders[-1])
    try:
        cluster.start()
        yield cluster
    finally:
        if (cluster.folder / "data" / "postmaster.pid").exists():
            cluster.crash()
        shutil.rmtree(cluster.folder)


@pytest.fixture
def database(cluster):
    """The address of a database without a store."""
    cluster.execute("DROP SCHEMA IF EXISTS sasrec CASCADE")
    return cluster.address()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a new store of events can be, of every kind."""
    return tmp_path / "events.sqlite" if request.param == "sqlite" else request.getfixturevalue("database")
