"""What the padded forward passes of these tests are made of: NumPy, float64, item 0 is padding, on the left."""

import numpy as np
import torch

from sasrec.data.sequences import Sequences
from sasrec.model.attention import Layout
from sasrec.model.building import build

MASKED = -(2.0**32) + 1


def network_of(config, *, items, users=0, seed=0):
    """A float64 network whose weights are all far from their initial values, and these weights as arrays."""
    generator = torch.Generator().manual_seed(seed)
    network = build(config, items=items, users=users, generator=generator).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return network, {name: one.numpy() for name, one in network.state_dict().items()}


@torch.no_grad()
def scores_of(network, histories, users=None):
    """Our scores after the last event of every history."""
    sequences = Sequences.of(histories)
    items = torch.from_numpy(sequences.items.astype(int))
    known = None if users is None else torch.tensor(users)
    return (network.last(items, Layout.of(sequences.lengths), users=known) @ network.table().t()).numpy()


def windows(histories, length):
    """Histories padded on the left, (B, length); item rows start at 1."""
    padded = np.zeros((len(histories), length), dtype=int)
    for row, history in enumerate(histories):
        padded[row, -len(history) :] = np.array(history[-length:]) + 1
    return padded


def with_padding(table, row=0.0):
    """A table of vectors under one for the padding."""
    return np.concatenate([np.full((1, table.shape[1]), row), table])


def normalize(inputs, weights, name, epsilon=1e-8):
    mean, variance = inputs.mean(axis=-1, keepdims=True), inputs.var(axis=-1, keepdims=True)
    return weights[f"{name}.weight"] * (inputs - mean) / np.sqrt(variance + epsilon) + weights[f"{name}.bias"]


def dense(inputs, weights, name, columns=slice(None)):
    outputs = inputs @ weights[f"{name}.weight"][columns].T
    return outputs + weights[f"{name}.bias"][columns] if f"{name}.bias" in weights else outputs


def sigmoid(inputs):
    return 1 / (1 + np.exp(-inputs))


def softmax(scores):
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def causal(length):
    return np.tril(np.ones((1, length, length), dtype=bool))


def attention(queries, keys, values, weights, name, *, heads, allowed, bias=0.0):
    """Multi-head attention; `allowed` says which keys a query may attend to, and broadcasts to (B, L, L).

    `bias` is added to the scores, and broadcasts to (B, heads, L, L).
    """
    inner = len(weights[f"{name}.query.weight"])
    both = f"{name}.key_value"
    q = dense(queries, weights, f"{name}.query")
    k, v = dense(keys, weights, both, slice(0, inner)), dense(values, weights, both, slice(inner, None))
    q, k, v = (np.stack(np.split(one, heads, axis=-1), axis=1) for one in (q, k, v))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(inner // heads) + bias
    mixed = softmax(np.where(allowed[:, None], scores, MASKED)) @ v
    return np.concatenate(list(mixed.swapaxes(0, 1)), axis=-1)


def feed_forward(inputs, weights, name):
    return dense(np.maximum(dense(inputs, weights, f"{name}.inner"), 0.0), weights, f"{name}.outer")
