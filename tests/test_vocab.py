"""A raw id and its row name each other, whatever the id looks like."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.vocab import Vocabulary
from sasrec.errors import DataError, UnknownIdError

texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["007", "7", "NA", "null", "é", "e\u0301"])
integers = st.integers(-(2**63), 2**63 - 1)


def vocabulary(ids, dtype=None, kind="item"):
    return Vocabulary(pl.Series(ids, dtype=dtype).unique().sort(), kind)


@given(ids=st.lists(texts, min_size=1, unique=True))
def test_text_ids_come_back_from_their_rows(ids):
    words = vocabulary(ids, pl.String)

    rows = words.rows(ids)

    assert words.raw(rows).to_list() == ids
    assert sorted(rows.tolist()) == list(range(len(ids)))


@given(ids=st.lists(integers, min_size=1, unique=True))
def test_integer_ids_come_back_from_their_rows(ids):
    numbers = vocabulary(ids, pl.Int64)

    rows = numbers.rows(ids)

    assert numbers.raw(rows).to_list() == ids
    assert rows.tolist() == [sorted(ids).index(one) for one in ids]


@given(ids=st.lists(texts, unique=True, min_size=1), other=texts)
def test_only_an_id_of_the_vocabulary_has_a_row(ids, other):
    words = vocabulary(ids, pl.String)

    assert (words.rows([other])[0] >= 0) == (other in ids)


@pytest.mark.parametrize("one", [2**53 + 1, 2**63, 2**64 - 1])
def test_integers_beyond_the_exact_floats_stay_apart(one):
    numbers = vocabulary([one - 1, one], pl.UInt64)

    assert numbers.rows([one, one - 1]).tolist() == [1, 0]
    assert numbers.raw(np.array([1])).to_list() == [one]


@pytest.mark.parametrize("one", [True, False, np.True_, np.False_], ids=repr)
def test_a_boolean_is_no_integer_id(one):
    assert vocabulary([0, 1]).rows([one]).tolist() == [-1]


@pytest.mark.parametrize("one", ["1", None, float("nan"), 1.5, b"1", [1], {"a": 1}, np.array([1]), (1, [2])], ids=repr)
def test_what_is_no_integer_is_an_unknown_integer_id(one):
    assert vocabulary([0, 1]).rows([one]).tolist() == [-1]


@pytest.mark.parametrize("one", [7, 7.0, None, b"7", ["7"], True], ids=repr)
def test_what_is_no_text_is_an_unknown_text_id(one):
    assert vocabulary(["7", "True", "None"]).rows([one]).tolist() == [-1]


def test_numpy_scalars_are_ids_like_any_other():
    assert vocabulary([3, 5]).rows(np.array([5, 3, 4], dtype=np.int32)).tolist() == [1, 0, -1]
    assert vocabulary(["a", "b"]).rows(np.array(["b", "c"])).tolist() == [1, -1]


def test_no_ids_have_no_rows():
    rows = vocabulary(["a"]).rows([])

    assert rows.dtype == np.int64
    assert rows.shape == (0,)


def test_an_error_names_the_first_five_unknown_ids_and_what_is_known():
    words = vocabulary(["a", "b"], kind="user")

    with pytest.raises(UnknownIdError) as error:
        words.known_rows(iter(["a", "q", "r", "s", "t", "u", "v"]))

    assert str(error.value) == "6 unknown users: 'q', 'r', 's', 't', 'u', ...; known are 2, such as 'a'"


@pytest.mark.parametrize(
    ("ids", "asked", "hint"),
    [
        ([1, 2], ["1"], ", whose ids are integers"),
        (["1", "2"], [1], ", whose ids are text"),
        ([1, 2], [3], ""),
        ([1, 2], list(np.array([3])), ""),
        (["1", "2"], ["3"], ""),
    ],
)
def test_an_error_says_so_where_the_type_is_the_likely_cause(ids, asked, hint):
    with pytest.raises(UnknownIdError) as error:
        vocabulary(ids).known_rows(asked)

    expected = f": {asked[0]!r}; known are 2{hint}, such as {ids[0]!r}".replace("np.int64(3)", "3")
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize(("known", "asked"), [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_an_error_says_so_where_an_id_is_known_in_another_unicode_form(known, asked):
    with pytest.raises(UnknownIdError) as error:
        Vocabulary(pl.Series(["a", known]), "item").known_rows(["b", asked])

    assert str(error.value).endswith(f"and {known!a} among them, which is the same text in another Unicode form")


def test_known_ids_give_their_rows():
    assert vocabulary(["a", "b"]).known_rows(iter(["b", "a", "b"])).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "ids", "expected"), [("12", [1], 12), ("-3", [1], -3), ("ada", [1], "ada"), ("007", ["a"], "007")]
)
def test_text_becomes_an_integer_only_where_ids_are_integers(text, ids, expected):
    assert vocabulary(ids).parse(text) == expected


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pl.Series([1.0, 2.0]), "item ids must be text or integers, found Float64"),
        (pl.Series([1, 2], dtype=pl.Int32), "item ids must be text or integers, found Int32"),
        (pl.Series(["a", None]), "item vocabulary is not a sorted list of distinct ids"),
        (pl.Series(["b", "a"]), "item vocabulary is not a sorted list of distinct ids"),
        (pl.Series(["a", "a"]), "item vocabulary is not a sorted list of distinct ids"),
    ],
)
def test_only_sorted_distinct_ids_make_a_vocabulary(ids, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(ids, "item")


@pytest.mark.parametrize("typed", ["01", "+1", " 1", "1_0", "١", "1.0", "", "-0", "9" * 5000])
def test_an_id_is_typed_as_it_stands_in_the_log(typed):
    numbers, texts = vocabulary([0, 1, 10]), vocabulary(sorted([typed, "a"]))

    assert numbers.rows([numbers.parse(typed)])[0] == -1
    assert numbers.rows([numbers.parse("10")])[0] == 2
    assert texts.raw(texts.rows([texts.parse(typed)])).to_list() == [typed]


@pytest.mark.parametrize("other", ["007", "+8", "-0", "1.0", " 7", "7 ", "7\n", "", "١", str(2**64), None])
def test_text_of_another_table_that_is_not_the_text_of_an_integer_matches_none(other):
    numbers = vocabulary([0, 1, 7, 8])

    matched = numbers.matched(pl.Series([other, "7", "8"], dtype=pl.String))

    assert numbers.rows(matched).tolist() == [-1, 2, 3]
