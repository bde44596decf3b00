"""Systems that live in a repository alone, given as a folder of checkouts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = "SASREC_BENCH_PEERS"


def checkout(name: str) -> Path:
    """Where a path below the folder of checkouts is.

    Raises:
        FileNotFoundError: The folder is not given, or holds nothing of this name.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        raise FileNotFoundError(f"{FOLDER} names no folder of checkouts")
    found = Path(folder).absolute() / name
    if not found.exists():
        raise FileNotFoundError(f"{name} is not in the folder that {FOLDER} names")
    return found


def enter(name: str) -> None:
    """Let Python import the modules of a checkout."""
    sys.path.insert(0, str(checkout(name)))
