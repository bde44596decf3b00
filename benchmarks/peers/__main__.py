"""Measure other systems beside this one: the same work, each in an environment of its own, one after the other."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.__main__ import FOLDER, at_least_one
from benchmarks.inputs import find_beauty
from benchmarks.measure import ROOT, Case, call
from benchmarks.peers.checkouts import FOLDER as CHECKOUTS
from benchmarks.peers.checkouts import checkout
from benchmarks.peers.environments import ENVIRONMENTS, GapError, build
from benchmarks.peers.systems import SYSTEMS, cases, system_of
from benchmarks.peers.tables import tables, verdict
from benchmarks.report import Row, plain
from benchmarks.run import Run
from benchmarks.turns import commit, measure, words

LOCAL = ROOT / "benchmarks" / "results" / "local"
OUTPUT = LOCAL / "peers.json"
BY_DEFAULT = ("same", "preset", "ml1m")
QUICK = 2  # steps that --quick times


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, write JSON; 1 if a system that is there could not be measured, 2 if a file is not there."""
    options = _options(arguments)
    try:
        beauty = find_beauty(options.beauty, os.environ.get(FOLDER))
        if options.ml1m and not options.ml1m.is_file():
            raise FileNotFoundError(f"--ml1m {options.ml1m}: no such file")
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if options.checkouts:
        os.environ[CHECKOUTS] = str(options.checkouts.absolute())
    with tempfile.TemporaryDirectory(prefix="sasrec-peers-") as folder:
        runs = dict(_runs(Path(folder), beauty, options))
        first = runs["beauty"]
        result: dict[str, Any] = {
            "commit": commit(),
            "machine": {**call("inputs:describe_machine", first, {}), "cpus": os.cpu_count()},
            "threads": options.threads,
            "logs": {name: call("peers.work:prepare", run, {}) for name, run in runs.items()},
            "is_beauty": beauty is not None,
            "load_before": os.getloadavg(),
        }
        chosen = _chosen(cases(call("peers.systems:settings", first, {})), options)
        rows = _measured(chosen, runs, options, Path(folder))
    found = "\n\n".join(part for part in (tables(rows), verdict(rows)) if part)
    result |= {"systems": _systems(chosen), "load_after": os.getloadavg(), "rows": plain(rows), "tables": found}
    print(found)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{_conditions(result, rows)}; written to {options.json}")
    return int(any(row.fault.startswith("could not be measured") for row in rows))


def _measured(chosen: Sequence[Case], runs: Mapping[str, Run], options: argparse.Namespace, folder: Path) -> list[Row]:
    """A row for every case, in their order: samples, or why there are none."""
    pythons, gaps = _interpreters(chosen, options.environments)
    if "ml1m" not in runs:
        gaps |= {case.name: "its log is not given; give --ml1m" for case in chosen if _log(case) == "ml1m"}
    found: dict[str, Row] = {name: Row(case, (), gaps[name]) for case in chosen if (name := case.name) in gaps}
    for log, run in runs.items():
        some = [case for case in chosen if _log(case) == log and case.name not in gaps]
        patience = 60.0 * options.patience
        rows = measure(some, run, repeats=options.repeats, pythons=pythons, errors=folder, patience=patience)
        found |= {row.case.name: row for row in rows}
    return [found[case.name] for case in chosen]


