"""Titles of items: which file and columns they come from, and how ids of different types meet."""

import polars as pl
import pytest

from sasrec.data.titles import read_titles
from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError


def vocabulary(*ids):
    return Vocabulary(pl.Series(sorted(ids)), "item")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.csv", "item_id,title\n2,Two\n1,One\n3,Three\n"),
        ("movies.csv", "genre,movieId,Name\na,2,Two\nb,1,One\nc,3,Three\n"),
        ("shop.tsv", "StockCode\tDescription\n2\tTwo\n1\tOne\n3\tThree\n"),
        ("ml.item", "item_id:token\tmovie_title:token_seq\n2\tTwo\n1\tOne\n3\tThree\n"),
        ("items.jsonl", '{"asin": 2, "title": "Two"}\n{"asin": 1, "title": "One"}\n{"asin": 3, "title": "Three"}\n'),
    ],
)
def test_titles_are_found_under_their_usual_names_in_every_format(name, text, tmp_path):
    (tmp_path / name).write_text(text)

    titles = read_titles(tmp_path / name, vocabulary(1, 2, 9))

    assert titles.rows() == [(2, "Two"), (1, "One")]


def test_text_ids_meet_a_column_of_integers_and_stay_exact(tmp_path):
    pl.DataFrame({"item_id": [7, 8], "title": ["Seven", "Eight"]}).write_parquet(tmp_path / "items.parquet")

    titles = read_titles(tmp_path / "items.parquet", vocabulary("7", "007"))

    assert titles.rows() == [("7", "Seven")]


def test_integers_that_gaps_made_floats_are_the_same_items(tmp_path):
    pl.DataFrame({"item_id": [7.0, None, 8.0], "title": ["a", "b", "c"]}).write_parquet(tmp_path / "items.parquet")

    titles = read_titles(tmp_path / "items.parquet", vocabulary(7, 9))

    assert titles.rows() == [(7, "a")]


def test_titles_that_have_no_text_are_refused_with_their_column(tmp_path):
    pl.DataFrame({"item_id": [7], "title": [["a", "b"]]}).write_parquet(tmp_path / "items.parquet")

    with pytest.raises(DataError, match=r"items\.parquet, column 'title': List\(String\) cannot be read as text"):
        read_titles(tmp_path / "items.parquet", vocabulary(7))


def test_large_integer_ids_do_not_pass_through_floats(tmp_path):
    (tmp_path / "items.csv").write_text("item,title\n9007199254740992,Even\n9007199254740993,Odd\nNA,None\n")

    titles = read_titles(tmp_path / "items.csv", vocabulary(9007199254740993))

    assert titles.rows() == [(9007199254740993, "Odd")]


def test_an_item_listed_twice_has_its_first_title(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\na,First\nb,B\na,Second\n")

    assert read_titles(tmp_path / "items.csv", vocabulary("a", "b")).rows() == [("a", "First"), ("b", "B")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_id,year\n1,1999\n", "no column has a usual name of titles; columns are item_id, year"),
        ("title,year\nOne,1999\n", "no column has a usual name of item ids; columns are title, year"),
        ("item_id,title\n8,Eight\n", r"no item of it is known to the model; its ids are like '8', the model's like 1$"),
    ],
)
def test_a_file_without_titles_for_the_items_is_refused(text, words, tmp_path):
    (tmp_path / "items.csv").write_text(text)

    with pytest.raises(DataError, match=rf"^items\.csv: {words}"):
        read_titles(tmp_path / "items.csv", vocabulary(1))


def test_text_that_is_not_the_text_of_an_integer_id_is_another_item(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n007,James Bond\n7,Seven\n+8,Plus eight\n")

    assert read_titles(tmp_path / "items.csv", vocabulary(7, 8)).rows() == [(7, "Seven")]
