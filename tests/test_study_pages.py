"""Pages of comparisons and diagnoses: the numbers of the result, and names that stay text."""

from xml.etree.ElementTree import Element

import numpy as np
import pytest

import sasrec
from sasrec.report.comparison import comparison_sections
from sasrec.report.diagnosis import diagnosis_sections

EVIL = "<script>alert(1)</script>"


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def cells(element):
    return [[words(cell) for cell in row] for row in element.iter("tr")]


def section(sections, name):
    return next(one for one in sections if one.get("id") == name)


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def comparison(data, small_model, small_config):
    return sasrec.compare(data, {EVIL: small_model, "again": small_config}, seeds=2, progress=False)


@pytest.fixture(scope="module")
def diagnosis(data, small_model, small_config):
    return sasrec.diagnose(data, small_config, model=small_model, retrain=True, progress=False)


def test_a_comparison_shows_every_model_with_its_figures(comparison):
    lines = cells(next(section(comparison_sections(comparison), "results").iter("table")))

    assert lines[0] == ["model", "kind", "NDCG@10", "HR@10"]
    for one, line in zip(comparison.contestants, lines[1:], strict=True):
        assert line[:2] == [one.name, one.kind]
        for (mean, error), cell in zip(one.metrics.values(), line[2:], strict=True):
            assert cell.startswith(f"{mean:.4f} ± {error:.4f}")
        assert ("sd of runs" in line[2]) == ("NDCG@10" in one.spread)


def test_differences_are_those_to_the_first_model(comparison):
    lines = cells(section(comparison_sections(comparison), "differences"))

    assert lines[0][0] == f"less {EVIL}"
    for one, line in zip(comparison.contestants[1:], lines[1:], strict=True):
        found = one.differences["HR@10"]
        assert line[2] == f"{found.difference:+.4f}{found.low:+.4f} to {found.high:+.4f}"


def test_the_answers_of_a_diagnosis_come_first_and_are_its_own(diagnosis):
    first = diagnosis_sections(diagnosis)[0]

    assert [words(one) for one in first.iter("p")] == [" ".join(one.split()) for one in diagnosis.verdict]


def test_a_diagnosis_shows_every_line_with_its_change(diagnosis):
    lines = cells(section(diagnosis_sections(diagnosis), "figures"))

    assert [line[0] for line in lines[1:]] == [line.name for line in diagnosis.lines]
    for one, line in zip(diagnosis.lines[1:], lines[2:], strict=True):
        found = one.metrics["NDCG@10"]
        change, low, high = (100 * part for part in (found.change.share, found.change.low, found.change.high))
        assert line[1] == f"{found.mean:.4f}{change:+.1f} % ({low:+.1f} to {high:+.1f})"


def test_the_curves_of_a_diagnosis_hold_the_lines_of_each_length(diagnosis):
    figure = [*section(diagnosis_sections(diagnosis), "changes").iter("figure")][1]
    header, *lines = cells(figure)

    for start in ("shown the last", "trained on the last"):
        column = header.index(f"{start} items")
        drawn = {int(line[0]): float(line[column].split()[0]) for line in lines if line[column] != "–"}
        expected = {
            one.length: round(one.metrics["NDCG@10"].mean, 4) for one in diagnosis.lines if one.name.startswith(start)
        }
        assert drawn == expected
        assert np.isfinite([*drawn.values()]).all()


def test_pages_of_studies_hold_no_markup_of_a_name(tmp_path, comparison, diagnosis, data):
    for name, result in {"compare": comparison, "diagnose": diagnosis}.items():
        path = tmp_path / f"{name}.html"
        sasrec.write_page(path, result, data=data)
        text = path.read_text(encoding="utf-8")

        assert "<script" not in text
        assert result.protocol.splitlines()[0] in text
        assert "<h2>Data</h2>" in text
