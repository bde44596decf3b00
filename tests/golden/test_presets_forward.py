"""The network of every preset is that of its system's published formulas, written here a second time.

NumPy, float64, histories padded on the left, positions indexed from the left of a window of fixed length, and each
system's own masks. Several systems let padding take part in attention; on histories that fill the window there is no
padding, and only there their scores are ours. The other systems give our scores on every history.

Sources, each followed by its formulas: github.com/kang205/SASRec, recommenders-team/recommenders (models/sasrec),
seanswyi/sasrec-pytorch, MobileTeleSystems/RecTools (sasrec.py, ligr.py), ZiyaoGeng/RecLearn (SASRec, as RecoHut has
it), MTandHJ/RecBoard (SASRec, STAMP), wuliwei9278/SSE-PT.
"""

import dataclasses

import numpy as np
import pytest
import torch
from padded import (
    attention,
    causal,
    dense,
    feed_forward,
    network_of,
    normalize,
    scores_of,
    sigmoid,
    windows,
    with_padding,
)
from scipy.special import erf

import sasrec
from sasrec.presets import PRESETS

ITEMS, USERS, LENGTH, BLOCKS = 11, 4, 7, 2
FULL = [[9, 2, 6, 5, 3, 5, 8], [0, 0, 0, 0, 0, 0, 0], [10, 9, 8, 7, 6, 5, 4], [3, 1, 4, 1, 5, 9, 2]]
SHORT = [[4], [1, 2], [3, 1, 4, 1, 5], [10, 9, 8, 7, 6, 5]]


def paper(seq, weights, config, _users):
    mask = (seq != 0)[:, :, None]
    states = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width) + weights["positions.weight"][::-1]
    return original_blocks(states, mask, weights, config)[:, -1] @ weights["items.weight"].T


def ssept(seq, weights, config, users):
    """Item and user vectors side by side, each times the root of its own size; the user enters the score as scaled."""
    mask = (seq != 0)[:, :, None]
    items = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width)
    user = weights["users.weight"][users] * np.sqrt(config.user_width)
    states = np.concatenate([items, np.repeat(user[:, None], LENGTH, axis=1)], axis=2)
    state = original_blocks(states + weights["positions.weight"][::-1], mask, weights, config)[:, -1]
    candidates = np.repeat(weights["items.weight"][None], len(seq), axis=0)
    joined = np.concatenate([candidates, np.repeat(user[:, None], ITEMS, axis=1)], axis=2)
    return np.einsum("bd,bvd->bv", state, joined)


def original_blocks(states, mask, weights, config):
    allowed = causal(LENGTH) & mask.swapaxes(1, 2)
    states = states * mask
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        queries = normalize(states, weights, f"{block}.attention_norm")
        taken = attention(queries, states, states, weights, f"{block}.attention", heads=config.heads, allowed=allowed)
        states = normalize(queries + taken, weights, f"{block}.feed_forward_norm")
        states = (states + feed_forward(states, weights, f"{block}.feed_forward")) * mask
    return normalize(states, weights, "norm")


def recommenders(seq, weights, config, _users):
    """One norm a block, on the queries; its gains and shifts belong to a place in the window."""

    def place_norm(inputs, name):
        upside_down = {f"{name}.{one}": weights[f"{name}.{one}"][::-1] for one in ("weight", "bias")}
        return normalize(inputs, upside_down, name)

    mask = (seq != 0)[:, :, None]
    allowed = causal(LENGTH) & mask.swapaxes(1, 2)
    states = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width) + weights["positions.weight"][::-1]
    states = states * mask
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        queries = place_norm(states, f"{block}.attention_norm")
        states = queries + attention(
            queries, states, states, weights, f"{block}.attention", heads=config.heads, allowed=allowed
        )
        states = (states + feed_forward(states, weights, f"{block}.feed_forward")) * mask
    return place_norm(states, f"blocks.{config.blocks}")[:, -1] @ weights["items.weight"].T


def seanswyi(seq, weights, config, _users):
    """One norm for the keys and for what either half gives; a last norm; the future is masked, padding is not."""
    mask = (seq != 0)[:, :, None]
    states = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width) + weights["positions.weight"][::-1]
    states = states * mask
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        keys = normalize(states, weights, f"{block}.norm", 1e-5)
        taken = attention(states, keys, states, weights, f"{block}.attention", heads=1, allowed=causal(LENGTH))
        taken = dense(taken, weights, f"{block}.attention.project")
        states = states + normalize(taken, weights, f"{block}.norm", 1e-5)
        made = feed_forward(states, weights, f"{block}.feed_forward")
        states = (states + normalize(made, weights, f"{block}.norm", 1e-5)) * mask
    return normalize(states, weights, "norm", 1e-5)[:, -1] @ weights["items.weight"].T


