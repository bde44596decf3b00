"""Elements: whatever a text holds, it stays text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.report.elements import anchor, document, number, printable, table, tag


class Reader(HTMLParser):
    """What a browser finds: the elements with their attributes, and the text."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], ""

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def read(element):
    reader = Reader()
    reader.feed(document(element).removeprefix("<!DOCTYPE html>\n"))
    reader.close()
    return reader


@given(st.text())
def test_no_text_is_markup(text):
    found = read(tag("b", {"title": text}, text))

    assert found.elements == [("b", {"title": text})]
    assert found.text == printable(text)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt; & </p>", "'"]
)
def test_markup_in_a_text_is_shown_and_not_obeyed(text):
    found = read(tag("p", {"data-of": text}, text, tag("i", text), text))

    assert [name for name, _ in found.elements] == ["p", "i"]
    assert found.text.strip() == text * 3


@given(st.text())
def test_text_is_printable_and_in_one_line(text):
    assert all(one.isprintable() or one in "\u200c\u200d" for one in printable(text))
    assert len(printable(text)) == len(text)


def test_text_that_is_printable_stays_as_it_is():
    words = "Amélie 東京 می‌خواهم 👩‍👩‍👧 – naïve"

    assert printable(words) == words
    assert printable("a\nb\tc\u00a0d") == "a b c d"
    assert printable("\x1b[31m\u202e") == "�[31m�"


def test_text_and_children_keep_their_order():
    assert read(tag("p", "a", tag("b", "c"), "d", "e", tag("i"), "f")).text.strip() == "acdef"


def test_classes_stand_after_the_name():
    assert read(tag("p.note.quiet", {"id": "a"})).elements == [("p", {"class": "note quiet", "id": "a"})]


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (0.126, "0.13"), (-2.5, "-2.5"), (100, "100"), (0.0, "0")])
def test_a_number_has_at_most_two_decimals(value, text):
    assert number(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_nobody_can_draw_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        tag("rect", {"x": value})


def test_a_table_names_its_columns_and_rows():
    found = read(table(["model", "NDCG"], [["Markov", "0.1"], ["SASRec", tag("b", "0.2")]]))

    scopes = [attributes["scope"] for name, attributes in found.elements if name == "th"]
    assert scopes == ["col", "col", "row", "row"]
    assert found.text.split() == ["modelNDCG", "Markov0.1", "SASRec0.2"], "a line for each row"


def test_a_title_makes_a_target_that_a_link_can_name():
    assert anchor("Where it is good: NDCG@10") == "where-it-is-good-ndcg-10"
