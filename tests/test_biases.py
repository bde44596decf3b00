"""What attention adds for how far apart two events are is what is learned for that, whatever bin they are in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sasrec
from sasrec.model.attention import BUCKETS, Attention, Layout, in_buckets, keep_all
from sasrec.model.biases import PlacesAndTimes, RelativePositions, RelativeTimes
from sasrec.model.building import build
from sasrec.training.dropout import Dropout

LENGTH, WIDTH = 70, 8
training = Dropout(0.0, torch.Generator())
mixed_lengths = st.lists(st.sampled_from([1, 2, 3, 7, 30, 64, 70]), min_size=1, max_size=6)
each_way = pytest.mark.parametrize("drop", [keep_all, training], ids=["inference", "training"])


def attention_of(kind, *, heads, causal):
    torch.manual_seed(heads)
    places, times = RelativePositions(LENGTH, heads, causal=causal), RelativeTimes(heads)
    bias = {"places": places, "times": times, "both": PlacesAndTimes(places, times)}[kind]
    for table in bias.parameters():
        torch.nn.init.normal_(table)
    return Attention(WIDTH, inner=WIDTH, heads=heads, project=False, causal=causal, bias=bias).double()


def states_of(lengths, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(lengths), WIDTH, generator=generator, dtype=torch.float64)


def times_of(lengths, *, seed=0):
    """When events happened, many at once, and when the next ones were asked for: at the time of the next, or later."""
    rng = np.random.default_rng(seed)
    happened = [np.sort(rng.integers(0, 10 ** rng.integers(1, 10), length)) + 964_000_000 for length in lengths]
    asked = [np.append(times[1:], times[-1] + rng.integers(0, 10**6)) for times in happened]
    return np.concatenate(happened), np.concatenate(asked)


def bucket(seconds):
    """By the definition: a doubling of one second more than the time has passed has two halves, at 1 and at 1.5."""
    octave = int(np.floor(np.log2(max(seconds + 1, 1))))
    return 2 * octave + (seconds + 1 >= 1.5 * 2**octave)


def looked_up(attention, asked, happened, head):
    """What is added for every pair; what a causal mask hides is anything."""
    tables, added = dict(attention.bias.named_parameters()), 0.0
    for name, table in tables.items():
        if name.endswith("distances"):
            rows = [[place - other for other in range(len(happened))] for place in range(len(asked))]
            rows = np.maximum(rows, 0) if attention.causal else np.array(rows)
        else:
            rows = np.array([[bucket(int(request - event)) for event in happened] for request in asked])
        added = added + table[torch.from_numpy(rows), head]
    return added


def one_by_one(attention, queries, memory, lengths, times):
    """Plain attention of each sequence alone, with full matrices of what is added."""
    taken, ends = [], np.cumsum(lengths)[:-1]
    clocks = zip(*(np.split(one, ends) for one in times), strict=True)
    for asking, seen, (happened, asked) in zip(queries.split(lengths), memory.split(lengths), clocks, strict=True):
        query, (key, value) = attention.query(asking), attention.key_value(seen).chunk(2, dim=1)
        parts = zip(*(one.chunk(attention.heads, dim=1) for one in (query, key, value)), strict=True)
        heads = []
        for head, (q, k, v) in enumerate(parts):
            scores = q @ k.T / k.shape[1] ** 0.5 + looked_up(attention, asked, happened, head)
            if attention.causal:
                scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
            heads.append(scores.softmax(dim=1) @ v)
        taken.append(torch.cat(heads, dim=1))
    return torch.cat(taken)


def gradients(loss, attention):
    return torch.autograd.grad(loss, list(attention.bias.parameters()))


@each_way
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", ["places", "times", "both"])
@given(lengths=mixed_lengths, heads=st.sampled_from([1, 2]))
@settings(max_examples=5)
def test_what_is_added_is_looked_up_pair_by_pair_and_learns_as_plain_matrices_do(drop, causal, kind, lengths, heads):
    attention, times = attention_of(kind, heads=heads, causal=causal), times_of(lengths)
    queries, memory, factors = (states_of(lengths, seed=seed) for seed in range(3))

    ours = attention(queries, memory, Layout.of(np.array(lengths), times=times), drop)
    plain = one_by_one(attention, queries, memory, lengths, times)

    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-11)
    learned = [gradients((one * factors).sum(), attention) for one in (ours, plain)]
    torch.testing.assert_close(*learned, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["places", "times", "both"])
@pytest.mark.parametrize("causal", [True, False])
def test_noise_on_the_weights_of_empty_slots_teaches_nothing(causal, kind):
    lengths = [9, 5, 3, 40]
    attention, states, times = attention_of(kind, heads=2, causal=causal), states_of(lengths), times_of(lengths)
    layout = Layout.of(np.array(lengths), times=times)
    (shape,) = layout.shapes
    empty = (layout.owners < 0).view(shape)[:, None, :, None]
    factors = states_of(lengths, seed=1)

    def noise(weights):
        return torch.where(empty, weights * torch.rand_like(weights).mul_(2), weights)

    found = [
        gradients((attention(states, states, layout, drop) * factors).sum(), attention) for drop in (noise, training)
    ]

    assert empty.any()
    for noisy, clean in zip(*found, strict=True):
        assert clean.abs().max() > 1e-3
        torch.testing.assert_close(noisy, clean, rtol=1e-9, atol=1e-12)


@each_way
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", ["places", "times", "both"])
def test_where_lasts_ask_the_same_is_added_as_among_all(drop, causal, kind):
    attention, lengths = attention_of(kind, heads=2, causal=causal), [4, 9, 1, 70]
    queries, memory, factors = states_of(lengths), states_of(lengths, seed=1), states_of([len(lengths)], seed=2)
    layout = Layout.of(np.array(lengths), times=times_of(lengths))
    ends = layout.ends

    alone = attention(ends.asking(queries), memory, ends, drop)
    among_all = attention(queries, memory, layout, drop)[layout.lasts]

    torch.testing.assert_close(alone, among_all, rtol=1e-9, atol=1e-12)
    learned = [gradients((one * factors).sum(), attention) for one in (alone, among_all)]
    torch.testing.assert_close(*learned, rtol=1e-9, atol=1e-12)


@given(st.integers(-(2**62), 2**62))
def test_times_fall_into_buckets_by_their_logarithm(elapsed):
    found = in_buckets(torch.tensor([elapsed])).item()

    assert 0 <= found < BUCKETS
    if elapsed < 2**23:  # beyond, a float32 rounds what lies just below a border
        assert found == bucket(elapsed)
    else:
        assert abs(found - bucket(elapsed)) <= 1


def test_buckets_are_those_of_the_documentation():
    times = torch.tensor([-5, 0, 1, 2, 3, 4, 5, 6, 7, 11, 15, 23])

    assert in_buckets(times).tolist() == [0, 0, 2, 3, 4, 4, 5, 5, 6, 7, 8, 9]


def test_a_layout_without_times_is_refused_where_they_are_looked_at():
    attention, states = attention_of("times", heads=1, causal=True), states_of([3])

    with pytest.raises(ValueError, match="attention looks at times, and this layout was made without them"):
        attention(states, states, Layout.of(np.array([3])), keep_all)


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
