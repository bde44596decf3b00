"""A state depends on the items at and before it, counted from the end, and on nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.model.attention import Layout, keep_all
from sasrec.model.building import build
from sasrec.retrieval.neural import Neural
from sasrec.training.dropout import Dropout

ITEMS = 13
LENGTH = 20
every_architecture = pytest.mark.parametrize(
    "architecture",
    [
        {"norm": "paper"},
        {"norm": "pre"},
        {"norm": "paper", "heads": 4},
        {"norm": "pre", "heads": 2},
        {"blocks": 0},
        {"norm": "post"},
        {"norm": "query"},
        {"norm": "query-only"},
        {"norm": "key"},
        {"norm": "pre", "gated": True, "activation": "swiglu", "feed_forward": 12},
        {"norm": "post", "projected": True, "activation": "gelu", "attention_width": 6, "heads": 3},
        {"positions": "sinusoidal", "unscaled": True},
        {"positions": "relative", "heads": 2},
        {"positions": "both", "norm": "post"},
        {"similarity": "cosine", "temperature": 0.1, "initial": "xavier-normal"},
        {"user_width": 4, "initial": "xavier-uniform"},
        {"branch": "identity", "norm": "key"},
        {"branch": "mean", "heads": 2},
        {"branch": "convolution", "norm": "post", "attention_width": 6},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
histories_of_any_length = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=LENGTH), min_size=1, max_size=12
)


def config_of(architecture, *, length):
    return sasrec.Config(**{"width": 8, "length": length, "positions": "learned", **architecture})


def network_of(architecture, *, length=LENGTH, seed=0):
    """A float64 network whose norms, biases and vectors are all far from their initial values."""
    generator = torch.Generator().manual_seed(seed)
    network = build(config_of(architecture, length=length), items=ITEMS, generator=generator).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return network


@torch.no_grad()
def states_of(network, histories):
    sequences = Sequences.of(histories)
    items = torch.from_numpy(sequences.items.astype(np.int64))
    states = network(items, Layout.of(sequences.lengths))
    return [states[start:stop] for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]


@every_architecture
@pytest.mark.parametrize("drop", [keep_all, lambda states: states * 1.0], ids=["inference", "training"])
def test_the_last_states_computed_alone_are_those_among_all(architecture, drop):
    network = network_of(architecture)
    sequences = Sequences.of([[3, 1, 4], [5], [9, 2, 6, 5, 3], [1, 2]])
    items, layout, users = torch.from_numpy(sequences.items.astype(np.int64)), Layout.of(sequences.lengths), None
    factors = torch.randn(4, len(network.table()[0]), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    alone = network.last(items, layout, drop, users)
    among_all = network(items, layout, drop, users)[layout.lasts]

    torch.testing.assert_close(alone, among_all, rtol=1e-9, atol=1e-12)
    weight = network.items.weight
    gradients = [torch.autograd.grad((one * factors).sum(), weight)[0] for one in (alone, among_all)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)


@every_architecture
def test_a_position_ignores_the_future(architecture):
    network = network_of(architecture)
    history, other = [3, 1, 4, 1, 5, 9, 2, 6], [3, 1, 4, 1, 5, 11, 0, 7]

    before, after = states_of(network, [history])[0], states_of(network, [other])[0]

    assert torch.equal(before[:5], after[:5])
    assert not torch.isclose(before[5:], after[5:]).all(dim=1).any()


@every_architecture
def test_a_position_sees_every_item_of_its_past(architecture):
    network = network_of(architecture)
    history = [3, 1, 4, 1, 5, 9, 2, 6]

    last = states_of(network, [history])[0][-1]
    moved = [
        not torch.allclose(last, states_of(network, [[*history[:place], 12, *history[place + 1 :]]])[0][-1])
        for place in range(len(history))
    ]

    assert moved == [architecture.get("blocks") != 0] * 7 + [True]


@every_architecture
def test_batch_mates_their_order_and_their_lengths_change_no_state(architecture):
    network = network_of(architecture)

    @given(histories_of_any_length, st.randoms())
    @settings(max_examples=25)
    def check(histories, order):
        places = list(range(len(histories)))
        order.shuffle(places)

        alone = [states_of(network, [history])[0] for history in histories]
        together = states_of(network, [histories[place] for place in places])

        for place, states in zip(places, together, strict=True):
            torch.testing.assert_close(states, alone[place], rtol=1e-9, atol=1e-12)

    check()


@every_architecture
@pytest.mark.parametrize("longer", [21, 50, 200])
def test_a_larger_length_changes_no_state(architecture, longer):
    network, larger = network_of(architecture), network_of(architecture, length=longer, seed=1)
    # Position 0 is the end of a history, so what belongs to positions is in the first rows of every longer table.
    extended = {name: tensor.clone() for name, tensor in larger.state_dict().items()}
    for name, tensor in network.state_dict().items():
        extended[name][: len(tensor)] = tensor
    larger.load_state_dict(extended)
    histories = [[5], [3, 1, 4], list(np.arange(LENGTH) % ITEMS)]

    for states, of_larger in zip(states_of(network, histories), states_of(larger, histories), strict=True):
        torch.testing.assert_close(states, of_larger, rtol=1e-9, atol=1e-12)


@every_architecture
def test_what_lies_beyond_length_changes_no_score(architecture):
    scorer = Neural(network_of(architecture, length=5), config_of(architecture, length=5))
    recent = [7, 2, 9, 2, 11]
    short = scorer.scores(Sequences.of([recent]))

    @given(st.lists(st.integers(0, ITEMS - 1), max_size=30))
    @settings(max_examples=20)
    def check(beyond):
        long = scorer.scores(Sequences.of([beyond + recent, [1, 2]]))

        np.testing.assert_allclose(long[:1], short, rtol=1e-9, atol=1e-12)

    check()


@pytest.mark.parametrize("norm", ["paper", "pre", "post", "query", "query-only", "key"])
def test_positions_count_from_the_end_of_the_history(norm):
    network = network_of({"norm": norm})
    history = [3, 1, 4]

    before = states_of(network, [history])[0]
    with torch.no_grad():
        network.positions.weight[3:] += torch.linspace(1, 2, 8)
    unused = states_of(network, [history])[0]
    with torch.no_grad():
        network.positions.weight[0] += torch.linspace(1, 2, 8)
    moved = states_of(network, [history])[0]

    assert torch.equal(before, unused), "a history of three uses the first three positions alone"
    assert torch.isclose(before, moved).all(dim=1).tolist() == [True, True, False]


@every_architecture
@pytest.mark.parametrize("rate", [None, 0.0, 0.5], ids=["inference", "training-without-dropout", "training"])
def test_a_history_of_one_item_has_finite_states_and_gradients(architecture, rate):
    network = network_of(architecture).float()
    drop = () if rate is None else (Dropout(rate, torch.Generator().manual_seed(0)),)
    items, layout = torch.tensor([4, 4, 1, 2]), Layout.of(np.array([1, 1, 2]))

    states = network(items, layout, *drop)
    states.square().sum().backward()

    assert states.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


@every_architecture
def test_an_untrained_network_has_finite_states(architecture):
    network = build(config_of(architecture, length=4), items=ITEMS, generator=torch.Generator().manual_seed(3))

    states = torch.cat(states_of(network, [[0], [1, 2, 3, 4], [5, 5]]))

    assert states.isfinite().all()
    assert states.abs().max() > 0


@every_architecture
def test_training_without_dropout_gives_the_states_of_inference(architecture):
    network = network_of(architecture)
    lengths = np.array([1, 20, 3, 9, 9, 2])
    items = torch.arange(lengths.sum()) % ITEMS

    inference = network(items, Layout.of(lengths))
    training = network(items, Layout.of(lengths), Dropout(0.0, torch.Generator()))

    torch.testing.assert_close(training, inference, rtol=1e-9, atol=1e-12)


def test_no_blocks_score_by_the_last_item_and_its_position_alone():
    network = network_of({"blocks": 0})
    items, positions = network.items.weight.detach().numpy(), network.positions.weight.detach().numpy()
    gain, shift = network.norm.weight.detach().numpy(), network.norm.bias.detach().numpy()

    raw = items[6] * np.sqrt(8) + positions[0]
    expected = (raw - raw.mean()) / np.sqrt(raw.var() + 1e-8) * gain + shift
    state = states_of(network, [[2, 9, 6]])[0][-1]

    np.testing.assert_allclose(state.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("items", [10, 1_000, 30_000])
def test_the_initial_spread_of_item_vectors_does_not_depend_on_the_catalogue(items):
    network = build(
        sasrec.Config(width=64, length=50, positions="learned"), items=items, generator=torch.Generator().manual_seed(0)
    )

    assert network.items.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert network.items.weight.mean().item() == pytest.approx(0.0, abs=0.003)


def test_nothing_but_real_items_has_a_vector():
    network = build(
        sasrec.Config(width=4, length=3, positions="learned"), items=5, generator=torch.Generator().manual_seed(0)
    )

    assert network.items.weight.shape == (5, 4)
    assert (network.items.weight != 0).all()


def test_scores_are_products_with_the_very_vectors_that_states_are_made_from():
    network = network_of({})
    scorer = Neural(network, sasrec.Config(width=8, length=LENGTH, positions="learned"))

    scores = scorer.scores(Sequences.of([[3, 1, 4]]))
    expected = states_of(network, [[3, 1, 4]])[0][-1] @ network.items.weight.detach().t()

    np.testing.assert_allclose(scores[0], expected.numpy(), rtol=1e-12, atol=1e-12)


@every_architecture
def test_one_generator_draws_all_weights_and_torchs_own_is_left_alone(architecture):
    config = config_of(architecture, length=4)
    before = torch.get_rng_state()

    first, again, other = (build(config, items=7, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))

    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.items.weight, other.items.weight)


def test_a_network_to_be_loaded_takes_no_memory():
    network = build(sasrec.Config(width=4096, length=50, positions="learned"), items=10**9, generator=None)

    assert all(parameter.is_meta for parameter in network.parameters())


@every_architecture
def test_norms_start_as_plain_norms_and_biases_at_zero(architecture):
    network = build(config_of(architecture, length=6), items=7, generator=torch.Generator().manual_seed(0))

    flat = {name: tensor for name, tensor in network.named_parameters() if tensor.dim() == 1}

    assert flat
    for name, tensor in flat.items():
        assert (tensor == float("norm" in name and name.endswith("weight"))).all(), name


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ({"norm": "paper"}, 5),
        ({"norm": "pre"}, 5),
        ({"norm": "pre", "gated": True}, 4),
        ({"norm": "query"}, 5),
        ({"norm": "post"}, 4),
        ({"norm": "key"}, 3),
        ({"blocks": 0}, 1),
    ],
)
def test_every_norm_has_the_papers_epsilon_and_one_gain_per_feature(architecture, count):
    network = build(config_of(architecture, length=6), items=7, generator=None)

    norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]

    assert len(norms) == count
    assert {norm.eps for norm in norms} == {1e-8}
    assert {norm.normalized_shape for norm in norms} == {(8,)}


@pytest.mark.parametrize("norm", ["paper", "pre", "post", "query", "query-only", "key"])
def test_epsilon_is_that_of_the_norms_in_blocks(norm):
    network = build(
        sasrec.Config(width=8, length=6, positions="learned", norm=norm, epsilon=1e-3, blocks=2),
        items=7,
        generator=None,
    )

    found = {name: norm for name, norm in network.named_modules() if "norm" in name.rpartition(".")[2]}

    assert {
        norm.epsilon if hasattr(norm, "epsilon") else norm.eps for name, norm in found.items() if name != "norm"
    } == {1e-3}
    assert found["norm"].eps == 1e-8 if "norm" in found else norm in ("post", "query-only")


def test_the_last_norm_of_query_only_has_the_epsilon_of_blocks():
    network = build(
        sasrec.Config(width=8, length=6, positions="learned", norm="query-only", epsilon=1e-3), items=7, generator=None
    )

    assert network.norm is None
    assert network.blocks[-1].epsilon == 1e-3
