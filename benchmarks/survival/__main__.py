"""`python -m benchmarks.survival`: every claim of survival tried many times, and how often it held.

Real processes are killed, real disks filled, real bytes sent. As root the disk is a small file system in memory, else
a limit on the size of files. Ends with code 1 where any claim did not hold every time.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.__main__ import at_least_one
from benchmarks.measure import ROOT
from benchmarks.survival import disk, flips, load, requests, saving, training, writing
from benchmarks.survival.claims import Claim, table
from benchmarks.survival.ground import Ground
from benchmarks.turns import commit, words
from sasrec.training.interrupts import terminable

CLAIMS = {one.name: one for group in (writing, saving, training, flips, disk, requests, load) for one in group.CLAIMS}
OUTPUT = ROOT / "benchmarks" / "results" / "local" / "survival.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write JSON; 1 where a claim did not hold every time."""
    options = _options(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    machine, made_of = {**_machine(), "cpus": os.cpu_count()}, commit()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"commit {made_of}, load average {words(os.getloadavg())}", flush=True)
    verdicts = []
    # Terminated, it still ends its servers and takes its small file system away.
    with terminable(), tempfile.TemporaryDirectory(prefix="sasrec-survival-") as folder:
        ground = Ground(Path(folder))
        for claim in [CLAIMS[name] for name in options.only or CLAIMS]:
            tries = options.tries or (claim.few if options.quick else claim.tries)
            if tries:
                verdict = claim.judge(ground, tries, note=_progress(claim, tries))
                print(f"{claim.name}: {verdict.survived:,} of {tries:,}, {verdict.seconds:.0f} s", file=sys.stderr)
                verdicts.append(verdict)
    print(table(verdicts), flush=True)
    result = {
        "commit": made_of,
        "machine": machine,
        "load_after": os.getloadavg(),
        "claims": [one.plain() for one in verdicts],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    held, seconds = sum(one.holds for one in verdicts), sum(one.seconds for one in verdicts)
    print(f"{held} of {len(verdicts)} claims held every time, in {seconds / 60:.1f} minutes; written to {options.json}")
    return int(held < len(verdicts))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.survival", description=__doc__, epilog=f"claims: {', '.join(CLAIMS)}"
    )
    parser.add_argument("--only", nargs="+", metavar="CLAIM", choices=CLAIMS, help="try only these")
    parser.add_argument("--tries", type=at_least_one, metavar="N", help="of each claim; else as each has it")
    parser.add_argument("--quick", action="store_true", help="few tries of each, as in `make test`")
    parser.add_argument("--json", type=Path, default=OUTPUT, metavar="OUT", help=f"({OUTPUT.relative_to(ROOT)})")
    return parser.parse_args(arguments)


def _machine() -> dict[str, object]:
    from benchmarks.inputs import describe_machine
    from benchmarks.run import Run

    return describe_machine(Run("", "", False, 1, 1))


def _progress(claim: Claim, tries: int) -> Callable[[int], None]:
    """A line of a terminal that counts the tries."""

    def note(number: int) -> None:
        if sys.stderr.isatty():
            print(f"{claim.name}: try {number:,} of {tries:,}", end="\r", file=sys.stderr, flush=True)

    return note


if __name__ == "__main__":
    sys.exit(main())
