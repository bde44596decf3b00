"""Attention biases are those of plain matrices over padded windows: NumPy, float64, padded on the left."""

import numpy as np
import pytest
from padded import attention, causal, dense, feed_forward, network_of, normalize, windows, with_padding

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.retrieval.neural import Neural

ITEMS, LENGTH = 11, 7
HISTORIES = [[4], [1, 2], [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8], [0, 0, 0], [10, 9, 8, 7, 6, 5]]


RELATIVE = ("relative", "both")
MINUTE, DAY = 60, 86_400
TIMES = [[0], [0, 0], [0, 1, MINUTE, DAY, DAY + 1], [k * DAY for k in range(7)], [0, DAY, 99 * DAY], [5, 5, 5, 6, 7, 8]]
ASKED = [0, DAY, 2 * DAY, 7 * DAY, 99 * DAY + 1, 10**9]


def times_apart():
    """For every pair of places of every padded window the bucket of the time between event and request."""
    buckets = np.zeros((len(TIMES), LENGTH, LENGTH), dtype=int)
    for row, (times, asked) in enumerate(zip(TIMES, ASKED, strict=True)):
        first = LENGTH - len(times)
        for place, request in enumerate([*times[1:], asked]):
            for other in range(place + 1):
                passed = request - times[other] + 1
                octave = int(np.log2(passed))
                buckets[row, first + place, first + other] = 2 * octave + (passed >= 1.5 * 2**octave)
    return buckets


def forward(histories, weights, config):
    """Scores after the last column of every window, by the blocks of the paper's code or of its text."""
    seq = windows(histories, LENGTH)
    mask = (seq != 0)[:, :, None]
    allowed = causal(LENGTH) & mask.swapaxes(1, 2)
    states = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width)
    if config.positions in ("learned", "both"):
        states = states + weights["positions.weight"][::-1]
    places = np.arange(LENGTH)
    apart = np.maximum(places[:, None] - places[None, :], 0)
    first = 0
    if config.times in ("learned", "both"):  # the time from each event to the next, or to the request
        first = 1
        states = states + weights["blocks.0.weight"][np.diagonal(times_apart(), axis1=1, axis2=2)]
    for block in (f"blocks.{first + number}" for number in range(config.blocks)):
        name, bias = f"{block}.attention.bias", 0.0
        if config.positions in RELATIVE:  # (L, L, heads) for every window alike
            table = weights[f"{name}.places.distances" if config.times in RELATIVE else f"{name}.distances"]
            bias = bias + table[apart].transpose(2, 0, 1)[None]
        if config.times in RELATIVE:
            table = weights[f"{name}.times.buckets" if config.positions in RELATIVE else f"{name}.buckets"]
            bias = bias + table[times_apart()].transpose(0, 3, 1, 2)
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


@pytest.mark.parametrize(
    ("positions", "times"),
    [
        *((positions, "none") for positions in ("relative", "both")),
        *((positions, times) for positions in ("none", "learned", "both") for times in ("learned", "relative", "both")),
    ],
)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("norm", ["paper", "pre"])
def test_scores_are_those_of_the_padded_forward_pass(norm, heads, positions, times):
    config = sasrec.Config(width=8, length=LENGTH, norm=norm, heads=heads, positions=positions, times=times)
    network, weights = network_of(config, items=ITEMS)
    base = Sequences.of(HISTORIES)
    histories = Sequences(base.items, base.offsets, times=np.concatenate(TIMES) + 10**9, asked=np.array(ASKED) + 10**9)

    found = Neural(network, config).scores(histories)

    np.testing.assert_allclose(found, forward(HISTORIES, weights, config), rtol=1e-9, atol=1e-9)
