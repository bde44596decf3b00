"""Attention biases are those of plain matrices over padded windows: NumPy, float64, padded on the left."""

import numpy as np
import pytest
from padded import attention, causal, dense, feed_forward, network_of, normalize, scores_of, windows, with_padding

import sasrec

ITEMS, LENGTH = 11, 7
HISTORIES = [[4], [1, 2], [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8], [0, 0, 0], [10, 9, 8, 7, 6, 5]]


def forward(histories, weights, config):
    """Scores after the last column of every window, by the blocks of the paper's code or of its text."""
    seq = windows(histories, LENGTH)
    mask = (seq != 0)[:, :, None]
    allowed = causal(LENGTH) & mask.swapaxes(1, 2)
    states = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width)
    if config.positions == "both":
        states = states + weights["positions.weight"][::-1]
    places = np.arange(LENGTH)
    apart = np.maximum(places[:, None] - places[None, :], 0)
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        # (L, L, heads) for every window alike.
        bias = weights[f"{block}.attention.bias.distances"][apart].transpose(2, 0, 1)[None]
        normed = normalize(states, weights, f"{block}.attention_norm")
        seen = states if config.norm == "paper" else normed
        taken = attention(
            normed, seen, seen, weights, f"{block}.attention", heads=config.heads, allowed=allowed, bias=bias
        )
        if config.norm == "paper":
            states = normalize(normed + taken, weights, f"{block}.feed_forward_norm")
            states = states + feed_forward(states, weights, f"{block}.feed_forward")
        else:
            states = states + dense(taken, weights, f"{block}.attention.project")
            made = normalize(states, weights, f"{block}.feed_forward_norm")
            states = states + feed_forward(made, weights, f"{block}.feed_forward")
    return normalize(states, weights, "norm")[:, -1] @ weights["items.weight"].T


@pytest.mark.parametrize("positions", ["relative", "both"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("norm", ["paper", "pre"])
def test_scores_are_those_of_the_padded_forward_pass(norm, heads, positions):
    config = sasrec.Config(width=8, length=LENGTH, norm=norm, heads=heads, positions=positions)
    network, weights = network_of(config, items=ITEMS)

    found = scores_of(network, HISTORIES)

    np.testing.assert_allclose(found, forward(HISTORIES, weights, config), rtol=1e-9, atol=1e-9)
