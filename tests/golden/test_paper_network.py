"""The network is that of the paper's code, written here a second time: NumPy, float64, padded on the left.

The forward pass follows github.com/kang205/SASRec (model.py and modules.py) line by line: item 0 is padding, position
tables are indexed from the left of a window of fixed length, keys and the future are masked by a large negative
number, only queries are normalised, both residuals add normalised states, and there is no output projection. The
pre-norm block is that of the paper's equations 4 and 5 with the output projection of Vaswani et al.
"""

from itertools import product

import numpy as np
import pytest
import torch
from padded import MASKED, dense, feed_forward, normalize, softmax, windows

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.model.attention import Layout
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural
from sasrec.training.dropout import Dropout

ITEMS, WIDTH, LENGTH = 11, 8, 7
HISTORIES = [[4], [1, 2], [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8], [0, 0, 0], [10, 9, 8, 7, 6, 5]]


def multihead_attention(queries, keys, weights, name, heads):
    q = dense(queries, weights, f"{name}.query")
    k = dense(keys, weights, f"{name}.key_value", slice(0, WIDTH))
    v = dense(keys, weights, f"{name}.key_value", slice(WIDTH, None))
    q, k, v = (np.concatenate(np.split(one, heads, axis=2), axis=0) for one in (q, k, v))
    outputs = q @ k.transpose(0, 2, 1) / (WIDTH // heads) ** 0.5
    key_masks = np.sign(np.abs(keys).sum(axis=-1))
    key_masks = np.tile(np.tile(key_masks, [heads, 1])[:, None, :], [1, queries.shape[1], 1])
    outputs = np.where(key_masks == 0, MASKED, outputs)
    tril = np.tril(np.ones(outputs.shape[1:]))
    outputs = np.where(tril[None] == 0, MASKED, outputs)
    outputs = softmax(outputs)
    query_masks = np.sign(np.abs(queries).sum(axis=-1))
    outputs = outputs * np.tile(query_masks, [heads, 1])[:, :, None]
    return np.concatenate(np.split(outputs @ v, heads, axis=0), axis=2)


def paper_block(seq, weights, name, heads):
    queries = normalize(seq, weights, f"{name}.attention_norm")
    seq = multihead_attention(queries, seq, weights, f"{name}.attention", heads) + queries
    inputs = normalize(seq, weights, f"{name}.feed_forward_norm")
    return feed_forward(inputs, weights, f"{name}.feed_forward") + inputs


def pre_block(seq, weights, name, heads, mask):
    normed = normalize(seq, weights, f"{name}.attention_norm") * mask
    mixed = multihead_attention(normed, normed, weights, f"{name}.attention", heads)
    seq = seq + dense(mixed, weights, f"{name}.attention.project")
    return seq + feed_forward(normalize(seq, weights, f"{name}.feed_forward_norm"), weights, f"{name}.feed_forward")


def forward(histories, weights, *, norm, blocks, heads):
    """States of a padded batch, (B, LENGTH, WIDTH), and which of them are real."""
    seq = windows(histories, LENGTH)
    mask = (seq != 0)[:, :, None].astype(float)
    table = np.concatenate([np.zeros((1, WIDTH)), weights["items.weight"]])
    # Ours counts positions from the end, so the table from the left is ours upside down.
    states = table[seq] * WIDTH**0.5 + weights["positions.weight"][::-1][None]
    states = states * mask
    for block in range(blocks):
        name = f"blocks.{block}"
        states = (
            paper_block(states, weights, name, heads)
            if norm == "paper"
            else pre_block(states, weights, name, heads, mask)
        )
        states = states * mask
    return normalize(states, weights, "norm"), seq != 0


def network_of(norm, blocks, heads):
    config = sasrec.Config(width=WIDTH, length=LENGTH, norm=norm, blocks=blocks, heads=heads, positions="learned")
    generator = torch.Generator().manual_seed(blocks + 10 * heads)
    network = build(config, items=ITEMS, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return network, config, {name: one.double().numpy() for name, one in network.state_dict().items()}


@pytest.mark.parametrize("drop", [None, Dropout(0.0, torch.Generator())], ids=["inference", "training"])
@pytest.mark.parametrize(("norm", "blocks", "heads"), [("paper", 0, 1), *product(["paper", "pre"], [1, 2, 3], [1, 2])])
def test_states_are_those_of_the_padded_forward_pass(norm, blocks, heads, drop):
    network, _, weights = network_of(norm, blocks, heads)
    sequences = Sequences.of(HISTORIES)
    options = () if drop is None else (drop,)

    with torch.no_grad():
        found = network(torch.from_numpy(sequences.items.astype(int)), Layout.of(sequences.lengths), *options)
    expected, real = forward(HISTORIES, weights, norm=norm, blocks=blocks, heads=heads)

    np.testing.assert_allclose(found.numpy(), expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["paper", "pre"])
def test_scores_are_those_of_the_last_column_of_the_padded_window(norm):
    network, config, weights = network_of(norm, 2, 2)

    found = Neural(network, config).scores(Sequences.of([[2, 7, *history] for history in HISTORIES]))
    window = [[2, 7, *history][-LENGTH:] for history in HISTORIES]
    expected = forward(window, weights, norm=norm, blocks=2, heads=2)[0][:, -1] @ weights["items.weight"].T

    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("wrong", ["raw residual", "no norm before feed-forward", "scale"])
def test_a_slightly_different_block_would_be_noticed(wrong, monkeypatch):
    network, _, weights = network_of("paper", 1, 1)
    if wrong == "scale":
        weights["items.weight"] = weights["items.weight"] / WIDTH**0.5
    elif wrong == "raw residual":
        monkeypatch.setitem(globals(), "paper_block", raw_residual)
    else:
        monkeypatch.setitem(globals(), "paper_block", no_second_norm)
    sequences = Sequences.of(HISTORIES)

    with torch.no_grad():
        found = network(torch.from_numpy(sequences.items.astype(int)), Layout.of(sequences.lengths))
    other, real = forward(HISTORIES, weights, norm="paper", blocks=1, heads=1)

    assert np.abs(found.numpy() - other[real]).max() > 1e-2


def raw_residual(seq, weights, name, heads):
    queries = normalize(seq, weights, f"{name}.attention_norm")
    seq = multihead_attention(queries, seq, weights, f"{name}.attention", heads) + seq
    inputs = normalize(seq, weights, f"{name}.feed_forward_norm")
    return feed_forward(inputs, weights, f"{name}.feed_forward") + inputs


def no_second_norm(seq, weights, name, heads):
    queries = normalize(seq, weights, f"{name}.attention_norm")
    seq = multihead_attention(queries, seq, weights, f"{name}.attention", heads) + queries
    return feed_forward(seq, weights, f"{name}.feed_forward") + seq


@pytest.mark.parametrize("norm", ["paper", "pre"])
def test_tiny_states_are_normalised_with_the_papers_epsilon(norm):
    # Vectors of 1e-5 have a variance far below 1e-5, the epsilon of most libraries.
    network, _, _ = network_of(norm, 1, 1)
    with torch.no_grad():
        network.items.weight.mul_(1e-5)
        network.positions.weight.mul_(1e-5)
    weights = {name: one.double().numpy() for name, one in network.state_dict().items()}
    sequences = Sequences.of(HISTORIES)

    with torch.no_grad():
        found = network.double()(torch.from_numpy(sequences.items.astype(int)), Layout.of(sequences.lengths))
    expected, real = forward(HISTORIES, weights, norm=norm, blocks=1, heads=1)

    np.testing.assert_allclose(found.numpy(), expected[real], rtol=1e-7, atol=1e-9)
