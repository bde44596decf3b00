"""Measure time and memory of training, ranking, reading and starting, each in fresh processes."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import lookup, ranking, reading, startup, training
from benchmarks.inputs import find_beauty
from benchmarks.measure import ROOT, call
from benchmarks.report import plain, table
from benchmarks.run import Run
from benchmarks.turns import commit, measure, words

CASES = {case.name: case for module in (training, ranking, lookup, reading, startup) for case in module.CASES}
OUTPUT = ROOT / "benchmarks" / "results" / "local" / "latest.json"
FOLDER = "SASREC_BENCH_DATA"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write JSON; 1 if a case could not be measured. A limit that is missed is no failure."""
    options = _options(arguments)
    try:
        beauty = find_beauty(options.beauty, os.environ.get(FOLDER))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sasrec-benchmarks-") as folder:
        log = str(beauty or Path(folder) / "generated.txt")
        run = Run(folder, log, beauty is not None, options.threads, 1 if options.quick else 3)
        if beauty is None:
            call("inputs:make_log", run, {})
        result = {
            "commit": commit(),
            "machine": {**call("inputs:describe_machine", run, {}), "cpus": os.cpu_count()},
            "threads": run.threads,
            "log": {"name": "Beauty" if beauty else "generated", **call("inputs:describe_log", run, {})},
            "load_before": os.getloadavg(),
        }
        _print_heading(result)
        chosen = [CASES[name] for name in options.only or CASES]
        skipped = [case for case in chosen if case.needs_bfloat16 and not result["machine"]["bfloat16"]]
        rows = measure([case for case in chosen if case not in skipped], run, repeats=options.repeats)
    result |= {"load_after": os.getloadavg(), "rows": plain(rows)}
    print(table(rows))
    for case in skipped:
        print(f"{case.name}: not measured, bfloat16 is no faster on this CPU")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"load average {words(result['load_after'])} at the end; written to {options.json}")
    return int(any(row.fault for row in rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog=f"cases: {', '.join(CASES)}"
    )
    parser.add_argument("--beauty", metavar="PATH", help=f"Beauty.txt; {FOLDER} names a folder that holds it")
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=CASES, help="measure only these")
    parser.add_argument("--repeats", type=at_least_one, default=3, metavar="N", help="processes of each case (3)")
    parser.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)")
    parser.add_argument("--quick", action="store_true", help="one repeat, one epoch: does everything run?")
    parser.add_argument("--json", type=Path, default=OUTPUT, metavar="OUT", help=f"({OUTPUT.relative_to(ROOT)})")
    options = parser.parse_args(arguments)
    options.repeats = 1 if options.quick else options.repeats
    return options


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _print_heading(result: dict) -> None:
    log, machine = result["log"], result["machine"]
    if log["name"] != "Beauty":
        print(
            f"Beauty was not found: the cases run on a generated log of its size, whose figures compare with nothing.\n"
            f"Give the file with --beauty PATH, or a folder that holds Beauty.txt in {FOLDER}."
        )
    print(f"log: {log['name']}, {log['users']:,} users, {log['items']:,} items, {log['events']:,} events")
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"commit {result['commit']}, threads {result['threads']}, load average {words(result['load_before'])}")


if __name__ == "__main__":
    sys.exit(main())
