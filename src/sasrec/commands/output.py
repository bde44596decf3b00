"""What commands print: tables of plain text, suggestions to paste, answers for people or programs."""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from sasrec.commands.terminal import harmless
from sasrec.data.titles import read_titles
from sasrec.data.vocab import Id, Vocabulary
from sasrec.files import check_free
from sasrec.locking import check_apart, check_kept
from sasrec.retrieval.answers import columns

if TYPE_CHECKING:
    from sasrec.data.splits import Split
    from sasrec.evaluation.protocol import Report
    from sasrec.retrieval.recommender import Recommender
    from sasrec.studies.compare import Comparison
    from sasrec.studies.diagnose import Diagnosis


def say(*lines: str) -> None:
    """Print for people, at once, so that the order holds where standard error goes to the same place."""
    hand_over("\n".join(map(harmless, "\n".join(lines).split("\n"))))


def hand_over(text: str) -> None:
    """Print for programs: at once, and as it is."""
    print(text, flush=True)


def wrapped(text: str, *, indent: int = 2) -> str:
    """A long line as several, the later ones indented; words stay whole."""
    return textwrap.fill(text, 110, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def suggest(*commands: Sequence[str | Path]) -> None:
    """Print commands to try next, such that they work when pasted."""
    say("next, try:", *(f"  {program()} {shlex.join(map(str, command))}" for command in commands))


def typed(known: Vocabulary, option: str = "") -> list[str]:
    """An id of these as a command takes it, alone or after an option: the first that a terminal shows as it is."""
    texts = map(str, known.ids)
    text = next((one for one in texts if harmless(one) == one), str(known.ids[0]))
    if text.startswith("-"):  # it would be taken for an option itself
        return [f"{option}={text}"] if option else ["--", text]
    return [option, text] if option else [text]


def program() -> str:
    """How this process was called."""
    called = Path(sys.argv[0])
    if called.parts[-2:] == ("sasrec", "__main__.py"):
        return f"{shlex.quote(sys.executable)} -m sasrec"
    found = shutil.which("sasrec")
    if called.name != "sasrec" or (found and os.path.exists(called) and os.path.samefile(found, called)):
        return "sasrec"
    return shlex.quote(sys.argv[0])


def in_bytes(path: Path) -> str:
    """Size of a file, or of all files of a folder, in words."""
    files = path.iterdir() if path.is_dir() else [path]
    size = float(sum(file.stat().st_size for file in files))
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} GB"


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a result is written to, beside being printed.

    Attributes:
        json: File to write the result to, with every figure unrounded.
        html: File for a page with tables and charts, which opens offline in any browser.
        replace: Take the place of files that are there already.
    """

    json: Path | None = None
    html: Path | None = None
    replace: bool = False

    def check(self, *read: Path | None) -> None:
        """Refuse a taken place before any work is done, and that of what the command reads; OutputError."""
        check_apart(self.json, self.html)
        check_kept(self.json, self.html, read=read)
        for path in (self.json, self.html):
            if path is not None:
                check_free(path, replace=self.replace)

    def write(
        self,
        result: "Report | Comparison | Diagnosis",
        *,
        model: "Recommender | None" = None,
        data: "Split | None" = None,
        user: Id | None = None,
        titles: Path | None = None,
    ) -> None:
        """Write where that is asked for; errors as `write_page`."""
        if self.json is not None:
            from sasrec.report.plain import write_json

            write_json(self.json, result, replace=self.replace)
        if self.html is not None:
            from sasrec.report.page import write_page

            write_page(self.html, result, model=model, data=data, user=user, titles=titles, replace=self.replace)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How an answer is printed.

    Attributes:
        titles: File of items with a column of titles, to be shown beside the ids.
        format: A table for people; JSON or CSV for programs.
    """

    titles: Path | None = None
    format: Literal["table", "json", "csv"] = "table"

    def show(self, answer: pl.DataFrame, items: Vocabulary) -> None:
        """Print an answer of `items`."""
        if self.titles is not None:
            answer = titled(answer, read_titles(self.titles, items))
        if self.format == "json":
            hand_over("[" + answer.write_ndjson().rstrip("\n").replace("\n", ",\n ") + "]")
        elif self.format == "csv":
            hand_over(answer.write_csv().rstrip("\n"))
        else:
            say(in_columns(answer))


def titled(answer: pl.DataFrame, titles: pl.DataFrame) -> pl.DataFrame:
    """The answer with the title beside each item id; null where there is none."""
    joined = answer.join(titles, on="item_id", how="left", maintain_order="left")
    place = answer.columns.index("item_id") + 1
    return joined.select(*answer.columns[:place], "title", *answer.columns[place:])


_NUMBERS = ("event", "rank", "attention", "score", "score_without", "rank_without")
_ORDER = ("user_id", *_NUMBERS[:2], "item_id", "title", *_NUMBERS[2:], "source")


def in_columns(answer: pl.DataFrame) -> str:
    """A frame as a table of plain text, the rank before what is ranked."""
    names = sorted(answer.columns, key=_ORDER.index)
    cells = [[name, *(_cell(value) for value in answer[name].to_list())] for name in names]
    left = [at for at, name in enumerate(names) if name not in _NUMBERS]
    return "\n".join(columns(list(zip(*cells, strict=True)), left=left))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else harmless(str(value))
