"""`sasrec demo`: what it prints and leaves behind, and what it never touches."""

import math
import re
import shlex

import polars as pl
import pytest

import sasrec
from sasrec import cli
from sasrec.commands import demonstration
from sasrec.data.demo import generate


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The folder of a small demo, and what the demo printed."""
    folder = tmp_path_factory.mktemp("demo")
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("builtins.print", lambda *lines, **_: printed.extend(lines))
        assert cli.main(["demo", "--users", "300"]) == 0
    return folder / "demo", "\n".join(printed)


@pytest.fixture
def run(shown, monkeypatch, capsys):
    """Runs a command beside the demo's folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(shown[0].parent)

    def call(*arguments):
        capsys.readouterr()
        code = cli.main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return call


def scores(printed):
    """From the table: NDCG@10, its error, HR@10, its error, share of the best."""
    rows = re.findall(r"^(Popularity|Markov|SASRec \(softmax\)|best possible) +(.*)$", printed, re.MULTILINE)
    return {name: [float(number) for number in re.findall(r"\d+(?:\.\d+)?", row)] for name, row in rows}


def test_one_table_compares_counting_models_network_and_the_best_possible(shown):
    table = scores(shown[1])

    assert list(table) == ["Popularity", "Markov", "SASRec (softmax)", "best possible"]
    assert table["Popularity"][0] < table["SASRec (softmax)"][0] < table["best possible"][0]
    for ndcg, error, hit_rate, hit_error, share in table.values():
        assert ndcg < hit_rate
        assert hit_error == pytest.approx(math.sqrt(hit_rate * (1 - hit_rate) / 299), abs=1e-4)
        assert error > 0
        assert share == pytest.approx(100 * ndcg / table["best possible"][0], abs=0.6)


def test_what_is_printed_is_what_the_library_measures(shown):
    folder, printed = shown
    data = sasrec.split(sasrec.read_log(folder / "log.csv"))

    report = sasrec.evaluate(sasrec.load(folder / "model.sasrec"), data)

    assert scores(printed)["SASRec (softmax)"][::2][:2] == [
        pytest.approx(report[name], abs=1e-4) for name in ("NDCG@10", "HR@10")
    ]
    assert report.protocol in printed


def test_recommendations_for_everybody_are_written(shown):
    folder, _ = shown
    model = sasrec.load(folder / "model.sasrec")

    written = pl.read_parquet(folder / "recommendations.parquet")

    assert written.equals(model.recommend(model.users.ids))


def test_one_user_is_shown_with_titles(shown):
    folder, printed = shown
    titles = dict(pl.read_csv(folder / "items.csv").select("item_id", "title").iter_rows())
    model = sasrec.load(folder / "model.sasrec")
    user = model.users.ids[0]

    history, _, recommended = printed.partition("and may like:")

    for item in pl.read_csv(folder / "log.csv").filter(user_id=user)["item_id"].tail(5):
        assert re.search(rf"^{item} +{re.escape(titles[item])}$", history, re.MULTILINE)
    for item in model.recommend([user], k=5)["item_id"]:
        assert re.search(rf"{item} +{re.escape(titles[item])} ", recommended)


def test_the_commands_that_are_suggested_work(shown, run):
    suggested = [shlex.split(line) for line in shown[1].partition("next, try:\n")[2].splitlines()]

    codes = [(program, command[0], run(*command)[0]) for program, *command in suggested]

    names = ["evaluate", "recommend", "recommend", "similar", "info", "train"]
    assert codes == [("sasrec", name, 0) for name in names]


def test_a_demo_is_replaced_by_the_next_and_one_seed_gives_the_same(run, tmp_path):
    weights = tmp_path / "d" / "model.sasrec" / "weights.safetensors"
    written = []
    for seed in (7, 7, 8):
        assert run("demo", "--users", "50", "--out", tmp_path / "d", "--seed", seed)[0] == 0
        written.append(weights.read_bytes())

    assert written[0] == written[1] != written[2]


def test_a_demo_of_users_whom_even_the_best_ranking_misses_ends_well(run, tmp_path):
    code, out, _ = run("demo", "--users", "2", "--out", tmp_path / "d")

    assert code == 0
    assert re.search(r"^best possible +0\.0000 .* -$", out, re.MULTILINE)


@pytest.mark.parametrize("foreign", ["thesis.txt", "log.csv", "README.txt"])
def test_a_folder_with_anything_else_is_refused_and_left_alone(foreign, run, tmp_path):
    (tmp_path / foreign).write_text("mine")

    code, out, err = run("demo", "--users", "50", "--out", tmp_path)

    assert (code, out) == (6, "")
    assert re.fullmatch(r"error: [^\n]+ holds something other than a demo[^\n]+--out\n", err)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {foreign: "mine"}


def test_an_empty_folder_is_used_and_a_file_is_not(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")

    codes = [run("demo", "--users", "50", "--out", tmp_path / name)[0] for name in ("empty", "file", "missing/folder")]

    assert codes == [0, 6, 6]
    assert (tmp_path / "empty" / "model.sasrec").is_dir()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_the_network_reaches_60_percent_of_the_best_possible_and_beats_both_counting_models():
    made = generate()
    data = sasrec.split(sasrec.read_log(made.log))

    model = sasrec.train(data, demonstration._SETTINGS)
    rows = {row.model: row.metrics["NDCG@10"] for row in sasrec.evaluate(model, data).rows}

    assert rows["SASRec (softmax)"][0] >= 0.6 * made.best["NDCG@10"][0]
    for other in ("Markov", "Popularity"):
        mean, error = rows[other]
        assert rows["SASRec (softmax)"][0] > mean + 5 * error
