"""A network's scores are products of states and item vectors, however they are computed."""

import pytest
import torch

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural


@pytest.mark.parametrize("items", [1, 1023, 1024, 1025, 2050])
def test_scores_are_the_products_of_states_and_item_vectors(items):
    config = Config(width=8, length=4)
    scorer = Neural(build(config, items=items, generator=torch.Generator().manual_seed(3)), config)
    histories = Sequences.of([[0], [items - 1, 0, items // 2]])

    found = scorer.scores(histories)
    expected = torch.einsum("bd,vd->bv", scorer.states(histories).double(), scorer.network.items.weight.double())

    torch.testing.assert_close(torch.from_numpy(found).double(), expected, rtol=1e-5, atol=1e-6)
