"""Whether products in bfloat16 cost accuracy: `python -m benchmarks.precision --beauty Beauty.txt`.

The same settings and seeds are trained in float32 and in bfloat16, and each model is evaluated on the test part under
the protocol of docs/evaluation.md. What is printed last is the mean difference of NDCG@10 over the seeds, with its
95 % interval by Student's t. The trainings of one pair follow each other, so Ctrl-C leaves whole pairs.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import sasrec
from benchmarks.inputs import find_beauty

# Two-sided 95 % of Student's t, by degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def main() -> int:
    """Train pair after pair, print every result as a line of JSON and the interval after each pair."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--beauty", metavar="PATH", help="Beauty.txt; SASREC_BENCH_DATA names a folder that holds it")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds, 2 to 10 (5)")
    parser.add_argument("--epochs", type=int, default=200, metavar="N", help="most epochs of each training (200)")
    options = parser.parse_args()
    if not 2 <= options.seeds <= len(_STUDENT) + 1:
        parser.error(f"--seeds: expected 2 to {len(_STUDENT) + 1}, found {options.seeds}")
    try:
        log = find_beauty(options.beauty, os.environ.get("SASREC_BENCH_DATA"))
    except FileNotFoundError as error:
        parser.error(str(error))
    if log is None:
        parser.error("a log is needed: give --beauty PATH, or a folder that holds Beauty.txt in SASREC_BENCH_DATA")
    differences = []
    for seed in range(options.seeds):
        first, second = (_score(log, seed, precision, options.epochs) for precision in ("float32", "bfloat16"))
        differences.append(second - first)
        if len(differences) > 1:
            print(f"bfloat16 - float32, {len(differences)} seeds: {interval(differences)}", flush=True)
    return 0


def interval(differences: Sequence[float]) -> str:
    """Mean of at least two differences and its 95 % interval, in words."""
    middle, count = mean(differences), len(differences)
    margin = _STUDENT[count - 2] * stdev(differences) / math.sqrt(count)
    return f"{middle:+.5f}, 95 % interval {middle - margin:+.5f} to {middle + margin:+.5f}"


def _score(log: Path, seed: int, precision: str, epochs: int) -> float:
    data = sasrec.split(sasrec.read_log(log))
    model = sasrec.train(data, sasrec.Config(seed=seed, precision=precision, epochs=epochs), progress=False)
    report = sasrec.evaluate(model, data, k=10)
    found = {name: round(report[name], 6) for name in ("NDCG@10", "HR@10")}
    told = {name: model.record[name] for name in ("epochs", "cpu_seconds")}
    print(json.dumps({"seed": seed, "precision": precision, **found, **told}), flush=True)
    return report["NDCG@10"]


if __name__ == "__main__":
    sys.exit(main())
