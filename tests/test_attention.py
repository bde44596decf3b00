"""Positions are regrouped by sequence and back without a loss, and no position sees what it must not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.model.attention import Attention, Layout, keep_all
from sasrec.training.dropout import Dropout

lengths_of_a_batch = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def attention_of(*, width=8, heads=2, project=True, causal=True, seed=0):
    torch.manual_seed(seed)
    return Attention(width, inner=width, heads=heads, project=project, causal=causal).double()


def states_of(lengths, *, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(int(np.sum(lengths)), width, generator=generator, dtype=torch.float64)


# The layout


@given(lengths_of_a_batch)
def test_every_real_position_comes_back_from_its_slot(lengths):
    layout = Layout.of(np.array(lengths))
    states = states_of(lengths)

    assert torch.equal(layout.unpad(layout.pad(states)), states)


mixed_lengths = lengths_of_a_batch | st.lists(st.sampled_from([1, 3, 60, 64, 65, 200, 900]), min_size=1, max_size=8)


@given(mixed_lengths)
def test_a_bin_holds_whole_sequences_in_order_and_says_whose_each_slot_is(lengths):
    layout = Layout.of(np.array(lengths))
    owners = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).double().unsqueeze(1)
    places = torch.cat([torch.arange(length) for length in lengths]).double().unsqueeze(1)

    slots = layout.pad(torch.cat([owners, places], dim=1)).split([bins * longest for bins, longest in layout.shapes])
    said = layout.owners.split([bins * longest for bins, longest in layout.shapes])

    found = []
    for group, owned, (bins, longest) in zip(slots, said, layout.shapes, strict=True):
        for held, owner in zip(group.view(bins, longest, 2), owned.view(bins, longest), strict=True):
            for one in owner.unique().tolist():
                where = (owner == one).nonzero().squeeze(1)
                if one >= 0:
                    found.append(one)
                    assert (where.diff() == 1).all(), "side by side"
                    assert (held[where, 0] == one).all()
                    assert held[where, 1].tolist() == list(range(lengths[one]))
                    assert longest <= max(64, 8 * lengths[one]), "in a bin of about its own size"
    assert sorted(found) == list(range(len(lengths)))


@given(mixed_lengths)
def test_bins_are_at_least_half_full_but_for_one_of_each_size(lengths):
    layout = Layout.of(np.array(lengths))

    groups = layout.owners.split([bins * longest for bins, longest in layout.shapes])
    filled = [(group >= 0).view(shape).double().mean(dim=1) for group, shape in zip(groups, layout.shapes, strict=True)]

    assert all((share <= 0.5).sum() <= 1 for share in filled)


@given(mixed_lengths)
@settings(max_examples=20)
def test_masks_let_each_slot_see_its_own_sequence_and_the_causal_one_only_what_came_before(lengths):
    layout = Layout.of(np.array(lengths))
    groups = layout.owners.split([bins * longest for bins, longest in layout.shapes])

    for owners, shape, own, earlier in zip(groups, layout.shapes, layout.own, layout.earlier, strict=True):
        same = owners.view(shape).unsqueeze(2) == owners.view(shape).unsqueeze(1)
        assert torch.equal(own.squeeze(1) == 0, same)
        assert torch.equal(earlier.squeeze(1) == 0, same.tril())
        assert set(torch.cat([own.unique(), earlier.unique()]).tolist()) <= {0.0, float("-inf")}


@given(lengths_of_a_batch)
def test_ages_count_from_the_end_and_lasts_are_the_ends(lengths):
    layout = Layout.of(np.array(lengths, dtype=np.int32))

    assert layout.ages.tolist() == [age for length in lengths for age in reversed(range(length))]
    assert layout.lasts.tolist() == [int(stop) - 1 for stop in np.cumsum(lengths)]
    assert layout.lengths.tolist() == lengths
    assert layout.sequences.tolist() == np.repeat(np.arange(len(lengths)), lengths).tolist()
    assert sum(bins * longest for bins, longest in layout.shapes) == len(layout.sources)


@pytest.mark.parametrize(("lengths", "even"), [([4], True), ([3, 3, 3], True), ([3, 1], False), ([4, 2, 2], False)])
def test_sequences_of_one_length_are_where_their_bins_are(lengths, even):
    layout, states = Layout.of(np.array(lengths)), states_of(lengths)

    assert layout.even == even
    assert not even or torch.equal(layout.pad(states), states)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lasts_ask", [True, False])
def test_attention_side_by_side_is_that_of_bins(heads, causal, lasts_ask):
    layer = attention_of(heads=heads, project=False, causal=causal)
    even, mixed = Layout.of(np.array([5, 5])), Layout.of(np.array([5, 5, 2]))
    states = states_of([5, 5, 2])
    if lasts_ask:
        even, mixed = even.ends, mixed.ends

    found = layer(even.asking(states[:10]), states[:10], even, keep_all)
    expected = layer(mixed.asking(states), states, mixed, keep_all)

    torch.testing.assert_close(found, expected[: len(found)])


@pytest.mark.parametrize("lengths", [[], [0], [3, 0, 2], [-1]])
def test_an_empty_sequence_has_no_layout(lengths):
    with pytest.raises(ValueError, match="at least one sequence, and every sequence at least one position"):
        Layout.of(np.array(lengths, dtype=np.int64))


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=10)
def test_gradients_through_the_slots_are_those_of_plain_indexing(lengths):
    layout = Layout.of(np.array(lengths))
    states = states_of(lengths, width=2).requires_grad_()
    factors = states_of(lengths, width=2, seed=1)

    (ours,) = torch.autograd.grad((layout.unpad(layout.pad(states).sin()) * factors).sum(), states)
    (plain,) = torch.autograd.grad((states[layout.sources].sin()[layout.slots] * factors).sum(), states)

    torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda one: layout.unpad(layout.pad(one).sin()), states)


# Attention


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("longest", [1, 2, 7, 33])
def test_attention_is_that_of_torch(heads, longest):
    attention = attention_of(heads=heads)
    oracle = torch.nn.MultiheadAttention(8, heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
        oracle.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
        oracle.out_proj.load_state_dict(attention.project.state_dict())
    queries, memory = states_of([longest]), states_of([longest], seed=1)
    future = torch.ones(longest, longest, dtype=torch.bool).triu(1)

    ours = attention(queries, memory, Layout.of(np.array([longest])), keep_all)
    theirs = oracle(queries[None], memory[None], memory[None], attn_mask=future, need_weights=False)[0][0]

    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_without_a_projection_the_heads_stand_side_by_side():
    attention = attention_of(project=False)
    states, layout = states_of([5]), Layout.of(np.array([5]))

    values = attention.key_value(states)[:, 8:]

    assert attention.project is None
    torch.testing.assert_close(attention(states, states, layout, keep_all)[0], values[0])


@given(lengths=lengths_of_a_batch, heads=st.sampled_from([1, 2]))
@settings(max_examples=20)
def test_the_fused_kernel_and_the_explicit_weights_agree(lengths, heads):
    attention = attention_of(heads=heads)
    states, layout = states_of(lengths).requires_grad_(), Layout.of(np.array(lengths))
    factors = states_of(lengths, seed=2)

    fused = attention(states, states, layout, keep_all)
    explicit = attention(states, states, layout, Dropout(0.0, torch.Generator()))

    torch.testing.assert_close(fused, explicit, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad((one * factors).sum(), states)[0] for one in (fused, explicit)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("drop", [keep_all, Dropout(0.0, torch.Generator())], ids=["inference", "training"])
def test_a_position_ignores_the_future_and_other_sequences(drop):
    attention = attention_of()
    lengths = [4, 9, 2]
    states, layout = states_of(lengths), Layout.of(np.array(lengths))
    changed = states.clone()
    changed[4 + 5 :] += 1.0

    before, after = attention(states, states, layout, drop), attention(changed, changed, layout, drop)

    torch.testing.assert_close(before[: 4 + 5], after[: 4 + 5], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(before[4 + 5 :], after[4 + 5 :]).all(dim=1).any()


@pytest.mark.parametrize("drop", [keep_all, Dropout(0.0, torch.Generator())], ids=["inference", "training"])
def test_a_sequence_of_one_takes_its_own_value(drop):
    attention = attention_of(project=False)
    states, layout = states_of([1, 1]), Layout.of(np.array([1, 1]))

    torch.testing.assert_close(attention(states, states, layout, drop), attention.key_value(states)[:, 8:])


@pytest.mark.parametrize(
    ("lengths", "apart"), [([4, 9, 1, 70], False), ([7, 9, 8, 7], True), ([5, 5, 5], True), ([6], True)]
)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("has_keys", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("drop", [keep_all, Dropout(0.0, torch.Generator())], ids=["inference", "training"])
def test_where_lasts_ask_they_are_answered_as_among_all(lengths, apart, heads, has_keys, causal, drop):
    attention = attention_of(heads=heads, causal=causal)
    memory, layout = states_of(lengths).requires_grad_(), Layout.of(np.array(lengths))
    keys = states_of(lengths, seed=3) if has_keys else None
    queries, ends = states_of(lengths, seed=1), layout.ends
    factors = states_of([len(lengths)], seed=2)

    among_all = attention(queries, memory, layout, drop, keys=keys)[layout.lasts]
    alone = attention(ends.asking(queries), memory, ends, drop, keys=keys)

    assert layout.apart == apart
    torch.testing.assert_close(alone, among_all, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad((one * factors).sum(), memory)[0] for one in (alone, among_all)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    assert ends.ages.tolist() == [0] * len(lengths)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [[7, 9, 8, 7], [5, 5, 5], [4, 9, 1]])
def test_without_gradients_the_answers_are_those_with_them(lengths, causal):
    attention = attention_of(heads=2, causal=causal)
    states, layout = states_of(lengths).requires_grad_(), Layout.of(np.array(lengths))

    with torch.no_grad():
        plain = attention(states, states, layout, keep_all)

    torch.testing.assert_close(plain, attention(states, states, layout, keep_all), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lengths", [[7, 9, 8, 7], [5, 5, 5], [4, 9, 1]])
def test_gradients_are_those_of_small_differences_where_queries_are_not_learned(lengths):
    attention, layout = attention_of(), Layout.of(np.array(lengths))
    attention.query.requires_grad_(False)
    queries, memory = states_of(lengths), states_of(lengths, seed=1).requires_grad_()

    assert torch.autograd.gradcheck(lambda one: attention(queries, one, layout, keep_all), memory)


def test_dropout_falls_on_the_weights_of_attention():
    attention = attention_of(project=False, heads=1)
    states, layout = states_of([6]), Layout.of(np.array([6]))
    seen = []

    def drop(weights):
        seen.append(weights)
        return torch.zeros_like(weights)

    dropped = attention(states, states, layout, drop)

    assert not dropped.any()
    torch.testing.assert_close(seen[0].sum(dim=3), torch.ones(1, 1, 6, dtype=torch.float64))
    assert not seen[0].triu(1).any()


@pytest.mark.parametrize("lengths", [[4, 9, 1], [7, 9, 8], [6, 6]])
def test_dropout_falls_on_the_weights_of_lasts_too(lengths):
    attention = attention_of(project=False)
    states, ends = states_of(lengths), Layout.of(np.array(lengths)).ends

    assert not attention(ends.asking(states), states, ends, torch.zeros_like).any()
    assert attention(ends.asking(states), states, ends, keep_all).all()