def rectools(seq, weights, config, _users):
    """As the paper's code with an output projection and another epsilon; unscaled; padding is not masked as a key."""
    mask = (seq != 0)[:, :, None]
    states = with_padding(weights["items.weight"], 0.1)[seq] + weights["positions.weight"][::-1]
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        states = states * mask
        queries = normalize(states, weights, f"{block}.attention_norm", 1e-5)
        taken = attention(
            queries, states, states, weights, f"{block}.attention", heads=config.heads, allowed=causal(LENGTH)
        )
        taken = dense(taken, weights, f"{block}.attention.project")
        states = normalize(queries + taken, weights, f"{block}.feed_forward_norm", 1e-5)
        states = states + feed_forward(states, weights, f"{block}.feed_forward")
    return normalize(states * mask, weights, "norm")[:, -1] @ weights["items.weight"].T


def recohut(seq, weights, config, _users):
    """Post-norm without a projection; every position sees all; the mask hides queries instead of keys."""
    mask = (seq != 0)[:, :, None]
    states = with_padding(weights["items.weight"])[seq] + weights["positions.weight"][::-1]
    states = states * mask
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        taken = attention(states, states, states, weights, f"{block}.attention", heads=config.heads, allowed=mask)
        states = normalize(states + taken, weights, f"{block}.attention_norm", 1e-6)
        made = feed_forward(states, weights, f"{block}.feed_forward")
        states = normalize(states + made, weights, f"{block}.feed_forward_norm", 1e-6) * mask
    return states[:, -1] @ weights["items.weight"].T


def freerec(seq, weights, config, _users):
    """The first residual adds the raw states; padding is set to 0 after every block but not masked as a key."""
    mask = (seq != 0)[:, :, None]
    states = with_padding(weights["items.weight"])[seq] * np.sqrt(config.width) + weights["positions.weight"][::-1]
    states = states * mask
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        queries = normalize(states, weights, f"{block}.attention_norm")
        taken = attention(
            queries, states, states, weights, f"{block}.attention", heads=config.heads, allowed=causal(LENGTH)
        )
        states = states + dense(taken, weights, f"{block}.attention.project")
        states = normalize(states, weights, f"{block}.feed_forward_norm")
        states = (states + feed_forward(states, weights, f"{block}.feed_forward")) * mask
    return normalize(states, weights, "norm")[:, -1] @ weights["items.weight"].T


def esasrec(seq, weights, config, _users):
    """LiGR: pre-norm, both halves gated by their input, SwiGLU without biases, no last norm; padded keys are masked."""
    allowed = causal(LENGTH) & (seq != 0)[:, None, :] | np.eye(LENGTH, dtype=bool)
    states = with_padding(weights["items.weight"], 0.1)[seq] + weights["positions.weight"][::-1]
    for block in (f"blocks.{number}" for number in range(config.blocks)):
        normed = normalize(states, weights, f"{block}.attention_norm", 1e-5)
        taken = attention(normed, normed, normed, weights, f"{block}.attention", heads=config.heads, allowed=allowed)
        taken = dense(taken, weights, f"{block}.attention.project")
        states = states + sigmoid(dense(states, weights, f"{block}.attention_gate")) * taken
        normed = normalize(states, weights, f"{block}.feed_forward_norm", 1e-5)
        inner = normed @ weights[f"{block}.feed_forward.inner.weight"].T
        linear = normed @ weights[f"{block}.feed_forward.gate.weight"].T
        made = (inner * sigmoid(inner) * linear) @ weights[f"{block}.feed_forward.outer.weight"].T
        states = states + sigmoid(dense(states, weights, f"{block}.feed_forward_gate")) * made
    return states[:, -1] @ weights["items.weight"].T


def stamp(seq, weights, config, _users):
    """Equations 8 to 12, with the last item added to the memory as RecBoard has it; padding has a vector of zeros."""
    vectors = with_padding(weights["items.weight"])[seq]
    last, mean = vectors[:, -1], vectors.sum(axis=1) / (seq != 0).sum(axis=1, keepdims=True)
    asked = (
        vectors @ weights["ask_item.weight"].T
        + (last @ weights["ask_last.weight"].T)[:, None]
        + (mean @ weights["ask_mean.weight"].T)[:, None]
        + weights["ask_item.bias"]
    )
    weighed = (sigmoid(asked) @ weights["weigh.weight"].T * vectors).sum(axis=1)
    memory = np.tanh(dense(weighed + last, weights, "memory_view")) if config.network != "stamp-last" else 1.0
    recent = np.tanh(dense(last, weights, "last_view")) if config.network != "stamp-memory" else 1.0
    return (memory * recent) @ weights["items.weight"].T


FORWARD = {
    "paper": paper,
    "recommenders": recommenders,
    "seanswyi": seanswyi,
    "rectools": rectools,
    "recohut": recohut,
    "freerec": freerec,
    "esasrec": esasrec,
    "ssept": ssept,
    "stamp": stamp,
}
LEAKS = {"seanswyi", "rectools", "recohut", "freerec"}
# The last norm's epsilon is 1e-8 with us, 1e-5 with seanswyi.
EXACT = {name: 1e-5 if name == "seanswyi" else 1e-9 for name in PRESETS}


