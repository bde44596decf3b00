"""A coarse pass finds what it says it finds, and searches everything where it cannot know."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.errors import ConfigError, ScoreError
from sasrec.retrieval import index as indices
from sasrec.retrieval.coarse import Coarse
from sasrec.retrieval.index import Index

NOTHING = torch.tensor([], dtype=torch.int64)
ITEMS, WIDTH, LONG = 60_000, 24, 40_000


@pytest.fixture(scope="module")
def uneven():
    """Vectors of which some are ten times as long as others, and states."""
    generator = torch.Generator().manual_seed(5)
    sizes = torch.ones(ITEMS, 1)
    sizes[torch.randperm(ITEMS, generator=generator)[:LONG]] = 10
    table = torch.randn(ITEMS, WIDTH, generator=generator) * sizes
    return table, torch.randn(240, WIDTH, generator=generator)


@pytest.fixture(scope="module")
def shuffled():
    """Vectors and states without any order in them, and about as long as one another."""
    generator = torch.Generator().manual_seed(6)
    return torch.randn(900, 24, generator=generator), torch.randn(80, 24, generator=generator)


def best(index, state, k, hidden=NOTHING):
    (found,) = index.best(state.unsqueeze(0), [k], hidden=[hidden])
    return found


def found_by_both(coarse, states, k):
    """Share of the exact best k that the coarse search finds."""
    pairs = [(best(coarse, one, k)[1], best(coarse.exact, one, k)[1]) for one in states]
    return sum(len({*ours.tolist()} & {*exact.tolist()}) for ours, exact in pairs) / (k * len(states))


def test_the_long_vectors_are_enough(uneven):
    table, states = uneven

    coarse = Coarse(table, states, overlap=0.99, k=7)

    assert coarse.vectors <= LONG
    assert found_by_both(coarse, states, 7) >= 0.99


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.6, 0.9, 1.0])
def test_the_overlap_that_is_told_is_the_overlap_that_is_found(uneven, overlap):
    table, states = uneven

    coarse = Coarse(table, states, overlap=overlap, k=4)

    assert coarse.vectors <= LONG
    assert coarse.states == 120
    assert coarse.overlap == pytest.approx(found_by_both(coarse, states[1::2], 4))
    assert coarse.overlap >= overlap


def test_everything_is_searched_where_all_vectors_are_about_as_long(shuffled):
    table, states = shuffled
    exact = Index(table)

    coarse = Coarse(table, states, overlap=0.9, k=7)

    assert (coarse.vectors, coarse.overlap) == (900, 1.0)
    assert all(torch.equal(best(coarse, one, 7)[1], best(exact, one, 7)[1]) for one in states)


def test_everything_is_searched_where_others_than_the_states_that_settled_it_find_too_little(uneven):
    table, states = uneven
    table, states = table.clone(), states.clone()
    short = table.norm(dim=1) < 10
    table[:, 0] = torch.where(short, 10 * table[:, 0], 0)  # of the first number only short vectors have any
    states[1::2, 1:] = 0

    coarse = Coarse(table, states, overlap=0.9, k=7)

    assert (coarse.vectors, coarse.overlap) == (ITEMS, 1.0)
    assert found_by_both(coarse, states[1:20:2], 7) == 1.0


def test_vectors_of_one_number_are_searched(uneven):
    table, states = (one[:, :1].contiguous() for one in uneven)

    coarse = Coarse(table, states, overlap=0.9, k=5)

    assert found_by_both(coarse, states[1:20:2], 5) >= 0.9


def test_what_is_found_has_exact_scores_in_exact_order(uneven):
    table, states = uneven
    coarse = Coarse(table, states, overlap=0.3, k=4)

    for state in states[:40]:
        values, items = best(coarse, state, 4)

        assert coarse.vectors <= LONG
        assert torch.equal(values, (table[items].double() @ state.double()).float())
        assert values.tolist() == sorted(values.tolist(), reverse=True)


@given(st.lists(st.integers(0, ITEMS - 1), max_size=50), st.integers(0, 239), st.integers(0, 60))
@settings(max_examples=50)
def test_hidden_items_are_never_found_and_nothing_is_missing(uneven, hidden, number, high):
    table, states = uneven
    coarse = Coarse(table, states, overlap=0.3, k=4)
    left_out = [*hidden, *best(coarse.exact, states[number], high)[1].tolist()] if high else hidden

    _, items = best(coarse, states[number], 4, torch.tensor(left_out, dtype=torch.int64))

    assert len({*items.tolist()}) == 4
    assert not {*items.tolist()} & {*left_out}


@pytest.mark.parametrize(
    ("k", "hidden"),
    [
        pytest.param(5, 0, id="more items than were measured"),
        pytest.param(ITEMS, 0, id="all items"),
        pytest.param(4, 4_000, id="many hidden items"),
        pytest.param(4, ITEMS - 5, id="fewer items left than asked for"),
    ],
)
def test_everything_is_searched_where_the_measurement_says_nothing(uneven, k, hidden):
    table, states = uneven
    coarse, exact = Coarse(table, states, overlap=0.3, k=4), Index(table)
    left_out = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(7))[:hidden]

    for state in states[:5]:
        ours, theirs = best(coarse, state, k, left_out), best(exact, state, k, left_out)

        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("multiplies", [True, False])
def test_long_vectors_that_are_all_hidden_are_made_up_for(uneven, monkeypatch, multiplies):
    monkeypatch.setattr(indices, "_MULTIPLIES_BYTES", multiplies)
    table, states = uneven
    table = table.clone()
    table[table.norm(dim=1) > 15] /= 10
    table[:3_000] *= 100
    coarse = Coarse(table, states, overlap=0.9, k=1)
    hidden = table.norm(dim=1).argsort(descending=True)[: coarse.vectors]

    _, items = best(coarse, states[0], 1, hidden)

    assert 16 * len(hidden) <= ITEMS
    assert torch.equal(items, best(Index(table), states[0], 1, hidden)[1])


def test_many_states_find_what_each_finds_alone(uneven):
    table, states = uneven
    coarse = Coarse(table, states, overlap=0.3, k=4)
    hidden = [torch.arange(25 * number) for number in range(len(states))]  # for some too many for the coarse pass

    together = coarse.best(states, [4] * len(states), hidden=hidden)

    for state, out, (values, items) in zip(states, hidden, together, strict=True):
        alone = best(coarse, state, 4, out)
        assert torch.equal(values, alone[0])
        assert torch.equal(items, alone[1])


def test_processors_without_products_of_bytes_find_the_same(uneven, monkeypatch):
    table, states = uneven
    made = []
    for multiplies in (True, False):
        monkeypatch.setattr(indices, "_MULTIPLIES_BYTES", multiplies)
        coarse = Coarse(table, states, overlap=0.9, k=4)
        made.append((coarse.vectors, [best(coarse, one, 4)[1].tolist() for one in states[:20]]))

    assert made[0][0] <= LONG
    assert made[0] == made[1]


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


def test_states_that_are_not_finite_are_refused(uneven):
    coarse = Coarse(*uneven, overlap=0.9, k=5)

    with pytest.raises(ScoreError, match="a state that is not finite"):
        best(coarse, torch.full((WIDTH,), float("nan")), 5)
