"""The weights that people see are those that a network works with."""

import numpy as np
import pytest
import torch

from sasrec.model.attention import Attention, Layout, keep_all
from sasrec.model.biases import RelativePositions
from sasrec.model.inspection import attention_seen, weights_of


def layer_of(*, heads, causal, biased=False):
    torch.manual_seed(3)
    bias = RelativePositions(9, heads, causal=causal) if biased else None
    layer = Attention(8, inner=8, heads=heads, project=False, causal=causal, bias=bias).double()
    if bias is not None:
        torch.nn.init.normal_(bias.distances)
    return layer


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_weights_are_those_that_mix_the_values(heads, causal, biased):
    layer = layer_of(heads=heads, causal=causal, biased=biased)
    queries, memory, keys = torch.randn(3, 7, 8, dtype=torch.float64)

    layout = Layout.of(np.array([7]))
    weights = weights_of(layer, queries, memory, layout, keys)

    values = layer.key_value(memory)[:, 8:].view(7, heads, -1).transpose(0, 1)
    mixed = (weights @ values).transpose(0, 1).reshape(7, 8)
    assert torch.allclose(mixed, layer(queries, memory, layout, keep_all, keys=keys))
    assert torch.allclose(weights.sum(dim=2), torch.ones(heads, 7, dtype=torch.float64))


def test_weights_are_the_softmax_worked_out_by_hand():
    layer = layer_of(heads=1, causal=True)
    states = torch.randn(3, 8, dtype=torch.float64)
    query, key = (states @ part.weight.T + part.bias for part in (layer.query, layer.key_value))

    weights = weights_of(layer, states, states, Layout.of(np.array([3])))[0]

    for place in range(3):
        scores = [torch.exp(query[place] @ key[past, :8] / 8**0.5) for past in range(place + 1)]
        assert torch.allclose(weights[place, : place + 1], torch.stack(scores) / sum(scores))
        assert not weights[place, place + 1 :].any(), "the future"


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_where_the_last_position_asks_its_weights_are_those_among_all(causal, biased):
    layer = layer_of(heads=2, causal=causal, biased=biased)
    states, layout = torch.randn(5, 8, dtype=torch.float64), Layout.of(np.array([5]))

    with attention_seen(torch.nn.Sequential(layer)) as found:
        layer(states, states, layout, keep_all)
        layer(states[-1:], states, layout.ends, keep_all)

    among_all, alone = found
    assert torch.allclose(alone, among_all[:, -1:], rtol=1e-12)


def test_weights_of_several_histories_at_once_are_refused():
    layer = layer_of(heads=1, causal=True)
    states, layout = torch.randn(5, 8, dtype=torch.float64), Layout.of(np.array([2, 3]))

    with pytest.raises(ValueError, match="weights are those of one history, found 2; let the network read it alone"):
        weights_of(layer, states, states, layout)


def test_a_network_is_left_as_it_was():
    layer = layer_of(heads=2, causal=True)
    states, layout = torch.randn(4, 8, dtype=torch.float64), Layout.of(np.array([4]))

    with attention_seen(torch.nn.Sequential(layer)) as found:
        layer(states, states, layout, keep_all)
    layer(states, states, layout, keep_all)

    assert [one.shape for one in found] == [(2, 4, 4)], "one reading inside the block, none after it"
