"""The comparison with what was published of four logs: what is put beside what, and when nothing is."""

import json
from xml.etree import ElementTree

import pytest
from benchmarks import replication
from benchmarks.replication import KNOWN, Result


def result(name, *, size=None, ndcg=0.5, hits=0.8):
    users, items = size or KNOWN[name].size
    one = {"NDCG@10": (ndcg, 0.004), "HR@10": (hits, 0.005)}
    counted = {"NDCG@10": (0.1, 0.001), "HR@10": (0.2, 0.001)}
    whole = {"SASRec (bce)": counted, "Rules": counted, "Markov": counted, "Popularity": counted}
    return Result(name, users, items, one, whole, (55, 75), 12.0, {"seed": 0}, "abc")


def cells(text, row):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [cell.strip() for cell in lines[row].strip("|").split("|")]


def test_figures_stand_beside_those_that_were_published_of_the_same_log():
    text = replication.table([result("ml-1m", ndcg=0.5886, hits=0.8171)], preset="paper")

    assert cells(text, 0)[3] == "sasrec, `paper`"
    assert cells(text, 2)[:5] == [
        "MovieLens-1M",
        "0.5905 / 0.8245",
        "0.5676 / 0.7965",
        "0.5886 ± 0.0040 / 0.8171 ± 0.0050",
        "99.7% / 99.1%",
    ]


def test_nothing_is_compared_with_a_log_that_only_has_the_name():
    text = replication.table([result("beauty", size=(22_363, 12_101))], preset="paper")

    assert cells(text, 2)[1:3] == ["–", "–"]
    assert cells(text, 2)[4] == "–"
    assert "this log has 22,363 users and 12,101 items, the published one 52,024 users and 57,289 items" in text


def test_logs_that_are_not_at_hand_are_named():
    text = replication.table([result("games"), result("ml-1m")], preset="paper")

    assert text.splitlines()[-1] == "Not given: Beauty, Steam."


def test_the_page_has_a_chart_of_each_metric_with_every_bar_that_there_is(tmp_path):
    replication.write_charts(
        tmp_path / "page.html", [result("games"), result("beauty", size=(9, 9))], preset="seanswyi"
    )

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    drawings = [ElementTree.fromstring(one + "</svg>") for one in charts(page)]
    assert [len(list(one.iter("rect"))) for one in drawings] == [4, 4]  # three of Games, ours alone of Beauty
    assert "SASRec on four logs" in page


def charts(page):
    return [part.partition("</svg>")[0] for part in page.replace("<svg", "\0<svg").split("\0") if 'role="img"' in part]


def test_a_name_that_was_never_published_or_a_file_that_is_not_there_is_refused(capsys, tmp_path):
    for wrong, said in [
        ("toys=a.txt", "a name of beauty, games, steam, ml-1m, found 'toys=a.txt'"),
        (f"games={tmp_path}/gone.txt", "gone.txt: no such file"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            replication.main([wrong])

        assert said in capsys.readouterr().err


def test_a_log_is_trained_on_tested_and_told_with_its_settings(tmp_path, capsys):
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{user} {(user + step) % 30}\n" for user in range(40) for step in range(6)))

    code = replication.main([f"games={log}", "--epochs", "2", "--seed", "3", "--out", str(tmp_path)])

    told = json.loads((tmp_path / "replication.json").read_text())
    assert code == 0
    assert (told["preset"], told["results"][0]["users"], told["results"][0]["epochs"][1]) == ("seanswyi", 40, 2)
    assert {name: told["results"][0]["config"][name] for name in ("loss", "length", "dropout", "seed")} == {
        "loss": "bce",
        "length": 50,
        "dropout": 0.5,
        "seed": 3,
    }
    assert capsys.readouterr().out.startswith("| log | paper | sasrec-pytorch | sasrec, `seanswyi` |")
