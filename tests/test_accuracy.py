"""The measurements of accuracy: what is kept of a run, what two rows are apart, and that the docs show just that."""

import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.accuracy import pictures, results, rows, table
from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.published import PUBLISHED
from benchmarks.accuracy.results import Result, pack
from benchmarks.accuracy.rows import ROWS, Row

import sasrec
from sasrec.training.interrupts import terminable
from sasrec.training.steps import Training

COUNTED = ("popularity", "recent", "markov", "rules", "knn", "counts", "counts-refit")
WHATS = ("network", "blend", "refit", "ease", "ease-refit", "three")
README = Path(__file__).parents[1] / "README.md"
PAGE = README.parent / "docs" / "accuracy.md"
ONE = Result(
    log="beauty",
    row="default",
    seed=0,
    what="network",
    settings={},
    config={"seed": 0},
    data="abc",
    weights="def",
    best=12,
    epochs=22,
    valid=0.06,
    ndcg=0.5,
    hits=0.5,
    cpu_s=100.0,
    made={},
    parts={},
    places=pack(np.array([0.0, np.inf])),
)


def test_a_result_keeps_every_place_that_counts():
    ranks = np.array([0.0, 2.5, 9.0, 9.5, 10.0, 4000.0, np.inf])

    kept = replace(ONE, places=pack(ranks)).ranks()

    assert kept.tolist() == [0.0, 2.5, 9.0, 9.5, math.inf, math.inf, math.inf]


def test_a_result_is_read_back_as_it_was_saved(tmp_path):
    ONE.save(tmp_path)

    assert list(results.results(tmp_path)) == [ONE]


def test_rows_differ_by_the_mean_over_seeds_of_every_user():
    better = [replace(ONE, places=pack(np.array(ranks))) for ranks in ([0.0, 0.0], [0.0, 2.0])]

    found = table.difference(better, [ONE, ONE])

    # The second user gains 1 with one seed and 1 / log2(4) with the other; the first gains nothing.
    assert found.difference == pytest.approx((0 + (1 + 0.5) / 2) / 2)
    assert (found.low, found.high) == (0.0, 0.75)


def test_the_table_pairs_only_the_seeds_that_both_rows_have():
    base = replace(ONE, row="drawn")
    wide = replace(ONE, row="width-64", ndcg=0.7, places=pack(np.array([0.0, 0.0])))
    found = [base, replace(base, seed=1, ndcg=0.6), wide]

    lines = table.tables(found).splitlines()

    assert lines[0] == "**Beauty**, 2 users tested"
    assert "| drawn item vectors | one network | 2 | 0.5500 ± 0.0707 | 0.5000 ± 0.0000 |  |  | 12 | 100 |" in lines
    shown = "0.7000 | 0.5000 | +0.5000 (+0.0000 to +1.0000), one seed | drawn item vectors | 12 | 100"
    assert f"| width 64, else as before, drawn | one network | 1 | {shown} |" in lines


def test_results_of_different_logs_are_not_put_into_one_table():
    with pytest.raises(ValueError, match="beauty: results of several logs or splits: abc, xyz"):
        table.tables([ONE, replace(ONE, seed=1, data="xyz")])


def test_every_row_is_a_change_of_settings_that_training_accepts():
    from sasrec import Config

    for log in rows.LOGS:
        for row in ROWS.values():
            Config.from_dict(row.on(log))


