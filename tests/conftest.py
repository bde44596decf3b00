"""What holds for every test: one thread, shapes checked, the same examples in every run."""

import os
import queue
import sys
import threading
from contextlib import contextmanager

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

    return sasrec.Config(width=8, length=6, dropout=0.2, batch=16, epochs=3, seed=1, threads=1, precision="float32")


@pytest.fixture(scope="session")
def small_model(walks, small_config):
    """A network trained on `walks`; tests must not change it."""
    import sasrec

    return sasrec.train(sasrec.split(walks), small_config)


@pytest.fixture(scope="session")
def serving():
    """Starts a real server in a thread: `with serving(model, data=folder) as running`."""
    import sasrec

    @contextmanager
    def start(model, **options):
        told = queue.SimpleQueue()

        def work():
            try:
                sasrec.serve(model, port=0, started=told.put, **options)
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
