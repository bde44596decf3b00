"""A network's scores are products of states and item vectors, however they are computed."""

import numpy as np
import pytest
import torch

from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.data.splits import Holdout
from sasrec.evaluation.ranking import rank_targets
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.search import Ranking, Selection, search
from sasrec.retrieval.topk import scored_blocks


@pytest.mark.parametrize("items", [1, 1023, 1024, 1025, 2050])
def test_scores_are_the_products_of_states_and_item_vectors(items):
    config = Config(width=8, length=4, positions="learned")
    scorer = Neural(build(config, items=items, generator=torch.Generator().manual_seed(3)), config)
    histories = Sequences.of([[0], [items - 1, 0, items // 2]])

    found = scorer.scores(histories)
    expected = torch.einsum("bd,vd->bv", scorer.states(histories).double(), scorer.network.items.weight.double())

    torch.testing.assert_close(torch.from_numpy(found).double(), expected, rtol=1e-5, atol=1e-6)


def network_of(*, length=9, positions="learned"):
    config = Config(width=8, length=length, positions=positions)
    return Neural(build(config, items=50, generator=torch.Generator().manual_seed(3)), config)


@pytest.fixture
def many():
    """A network and histories of many lengths, two of them longer than what is read at a time."""
    rng = np.random.default_rng(0)
    return network_of(), Sequences.of([rng.integers(50, size=size) for size in [3, 12, 1, 3, 9, 2, 2, 11, 5, 1, 3]])


@pytest.mark.parametrize("positions", [1, 5, 10**6])
def test_states_come_in_the_order_of_the_histories_however_they_are_read(monkeypatch, many, positions):
    scorer, histories = many
    monkeypatch.setattr("sasrec.retrieval.neural._POSITIONS", positions)

    found = scorer.states(histories)

    alone = [scorer.states(Sequences.of([histories[row]]))[0] for row in range(len(histories))]
    torch.testing.assert_close(found, torch.stack(alone))


@pytest.mark.parametrize("positions", ["learned", "both"])
def test_what_is_given_of_one_history_can_be_learned_from(positions):
    scorer = network_of(positions=positions)
    one = Sequences.of([np.arange(7)])
    scorer.states(one)  # what is made here, in inference mode, could not be

    items, layout, users = scorer.given(one)
    scorer.network.last(items, layout, users=users)[0, 0].backward()  # a sum of what is normalised would be the same

    assert scorer.network.items.weight.grad[one.items].abs().sum(dim=1).all()


def test_layouts_are_kept_up_to_a_length_where_they_are_small():
    scorer = network_of(length=300)

    with torch.inference_mode():
        histories = [Sequences.of([np.zeros(length, int)]) for length in (200, 200, 201, 201)]
        short, short_again, long, long_again = (scorer.given(one)[1] for one in histories)

    assert short is short_again
    assert long is not long_again


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_blocks_of_scores_are_those_of_everybody_once(monkeypatch, many, rows):
    scorer, histories = many
    expected = scorer.scores(histories)
    monkeypatch.setattr("sasrec.retrieval.topk._BLOCK_BYTES", 4 * 50 * rows)
    monkeypatch.setattr("sasrec.retrieval.topk._READ", 4)

    found = [(at.copy(), [*block.items], scores.copy()) for at, block, scores in scored_blocks(scorer, histories)]

    assert np.concatenate([at for at, _, _ in found]).tolist() == list(range(len(histories)))
    assert all(items == [*histories.take(at).items] for at, items, _ in found)
    np.testing.assert_allclose(np.concatenate([scores for _, _, scores in found]), expected, rtol=1e-5, atol=1e-6)


def test_nobody_has_no_blocks_of_scores(many):
    assert list(scored_blocks(many[0], Sequences.of([]))) == []


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_answers_are_those_of_a_full_sort_of_the_products(many, exclude_seen):
    scorer, histories = many
    scores = (scorer.states(histories).double() @ scorer.table().detach().double().t()).numpy()
    if exclude_seen:
        for row in range(len(histories)):
            scores[row, histories[row]] = -np.inf
    targets = scores.argsort(axis=1)[:, ::-1][np.arange(len(histories)), np.arange(len(histories))]
    selection = Selection.of(7, exclude_seen=exclude_seen, items=50)

    found = Ranking.joined(search(scorer, histories, np.arange(len(histories)), selection))
    holdout = Holdout(np.arange(len(histories)), histories, targets.astype(np.int32))

    assert found.items.reshape(-1, 7).tolist() == scores.argsort(axis=1)[:, ::-1][:, :7].tolist()
    assert rank_targets(scorer, holdout, exclude_seen=exclude_seen).ranks.tolist() == list(range(len(histories)))
