"""An exported network is the network: in every setting, for every history, in its scores and in what it looks at."""

import dataclasses
import sys

import numpy as np
import onnxruntime
import pytest
import torch

import sasrec
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, OutputError, ScoreError
from sasrec.export import exporting, gaps
from sasrec.export.exporting import exported
from sasrec.export.graph import Graph
from sasrec.model.attention import in_buckets
from sasrec.model.building import build
from sasrec.presets import PRESETS
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender

ITEMS, USERS = 23, 7
ONES = Sequences.of([[5], [1, 2], list(range(5)), [4] * 7, [22, 0, *range(12)], [3, 3, 1], [9]])
# Gaps of every size, from none to a hundred years of nanoseconds.
TIMES = np.concatenate(
    [
        np.cumsum(np.random.default_rng(at).choice([0, 1, 30, 4_000, 10**6, 10**12, 3 * 10**17], length))
        for at, length in enumerate(ONES.lengths)
    ]
)
HISTORIES = dataclasses.replace(
    ONES,
    users=np.array([0, 3, -1, USERS - 1, USERS, 2, -5]),
    times=TIMES,
    asked=TIMES[ONES.offsets[1:] - 1] + np.array([0, 1, 59, 10**5, 10**9, 10**14, 2**60]),
)
BRANCHES = ("identity", "mean", "convolution")
VARIANTS = [
    {},
    {"blocks": 0, "heads": 1},
    {"blocks": 1},
    {"blocks": 3, "heads": 1},
    *({"norm": norm} for norm in ("pre", "post", "query", "query-only", "key")),
    {"norm": "pre", "gated": True, "activation": "swiglu"},
    {"activation": "gelu"},
    {"projected": True, "attention_width": 12, "feed_forward": 20},
    {"positions": "sinusoidal"},
    {"positions": "none", "unscaled": True},
    {"bidirectional": True, "learn": "last"},
    {"similarity": "cosine", "temperature": 0.05},
    {"user_width": 4},
    {"user_width": 4, "unscaled": True, "norm": "pre", "positions": "sinusoidal"},
    {"epsilon": 1e-2, "norm": "pre"},
    {"positions": "relative"},
    {"positions": "both", "bidirectional": True, "learn": "last"},
    *({"times": times} for times in ("learned", "relative", "both")),
    *({"times": "both", "positions": "both", "norm": norm} for norm in ("paper", "pre", "query-only", "key")),
    {"times": "relative", "bidirectional": True, "learn": "last", "heads": 1},
    {"times": "learned", "blocks": 0, "heads": 1},
    {"times": "both", "positions": "both", "blocks": 1, "user_width": 4},
    *({"branch": branch} for branch in BRANCHES),
    *(
        {"branch": branch, "branch_share": 0.4, "norm": norm, "blocks": 3}
        for branch in BRANCHES
        for norm in ("pre", "post", "query-only", "key")
    ),
    *({"branch": branch, "bidirectional": True, "learn": "last"} for branch in BRANCHES),
    {"branch": "convolution", "times": "both", "positions": "both", "user_width": 4, "attention_width": 10},
]


def network_of(config, *, items=ITEMS, **features):
    """A network of weights that are large enough for every part of it to matter."""
    generator = torch.Generator().manual_seed(3)
    users = USERS if config.user_width else 0
    network = build(config, items=items, users=users, generator=generator, **features)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.5)
    return Neural(network, config)


def assert_same(scorer, made):
    expected, found = scorer.scores(HISTORIES), made.scores(HISTORIES)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    for item in (0, ITEMS - 1):
        np.testing.assert_allclose(made.similarities(item), scorer.similarities(item), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_scores_are_those_of_torch_whatever_the_settings(variant):
    scorer = network_of(Config(**({"width": 8, "length": 6, "positions": "learned", "heads": 2} | variant)))

    assert_same(scorer, exported(scorer))


@pytest.mark.parametrize("length", [2, 6])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_sees_no_padding_however_short_a_history_and_whoever_is_beside_it(branch, share, length):
    histories = [[5], [1, 2], [7, 0, 7], [9, 8, 3, 4], list(range(10, 20))]
    batches = [*([one] for one in histories), histories, histories[:3], histories[3::-1]]
    scorer = network_of(Config(width=8, length=length, positions="learned", branch=branch, branch_share=share))
    made = exported(scorer)

    for batch in map(Sequences.of, batches):
        expected = scorer.scores(batch)
        np.testing.assert_allclose(made.scores(batch), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"stamp"}))
def test_a_network_of_a_preset_is_exported(name):
    config = dataclasses.replace(sasrec.preset(name), width=8, length=6, heads=1)
    scorer = network_of(config)

    assert_same(scorer, exported(scorer))


def test_vectors_of_features_are_a_part_of_the_items_vectors():
    rows, offsets = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, *[3] * (ITEMS - 2), 4])
    scorer = network_of(Config(width=8, length=6, positions="learned"), features=(rows, offsets), values=3)

    assert_same(scorer, exported(scorer))


