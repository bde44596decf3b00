"""The logs and the model that cases work on, made in processes of their own before anything is measured."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.run import Run

if TYPE_CHECKING:
    from sasrec import Log

# Amazon Beauty of 2014 as S3-Rec has it, 5-core: users, items and events tell it from the other files of this name.
BEAUTY = (22_363, 12_101, 198_502)
BEAUTY_FILE = "Beauty.txt"

# The network that all figures are about; the comparison with others depends on these.
NETWORK = {"width": 64, "blocks": 2, "length": 50, "positions": "learned", "windows": "last", "batch": 128}

EVENTS = 1_000_000
MANY_EVENTS = 10 * EVENTS


def find_beauty(file: str | None, folder: str | None) -> Path | None:
    """The named file, or else the first of its usual name in a folder or below it; None where neither is given.

    Raises:
        FileNotFoundError: What was named is not there.
    """
    if file is not None:
        if not Path(file).is_file():
            raise FileNotFoundError(f"--beauty {file}: no such file")
        return Path(file).absolute()
    if folder is None:
        return None
    found = sorted(Path(folder).rglob(BEAUTY_FILE))
    if not found:
        raise FileNotFoundError(f"SASREC_BENCH_DATA={folder}: there is no {BEAUTY_FILE} in it or below it")
    return found[0].absolute()


def read(run: Run) -> "Log":
    """The run's log.

    Raises:
        ValueError: It is said to be Beauty and is not.
    """
    import sasrec

    log = sasrec.read_log(run.log)
    found = len(log.users), len(log.items), len(log.histories.items)
    if run.is_beauty and found != BEAUTY:
        raise ValueError(f"not the log that the figures are about: expected users, items, events {BEAUTY}, got {found}")
    return log


def describe_machine(_run: Run) -> dict[str, str | bool]:
    """Versions, processor, and whether bfloat16 is worth measuring."""
    import msgspec
    import numpy
    import polars

    import sasrec
    from sasrec.training.machine import describe, has_fast_bfloat16

    versions = {library.__name__: library.__version__ for library in (sasrec, numpy, polars, msgspec)}
    return {**describe(), **versions, "bfloat16": has_fast_bfloat16()}


def describe_log(run: Run) -> dict[str, int]:
    """How large the run's log is."""
    log = read(run)
    return {"users": len(log.users), "items": len(log.items), "events": len(log.histories.items)}


def make_log(run: Run) -> None:
    """A log with the size of Beauty and about its lengths and popularity; there is nothing in it to learn."""
    import numpy as np

    users, items, _ = BEAUTY
    rng = np.random.default_rng(0)
    lengths = np.minimum(5 + np.floor(rng.pareto(1.5, users) * 3), 204).astype(int)
    drawn = rng.choice(items, size=lengths.sum(), p=_falling(items))
    histories = np.split(drawn, np.cumsum(lengths)[:-1])
    with open(run.log, "w", encoding="utf-8") as file:
        for user, history in enumerate(histories):
            print(user, *dict.fromkeys(history.tolist()), file=file)


def make_model(run: Run) -> None:
    """A network trained for one epoch, saved as users save theirs: how fast it ranks does not depend on how well."""
    import sasrec

    config = sasrec.Config(**NETWORK, threads=run.threads, epochs=1)
    sasrec.train(sasrec.split(read(run)), config, progress=False).save(run.model)


def make_events(run: Run) -> None:
    """A large log in the order of its times, as servers write it, with text ids."""
    events = _events(EVENTS)
    events.write_csv(run.events("csv"))
    events.write_parquet(run.events("parquet"))


def make_many_events(run: Run) -> None:
    """Ten times as large a log, as CSV."""
    _events(MANY_EVENTS).write_csv(run.events("many.csv"))


def _events(count: int):
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    users, items = 100_000, 50_000
    drawn = pl.DataFrame(
        {
            "user": rng.choice(users, size=count, p=_falling(users)),
            "item": rng.choice(items, size=count, p=_falling(items)),
            "timestamp": 1_700_000_000 + np.sort(rng.integers(30_000_000, size=count)),
        }
    )
    ids = [
        pl.format(f"{name}-{{}}", pl.col(name).cast(pl.String).str.zfill(6)).alias(f"{name}_id")
        for name in ("user", "item")
    ]
    return drawn.select(*ids, "timestamp")


def _falling(count: int):
    """Shares that fall as 1 / (rank + 10), in no particular order of items."""
    import numpy as np

    shares = 1 / (np.arange(count) + 10)
    return np.random.default_rng(1).permutation(shares / shares.sum())