def config_of(name):
    """The preset at a size that is quick, and two blocks and heads wherever the system has these."""
    preset = sasrec.preset(name)
    heads = 1 if name in ("seanswyi", "stamp") else 2
    sizes = {"width": 8, "length": LENGTH, "heads": heads, "blocks": BLOCKS}
    inner = {} if preset.feed_forward == "auto" else {"feed_forward": 20}
    return dataclasses.replace(preset, **sizes, **inner, user_width=6 if preset.user_width else 0)


def compare(config, name, histories):
    """Our scores after each history, and the formulas'."""
    network, weights = network_of(config, items=ITEMS, users=USERS)
    users = np.arange(len(histories)) % USERS
    found = scores_of(network, histories, users if config.user_width else None)
    return found, FORWARD[name](windows(histories, LENGTH), weights, config, users)


def test_every_preset_has_its_formulas():
    assert FORWARD.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_scores_on_a_full_window_are_those_of_the_published_formulas(name):
    found, expected = compare(config_of(name), name, FULL)

    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT[name])


@pytest.mark.parametrize("name", sorted({*PRESETS} - LEAKS))
def test_scores_on_any_history_are_those_of_the_published_formulas(name):
    found, expected = compare(config_of(name), name, SHORT)

    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT[name])


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_a_system_that_lets_padding_take_part_scores_short_histories_otherwise(name):
    found, expected = compare(config_of(name), name, SHORT)

    assert (np.abs(found - expected).max(axis=1) > 1e-2).all()


@pytest.mark.parametrize("network", ["stamp", "stamp-memory", "stamp-last"])
@pytest.mark.parametrize("histories", [FULL, SHORT], ids=["full", "short"])
def test_stamp_and_either_of_its_views_are_those_of_the_formulas(network, histories):
    found, expected = compare(dataclasses.replace(config_of("stamp"), network=network), "stamp", histories)

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_the_unknown_user_of_ssept_is_one_more_row_of_the_users():
    config = config_of("ssept")
    network, weights = network_of(config, items=ITEMS, users=USERS)

    found = scores_of(network, SHORT)
    expected = ssept(windows(SHORT, LENGTH), weights, config, np.full(len(SHORT), USERS))

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found, scores_of(network, SHORT, [-1] * len(SHORT)))


def test_the_output_of_attention_wider_than_the_states_is_projected():
    # Recommenders lets the attention have a width of its own; its residual then fits equal widths alone.
    config = dataclasses.replace(config_of("rectools"), attention_width=12, heads=3)

    found, expected = compare(config, "rectools", FULL)

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_sinusoidal_positions_are_those_of_the_formula():
    config = dataclasses.replace(config_of("paper"), positions="sinusoidal")
    network, weights = network_of(config, items=ITEMS)
    ages, pairs = np.arange(LENGTH)[:, None], np.arange(4)[None]
    table = np.zeros((LENGTH, 8))
    table[:, 0::2] = np.sin(ages / 10_000 ** (2 * pairs / 8))
    table[:, 1::2] = np.cos(ages / 10_000 ** (2 * pairs / 8))

    found = scores_of(network, SHORT)
    expected = paper(windows(SHORT, LENGTH), weights | {"positions.weight": table}, config, None)

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_without_positions_only_order_through_causality_is_left():
    config = dataclasses.replace(config_of("paper"), positions="none")
    network, weights = network_of(config, items=ITEMS)

    found = scores_of(network, FULL)
    expected = paper(windows(FULL, LENGTH), weights | {"positions.weight": np.zeros((LENGTH, 8))}, config, None)

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_a_cosine_is_a_dot_product_of_unit_vectors_over_the_temperature(temperature):
    config = dataclasses.replace(config_of("paper"), similarity="cosine", temperature=temperature)
    network, weights = network_of(config, items=ITEMS)

    found = scores_of(network, SHORT)
    units = weights["items.weight"] / np.linalg.norm(weights["items.weight"], axis=1, keepdims=True)
    mask = (windows(SHORT, LENGTH) != 0)[:, :, None]
    entering = with_padding(weights["items.weight"])[windows(SHORT, LENGTH)] * np.sqrt(8)
    states = original_blocks(entering + weights["positions.weight"][::-1], mask, weights, config)[:, -1]
    expected = states / np.linalg.norm(states, axis=1, keepdims=True) @ units.T / temperature

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_gelu_is_the_exact_one():
    network, _ = network_of(dataclasses.replace(config_of("freerec"), activation="gelu"), items=ITEMS)
    inner = np.linspace(-3, 3, 7)

    found = network.blocks[0].feed_forward.activation(torch.from_numpy(inner)).numpy()

    np.testing.assert_allclose(found, inner * (1 + erf(inner / np.sqrt(2))) / 2, rtol=0, atol=1e-12)
