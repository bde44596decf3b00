"""A coarse pass finds what it says it finds, and searches everything where it cannot know."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.errors import ConfigError, ScoreError
from sasrec.retrieval.coarse import Coarse
from sasrec.retrieval.index import Index

NOTHING = torch.tensor([], dtype=torch.int64)
SPOTS, EACH = 30, 40


@pytest.fixture(scope="module")
def spots():
    """Items close to thirty far directions, and states that point at one of these each: its items are the best."""
    generator = torch.Generator().manual_seed(5)
    directions = torch.linalg.qr(torch.randn(SPOTS, SPOTS, generator=generator)).Q * 3
    table = directions.repeat_interleave(EACH, 0) + 0.1 * torch.randn(SPOTS * EACH, SPOTS, generator=generator)
    return table, directions.repeat(4, 1) + 0.1 * torch.randn(4 * SPOTS, SPOTS, generator=generator)


@pytest.fixture(scope="module")
def shuffled():
    """Vectors and states without any order in them, for which no list is better than another."""
    generator = torch.Generator().manual_seed(6)
    return torch.randn(900, 24, generator=generator), torch.randn(80, 24, generator=generator)


def best(index, state, k, hidden=NOTHING):
    (found,) = index.best(state.unsqueeze(0), [k], hidden=[hidden])
    return found


def found_by_both(coarse, states, k):
    """Share of the exact best k that the coarse search finds."""
    pairs = [(best(coarse, one, k)[1], best(coarse.exact, one, k)[1]) for one in states]
    return sum(len({*ours.tolist()} & {*exact.tolist()}) for ours, exact in pairs) / (k * len(states))


def test_the_items_of_one_spot_are_found_by_looking_at_a_few_lists(spots):
    table, states = spots

    coarse = Coarse(table, states, overlap=0.99, k=10)

    assert coarse.probes <= 8
    for number, state in enumerate(states):
        _, items = best(coarse, state, 10)
        assert {item // EACH for item in items.tolist()} == {number % SPOTS}
    assert coarse.overlap >= 0.99


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.6, 0.9])
def test_the_overlap_that_is_told_is_the_overlap_that_is_found(shuffled, overlap):
    table, states = shuffled

    coarse = Coarse(table, states, overlap=overlap, k=7)

    assert coarse.states == 40
    assert coarse.overlap == pytest.approx(found_by_both(coarse, states[1::2], 7))
    assert found_by_both(coarse, states[::2], 7) >= overlap


def test_all_is_found_where_all_lists_are_looked_at(shuffled):
    coarse = Coarse(*shuffled, overlap=1.0, k=10)

    assert coarse.probes == 30
    assert coarse.overlap == 1.0


def test_everything_is_searched_where_more_than_a_quarter_of_the_lists_would_be(shuffled):
    table, states = shuffled
    exact = Index(table)

    coarse = Coarse(table, states, overlap=0.6, k=7)  # ten of thirty lists would do

    assert (coarse.probes, coarse.overlap) == (30, 1.0)
    assert all(torch.equal(best(coarse, one, 7)[1], best(exact, one, 7)[1]) for one in states)


def test_what_is_found_has_exact_scores_in_exact_order(shuffled):
    table, states = shuffled
    coarse = Coarse(table, states, overlap=0.3, k=10)

    for state in states:
        values, items = best(coarse, state, 10)

        assert coarse.probes < 30
        assert torch.equal(values, (table[items].double() @ state.double()).float())
        assert values.tolist() == sorted(values.tolist(), reverse=True)


@given(st.lists(st.integers(0, 899), max_size=50), st.integers(0, 79))
@settings(max_examples=50)
def test_hidden_items_are_never_found_and_nothing_is_missing(shuffled, hidden, number):
    coarse = Coarse(*shuffled, overlap=0.3, k=10)

    _, items = best(coarse, shuffled[1][number], 10, torch.tensor(hidden, dtype=torch.int64))

    assert len({*items.tolist()}) == 10
    assert not {*items.tolist()} & {*hidden}


@pytest.mark.parametrize(
    ("k", "hidden"),
    [
        pytest.param(11, 0, id="more items than were measured"),
        pytest.param(900, 0, id="all items"),
        pytest.param(10, 100, id="many hidden items"),
        pytest.param(10, 895, id="fewer items left than asked for"),
    ],
)
def test_everything_is_searched_where_the_measurement_says_nothing(shuffled, k, hidden):
    table, states = shuffled
    coarse, exact = Coarse(table, states, overlap=0.3, k=10), Index(table)
    left_out = torch.randperm(900, generator=torch.Generator().manual_seed(7))[:hidden]

    for state in states[:5]:
        ours, theirs = best(coarse, state, k, left_out), best(exact, state, k, left_out)

        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[0], theirs[0])


def test_many_states_find_what_each_finds_alone(shuffled):
    table, states = shuffled
    coarse = Coarse(table, states, overlap=0.3, k=10)
    hidden = [torch.arange(number) for number in range(len(states))]  # for some too many for the lists alone

    together = coarse.best(states, [10] * len(states), hidden=hidden)

    for state, out, (values, items) in zip(states, hidden, together, strict=True):
        alone = best(coarse, state, 10, out)
        assert torch.equal(values, alone[0])
        assert torch.equal(items, alone[1])


def test_lists_that_hold_too_few_items_are_made_up_for(spots):
    table, states = spots
    coarse = Coarse(table, states, overlap=0.5, k=EACH)
    own = torch.arange(EACH)

    _, items = best(coarse, states[0], EACH, own)

    assert torch.equal(items, best(Index(table), states[0], EACH, own)[1])


def test_the_same_seed_makes_the_same_lists(shuffled):
    one, other = (Coarse(*shuffled, overlap=0.5, k=5, seed=3) for _ in range(2))

    assert torch.equal(one.exact.rows, other.exact.rows)
    assert one.probes == other.probes


@pytest.mark.parametrize("overlap", [0, -0.1, 1.1])
def test_an_overlap_is_a_share(shuffled, overlap):
    with pytest.raises(ConfigError, match="overlap: expected a share above 0 and at most 1, found"):
        Coarse(*shuffled, overlap=overlap, k=5)


def test_an_overlap_needs_somebody_to_measure_it_for(shuffled):
    with pytest.raises(ConfigError, match="at least two users with a history"):
        Coarse(shuffled[0], shuffled[1][:1], overlap=0.9, k=5)


def test_vectors_that_are_not_finite_are_refused(shuffled):
    with pytest.raises(ScoreError, match="item vectors are not finite"):
        Coarse(shuffled[0] / 0.0, shuffled[1], overlap=0.9, k=5)
