"""A model with an index answers as the model does, or says how often it does not."""

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal

import sasrec
from sasrec.errors import ConfigError
from sasrec.model.building import build
from sasrec.retrieval.coarse import Coarse
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.index import Index
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender

ITEMS = 400


@pytest.fixture(scope="module")
def model(log_of):
    """An untrained network over 400 items, with 40 users of 1 to 10 events."""
    rng = np.random.default_rng(8)
    walks = {f"u{user:02}": [f"i{item:03}" for item in rng.integers(0, ITEMS, 1 + user % 10)] for user in range(40)}
    log = log_of(walks | {"everything": [f"i{item:03}" for item in range(ITEMS)]})
    config = sasrec.Config(width=8, length=5, positions="learned")
    scorer = Neural(build(config, items=ITEMS, generator=torch.Generator().manual_seed(3)), config)
    return Recommender(scorer, users=log.users, items=log.items, histories=log.histories, record={"how": "drawn"})


@pytest.mark.parametrize("overlap", [None, 1.0])
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"exclude_seen": False},
        {"k": 40},
        {"deny": [f"i{item:03}" for item in range(0, ITEMS, 50)]},
        {"deny": [f"i{item:03}" for item in range(0, ITEMS, 2)]},
        {"allow": [f"i{item:03}" for item in range(0, ITEMS, 40)]},
        {"allow": [f"i{item:03}" for item in range(0, ITEMS, 3)], "deny": ["i003"]},
    ],
    ids=str,
)
def test_with_an_index_the_same_items_are_recommended_to_everybody(model, overlap, rules):
    fast = sasrec.indexed(model, overlap=overlap)
    users = model.users.ids

    answer = fast.recommend(users, **rules)

    assert_frame_equal(answer, model.recommend(users, **rules), rel_tol=1e-5, abs_tol=1e-6)


def test_what_the_model_is_stays_the_same(model, tmp_path):
    fast = sasrec.indexed(model)

    fast.save(tmp_path / "model")

    assert fast.scorer is model.scorer
    assert fast.record == {"how": "drawn"}
    assert isinstance(fast.index, Index)
    assert model.index is None
    assert sasrec.load(tmp_path / "model").index is None


def test_a_coarse_index_tells_what_it_was_measured_for(model):
    index = sasrec.indexed(model, overlap=0.5, k=7).index

    assert isinstance(index, Coarse)
    assert index.k == 7
    assert index.states == 20
    assert 0 < index.vectors <= ITEMS
    assert 0 < index.overlap <= 1


def test_models_that_count_have_nothing_to_index(model):
    popular = Recommender(
        Popularity.of(model.histories, items=ITEMS), users=model.users, items=model.items, histories=model.histories
    )

    with pytest.raises(ConfigError, match="kind 'popularity' has no item vectors to index; use it as it is"):
        sasrec.indexed(popular)


@pytest.mark.parametrize("k", [0, True, 2.5])
def test_k_is_an_integer_of_one_or_more(model, k):
    with pytest.raises(ConfigError, match="k: expected an integer >= 1, found"):
        sasrec.indexed(model, overlap=0.9, k=k)
