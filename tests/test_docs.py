"""Every block of Python in the README and the docs runs, in the order in which a reader meets it."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from sasrec.cli import command_line, main

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/accuracy.md",
    "docs/evaluation.md",
    "docs/diagnose.md",
    "docs/report.md",
    "docs/data.md",
    "docs/items.md",
    "docs/tuning.md",
    "docs/migration.md",
    "docs/presets.md",
    "docs/large.md",
    "docs/resuming.md",
)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with the files that the pages name."""
    from sasrec.data.demo import generate

    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    generate(users=120, items=60).log.write_csv(tmp_path / "demo" / "log.csv")
    names = ["ada", "grace", "alan", "edsger", "barbara", "donald", "tony", "niklaus"]
    rows = [
        (who, f"film {(start + step) % 9}", step, 4.0 + step % 2)
        for start, who in enumerate(names)
        for step in range(8)
    ]
    pl.DataFrame(rows, schema=["who", "what", "when", "stars"], orient="row").write_csv(tmp_path / "ratings.csv")


def blocks(page: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def _small(block: str, users: pl.Series, items: pl.Series) -> str:
    """The block with ids of the small log of this test and few epochs: the shape of the calls is what is claimed."""
    for place, shown in enumerate(re.findall(r'"(reader-\d+|b\d{4})"', block)):
        block = block.replace(f'"{shown}"', f'"{(users if shown.startswith("reader") else items)[place]}"')
    return block.replace("seed=7", "seed=7, epochs=2, threads=1")


def test_every_block_of_the_pages_runs(reader):
    log = pl.read_csv("demo/log.csv")
    users, items = log["user_id"].unique().sort(), log["item_id"].unique().sort()
    names: dict[str, object] = {}

    for page in PAGES:
        for block in blocks(page):
            exec(compile(_small(block, users, items), page, "exec"), names)  # the pages are ours

    assert Path("books.sasrec/manifest.json").is_file()
    assert len(pl.read_parquet("recommendations.parquet")) == 10 * len(users)


def typed(page: str) -> list[list[str]]:
    """The arguments of every `sasrec` in the shell blocks of a page."""
    shown = "\n".join(
        re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
    lines = (shlex.split(line, comments=True) for line in shown.replace("\\\n", " ").splitlines())
    return [line[1:] for line in lines if line[:1] == ["sasrec"]]


COMMANDS = [
    pytest.param(line, id=f"{page}: {shlex.join(line)}")
    for page in ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    for line in typed(page)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_program_understands_every_command_of_the_pages(line):
    app = command_line()
    app.config = ()  # which reads the models that a command names

    called, bound, *_ = app.parse_args(line, exit_on_error=False, print_error=False)

    assert called.__name__ == line[0].replace("-", "_")
    assert bound.args or line == ["demo"], "every other command is told what to work on"


@pytest.mark.slow
def test_the_commands_of_the_readme_do_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [(user, 46 + (user + step) % 9, step, 4.0 + step % 2) for user in range(60) for step in range(8)]
    pl.DataFrame(rows, schema=["user", "item", "time", "stars"], orient="row").write_csv("ratings.csv")

    codes = {" ".join(line): main(line) for line in typed("README.md") if line[0] != "serve"}

    assert len(codes) == 8
    assert set(codes.values()) == {0}, capsys.readouterr().err
    assert Path("report.html").is_file()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_every_example_of_serving_is_answered(serving, small_model, tmp_path):
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    curls = re.findall(r"^curl (.*)$", page, flags=re.MULTILINE)
    with serving(small_model, data=tmp_path / "data") as running:

        def here(text):
            known = re.sub(r"reader-\d{4}", "u07", re.sub(r"b\d{4}", "i03", text))
            return re.sub(r"(http://127\.0\.0\.1|localhost):8000", running.url, known)

        for block in blocks("docs/serving.md"):
            exec(compile(here(block), "docs/serving.md", "exec"), {})  # the page is ours
        failed = []
        for line in curls:
            command = ["curl", "--silent", "--show-error", "--fail-with-body", *shlex.split(here(line))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed += [(line, done.stdout, done.stderr)] if done.returncode else []

    assert len(curls) == 13
    assert failed == []


def test_every_page_that_the_readme_names_exists():
    linked = re.findall(r"\]\(((?!http)[^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))

    assert linked
    assert [page for page in linked if not (ROOT / page).exists()] == []


def test_the_tree_of_the_readme_names_every_module():
    tree = re.search(r"```\nsrc/sasrec/\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert tree
    modules = {
        path.relative_to(ROOT / "src/sasrec").as_posix()
        for path in (ROOT / "src/sasrec").rglob("*.py")
        if not path.name.startswith("__")
    }

    missing = [one for one in sorted(modules) if Path(one).name not in tree[1]]

    assert missing == []