def test_a_run_can_be_made_again_and_is_not_made_twice(tmp_path, monkeypatch, capsys):
    log = tmp_path / "log.csv"
    lines = [f"u{user},i{(user + step) % 7},{step}" for user in range(30) for step in range(6)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr("benchmarks.accuracy.run.KEPT", tmp_path / "kept")
    monkeypatch.setitem(ROWS, "default", Row("defaults", {"epochs": 2, "width": 8}))
    runs = [
        ["--folder", str(tmp_path / folder), "run", f"beauty={log}", "default", "--what", *WHATS]
        for folder in ("a", "a", "b")
    ]

    for one in runs:
        assert main(one) == 0

    assert capsys.readouterr().out.count("beauty default seed 0") == 2 * 6
    first, again = (list(results.results(tmp_path / folder)) for folder in ("a", "b"))
    assert {one.what for one in first} == {*WHATS}
    assert [(one.weights, one.ndcg, one.places) for one in first] == [(o.weights, o.ndcg, o.places) for o in again]
    hashes = {one.what: one.weights for one in first}
    assert len({hashes[what] for what in ("network", "blend", "refit")}) == 3
    parts = {one.what: [*one.parts] for one in first}
    assert parts["three"] == ["sasrec", "sasrec 2", "sasrec 3", "rules", "knn", "ease"]


def test_a_kept_run_is_made_again_with_its_settings_after_the_defaults_changed(tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    lines = [f"u{user},i{(user + step) % 7},{step}" for user in range(30) for step in range(6)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr("benchmarks.accuracy.run.KEPT", tmp_path / "models")
    monkeypatch.setattr("benchmarks.accuracy.run.FOLDER", tmp_path / "kept")
    monkeypatch.setitem(ROWS, "default", Row("defaults", {"epochs": 2, "width": 8}))
    assert main(["--folder", str(tmp_path / "kept"), "run", f"beauty={log}", "default"]) == 0
    monkeypatch.setitem(ROWS, "default", Row("defaults", {"epochs": 3, "width": 16}))

    assert main(["--folder", str(tmp_path / "made"), "again", f"beauty={log}", "default"]) == 0

    kept, made = (next(results.results(tmp_path / folder)) for folder in ("kept", "made"))
    assert (made.weights, made.places) == (kept.weights, kept.places)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    lines = [f"u{user},i{(user + step) % 7},{step}" for user in range(30) for step in range(6)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")
    monkeypatch.setitem(ROWS, "default", Row("defaults", {"epochs": 3, "width": 8}))
    left, made, real = iter(range(2)), {}, Training._step

    def step(self, batch):
        if next(left, None) is None:
            signal.raise_signal(signal.SIGTERM)
        return real(self, batch)

    for name in ("whole", "stopped"):
        monkeypatch.setattr("benchmarks.accuracy.run.KEPT", tmp_path / name / "models")
        run = ["--folder", str(tmp_path / name), "run", f"beauty={log}", "default"]
        if name == "stopped":
            with monkeypatch.context() as patch, terminable():
                patch.setattr(Training, "_step", step)
                with pytest.raises(KeyboardInterrupt):
                    main(run)
            assert [one.suffix for one in (tmp_path / name / "models" / "beauty").iterdir()] == [".state"]
        assert main(run) == 0
        made[name] = next(results.results(tmp_path / name))
        assert [one.suffix for one in (tmp_path / name / "models" / "beauty").iterdir()] == [".sasrec"]

    assert made["stopped"].weights == made["whole"].weights


@pytest.mark.parametrize(
    ("command", "words"), [("run", "files differ from it; commit them first"), ("again", "name another folder")]
)
def test_what_could_not_be_made_again_is_not_kept(command, words, tmp_path, monkeypatch, capsys):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\n")
    monkeypatch.setattr("benchmarks.accuracy.__main__.commit", lambda: "1234567-changed")

    with pytest.raises(SystemExit):
        main([command, f"beauty={log}", "default"])

    assert words in capsys.readouterr().err


def test_what_is_counted_is_measured_without_a_training_and_as_the_split_of_the_log_says(tmp_path, capsys):
    log = tmp_path / "log.csv"
    lines = [f"u{user},i{(user * step) % 7},{step * 50 + user}" for user in range(30) for step in range(10)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines) + "\n")

    for name in ("steam", "steam-time", "steam-time"):
        assert main(["--folder", str(tmp_path / "made"), "count", f"{name}={log}"]) == 0

    assert capsys.readouterr().out.count("steam-time ") == len(COUNTED)
    found = list(results.results(tmp_path / "made"))
    assert {(one.log, one.what) for one in found} == {
        (log, what) for log in ("steam", "steam-time") for what in COUNTED
    }
    assert {one.row for one in found} == {"counted"}
    assert len({one.data for one in found if one.log == "steam-time"}) == 1
    data = sasrec.split(sasrec.read_log(log), "time")
    rules = next(one for one in found if (one.log, one.what) == ("steam-time", "rules"))
    assert rules.hits == pytest.approx(sasrec.evaluate(sasrec.count(data, "rules"), data)["HR@10"], abs=1e-6)
    assert "| counted | rules | 1 |" in table.tables(found)


def test_what_is_published_stands_beside_ours_with_what_keeps_it_from_being_compared():
    games = replace(ONE, log="games", row="default", ndcg=0.06, places=pack(np.array([0.0, np.inf])))

    lines = table.beside_published([games, replace(games, row="plain")]).splitlines()

    assert lines[:2] == ["**Games**", ""]
    assert lines[4] == "| **sasrec, one network, defaults** | **0.5000** | **0.5000** | the tables below |  |"
    assert lines[5].startswith("| Transformer-XL | 0.0569 | 0.1106 | SAR-Check (WSDM 2025) | not known whether")
    assert len(lines) == 7
    assert all(one.log in rows.LOGS and 0 < one.ndcg < one.hits < 1 for one in PUBLISHED)


def test_ours_that_know_the_time_of_the_request_are_marked_like_those_of_others():
    knows = replace(ONE, row="times", config={"times": "both"})

    line = next(line for line in table.beside_published([ONE, knows]).splitlines() if "the time of" in line)
    dots = ElementTree.fromstring(pictures.standing([ONE, knows])).iter("{http://www.w3.org/2000/svg}circle")

    assert line.endswith("| the tables below | the time of the request is known |")
    assert [dot.get("class") for dot in dots].count("ours open") == 1


def test_a_row_has_the_same_base_with_everything_that_is_made_of_it():
    older = [replace(ONE, row="former", what=what) for what in ("network", "blend")]
    newer = [replace(ONE, row="drawn"), replace(ONE, row="last-windows", what="blend")]

    grouped = table.by_row([*older, *newer])

    network = table.compared(grouped, "former", "network")
    assert network is not None
    assert network.base == "drawn"
    assert table.compared(grouped, "former", "blend") is None


def test_rows_of_one_log_are_told_apart_by_their_names():
    names = [table.named(row) for row in ROWS]

    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_pictures_have_a_dot_for_every_figure():
    wide = replace(ONE, row="width-64", places=pack(np.array([0.0, 0.0])))

    base = replace(ONE, row="drawn")
    choices, standing = (ElementTree.fromstring(draw([base, wide])) for draw in (pictures.choices, pictures.standing))

    circles = ".//{http://www.w3.org/2000/svg}circle"
    assert len(choices.findall(circles)) == 1
    dots = standing.findall(circles)
    assert len(dots) == 2 + sum(one.log == "beauty" for one in PUBLISHED)
    assert sum(dot.get("class") == "theirs open" for dot in dots) == sum(
        one.log == "beauty" and one.differs != "" for one in PUBLISHED
    )
    texts = [text.text for text in choices.iter("{http://www.w3.org/2000/svg}text")]
    assert "width 64, else as before, drawn (1 seed)" in texts


@pytest.mark.parametrize("name", ["choices", "standing"])
def test_the_pictures_of_the_documentation_are_of_the_results_that_are_kept(name):
    """To bring them up to date: UPDATE_DOCS=1 python -m pytest tests/test_accuracy.py -k documentation."""
    path = PAGE.with_name(f"accuracy-{name}.svg")
    true = getattr(pictures, name)(results.results())

    if os.environ.get("UPDATE_DOCS"):
        path.write_text(true, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == true


@pytest.mark.parametrize(
    ("page", "name", "table_of", "begins"),
    [
        (PAGE, "rows", table.tables, "**Beauty**, 22,363 users"),
        (PAGE, "published", table.beside_published, "**Beauty**"),
        (README, "measured", table.measured, "| log | users tested |"),
    ],
)
def test_the_documentation_shows_the_results_that_are_kept(page, name, table_of, begins):
    """To bring it up to date: UPDATE_DOCS=1 python -m pytest tests/test_accuracy.py -k documentation."""
    shown, text = page.read_text(encoding="utf-8"), table_of(results.results())
    true = re.sub(
        rf"(?s)(<!-- {name} -->\n).*(<!-- end of {name} -->)", lambda found: f"{found[1]}{text}\n{found[2]}", shown
    )

    if os.environ.get("UPDATE_DOCS"):
        page.write_text(true, encoding="utf-8")

    assert f"<!-- {name} -->\n{begins}" in true
    assert shown == true or os.environ.get("UPDATE_DOCS")


def test_rows_of_drawn_vectors_are_set_beside_the_defaults_where_these_are_drawn():
    wide = replace(ONE, row="width-64", places=pack(np.array([0.0, 0.0])))

    alone = table.compared(table.by_row([ONE, wide]), "width-64", "network")
    both = table.compared(table.by_row([ONE, replace(wide, row="drawn"), wide]), "width-64", "network")

    assert alone is not None
    assert both is not None
    assert (alone.base, alone.apart.difference) == ("default", 0.5)
    assert (both.base, both.apart.difference) == ("drawn", 0.0)
