"""From a file of a million rows, or of ten, to a log."""

from benchmarks.inputs import EVENTS, MANY_EVENTS
from benchmarks.measure import Case, Sample, timed
from benchmarks.run import Run

CASES = [
    Case(name, f"{rows:,} rows of {words} to a log", "reading:log", {"format": format}, limits, inputs=inputs)
    for name, rows, words, format, limits, inputs in (
        ("read-csv", EVENTS, "CSV", "csv", {"cpu_s": 2.0}, "make_events"),
        ("read-parquet", EVENTS, "Parquet", "parquet", {}, "make_events"),
        ("read-csv-10m", MANY_EVENTS, "CSV", "many.csv", {"cpu_s": 15.0, "peak_mb": 2_500.0}, "make_many_events"),
    )
]


def log(run: Run, *, format: str) -> Sample:
    """`read_log`, the import of what it needs included."""
    import sasrec

    file = run.events(format)
    with timed() as watch:
        found = sasrec.read_log(file)
    expected = MANY_EVENTS if format == "many.csv" else EVENTS
    if len(found.histories.items) != expected:
        raise ValueError(f"expected {expected:,} events, got {len(found.histories.items):,}")
    return watch.sample(users=len(found.users), items=len(found.items), file_mb=file.stat().st_size / 2**20)