def _interpreters(chosen: Sequence[Case], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The Python that takes the samples of each case, and why some have none."""
    gaps = {case.name: gap for case in chosen if (gap := system_of(case).gap())}
    homes = {case.name: system_of(case).environment for case in chosen if case.name not in gaps}
    built, unbuilt = {"": sys.executable}, {}
    for name in dict.fromkeys(homes.values()):
        try:
            built[name] = built.get(name) or build(ENVIRONMENTS[name], folder)
        except GapError as error:
            unbuilt[name] = str(error)
    gaps |= {case: unbuilt[name] for case, name in homes.items() if name in unbuilt}
    return {case: built[name] for case, name in homes.items() if name in built}, gaps


def _chosen(known: Mapping[str, Case], options: argparse.Namespace) -> list[Case]:
    """The cases asked for, with fewer steps where that was asked for too.

    Raises:
        SystemExit: Nothing is called so.
    """
    chosen = []
    for asked in options.only or BY_DEFAULT:
        found = [case for name, case in known.items() if name == asked or name.startswith(f"{asked}.")]
        if not found:
            raise SystemExit(f"--only {asked}: there is no such case; known are {', '.join(known)}")
        chosen += found
    if options.steps:
        chosen = [_shortened(case, options.steps) for case in chosen]
    return list({case.name: case for case in chosen}.values())


def _shortened(case: Case, steps: int) -> Case:
    own = case.settings.get("steps")
    return case if own is None else replace(case, settings={**case.settings, "steps": min(own or steps, steps)})


def _runs(folder: Path, beauty: Path | None, options: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    """What the cases on each log share."""
    for name, log in (("beauty", beauty or folder / "generated.txt"), ("ml1m", options.ml1m)):
        if log is not None:
            (folder / name).mkdir()
            run = Run(
                str(folder / name), str(log.absolute()), name == "beauty" and beauty is not None, options.threads, 1
            )
            if name == "beauty" and beauty is None:
                print("Beauty was not found: give it with --beauty; a generated log stands in", file=sys.stderr)
                call("inputs:make_log", run, {})
            yield name, run


def _log(case: Case) -> str:
    return "ml1m" if case.name.startswith("ml1m.") else "beauty"


def _systems(chosen: Sequence[Case]) -> dict[str, dict[str, str]]:
    """What each system ran with: pinned versions, and the commit of a checkout."""
    found = {}
    for name in dict.fromkeys(case.name.rpartition(".")[2] for case in chosen):
        system = SYSTEMS[name]
        found[name] = system.versions()
        if system.checkout:
            try:
                found[name] |= {"home": system.home, "commit": commit(checkout(system.checkout).parent)}
            except FileNotFoundError:
                continue
    return found


def _conditions(result: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """What the figures depend on, in a line."""
    busy = [one.others for row in rows for one in row.samples]
    others = f"others kept {min(busy):.2f} to {max(busy):.2f} cores busy" if busy else "nothing was measured"
    machine = result["machine"]
    return (
        f"{machine['processor']}, {machine['cpus']} CPUs, threads {result['threads']}, {others}, "
        f"load average {words(result['load_before'])} before and {words(result['load_after'])} after"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    add = parser.add_argument
    add("--beauty", metavar="PATH", help=f"Beauty.txt; {FOLDER} names a folder that holds it")
    add("--ml1m", type=Path, metavar="PATH", help="MovieLens-1M as any file that sasrec reads")
    add("--checkouts", type=Path, metavar="DIR", help=f"folder of repositories that are no packages; else {CHECKOUTS}")
    add(
        "--environments",
        type=Path,
        metavar="DIR",
        default=LOCAL / "environments",
        help="folder for the environments, which are built once and kept (benchmarks/results/local/environments)",
    )
    add(
        "--only",
        nargs="+",
        metavar="CASE",
        help="cases, or what their names begin with: same, preset, ml1m, quality, preset.stamp, ... (all but quality)",
    )
    add("--repeats", type=at_least_one, default=3, metavar="N", help="processes of each case (3)")
    add(
        "--patience",
        type=at_least_one,
        default=120,
        metavar="MINUTES",
        help="after which a process that has not ended is killed, and its system is a gap in the table (120)",
    )
    add("--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)")
    add("--steps", type=at_least_one, metavar="N", help="time at most so many steps of an epoch, scaled to a whole one")
    add("--quick", action="store_true", help=f"one repeat, {QUICK} steps: does everything run?")
    add("--json", type=Path, default=OUTPUT, metavar="OUT", help=f"({OUTPUT.relative_to(ROOT)})")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats, options.steps = 1, QUICK
    options.environments = options.environments.absolute()
    return options


if __name__ == "__main__":
    sys.exit(main())
