"""Every sentence of a verdict, from numbers made up to call for it."""

from dataclasses import replace

import pytest

from sasrec.studies.verdict import (
    ENOUGH_HITS,
    Change,
    Estimate,
    on_blocks,
    on_history,
    on_last_item,
    on_network,
    on_order,
)

FULL = 0.1


def counted(change):
    """NDCG@10 of a model that counts, beside `FULL` of the network."""
    return Estimate(FULL * (1 + change.share), FULL * change.share, FULL * change.low, FULL * change.high, change)


NONE, LOSS, GAIN, UNCLEAR = (
    Change(0, -0.02, 0.02),
    Change(-0.2, -0.25, -0.15),
    Change(0.2, 0.1, 0.3),
    Change(0.1, -0.1, 0.3),
)


@pytest.mark.parametrize(
    ("low", "high", "effect"),
    [
        (-0.029, 0.029, "none"),
        (-0.02, -0.01, "none"),  # surely a loss, and as surely a small one
        (0.01, 0.02, "none"),
        (-0.04, 0.02, "unclear"),
        (-0.02, 0.04, "unclear"),
        (-0.5, 0.5, "unclear"),
        (-0.04, -0.01, "loss"),
        (-0.9, -0.5, "loss"),
        (0.01, 0.04, "gain"),
        (0.5, 0.9, "gain"),
    ],
)
def test_an_effect_is_read_off_both_ends_of_the_interval(low, high, effect):
    assert Change((low + high) / 2, low, high).effect == effect


def test_the_middle_of_an_interval_decides_nothing():
    assert {Change(middle, -0.3, 0.1).effect for middle in (-0.3, -0.1, 0.0, 0.1)} == {"unclear"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (NONE, "Order does not matter to this network: shuffling all but the last item changes NDCG@10 by +0.0 % "),
        (LOSS, "Order matters: shuffling all but the last item changes NDCG@10 by -20.0 % (-25.0 to -15.0 %)."),
        (GAIN, "Order misleads this network (are the times right?)"),
        (UNCLEAR, "Order cannot be judged from so few users"),
    ],
)
def test_order(change, words):
    assert on_order(change).startswith(words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (NONE, "Which item is the last does not matter to this network: shuffling it too changes NDCG@10 by +0.0 % "),
        (LOSS, "Which item is the last matters: "),
        (GAIN, "Which item is the last misleads this network"),
        (UNCLEAR, "Which item is the last cannot be judged from so few users"),
    ],
)
def test_the_last_item(change, words):
    assert on_last_item(change).startswith(words)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({}, "the network sees one item as it is."),
        ({1: NONE, 2: NONE}, "the last item alone is enough: shown the last item alone, the network keeps 100.0 % "),
        ({1: GAIN}, "the last item alone is enough: shown the last item alone, the network keeps 120.0 % "),
        (
            {1: LOSS, 2: Change(-0.01, -0.02, 0), 3: NONE},
            "the last 2 items are enough: shown the last 2 items, the network",
        ),
        ({1: LOSS, 2: UNCLEAR, 3: NONE}, "the last 3 items are enough: "),
        ({1: LOSS}, "more than the last item alone matters: "),
        ({1: LOSS, 2: LOSS}, "more than the last 2 items matters: shown the last 2 items, the network keeps 80.0 % "),
        ({1: LOSS, 2: UNCLEAR}, "how much is enough cannot be judged from so few users: "),
    ],
)
def test_history(shown, words):
    assert on_history(shown, length=50, alone=None).startswith(f"History: {words}")


def test_what_a_network_keeps_is_said_with_its_interval():
    sentence = on_history({1: LOSS, 2: Change(-0.01, -0.02, 0)}, length=50, alone=Change(-0.1, -0.12, -0.08))

    assert "keeps 99.0 % (98.0 to 100.0 %) of its NDCG@10 with up to 50" in sentence
    assert sentence.endswith("; trained on the last item alone, it reaches 90.0 % (88.0 to 92.0 %).")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (GAIN, "is worth it: its NDCG@10 differs from that of Markov by +20.0 % (+10.0 to +30.0 %)."),
        (NONE, "is not worth it: it is as good as counting: "),
        (LOSS, "is not worth it: counting is better: its NDCG@10 differs from that of Markov by -20.0 % (-25.0 to -15"),
        (UNCLEAR, "cannot be judged from so few users: "),
    ],
)
def test_a_network(network, words):
    assert on_network("Markov", counted(LOSS), network).startswith(f"A network {words}")


def test_a_network_beside_counting_that_finds_nothing():
    sentence = on_network("Markov", counted(Change(-1.0, -1.0, -1.0)), None)

    assert sentence == "A network is worth it: its NDCG@10 is 0.1000, that of all that only counts 0."


def test_a_network_that_finds_nothing_is_not_worth_it():
    nothing = Estimate(0.0, 0.0, 0.0, 0.0, None)

    assert on_network("Markov", nothing, None) == (
        "A network is not worth it: its NDCG@10 is 0.0000, that of all that only counts 0."
    )


def test_a_network_that_finds_nothing_is_worse_than_counting_that_does():
    markov = Estimate(0.2, 0.2, 0.1, 0.3, None)

    assert on_network("Markov", markov, Change(-1.0, -1.0, -1.0)) == (
        "A network is not worth it: counting is better: its NDCG@10 differs from that of Markov by -100.0 % "
        "(-100.0 to -100.0 %)."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (NONE, "are not worth it: the last item's vector does as well: without any, NDCG@10 changes by +0.0 % "),
        (LOSS, "are worth it: without any, NDCG@10 changes by -20.0 % (-25.0 to -15.0 %)."),
        (GAIN, "do harm: the last item's vector does better"),
        (UNCLEAR, "cannot be judged from so few users"),
    ],
)
def test_blocks(change, words):
    assert on_blocks(change).startswith(f"Blocks {words}")


def test_a_change_without_a_difference_that_is_sure_is_neither_gain_nor_loss():
    gain, loss, none = (
        Change(*one, differs=False) for one in ((0.2, 0.1, 0.3), (-1.0, -1.0, -1.0), (0.0, -0.02, 0.02))
    )

    assert [one.effect for one in (gain, loss, none)] == ["unclear", "unclear", "none"]
    assert on_order(loss).startswith("Order cannot be judged from so few users")
    assert on_blocks(gain).startswith("Blocks cannot be judged from so few users")


def test_one_hit_makes_no_network_worth_it_and_none_not_worth_it():
    one, nothing = Estimate(0.001, 0.001, 0.0, 0.003, None), Estimate(0.0, -0.001, -0.003, 0.0, None)
    beyond = replace(nothing, change=Change(-1.0, -1.0, -1.0, differs=False))

    for best, network in ((beyond, None), (one, Change(-1.0, -1.0, -1.0, differs=False))):
        assert on_network("Markov", best, network).startswith("A network cannot be judged from so few users: ")


def test_nothing_is_called_without_effect_on_the_word_of_a_few_hits():
    # Two hits that a shuffle leaves where they are have an interval that is a point.
    few, many = (Change(0.0, 0.0, 0.0, sure=sure) for sure in (False, True))

    assert (few.effect, many.effect) == ("unclear", "none")
    assert on_order(few).startswith("Order cannot be judged from so few users")
    assert on_history({1: few, 2: few}, length=50, alone=None).startswith(
        "History: how much is enough cannot be judged"
    )
    assert replace(few, share=-1.0, low=-1.0, high=-0.9).effect == "loss"
    assert ENOUGH_HITS == 100  # of whom 3 %, by the rule of three, may change where none did
