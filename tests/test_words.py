"""Numbers and names stand in messages as people write them."""

import pytest

from sasrec.words import counted, with_article


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "user", "1 user"),
        (0, "user", "0 users"),
        (2000, "item", "2,000 items"),
        (1, "history", "1 history"),
        (3, "history", "3 histories"),
        (2, "unknown item", "2 unknown items"),
    ],
)
def test_one_is_one_and_all_else_is_many(number, noun, words):
    assert counted(number, noun) == words


@pytest.mark.parametrize(
    ("noun", "words"), [("int", "an int"), ("str", "a str"), ("onnx", "an onnx"), ("uint8", "a uint8")]
)
def test_the_article_goes_by_the_sound(noun, words):
    assert with_article(noun) == words
