"""The command: `python -m benchmarks.accuracy run LOG=PATH ROW ... --seeds N`, `count LOG=PATH`, and `table`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.accuracy.results import FOLDER, Counted, Trained, results
from benchmarks.accuracy.rows import LOGS, ROWS
from benchmarks.accuracy.table import tables
from benchmarks.turns import commit


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the results that are missing, or print the tables of those that are there."""
    options = _options(arguments)
    if options.command == "table":
        print(tables(results(options.folder)))
        return 0
    import sasrec
    from benchmarks.accuracy.run import Bench

    name, path = options.log
    data = sasrec.split(sasrec.read_log(path), LOGS[name].how)
    bench = Bench(name, data, options.folder, again=options.command == "again")
    if options.command == "count":
        for one in bench.count(options.what):
            print(f"{name} {one.what}: {one.ndcg:.4f} / {one.hits:.4f}", flush=True)
        return 0
    for seed in options.seeds:
        for row in options.rows:
            for one in bench.run(row, seed, options.what):
                print(f"{name} {row} seed {seed} {one.what}: {one.ndcg:.4f} / {one.hits:.4f}", flush=True)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where results are kept, one file each")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, blend, refit and test what is not there yet")
    again = commands.add_parser("again", help="the same with every setting as the kept result has it; needs --folder")
    count = commands.add_parser("count", help="count, blend the counts, and test what is not there yet")
    for command in (run, again, count):
        command.add_argument("log", type=_log, metavar="LOG=PATH", help=f"a log; names are {', '.join(LOGS)}")
    for command in (run, again):
        command.add_argument("rows", nargs="+", choices=[*ROWS], metavar="ROW", help=f"of {', '.join(ROWS)}")
        command.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED", help="(0)")
        command.add_argument("--what", nargs="+", choices=get_args(Trained), default=["network"], help="(network)")
    count.add_argument("--what", nargs="+", choices=get_args(Counted), default=[*get_args(Counted)], help="(all)")
    commands.add_parser("table", help="print the tables of all results")
    options = parser.parse_args(arguments)
    if options.folder == FOLDER and options.command == "again":
        parser.error("again: what is kept would be found there; name another folder before the command (--folder DIR)")
    if options.folder == FOLDER and options.command != "table" and commit().endswith("-changed"):
        parser.error("what is kept names the commit that makes it again, and files differ from it; commit them first")
    return options


def _log(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if name not in LOGS or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"expected LOG=PATH with a name of {', '.join(LOGS)}, found {text!r}")
    return name, Path(path)


if __name__ == "__main__":
    sys.exit(main())