def test_vectors_that_were_given_are_a_part_of_the_items_vectors():
    given = torch.randn(ITEMS, 5, generator=torch.Generator().manual_seed(1))
    scorer = network_of(Config(width=8, length=6, positions="learned", given_start=3.0), vectors=given)

    assert_same(scorer, exported(scorer))


def test_buckets_of_time_are_those_of_torch_to_the_last_unit():
    near = [2**k + off for k in range(62) for off in (-2, -1, 0, 1, 2**k // 2 - 2, 2**k // 2 - 1, 2**k // 2)]
    elapsed = np.array([0, -1, -5, -(2**61), *near, *np.random.default_rng(0).integers(0, 2**61, 1000)])
    graph = Graph()
    graph.node("Cast", gaps.in_buckets(graph, "elapsed"), attributes={"to": 1}, name="buckets")
    session = onnxruntime.InferenceSession(graph.to_bytes({"elapsed": ("n",)}, {"buckets": ("n",)}))

    [found] = session.run(["buckets"], {"elapsed": elapsed})

    assert found.tolist() == in_buckets(torch.from_numpy(elapsed)).tolist()


def test_a_network_that_looks_at_times_is_not_exported_to_one_that_needs_none():
    made = exported(network_of(Config(width=8, length=6, positions="learned", times="relative")))

    with pytest.raises(ConfigError, match="times: the network looks at when events happened and when it is asked"):
        made.scores(ONES)


@pytest.mark.parametrize("variant", [one for one in VARIANTS if one.get("blocks") != 0], ids=str)
def test_attention_is_that_of_torch(variant):
    scorer = network_of(Config(**({"width": 8, "length": 6, "positions": "learned", "heads": 2} | variant)))
    made = exported(scorer)

    for place in range(len(HISTORIES)):
        one = HISTORIES.take(np.array([place]))
        np.testing.assert_allclose(made.attention(one), scorer.attention(one), atol=1e-5)


def test_a_network_that_looks_at_nothing_has_no_attention():
    assert (
        exported(network_of(Config(width=8, length=6, positions="learned", blocks=0))).attention(
            HISTORIES.take(np.array([1]))
        )
        is None
    )


def test_many_histories_are_scored_in_parts_and_none_at_all(monkeypatch):
    made = exported(network_of(Config(width=8, length=6, positions="learned")))
    whole = made.scores(HISTORIES)

    monkeypatch.setattr("sasrec.retrieval.exported._PAIRS", 1)

    np.testing.assert_allclose(made.scores(HISTORIES), whole, rtol=1e-5, atol=1e-6)
    assert made.scores(Sequences.of([])).shape == (0, ITEMS)


def test_threads_change_no_order():
    made = exported(network_of(Config(width=8, length=6, positions="learned")))
    before = made.scores(HISTORIES)

    made.use_threads(2)

    np.testing.assert_allclose(made.scores(HISTORIES), before, rtol=1e-5, atol=1e-6)


def test_a_network_without_blocks_to_read_is_refused_by_its_name():
    config = Config(network="stamp", learn="last", width=8, length=6, positions="none")

    with pytest.raises(ConfigError, match="network: a network with 'stamp' cannot be exported; what can is 'sasrec'"):
        exported(network_of(config))


def test_a_setting_that_the_export_has_never_heard_of_is_refused_unless_it_is_at_its_default(monkeypatch):
    monkeypatch.setattr("sasrec.export.network._ANY", {"length", "width"})

    with pytest.raises(ConfigError, match=r"heads: a network with 2 cannot be exported; what can is 1"):
        exported(network_of(Config(width=8, length=50, positions="learned", heads=2)))
    exported(network_of(Config(width=8, length=50, positions="learned")))


# Whole models


@pytest.fixture(scope="module")
def written(small_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "walks.onnx.sasrec"
    return path, sasrec.export_onnx(small_model, path)


def test_the_report_says_how_the_two_agree(written, small_model):
    _, found = written

    assert (found.histories, found.k, found.same) == (len(small_model.users), 10, len(small_model.users))
    assert found.difference < 1e-5
    assert str(found).startswith("the best 10 are those of torch after 60 of 60 histories (scores differ by ")


@pytest.mark.parametrize("k", [0, -1, True, 1.5, "a", None], ids=repr)
def test_a_number_of_items_that_is_none_is_refused_before_anything_is_compared(k, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "exported", None)

    with pytest.raises(ConfigError, match=f"^k: expected an integer >= 1, found {k!r}$"):
        sasrec.export_onnx(small_model, tmp_path / "model", k=k)


def test_no_more_items_are_compared_than_there_are(small_model, tmp_path):
    items = len(small_model.items)

    found = sasrec.export_onnx(small_model, tmp_path / "model", k=items + 100)

    assert found.k == sasrec.load(tmp_path / "model").record["export"]["k"] == items
    assert str(found).startswith(f"the best {items} are those of torch")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package, small_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith("sasrec.export.") and name != exporting.__name__]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ConfigError, match=rf"exporting needs the package {package}; pip install 'sasrec\[onnx\]'"):
        sasrec.export_onnx(small_model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_an_exported_model_recommends_what_the_network_does(written, small_model):
    model = sasrec.load(written[0])

    assert isinstance(model.scorer, Exported)
    assert model.record["export"]["same"] == len(small_model.users)
    for exclude_seen in (True, False):
        ours = model.recommend(small_model.users.ids, k=25, exclude_seen=exclude_seen)
        theirs = small_model.recommend(small_model.users.ids, k=25, exclude_seen=exclude_seen)
        assert ours.drop("score").equals(theirs.drop("score"))
        np.testing.assert_allclose(ours["score"], theirs["score"], rtol=1e-4, atol=1e-5)


def test_an_exported_model_is_evaluated_as_the_network_is(written, small_model, walks):
    data = sasrec.split(walks)

    ours, theirs = (sasrec.evaluate(one, data, k=5).rows[0] for one in (sasrec.load(written[0]), small_model))

    np.testing.assert_array_equal(ours.ranks, theirs.ranks)
    assert ours.model == theirs.model == "SASRec (softmax)"


def test_an_exported_model_looks_at_times_as_the_network_does(timed_model, timed_rows, tmp_path):
    found = sasrec.export_onnx(timed_model, tmp_path / "timed")
    model, users, last = sasrec.load(tmp_path / "timed"), timed_model.users.ids, int(timed_model.histories.times.max())

    assert found.same == found.histories == len(users)
    assert (model.reads_times, model.time_unit) == (True, "s")
    for at in (last, last + 3_600, last + 1_000 * 86_400, None):
        ours, theirs = (one.recommend(users, k=15, exclude_seen=False, at=at) for one in (model, timed_model))
        assert ours.drop("score").equals(theirs.drop("score"))
        np.testing.assert_allclose(ours["score"], theirs["score"], rtol=1e-4, atol=1e-5)
    data = sasrec.split(sasrec.read_log(timed_rows))
    ours, theirs = (sasrec.evaluate(one, data, k=5) for one in (model, timed_model))
    np.testing.assert_array_equal(ours.rows[0].ranks, theirs.rows[0].ranks)
    assert "the time of each target is known as that of the request" in ours.protocol


def test_an_exported_model_is_not_refit_into_something_else(written, walks):
    with pytest.raises(ConfigError, match="is an exported network; refit the model that it was made from"):
        sasrec.refit(sasrec.load(written[0]), sasrec.split(walks))


def test_a_history_that_leaves_fewer_items_than_are_compared_is_the_same(small_model, tmp_path):
    items = len(small_model.items)
    scorer = network_of(Config(width=8, length=6, positions="learned"), items=items)
    everything = Sequences.of([np.arange(items)] * len(small_model.users))
    model = Recommender(scorer, users=small_model.users, items=small_model.items, histories=everything)

    assert sasrec.export_onnx(model, tmp_path / "full").same == len(small_model.users)


def test_an_exported_model_is_saved_and_loaded_again_bit_for_bit(written, tmp_path):
    sasrec.load(written[0]).save(tmp_path / "again")

    for name in ("model.onnx", "config.json", "items.parquet", "histories.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (written[0] / name).read_bytes()
    assert not (tmp_path / "again" / "weights.safetensors").exists()


def test_a_network_that_gives_other_scores_is_not_written(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("sasrec.export.network._FAR", 0.0)  # attention then looks at what comes later

    with pytest.raises(ScoreError, match="the exported network gives other scores than torch"):
        sasrec.export_onnx(small_model, tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


def test_scores_that_are_no_numbers_are_not_written(small_model, tmp_path):
    scorer = network_of(Config(width=8, length=6, positions="learned"), items=len(small_model.items))
    with torch.no_grad():
        scorer.network.norm.bias.fill_(float("nan"))
    model = Recommender(scorer, users=small_model.users, items=small_model.items, histories=small_model.histories)

    with pytest.raises(ScoreError):
        sasrec.export_onnx(model, tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


def test_a_model_that_counts_is_refused(small_model, tmp_path):
    counted = Popularity.of(small_model.histories, items=len(small_model.items))
    model = Recommender(counted, users=small_model.users, items=small_model.items, histories=small_model.histories)

    with pytest.raises(ConfigError, match="a model of kind 'popularity' cannot be exported; only a network can"):
        sasrec.export_onnx(model, tmp_path / "counted")


def test_a_place_that_is_taken_is_refused_before_anything_is_compared(small_model, tmp_path, monkeypatch):
    (tmp_path / "taken").mkdir()
    monkeypatch.setattr(exporting, "exported", None)

    with pytest.raises(OutputError, match=r"taken: is not a sasrec model, .* not replaced"):
        sasrec.export_onnx(small_model, tmp_path / "taken")
