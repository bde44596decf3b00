"""What holds for every test: one thread, shapes checked, the same examples in every run."""

import os
import sys

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
