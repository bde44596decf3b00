"""`sasrec demo`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sasrec.commands.information import outcome
from sasrec.commands.output import in_bytes, in_columns, say, suggest, titled
from sasrec.commands.reading import Reading
from sasrec.commands.training import WRITES
from sasrec.config import Config
from sasrec.data.demo import Demo, generate
from sasrec.data.log import Log
from sasrec.data.titles import read_titles
from sasrec.errors import OutputError
from sasrec.files import durable_file
from sasrec.locking import held
from sasrec.retrieval.answers import columns
from sasrec.words import counted

if TYPE_CHECKING:
    from sasrec.evaluation.protocol import Report
    from sasrec.retrieval.recommender import Recommender

_NOTE = "Written by `sasrec demo`; the next one replaces all of it.\n"
# Narrower, with larger and more steps than by default, to be done within a minute; one thread, as several gain nothing
# on so small a network and lose much where other programs compute too.
_SETTINGS = Config(width=64, batch=64, learning_rate=0.005, dropout=0.2, epochs=14, threads=1)
_FILES = ("README.txt", "log.csv", "items.csv", "model.sasrec", "recommendations.parquet")


def demo(*, out: Path = Path("demo"), users: int = 3000, seed: int = 0) -> None:
    """Show it all on a generated log: train, compare, save, recommend.

    The log tells of an invented library whose readers choose by chances that are known, so that the best score that
    anybody could reach is known too. Takes less than a minute.

    Args:
        out: Folder for everything that is written. An earlier demo there is replaced, anything else refused.
        users: Readers to invent.
        seed: Another number makes another log of the same kind.
    """
    from sasrec.evaluation.protocol import evaluate
    from sasrec.training.training import train

    with held(Path(os.path.realpath(out)), doing=WRITES):  # a link to a folder is as good as the folder
        _check_ours(out)
        made = generate(seed=seed, users=users)
        _write_tables(made, out)
        reading = Reading()
        log = reading.log(out / "log.csv")
        data = reading.divided(log)
        say(f"# A log: {out / 'log.csv'}, with titles in {out / 'items.csv'}", str(log.summary()), "")
        say("# Training", str(data))
        model = train(data, replace(_SETTINGS, seed=seed), progress=True)
        model.record |= {"log": "log.csv", "reading": reading.to_dict()}
        model.save(out / "model.sasrec", replace=True)
        say(outcome(model.record), f"saved to {out / 'model.sasrec'} ({in_bytes(out / 'model.sasrec')})", "")
        say("# Evaluation", in_comparison(evaluate(model, data, k=10), made.best), "")
        _recommend(model, log, out)


def in_comparison(report: "Report", best: dict[str, tuple[float, float]]) -> str:
    """A report of one cut-off beside the best possible scores, worst model first.

    Args:
        best: Mean and standard error of every metric under the best ranking that anybody could give.
    """
    scores = {row.model: row.metrics for row in sorted(report.rows, key=lambda row: row.metrics["NDCG@10"])}
    scores["best possible"] = best
    table = [["", *best, "share of the best"]]
    for name, metrics in scores.items():
        cells = [f"{mean:.4f} ± {error:.4f}" for mean, error in (metrics[metric] for metric in best)]
        # Of a handful of users even the best ranking may hit none.
        share = f"{metrics['NDCG@10'][0] / best['NDCG@10'][0]:.0%}" if best["NDCG@10"][0] else "-"
        table.append([name, *cells, share])
    return "\n".join([report.protocol, *columns(table, left=(0,)), *(f"note: {note}" for note in report.notes)])


def _check_ours(out: Path) -> None:
    """Refuse to write into a folder that holds anything but an earlier demo.

    Raises:
        OutputError: It does, or it cannot be made.
    """
    if os.path.lexists(out):
        try:
            names = {name for name in os.listdir(out) if not name.startswith(".")}
            ours = not names or (names <= {*_FILES} and (out / "README.txt").read_text(errors="replace") == _NOTE)
        except OSError:  # no folder, no note, or none that may be read
            ours = False
        if not ours:
            raise OutputError(
                f"{out}: holds something other than a demo, so it is not replaced; name another folder with --out"
            )


def _write_tables(made: Demo, out: Path) -> None:
    out.mkdir(exist_ok=True)
    with durable_file(out / "README.txt", replace=True) as draft:
        draft.write_text(_NOTE)
    for name, table in (("log.csv", made.log), ("items.csv", made.items)):
        with durable_file(out / name, replace=True) as draft:
            table.write_csv(draft)


def _recommend(model: "Recommender", log: Log, out: Path) -> None:
    everybody = out / "recommendations.parquet"
    rows = model.recommend_all(everybody, replace=True)
    titles = read_titles(out / "items.csv", model.items)
    user = log.users.ids[0]
    last = log.items.raw(log.histories[0][-5:])
    say(
        "# Recommendations",
        f"wrote {rows:,} for {counted(len(model.users), 'user')} to {everybody} ({in_bytes(everybody)})",
        f"{user} had, as the last of {len(log.histories[0]):,}:",
        in_columns(titled(last.to_frame("item_id"), titles)),
        "and may like:",
        in_columns(titled(model.recommend([user], k=5).drop("user_id"), titles)),
        "",
    )
    saved = out / "model.sasrec"
    suggest(
        ["evaluate", saved, out / "log.csv", "--k", "5", "--k", "20"],
        ["recommend", saved, "--user", user, "--titles", out / "items.csv"],
        ["recommend", saved, "--history", *last.to_list()[-2:], "--titles", out / "items.csv"],
        ["similar", saved, last[0], "--titles", out / "items.csv"],
        ["info", saved],
        ["train", out / "log.csv", "--out", "mine.sasrec", *_flags(_SETTINGS)],
    )


def _flags(config: Config) -> list[str]:
    """What to type to have these settings."""
    chosen = config.to_dict().items() - Config().to_dict().items()
    return [part for name, value in sorted(chosen) for part in (f"--{name.replace('_', '-')}", str(value))]
