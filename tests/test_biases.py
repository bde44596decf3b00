"""What attention adds for how far apart two events are is what is learned for that, whatever bin they are in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sasrec
from sasrec.model.attention import Attention, Layout, keep_all
from sasrec.model.biases import RelativePositions
from sasrec.model.building import build
from sasrec.training.dropout import Dropout

LENGTH, WIDTH = 70, 8
training = Dropout(0.0, torch.Generator())
mixed_lengths = st.lists(st.sampled_from([1, 2, 3, 7, 30, 64, 70]), min_size=1, max_size=6)
each_way = pytest.mark.parametrize("drop", [keep_all, training], ids=["inference", "training"])


def attention_of(*, heads, causal):
    torch.manual_seed(heads)
    bias = RelativePositions(LENGTH, heads, causal=causal)
    torch.nn.init.normal_(bias.distances)
    return Attention(WIDTH, inner=WIDTH, heads=heads, project=False, causal=causal, bias=bias).double()


def states_of(lengths, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(lengths), WIDTH, generator=generator, dtype=torch.float64)


def looked_up(attention, apart, head):
    """The bias of every pair; what a causal mask hides is anything."""
    return attention.bias.distances[apart.clamp(0) if attention.causal else apart, head]


def one_by_one(attention, queries, memory, lengths):
    """Plain attention of each sequence alone, its biases looked up pair by pair."""
    taken = []
    for asking, seen in zip(queries.split(lengths), memory.split(lengths), strict=True):
        query, (key, value) = attention.query(asking), attention.key_value(seen).chunk(2, dim=1)
        apart = torch.tensor([[place - other for other in range(len(seen))] for place in range(len(asking))])
        heads = []
        for head, (q, k, v) in enumerate(
            zip(*(one.chunk(attention.heads, dim=1) for one in (query, key, value)), strict=True)
        ):
            scores = q @ k.T / k.shape[1] ** 0.5
            if attention.causal:
                scores = scores.masked_fill(apart < 0, float("-inf"))
            heads.append((scores + looked_up(attention, apart, head)).softmax(dim=1) @ v)
        taken.append(torch.cat(heads, dim=1))
    return torch.cat(taken)


@each_way
@pytest.mark.parametrize("causal", [True, False])
@given(lengths=mixed_lengths, heads=st.sampled_from([1, 2]))
@settings(max_examples=8)
def test_distances_add_what_they_do_sequence_by_sequence_and_learn_the_same(drop, causal, lengths, heads):
    attention = attention_of(heads=heads, causal=causal)
    queries, memory, factors = (states_of(lengths, seed=seed) for seed in range(3))

    ours = attention(queries, memory, Layout.of(np.array(lengths)), drop)
    plain = one_by_one(attention, queries, memory, lengths)

    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-11)
    gradients = [torch.autograd.grad((one * factors).sum(), attention.bias.distances)[0] for one in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)


@each_way
@pytest.mark.parametrize("causal", [True, False])
def test_where_lasts_ask_distances_add_what_they_do_among_all(drop, causal):
    attention, lengths = attention_of(heads=2, causal=causal), [4, 9, 1, 70]
    queries, memory, factors = states_of(lengths), states_of(lengths, seed=1), states_of([len(lengths)], seed=2)
    layout = Layout.of(np.array(lengths))
    ends = layout.asked_by_lasts()

    alone = attention(ends.asking(queries), memory, ends, drop)
    among_all = attention(queries, memory, layout, drop)[layout.lasts]

    torch.testing.assert_close(alone, among_all, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad((one * factors).sum(), attention.bias.distances)[0] for one in (alone, among_all)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("positions", [("relative", "none"), ("both", "learned")])
@pytest.mark.parametrize("norm", ["paper", "pre", "post", "query", "query-only", "key"])
def test_an_untrained_network_attends_as_it_would_without(positions, norm):
    items, layout = torch.arange(12) % 9, Layout.of(np.array([7, 5]))

    biased, plain = (
        build(
            sasrec.Config(width=8, length=7, heads=2, norm=norm, positions=one),
            items=9,
            generator=torch.Generator().manual_seed(4),
        )
        for one in positions
    )

    assert sum("distances" in name for name, _ in biased.named_parameters()) == 2, "one for each block"
    torch.testing.assert_close(biased(items, layout), plain(items, layout))


@pytest.mark.parametrize(("bidirectional", "distances"), [(False, 7), (True, 13)])
def test_every_distance_has_a_number_for_each_head_and_layer(bidirectional, distances):
    config = sasrec.Config(
        width=8, length=7, heads=4, positions="relative", bidirectional=bidirectional, learn="last", blocks=3
    )

    network = build(config, items=9, generator=torch.Generator())

    found = {name: tuple(one.shape) for name, one in network.named_parameters() if "distances" in name}
    assert found == {f"blocks.{block}.attention.bias.distances": (distances, 4) for block in range(3)}


@pytest.mark.parametrize("positions", ["relative", "both"])
def test_a_saved_model_answers_as_before(walks, small_config, tmp_path, positions):
    config = sasrec.Config.from_dict({"positions": positions}, base=small_config)
    model = sasrec.train(sasrec.split(walks), config, progress=False)

    model.save(tmp_path / "model")
    loaded = sasrec.load(tmp_path / "model")

    weights = model.scorer.network.state_dict()
    assert all(weights[f"blocks.{block}.attention.bias.distances"].any() for block in range(2)), "learned"
    assert loaded.recommend(["u07", "u19"]).equals(model.recommend(["u07", "u19"]))
    assert loaded.scorer.config.positions == positions


def test_an_order_that_only_distance_tells_is_learned_without_vectors_of_positions(log_of):
    # Two items back decides, one item back is noise: attention must tell the two apart.
    rng = np.random.default_rng(0)
    walks = {}
    for user in range(80):
        walk = list(rng.integers(0, 8, 2))
        for _ in range(10):
            walk.append((walk[-2] + 1) % 8 if len(walk) % 2 == 0 else rng.integers(0, 8))
        walks[f"u{user}"] = [f"i{one}" for one in walk]
    log = log_of(walks)
    scores = {}

    for positions in ("none", "relative"):
        config = sasrec.Config(
            width=16, length=12, dropout=0.0, epochs=40, patience=40, seed=2, positions=positions, learning_rate=0.01
        )
        model = sasrec.train(sasrec.split(log), config, progress=False)
        scores[positions] = model.record["best"]["ndcg"]

    assert scores["relative"] > scores["none"]
