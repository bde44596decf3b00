"""An index of rounded vectors gives the best items exactly, as a full sort in whole numbers does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.errors import ScoreError
from sasrec.retrieval import index as indices
from sasrec.retrieval.index import Index

NOTHING = torch.tensor([], dtype=torch.int64)


@pytest.fixture(scope="module", autouse=True, params=["bytes", "floats"])
def products(request):
    """What processors with and without instructions for products of bytes do; both can be done by any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indices, "_MULTIPLIES_BYTES", request.param == "bytes")
        yield


def best(index, state, k, hidden=NOTHING):
    (found,) = index.best(state.unsqueeze(0), [k], hidden=[hidden])
    return found


def sorted_by_hand(table, state, k, hidden=()):
    """Rows of the best k by products in whole numbers, without rounding; of equal ones the lower row first."""
    products = [sum(int(a) * int(b) for a, b in zip(row, state, strict=True)) for row in table.tolist()]
    rows = sorted(set(range(len(products))) - {*hidden}, key=lambda row: (-products[row], row))[:k]
    return [float(products[row]) for row in rows], rows


@st.composite
def questions(draw):
    """A table and a state of small whole numbers with many ties, in which some items are larger than others."""
    items, width = draw(st.integers(1, 200)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1, 3, 300]))
    table = rng.integers(-spread, spread + 1, (items, width)) * rng.choice([0, 1, 1, 40], (items, 1))
    state = rng.integers(-spread, spread + 1, width)
    hidden = rng.permutation(items)[: draw(st.integers(0, items))]
    return table, state, draw(st.integers(1, 15)), hidden


@given(questions())
@settings(max_examples=150)
def test_the_best_are_those_of_a_full_sort(question):
    table, state, k, hidden = question
    index = Index(torch.from_numpy(table).float())

    values, rows = best(index, torch.from_numpy(state).float(), k, torch.from_numpy(hidden))

    assert (values.tolist(), rows.tolist()) == sorted_by_hand(table, state, k, hidden.tolist())


def test_items_that_eight_bits_cannot_tell_apart_are_put_in_order():
    generator = torch.Generator().manual_seed(1)
    table = torch.full((5000, 16), 10_000.0)
    table += torch.randint(-2, 3, table.shape, generator=generator)
    state = torch.randint(-9, 10, (16,), generator=generator).float()
    index = Index(table)

    values, rows = best(index, state, 20)

    assert len(index.codes.unique(dim=0)) == 2  # that of all items and the zeros after them
    assert (values.tolist(), rows.tolist()) == sorted_by_hand(table, state, 20)


@given(questions(), st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_many_states_find_what_each_finds_alone(question, count, seed):
    table, state, k, hidden = question
    rng = np.random.default_rng(seed)
    states = rng.permuted(np.tile(state, (count, 1)), axis=1) * rng.choice([0, 1, -3], (count, 1))
    parts = [rng.permutation(hidden)[: rng.integers(0, len(hidden) + 1)] for _ in range(count)]
    index = Index(torch.from_numpy(table).float())

    found = index.best(torch.from_numpy(states).float(), [k] * count, hidden=[torch.from_numpy(part) for part in parts])

    assert len(found) == count
    for (values, rows), one, part in zip(found, states, parts, strict=True):
        assert (values.tolist(), rows.tolist()) == sorted_by_hand(table, one, k, part.tolist())


def test_states_go_through_a_catalogue_that_takes_several_parts():
    generator = torch.Generator().manual_seed(3)
    table, states = (torch.randint(-9, 10, (count, 8), generator=generator).float() for count in (9000, 70))
    hidden = [torch.randperm(9000, generator=generator)[: 100 * (number % 3)] for number in range(70)]

    found = Index(table).best(states, [10 + number % 5 for number in range(70)], hidden=hidden)

    scores = states @ table.t()  # whole numbers, so without rounding
    for number, (values, rows) in enumerate(found):
        scores[number, hidden[number]] = float("-inf")
        expected = scores[number].sort(descending=True, stable=True)
        assert torch.equal(values, expected.values[: 10 + number % 5])
        assert torch.equal(rows, expected.indices[: 10 + number % 5])


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_the_size_of_numbers_does_not_matter(scale):
    generator = torch.Generator().manual_seed(2)
    table, state = torch.randn(1000, 24, generator=generator), torch.randn(24, generator=generator)
    expected = (table.double() @ state.double()).sort(descending=True).indices[:10]

    values, rows = best(Index(table * scale), state * scale, 10)

    assert torch.equal(rows, expected)
    assert values.isfinite().all()


def test_a_state_of_zeros_finds_the_first_items():
    table = torch.randn(300, 4, generator=torch.Generator().manual_seed(4))

    values, rows = best(Index(table), torch.zeros(4), 3, torch.tensor([1]))

    assert values.tolist() == [0.0] * 3
    assert rows.tolist() == [0, 2, 3]


def test_nothing_is_found_where_everything_is_hidden():
    values, rows = best(Index(torch.ones(70, 4)), torch.ones(4), 3, torch.arange(70))

    assert len(values) == len(rows) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value):
    wrong = torch.ones(70, 4)
    wrong[69, 2] = value

    with pytest.raises(ScoreError, match="item vectors are not finite"):
        Index(wrong)
    with pytest.raises(ScoreError, match="state that is not finite"):
        best(Index(torch.ones(70, 4)), wrong[69], 3)


