"""From a file of a million rows to a log."""

from benchmarks.inputs import EVENTS
from benchmarks.measure import Case, Sample, timed
from benchmarks.run import Run

CASES = [
    Case(
        f"read-{format}",
        f"{EVENTS:,} rows of {words} to a log",
        "reading:log",
        {"format": format},
        {"cpu_s": 2.0} if format == "csv" else {},
        inputs="make_events",
    )
    for format, words in (("csv", "CSV"), ("parquet", "Parquet"))
]


def log(run: Run, *, format: str) -> Sample:
    """`read_log`, the import of what it needs included."""
    import sasrec

    file = run.events(format)
    with timed() as watch:
        found = sasrec.read_log(file)
    if len(found.histories.items) != EVENTS:
        raise ValueError(f"expected {EVENTS:,} events, got {len(found.histories.items):,}")
    return watch.sample(users=len(found.users), items=len(found.items), file_mb=file.stat().st_size / 2**20)
