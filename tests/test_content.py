"""Likeness of items by what they are, against NumPy."""

import numpy as np
import pytest
import torch

from sasrec.data.sequences import Sequences
from sasrec.model.embeddings import ItemVectors
from sasrec.retrieval.content import Content

VALUES = [[0, 2], [2], [], [1, 2, 3], [0, 1]]
HISTORIES = [[0], [3, 1], [2, 2, 4, 0]]


def cosines(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit @ unit.T


def by_vectors():
    return np.random.default_rng(2).normal(size=(5, 3)) * np.array([[1], [1], [0], [5], [1]])


def by_categories():
    table = np.array([[value in own for value in range(4)] for own in VALUES], dtype=float)
    return table * np.log(5 / table.sum(axis=0))


@pytest.mark.parametrize("kinds", [("vectors",), ("categories",), ("vectors", "categories")])
def test_a_score_is_the_weighted_likeness_to_the_items_of_the_history(kinds):
    features = (
        torch.tensor(np.concatenate(VALUES).astype(np.int64)),
        torch.tensor([0, *np.cumsum([len(own) for own in VALUES])]),
    )
    items = ItemVectors(
        5,
        2,
        features=features if "categories" in kinds else None,
        values=4 if "categories" in kinds else 0,
        vectors=torch.tensor(by_vectors(), dtype=torch.float32) if "vectors" in kinds else None,
    )
    rows = {"vectors": by_vectors(), "categories": by_categories()}
    likeness = np.mean([cosines(rows[kind]) for kind in kinds], axis=0)

    scores = Content(items).scores(Sequences.of(HISTORIES))

    for row, history in enumerate(HISTORIES):
        expected = sum(0.65**age * likeness[item] for age, item in enumerate(reversed(history)))
        np.testing.assert_allclose(scores[row], expected, rtol=1e-5, atol=1e-6)