def test_an_index_takes_a_quarter_of_the_vectors_memory():
    table = torch.ones(6400, 64)
    index = Index(table)

    assert index.table is table
    assert index.codes.nbytes == table.nbytes / 4
    assert index.scales.nbytes == table.nbytes / 64 / 64


def test_short_vectors_are_not_looked_at_and_nothing_is_missed(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    lengths = torch.ones(2000, 1)
    lengths[torch.randperm(2000, generator=generator)[:150]] = 40
    table, states = torch.randn(2000, 12, generator=generator) * lengths, torch.randn(9, 12, generator=generator)
    read, products = [], indices.products
    monkeypatch.setattr(indices, "_FIRST", 128)
    monkeypatch.setattr(indices, "_GRAIN", 64)
    monkeypatch.setattr(indices, "products", lambda whole, codes: read.append(len(codes)) or products(whole, codes))

    found = Index(table).best(states, [10] * 9, hidden=[NOTHING] * 9)

    assert sum(read) <= 256
    for state, (values, rows) in zip(states, found, strict=True):
        expected = (table.double() @ state.double()).float().topk(10)
        assert torch.equal(values, expected.values)
        assert torch.equal(rows, expected.indices)


def test_it_goes_on_where_the_best_of_the_longest_are_not_proven_to_be_the_best(monkeypatch):
    table = torch.tensor([[30.0, 0.0]]).repeat(200, 1)
    table[150:] = torch.tensor([0.0, 3.0625])
    monkeypatch.setattr(indices, "_FIRST", 64)
    monkeypatch.setattr(indices, "_GRAIN", 64)
    index = Index(table)

    values, rows = best(index, torch.tensor([0.1, 1.0]), 60)

    assert rows.tolist() == [*range(150, 200), *range(10)]
    assert values.tolist() == [3.0625] * 50 + [3.0] * 10


@given(questions())
@settings(max_examples=60)
def test_where_it_begins_makes_no_difference(question):
    table, state, k, hidden = question
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indices, "_FIRST", 64)
        patch.setattr(indices, "_GRAIN", 64)
        index = Index(torch.from_numpy(table).float())

        values, rows = best(index, torch.from_numpy(state).float(), k, torch.from_numpy(hidden))

    assert (values.tolist(), rows.tolist()) == sorted_by_hand(table, state, k, hidden.tolist())


@given(questions(), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=60)
def test_how_many_are_asked_first_makes_no_difference(question, likely, many):
    table, state, k, hidden = question
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indices, "_LIKELY", likely)
        patch.setattr(indices, "_MANY", many)
        patch.setattr(indices, "_FIRST", 64)
        patch.setattr(indices, "_GRAIN", 64)
        index = Index(torch.from_numpy(table).float())

        values, rows = best(index, torch.from_numpy(state).float(), k, torch.from_numpy(hidden))

    assert (values.tolist(), rows.tolist()) == sorted_by_hand(table, state, k, hidden.tolist())


@pytest.mark.parametrize("many", [0, 1000])
def test_the_best_are_found_among_vectors_of_equal_length_that_have_numbers_of_different_size(monkeypatch, many):
    monkeypatch.setattr(indices, "_MANY", many)
    generator = torch.Generator().manual_seed(5)
    table = torch.zeros(4096, 64)
    table[::2] = torch.randn(2048, 64, generator=generator)
    table[torch.arange(1, 4096, 2), torch.randint(64, (2048,), generator=generator)] = 1.0  # all in one number
    table = torch.nn.functional.normalize(table)
    states = torch.randn(40, 64, generator=generator)

    found = Index(table).best(states, [3] * 40, hidden=[NOTHING] * 40)

    for state, (_, rows) in zip(states, found, strict=True):
        assert torch.equal(rows, (table.double() @ state.double()).sort(descending=True, stable=True).indices[:3])


def test_everything_may_be_hidden_whatever_the_size_of_numbers():
    values, rows = best(Index(torch.full((70, 4), 1e36)), torch.ones(4), 3, torch.arange(70))

    assert len(values) == len(rows) == 0


@pytest.mark.parametrize("exponent", [-149, -140, -130, -126, -100, -75, -60])
@pytest.mark.parametrize("small", ["table", "state", "both"])
def test_numbers_whose_squares_float32_loses_are_put_in_order(exponent, small):
    generator = torch.Generator().manual_seed(exponent)
    table = torch.randint(-9, 10, (300, 5), generator=generator).float()
    state = torch.randint(-9, 10, (5,), generator=generator).float()
    scaled = [
        one * 2.0**exponent if small in (name, "both") else one for name, one in (("table", table), ("state", state))
    ]

    values, rows = best(Index(scaled[0]), scaled[1], 20)

    if small == "both" and exponent <= -75:  # every product rounds to 0, or nearly so
        exact = (scaled[0].double() @ scaled[1].double()).float()
        expected = exact.sort(descending=True, stable=True)
        assert (values.tolist(), rows.tolist()) == (expected.values[:20].tolist(), expected.indices[:20].tolist())
    else:
        by_hand, order = sorted_by_hand(table, state, 20)
        scale = 2.0 ** (exponent * (1 + (small == "both")))
        assert (values.tolist(), rows.tolist()) == ([one * scale for one in by_hand], order)
