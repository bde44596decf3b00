"""Training is the same for the same seed, keeps the best weights, stops when it should, and never sees the test."""

import dataclasses
import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, DataError, OutputError, TrainingError
from sasrec.evaluation.metrics import hit_rate, ndcg
from sasrec.evaluation.ranking import rank_targets
from sasrec.presets import PRESETS
from sasrec.retrieval.neural import Neural
from sasrec.training import beginning, machine, settling, steps
from sasrec.training.batches import windows_of
from sasrec.training.beginning import begin
from sasrec.training.epochs import EpochResult
from sasrec.training.losses import ExactCrossEntropy
from sasrec.training.machine import granted_threads, torch_threads
from sasrec.training.negatives import UnseenSampler
from sasrec.training.progress import Lines

both_losses = pytest.mark.parametrize("loss", ["softmax", "bce"])


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


def weights_of(model):
    return model.scorer.network.state_dict()


def equal_weights(first, second):
    first, second = weights_of(first), weights_of(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def lasting(record):
    """What of a record does not depend on the clock or on the text of the log."""
    best = {name: value for name, value in record["best"].items() if name != "seconds"}
    return {name: value for name, value in record.items() if name not in ("seconds", "cpu_seconds", "data")} | {
        "best": best
    }


def results_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def watch(monkeypatch):
    """Lets a test be told of every step and epoch, and raise there."""

    def install(step=lambda epoch, loss: None, epoch=lambda result: None):
        told = SimpleNamespace(step=step, epoch=epoch)
        monkeypatch.setattr("sasrec.training.training.watched", lambda *_, **__: nullcontext(told))

    return install


# The same run


@pytest.mark.parametrize(
    "config", [{}, {"loss": "bce", "negatives": 2}, {"norm": "pre", "heads": 2}, {"blocks": 0}], ids=str
)
def test_one_seed_gives_the_same_bits_and_another_does_not(data, small_config, config):
    config = replace(small_config, epochs=2, **config)

    first, again, other = (sasrec.train(data, replace(config, seed=seed)) for seed in (3, 3, 4))

    assert equal_weights(first, again)
    assert lasting(first.record) == lasting(again.record)
    assert not equal_weights(first, other)


@both_losses
def test_what_the_caller_draws_elsewhere_neither_changes_nor_is_changed_by_a_run(data, small_config, loss):
    config = replace(small_config, epochs=1, loss=loss)
    states = []
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
        models.append(sasrec.train(data, config))
        states.append(
            torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        )

    assert states == [True, True]
    assert equal_weights(*models)


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_the_callers_number_of_threads_returns(log_of, small_config, ends, watch):
    data = sasrec.split(log_of({"ada": ["x", "y", "z", "w"]}))
    during = []

    def step(epoch, loss):
        during.append(torch.get_num_threads())
        if ends == "badly":
            raise ValueError("the watcher is broken")

    watch(step)
    with torch_threads(1):
        if ends == "well":
            sasrec.train(data, replace(small_config, threads=2, epochs=1))
        else:
            with pytest.raises(ValueError, match="watcher"):
                sasrec.train(data, replace(small_config, threads=2, epochs=1))

        assert torch.get_num_threads() == 1
    assert set(during) == {2}


def test_the_test_part_changes_neither_weights_nor_record(log_of, walks, small_config):
    histories = {user: walks.items.raw(walks.histories[row]).to_list() for row, user in enumerate(walks.users.ids)}
    tested = [user for user, items in histories.items() if len(items) >= 3]
    targets = [histories[user][-1] for user in tested]
    shuffled = np.random.default_rng(0).permutation(targets).tolist()
    assert shuffled != targets
    other = log_of(histories | {u: [*histories[u][:-1], last] for u, last in zip(tested, shuffled, strict=True)})
    assert other.items.ids.equals(walks.items.ids)

    models = [sasrec.train(sasrec.split(log), small_config) for log in (walks, other)]

    assert equal_weights(*models)
    assert lasting(models[0].record) == lasting(models[1].record)


# The best weights


@both_losses
def test_the_weights_of_the_best_epoch_are_the_ones_that_are_kept(data, small_config, tmp_path, loss):
    config = replace(small_config, epochs=12, patience=12, learning_rate=0.03, loss=loss)

    model = sasrec.train(data, config, history=tmp_path / "history.jsonl")

    results = results_in(tmp_path / "history.jsonl")
    best = max(results, key=lambda result: result["ndcg"])
    ranks = rank_targets(model.scorer, data.valid, exclude_seen=model.exclude_seen).ranks
    assert best["epoch"] < 12, "an example in which the last epoch is the best shows nothing"
    assert model.record["best"] == best
    assert ndcg(ranks, 10).mean() == best["ndcg"]
    assert hit_rate(ranks, 10).mean() == best["hit_rate"]
    assert sasrec.evaluate(model, data, on="valid")["NDCG@10"] == best["ndcg"]


def test_the_history_has_one_line_an_epoch_and_marks_every_new_best(data, small_config, tmp_path):
    model = sasrec.train(data, replace(small_config, epochs=6), history=tmp_path / "history.jsonl")

    results = results_in(tmp_path / "history.jsonl")
    assert [result["epoch"] for result in results] == [1, 2, 3, 4, 5, 6]
    assert [result["best"] for result in results] == [
        all(earlier["ndcg"] < result["ndcg"] for earlier in results[:place]) for place, result in enumerate(results)
    ]
    assert all(result["loss"] > 0 and result["seconds"] >= 0 for result in results)
    assert model.record["history"] == [
        {name: result[name] for name in ("epoch", "loss", "ndcg", "hit_rate")} for result in results
    ]


def test_a_history_is_added_to_and_never_overwritten(data, small_config, tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text("kept\n")

    sasrec.train(data, replace(small_config, epochs=1), history=path)

    assert path.read_text().startswith("kept\n{")


@pytest.mark.parametrize("where", [".", "nowhere/history.jsonl"])
def test_a_history_that_cannot_be_written_is_refused_before_training(data, small_config, tmp_path, where, watch):
    watch(step=lambda epoch, loss: pytest.fail("training began"))

    with pytest.raises(OutputError, match="cannot be written"):
        sasrec.train(data, small_config, history=tmp_path / where)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_stops_after_so_many_epochs_without_a_better_one(data, small_config, tmp_path, monkeypatch, patience):
    # Validation gets worse and worse from the second epoch on.
    values = iter([0.1, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    monkeypatch.setattr("sasrec.evaluation.ranking.ndcg", lambda ranks, k: np.full(len(ranks), next(values)))

    model = sasrec.train(data, replace(small_config, epochs=8, patience=patience), history=tmp_path / "history.jsonl")

    results = results_in(tmp_path / "history.jsonl")
    assert len(results) == 2 + patience == model.record["epochs"]
    assert model.record["best"]["epoch"] == 2, "an equal epoch is no better one"
    assert model.record["stopped"] == f"no better for {patience} epochs"
    assert model.record["steps"] == len(results) * -(-57 // small_config.batch)


def test_a_network_that_never_hits_anything_is_kept_all_the_same(log_of):
    # All users share one target among 30 items, so NDCG@10 may well be 0; the first epoch is still the best.
    log = log_of({f"u{u}": [f"i{i}" for i in range(30)] for u in range(3)})

    model = sasrec.train(sasrec.split(log), sasrec.Config(width=4, epochs=2, learning_rate=1e-9, threads=1))

    assert model.record["epochs"] == 2
    assert all(tensor.isfinite().all() for tensor in weights_of(model).values())


# Interruption and numbers that leave the range


def test_an_interrupt_keeps_the_best_epoch_so_far(data, small_config, tmp_path, watch):
    kept = []
    config = replace(small_config, epochs=10, patience=10, learning_rate=0.03)
    whole = sasrec.train(data, replace(config, epochs=4))

    def step(epoch, loss):
        if epoch == 5:
            raise KeyboardInterrupt

    watch(step, kept.append)
    model = sasrec.train(data, config, history=tmp_path / "history.jsonl")

    assert model.record["stopped"] == "interrupted"
    assert model.record["epochs"] == len(kept) == len(results_in(tmp_path / "history.jsonl")) == 4
    assert equal_weights(model, whole), "as if four epochs had been asked for"
    assert lasting(model.record)["best"] == lasting(whole.record)["best"]


def test_an_interrupt_during_validation_keeps_the_best_epoch_so_far(data, small_config, monkeypatch):
    calls = []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return rank_targets(*args, **options)

    monkeypatch.setattr("sasrec.evaluation.ranking.rank_targets", interrupted)

    model = sasrec.train(data, replace(small_config, epochs=9))

    assert model.record["stopped"] == "interrupted"
    assert model.record["epochs"] == 2


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupt_while_an_epoch_is_judged_leaves_record_and_weights_agreed(data, small_config, monkeypatch, epoch):
    calls = []

    def interrupted(ranks, k):
        calls.append(ranks)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        return hit_rate(ranks, k)

    monkeypatch.setattr("sasrec.evaluation.ranking.hit_rate", interrupted)
    # Every epoch is better than the one before, so the interrupted one would have been kept.
    values = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("sasrec.evaluation.ranking.ndcg", lambda ranks, k: np.full(len(ranks), next(values)))

    if epoch == 1:
        with pytest.raises(TrainingError, match="nothing to keep"):
            sasrec.train(data, small_config)
    else:
        model = sasrec.train(data, small_config)
        assert model.record["best"]["epoch"] == 1
        assert equal_weights(model, sasrec.train(data, replace(small_config, epochs=1)))


def test_an_interrupt_in_the_first_epoch_has_nothing_to_keep(data, small_config, watch):
    def step(epoch, loss):
        raise KeyboardInterrupt

    watch(step)

    with pytest.raises(
        TrainingError, match="interrupted before the first epoch was validated; there is nothing to keep"
    ):
        sasrec.train(data, small_config)


@pytest.mark.parametrize(("precision", "more"), [("float32", ""), ("bfloat16", " or set precision='float32'")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step_and_a_remedy(data, small_config, monkeypatch, value, precision, more):
    calls = []
    exact = ExactCrossEntropy.__call__

    def breaking(self, states, table, targets, weights):
        calls.append(states)
        loss = exact(self, states, table, targets, weights)
        return loss * value if len(calls) == 6 else loss

    monkeypatch.setattr(ExactCrossEntropy, "__call__", breaking)
    assert -(-57 // small_config.batch) == 4

    with pytest.raises(TrainingError) as error:
        sasrec.train(data, replace(small_config, precision=precision))

    assert str(error.value) == f"the loss is {value} at step 2 of epoch 2; lower learning_rate (now 0.001){more}"


def test_weights_that_leave_the_number_range_are_noticed(data, small_config, monkeypatch):
    build = beginning.build

    def huge(config, **sizes):
        network = build(config, **sizes)
        with torch.no_grad():
            network.items.weight.mul_(1e38)
        return network

    monkeypatch.setattr(beginning, "build", huge)

    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 1 of epoch 1; lower learning_rate"):
        sasrec.train(data, small_config)


# What is settled from the data


@pytest.mark.parametrize(("each", "dropout"), [(1, 0.5), (15, 0.5), (67, 0.35), (300, 0.2), (9000, 0.2)])
def test_dropout_is_settled_by_the_events_of_an_item(each, dropout):
    # 67 lies half way between 15 and 300 by the logarithm: sqrt(15 * 300) = 67.1.
    train = Sequences.of([[0] * each, [1] * each])

    assert settling.settled(sasrec.Config(), train, items=2).dropout == pytest.approx(dropout, abs=0.005)


@pytest.mark.parametrize(("mean", "length"), [(2, 50), (49, 50), (50, 200), (400, 200)])
def test_the_window_is_settled_by_the_mean_length_of_training_histories(mean, length):
    train = Sequences.of([[0] * (mean - 1), [0] * (mean + 1)])

    assert settling.settled(sasrec.Config(), train, items=9).length == length


@pytest.mark.parametrize(
    ("mean", "asked", "positions"),
    [
        (49, {}, "learned"),
        (50, {}, "both"),
        (50, {"length": 10}, "both"),
        (50, {"positions": "none"}, "none"),
        (50, {"blocks": 0}, "learned"),
        (49, {"network": "stamp", "learn": "last"}, "none"),
        (50, {"network": "stamp", "learn": "last"}, "none"),
    ],
)
def test_where_histories_are_long_positions_are_relative_too(mean, asked, positions):
    train = Sequences.of([[0] * (mean - 1), [0] * (mean + 1)])

    assert settling.settled(sasrec.Config(**asked), train, items=9).positions == positions


@pytest.mark.parametrize(
    ("users", "batch"), [(2, 16), (1_600, 16), (3_200, 32), (6_040, 64), (22_363, 128), (10**6, 128)]
)
def test_the_batch_is_settled_by_the_number_of_users(users, batch):
    train = Sequences(np.zeros(users, np.int32), np.arange(users + 1))

    assert settling.settled(sasrec.Config(), train, items=9).batch == batch


def test_dropout_that_was_set_stays(data):
    assert settling.settled(sasrec.Config(dropout=0.0), data.train, items=9).dropout == 0.0


def test_nothing_is_automatic_any_more_once_it_is_settled(data, monkeypatch):
    monkeypatch.setattr(settling, "has_fast_bfloat16", lambda: True)
    fast = settling.settled(sasrec.Config(threads="auto"), data.train, items=9)
    monkeypatch.setattr(settling, "has_fast_bfloat16", lambda: False)
    slow = settling.settled(sasrec.Config(threads="auto"), data.train, items=9)

    assert "auto" not in fast.to_dict().values()
    assert (fast.precision, slow.precision) == ("bfloat16", "float32")
    assert fast.threads == granted_threads() >= 1
    assert settling.settled(fast, data.train, items=9) == fast


@pytest.mark.parametrize(
    ("found", "processor", "fast"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "Intel(R) Xeon(R) Platinum 8488C", True),
        ({"amx_bf16": False, "avx512_bf16": True}, "Intel(R) Xeon(R) Processor", False),
        ({"avx512_bf16": True}, "AMD EPYC 9R14", True),
        ({"avx512_bf16": False}, "AMD EPYC 7R13", False),
        ({}, "Neoverse-V1", False),
    ],
)
def test_bfloat16_counts_as_fast_only_where_it_beats_float32(monkeypatch, found, processor, fast):
    monkeypatch.setattr(machine.torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(machine, "_processor", lambda: processor)

    assert machine.has_fast_bfloat16() is fast


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "bce"},
        {"loss": "sampled-softmax", "sampler": "in-batch", "negatives": 4, "logq": True},
        {"bidirectional": True, "learn": "last", "norm": "post", "positions": "sinusoidal"},
        {"network": "stamp", "learn": "last", "windows": "rolling", "positions": "none"},
        {"user_width": 4, "swap_users": 0.5, "swap_items": 0.2, "norm": "query-only"},
    ],
)
def test_whatever_training_makes_goes_to_the_device_of_the_network(data, small_config, settings):
    # Tensors that name no device land on "meta" here, and meet none of the CPU without an error.
    config = dataclasses.replace(small_config, epochs=1, **settings)
    expected = sasrec.train(data, config)

    with torch.device("meta"):
        found = sasrec.train(data, config)
        answer = found.recommend(data.log.users.ids[:5])

    assert answer.equals(expected.recommend(data.log.users.ids[:5]))


def test_a_device_that_is_not_there_is_refused_before_training(data, small_config, monkeypatch):
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine.torch.backends.mps, "is_available", lambda: False)

    with pytest.raises(ConfigError, match="device: torch finds no 'cuda' here; set device='cpu'"):
        sasrec.train(data, dataclasses.replace(small_config, device="cuda"))
    assert settling.settled(sasrec.Config(device="auto"), data.train, items=9).device == "cpu"


@pytest.mark.parametrize(("there", "device"), [({"cuda", "mps"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu")])
def test_auto_takes_a_gpu_where_torch_finds_one(data, monkeypatch, there, device):
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(machine.torch.backends.mps, "is_available", lambda: "mps" in there)

    assert settling.settled(sasrec.Config(device="auto"), data.train, items=9).device == device


def test_a_model_knows_the_settings_as_they_were_settled(data):
    model = sasrec.train(data, sasrec.Config(width=8, length=5, epochs=1))

    assert model.scorer.config == settling.settled(
        sasrec.Config(width=8, length=5, epochs=1), data.train, items=len(data.log.items)
    )


@pytest.mark.parametrize(("repeats", "expected"), [(0, True), (1, True), (2, False), (100, False)])
def test_seen_items_may_come_again_where_more_than_one_validation_target_in_a_hundred_repeats(
    log_of, repeats, expected
):
    rows = {f"u{u:03}": ["a", "b", "a" if u < repeats else "c", "d"] for u in range(100)}

    model = sasrec.train(sasrec.split(log_of(rows)), sasrec.Config(width=4, length=3, epochs=1, threads=1))

    assert model.exclude_seen is expected
    assert model.record["exclude_seen"] is expected


def test_a_model_knows_everything_of_the_log(small_model, walks, data):
    assert small_model.users.ids.equals(walks.users.ids)
    assert small_model.items.ids.equals(walks.items.ids)
    np.testing.assert_array_equal(small_model.histories.items, walks.histories.items)
    assert small_model.record["data"] == data.fingerprint
    assert small_model.record["split"] == data.rule
    assert small_model.record["torch"] == torch.__version__


# Learning


@pytest.mark.parametrize("norm", ["paper", "pre"])
def test_a_pattern_that_needs_two_items_of_memory_is_learned(log_of, norm):
    # Four tracks t0 s t1 s t2 s t0 s ...: what follows s depends on the item before it.
    rows = {
        f"u{user:02}": ["s" if step % 2 else f"t{user % 4}{step // 2 % 3}" for step in range(8 + user // 4 % 6)]
        for user in range(60)
    }
    data = sasrec.split(log_of(rows))
    config = sasrec.Config(
        width=16, length=12, norm=norm, dropout=0.0, batch=10, learning_rate=0.005, epochs=60, patience=30, threads=1
    )

    report = sasrec.evaluate(sasrec.train(data, config), data)

    assert report["NDCG@10"] > 0.95
    assert report.row("Markov").metrics["NDCG@10"][0] < 0.75, "the last item alone does not tell"


@both_losses
def test_a_simple_cycle_is_learned_with_either_loss(log_of, loss):
    rows = {f"u{user:02}": [f"i{(user + step) % 12:02}" for step in range(9)] for user in range(36)}
    data = sasrec.split(log_of(rows))
    config = sasrec.Config(
        width=16, length=8, blocks=1, dropout=0.0, batch=12, learning_rate=0.01, epochs=40, loss=loss, threads=1
    )

    report = sasrec.evaluate(sasrec.train(data, config), data)

    assert report["NDCG@10"] > 0.95


def test_negatives_are_never_of_the_users_training_history(data, small_config, monkeypatch):
    draws = []
    draw = UnseenSampler.draw

    def recorded(self, users, count, rng):
        draws.append((users, draw(self, users, count, rng)))
        return draws[-1][1]

    monkeypatch.setattr(UnseenSampler, "draw", recorded)

    sasrec.train(data, replace(small_config, epochs=1, loss="bce", negatives=3))

    train = data.train
    assert len(draws) == 4
    for users, negatives in draws:
        assert negatives.shape == (len(users), 3)
        for user, items in zip(users, negatives, strict=True):
            assert not {*items.tolist()} & {*train[user].tolist()}


# Unusual logs


@both_losses
@pytest.mark.parametrize(
    "rows",
    [
        {"ada": ["x", "y", "z", "w"]},
        {"ada": ["x"] * 5, "bob": ["x"] * 4},
        {"ada": ["x", "y", "z", "w"], "bob": ["x"], "cyd": ["w"]},
        {"ada": ["x", "y", "z", "w", "v"], "bob": ["x", "y"], "cyd": ["v", "x", "w"]},
    ],
    ids=["one user", "one item", "one-event users", "a user who owns every item"],
)
def test_unusual_logs_train_to_a_model_that_answers(log_of, rows, loss):
    log = log_of(rows)

    model = sasrec.train(sasrec.split(log), sasrec.Config(width=4, length=3, epochs=2, loss=loss, threads=1))

    answer = model.recommend(log.users.ids, k=10, exclude_seen=False)
    assert len(answer) == len(log.users) * len(log.items)
    assert answer["score"].is_finite().all()


@both_losses
def test_a_history_of_twelve_thousand_events_is_trained_on_its_last_ones(log_of, loss):
    rows = {"long": [f"i{i % 50}" for i in range(12_000)], "short": ["i1", "i2", "i3"]}
    data = sasrec.split(log_of(rows))

    model = sasrec.train(data, sasrec.Config(width=4, length=20, epochs=1, loss=loss, threads=1))

    assert len(model.recommend(["long"], k=5)) == 5


def test_users_of_one_event_change_nothing_that_is_learned(log_of, walks, small_config):
    histories = {user: walks.items.raw(walks.histories[row]).to_list() for row, user in enumerate(walks.users.ids)}
    more = log_of(histories | {f"v{one}": ["i03"] for one in range(50)})
    config = replace(small_config, epochs=2)

    assert equal_weights(sasrec.train(sasrec.split(walks), config), sasrec.train(sasrec.split(more), config))


def test_a_log_without_two_training_events_is_refused(log_of):
    data = sasrec.split(log_of({"ada": ["x", "y", "z"], "bob": ["x", "z", "y"]}))

    with pytest.raises(DataError, match="no user has two events to train on; give a log with longer histories"):
        sasrec.train(data)


def test_a_split_without_validation_is_refused(log_of, walks):
    whole = sasrec.split(walks)

    with pytest.raises(DataError, match="the split leaves nobody to validate on"):
        sasrec.train(replace(whole, valid_at=np.full_like(whole.valid_at, -1)))


# Progress


def test_lines_of_progress_appear_only_when_asked_for(data, small_config, capsys):
    sasrec.train(data, replace(small_config, epochs=2))
    silent = capsys.readouterr()
    sasrec.train(data, replace(small_config, epochs=2), progress=True)
    shown = capsys.readouterr()

    assert (silent.out, silent.err, shown.out) == ("", "", "")
    assert [line.split()[:2] for line in shown.err.splitlines()] == [["epoch", "1"], ["epoch", "2"]]
    assert "valid NDCG@10" in shown.err
    assert "  best so far" in shown.err.splitlines()[0]


def test_a_model_of_a_pandas_log_answers_in_pandas(small_config):
    import pandas as pd

    rows = pd.DataFrame({"user_id": ["a"] * 4 + ["b"] * 4, "item_id": ["x", "y", "z", "w", "w", "z", "y", "x"]})

    model = sasrec.train(sasrec.split(sasrec.read_log(rows)), replace(small_config, epochs=1))

    assert isinstance(model.recommend(["a"], exclude_seen=False), pd.DataFrame)
    assert isinstance(model.recommend(pl.Series(["a"]), exclude_seen=False), pl.DataFrame)


# The loss by the size of the catalogue


SAMPLED = {
    "loss": "sampled-softmax",
    "negatives": 1024,
    "sampler": "mixed",
    "share_negatives": True,
    "logq": True,
    "item_updates": "touched",
}
EXACT = {
    "loss": "softmax",
    "negatives": 1,
    "sampler": "unseen",
    "share_negatives": False,
    "logq": False,
    "item_updates": "all",
}


@pytest.mark.parametrize(
    ("asked", "items", "expected"),
    [
        ({}, 50_000, EXACT),
        ({}, 50_001, SAMPLED),
        ({"loss": "softmax"}, 50_001, EXACT),
        ({"loss": "sampled-softmax"}, 9, SAMPLED | {"item_updates": "all"}),
        ({"negatives": 64, "sampler": "uniform"}, 50_001, SAMPLED | EXACT | {"loss": "sampled-softmax"}),
        ({"swap_items": 0.1}, 50_001, SAMPLED | {"sampler": "uniform"}),
        ({"weight_decay": 1e-8}, 50_001, SAMPLED | {"item_updates": "all"}),
        ({"item_l2": 1e-8}, 50_001, SAMPLED | {"item_updates": "all"}),
        ({"average": 0.99}, 50_001, SAMPLED | {"item_updates": "all"}),
        ({"loss": "bce"}, 9, EXACT | {"loss": "bce"}),
        ({"loss": "bce"}, 50_001, EXACT | {"loss": "bce", "item_updates": "touched"}),
        ({"loss": "bce", "share_negatives": True}, 9, SAMPLED | {"loss": "bce", "logq": False, "item_updates": "all"}),
        ({"loss": "bce", "item_updates": "touched"}, 9, EXACT | {"loss": "bce", "item_updates": "touched"}),
    ],
)
def test_the_loss_and_what_belongs_to_it_are_settled_by_the_size_of_the_catalogue(data, asked, items, expected):
    found = settling.settled(sasrec.Config(**asked), data.train, items=items).to_dict()

    given = expected | {name: value for name, value in asked.items() if name in expected}
    if asked.get("sampler"):  # whoever names a sampler says what else is done with its draws
        given |= {"item_updates": "touched"}
    assert {name: found[name] for name in given} == given


def test_no_preset_changes_its_loss_with_the_catalogue(data):
    for name in PRESETS:
        config = sasrec.preset(name)
        small, large = (settling.settled(config, data.train, items=items) for items in (9, 10_000_000))

        assert small == large
        assert {one: getattr(small, one) for one in EXACT} == {one: getattr(config, one) for one in EXACT}


def test_a_model_says_what_was_chosen_for_it_and_why(data, small_config):
    names = ("width", "length", "positions", "initial", "windows", "dropout", "batch", "loss", "label_smoothing")
    asked = dict.fromkeys(names, "auto")
    automatic = replace(small_config, epochs=1, **asked)
    chosen = replace(small_config, epochs=1, loss="softmax", length=5, initial="small", dropout=0.3, batch=8)

    users, events = len(data.train), len(data.train.items)
    assert sasrec.train(data, automatic).record["automatic"] == {
        "width": "128, as 25 items are no more than 50,000",
        "length": f"50, as users with training events have {events / users:.1f} on average",
        "positions": f"learned, as users with training events have {events / users:.1f} on average",
        "initial": f"counted, as items have {events / 25:.1f} training events on average",
        "dropout": f"0.47, as items have {events / 25:.1f} training events on average",
        "windows": "last, as 0.0% of the training events lie before the last 51 of their users",
        "batch": f"16, as {users} users have training events",
        "loss": "exact cross-entropy (softmax), as 25 items are no more than 50,000",
        "label_smoothing": f"0.0, as users with training events have {events / users:.1f} on average",
    }
    assert sasrec.train(data, chosen).record["automatic"] == {}


@pytest.mark.parametrize(
    ("mean", "asked", "smoothing", "why"),
    [
        (49, {}, 0.0, "users with training events have 49.0 on average"),
        (50, {}, 0.1, "users with training events have 50.0 on average"),
        (50, {"loss": "bce"}, 0.0, "the loss draws"),
    ],
)
def test_targets_are_smoothed_where_users_have_many_events_and_all_items_are_scored(mean, asked, smoothing, why):
    config, train = sasrec.Config(**asked), Sequences.of([[0] * (mean - 1), [0] * (mean + 1)])
    taken = settling.settled(config, train, items=9)

    assert taken.label_smoothing == smoothing
    assert settling.reasons(config, taken, train, items=9)["label_smoothing"] == f"{smoothing}, as {why}"


@pytest.mark.parametrize(
    ("events", "items", "initial", "why"),
    [
        (890, 9, "counted", "items have 98.9 training events on average"),
        (900, 9, "small", "items have 100.0 training events on average"),
        (890, 50_001, "small", "50,001 items are more than 50,000"),
    ],
)
def test_item_vectors_begin_with_counts_where_items_are_seldom(events, items, initial, why):
    train = Sequences.of([[0] * 10] * (events // 10))
    taken = settling.settled(sasrec.Config(), train, items=items)

    assert taken.initial == initial
    assert settling.reasons(sasrec.Config(), taken, train, items=items)["initial"] == f"{initial}, as {why}"


@pytest.mark.parametrize(
    ("lengths", "asked", "windows", "why"),
    [
        ([10, 61], {"length": 40}, "random", "28.2% of the training events lie before the last 41 of their users"),
        ([10, 41], {"length": 40}, "last", "0.0% of the training events lie before the last 41 of their users"),
        ([50, 50], {"length": 39}, "last", "20.0% of the training events lie before the last 40 of their users"),
        ([50, 50], {"length": 38}, "random", "22.0% of the training events lie before the last 39 of their users"),
        ([10, 61], {"length": 40, "learn": "last"}, "last", "the last event of each alone is a target"),
    ],
)
def test_windows_are_random_where_the_last_ones_leave_much_of_the_log_out(lengths, asked, windows, why):
    train = Sequences.of([[0] * length for length in lengths])
    asked = sasrec.Config(**asked)
    taken = settling.settled(asked, train, items=9)

    assert taken.windows == windows
    assert settling.reasons(asked, taken, train, items=9)["windows"] == f"{windows}, as {why}"


@pytest.mark.parametrize("mean", [10, 60])
def test_a_network_without_positions_is_not_said_to_have_any(mean):
    train = Sequences.of([[0] * mean])
    asked = sasrec.Config(network="stamp", learn="last", width=8, batch=1)
    taken = settling.settled(asked, train, items=9)

    assert settling.reasons(asked, taken, train, items=9)["positions"] == "none, as stamp has no place for them"


@pytest.mark.parametrize("mean", [10, 60])
def test_of_a_network_without_blocks_it_is_said_why_positions_are_not_relative(mean):
    train, asked = Sequences.of([[0] * mean]), sasrec.Config(blocks=0, width=8, batch=1)
    taken = settling.settled(asked, train, items=9)

    said = settling.reasons(asked, taken, train, items=9)["positions"]

    assert said == "learned, as without blocks nothing reads distances"


def test_a_catalogue_beyond_the_bound_is_trained_with_sampled_softmax(data, small_config, monkeypatch):
    monkeypatch.setattr(settling, "_MANY_ITEMS", 24)

    model = sasrec.train(data, replace(small_config, epochs=2, width="auto"))

    assert (model.scorer.config.width, model.scorer.config.loss) == (64, "sampled-softmax")
    assert model.record["automatic"]["width"] == "64, as 25 items are more than 24"
    assert model.record["automatic"]["loss"] == (
        "sampled softmax over 1,024 negatives, as 25 items are more than 24; loss='softmax' is exact"
    )
    assert model.record["history"][1]["loss"] < model.record["history"][0]["loss"]


# What the settings do to a step


def training_of(histories, *, items=9, **settings):
    defaults = {"width": 4, "length": 6, "dropout": 0.0, "batch": 16, "precision": "float32", "schedule": "constant"}
    config = settling.settled(sasrec.Config(**defaults | settings), Sequences.of(histories), items=items)
    return begin(Sequences.of(histories), items=items, config=config)


def moved(training):
    """What one epoch of a single step does to each weight, and what it was before."""
    before = {name: one.detach().clone() for name, one in training.network.named_parameters()}
    training.epoch(1)
    return before, {name: one.detach() - before[name] for name, one in training.network.named_parameters()}


# Item 8 and position 5 take part in nothing: a penalty alone can move them, and by one whole step of Adam.
IDLE = {"loss": "bce", "sampler": "in-batch", "learning_rate": 1e-3}
SHORT = [[0, 1, 2], [3, 4], [5, 6, 7]]


def test_item_l2_draws_item_vectors_alone_to_zero():
    before, step = moved(training_of(SHORT, item_l2=0.5, **IDLE))

    np.testing.assert_allclose(step["items.weight"][8], -1e-3 * before["items.weight"][8].sign(), rtol=1e-3)
    assert (step["positions.weight"][3:] == 0).all()


def test_weight_decay_draws_all_weights_to_zero_and_item_l2_adds_to_it():
    before, step = moved(training_of(SHORT, weight_decay=0.5, **IDLE))

    for name, row in (("items.weight", 8), ("positions.weight", 5)):
        np.testing.assert_allclose(step[name][row], -1e-3 * before[name][row].sign(), rtol=1e-3)
    groups = training_of(SHORT, weight_decay=0.5, item_l2=0.25, **IDLE).optimiser.adam.param_groups
    assert [group["weight_decay"] for group in groups] == [0.75, 0.5]


def test_without_a_penalty_what_takes_no_part_stays():
    _, step = moved(training_of(SHORT, **IDLE))

    assert (step["items.weight"][8] == 0).all()
    assert (step["positions.weight"][3:] == 0).all()
    assert (step["items.weight"][:8] != 0).any(dim=1).all()


@pytest.mark.parametrize("beta2", [0.9, 0.999])
def test_a_step_is_that_of_adam_with_these_betas(beta2):
    training = training_of(SHORT, beta2=beta2, learning_rate=0.01)
    twin = training_of(SHORT, beta2=beta2, learning_rate=0.01)
    adam = torch.optim.Adam(twin.network.parameters(), lr=0.01, betas=(0.9, beta2))

    for number in range(1, 4):
        training.epoch(number)
        (batch,) = steps.batches(twin.train, windows_of(twin.config, twin.train, twin.rng), size=16, rng=twin.rng)
        adam.zero_grad()
        twin._loss(batch, twin.objective.draw(batch, twin.rng)).backward()
        adam.step()

    for ours, theirs in zip(training.network.items.parameters(), twin.network.items.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_every_step_has_the_rate_of_its_schedule():
    training = training_of(SHORT, batch=1, schedule="one-cycle", epochs=4, learning_rate=0.01)
    rates = []

    for number in range(1, 5):
        training.epoch(number, lambda *_: rates.append(training.optimiser.adam.param_groups[0]["lr"]))

    assert rates == [steps.rate(training.config, step, 12) for step in range(12)]
    assert len({group["lr"] for group in training.optimiser.adam.param_groups}) == 1


@pytest.mark.parametrize(("every", "judged"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (9, [5])])
def test_epochs_are_judged_every_so_often_and_at_the_end(data, small_config, tmp_path, every, judged):
    config = replace(small_config, epochs=5, validate_every=every)

    model = sasrec.train(data, config, history=tmp_path / "h.jsonl", progress=False)
    results = results_in(tmp_path / "h.jsonl")

    assert [result["epoch"] for result in results if result["ndcg"] is not None] == judged
    assert [result["epoch"] for result in results] == [1, 2, 3, 4, 5]
    assert model.record["best"]["epoch"] in judged
    assert not [result for result in results if result["best"] and result["ndcg"] is None]


def test_patience_counts_validations(data, small_config, monkeypatch):
    scores = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr("sasrec.evaluation.ranking.ndcg", lambda ranks, k: np.full(len(ranks), next(scores)))

    config = replace(small_config, epochs=50, patience=2, validate_every=3)
    model = sasrec.train(data, config, progress=False)

    assert model.record["epochs"] == 9
    assert model.record["best"]["epoch"] == 3
    assert model.record["stopped"] == "no better for 2 validations, one every 3 epochs"


@pytest.mark.parametrize(("weighted", "odds"), [(False, 1.0), (True, 10.0)])
def test_weights_of_events_are_the_odds_that_are_learned(weighted, odds):
    # After item 0 half of the users had 1, half 2; the events of 2 weigh ten times as much.
    items = np.array([[0, 1], [0, 2]] * 8, np.int32).ravel()
    weights = np.where(items == 2, 10.0, 1.0).astype(np.float32)
    train = Sequences(items, np.arange(0, 33, 2), weights=weights)
    config = sasrec.Config(width=8, dropout=0.0, batch=16, learning_rate=0.02, weighted=weighted, precision="float32")
    training = begin(train, items=3, config=settling.settled(config, train, items=3))

    for number in range(1, 301):
        training.epoch(number)
    scores = Neural(training.network, training.config).scores(Sequences.of([[0]]))[0]

    assert float(np.exp(scores[2] - scores[1])) == pytest.approx(odds, rel=0.05)
    assert scores[0] < scores[1] - 2


def test_label_smoothing_leaves_its_share_to_what_never_happened():
    # Item 1 always follows item 0; a share of 0.3 spread over three items makes it 0.8, and 0.1 each for the others.
    histories = [[0, 1]] * 16
    training = training_of(histories, items=3, width=8, learning_rate=0.02, label_smoothing=0.3)

    for number in range(1, 301):
        training.epoch(number)
    scores = Neural(training.network, training.config).scores(Sequences.of([[0]]))[0]

    assert (np.exp(scores) / np.exp(scores).sum()).tolist() == pytest.approx([0.1, 0.8, 0.1], abs=0.01)


def test_label_smoothing_is_refused_where_the_catalogue_is_too_large_for_the_exact_loss(
    data, small_config, monkeypatch
):
    monkeypatch.setattr(settling, "_MANY_ITEMS", 24)

    with pytest.raises(ConfigError, match=r"label_smoothing: .*found loss='sampled-softmax'; set loss='softmax'"):
        sasrec.train(data, replace(small_config, label_smoothing=0.1))


@pytest.mark.parametrize(
    "settings",
    [
        {"windows": "rolling", "learn": "last"},
        {"windows": "random"},
        {"swap_items": 0.2, "swap_users": 0.3, "user_width": 4},
        {"loss": "sampled-softmax", "sampler": "mixed", "negatives": 7, "logq": True, "share_negatives": True},
        {"network": "stamp", "learn": "last", "positions": "none"},
        {"norm": "query-only", "positions": "none"},
        {"norm": "pre", "positions": "both", "heads": 2},
        {"branch": "convolution", "label_smoothing": 0.1, "average": 0.9},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_one_seed_gives_the_same_bits_with_every_kind_of_draw(data, small_config, settings):
    first, again = (sasrec.train(data, replace(small_config, **settings), progress=False) for _ in range(2))

    assert equal_weights(first, again)


# What nothing reads is refused


def nobody(rows, count, rng):
    raise AssertionError("asked")


@pytest.mark.parametrize(
    ("settings", "drawn", "named"),
    [
        (
            {"sampler": "popularity"},
            False,
            "sampler='popularity': loss='auto', which is 'softmax' for 8 items, does not",
        ),
        ({"negatives": 50, "loss": "softmax"}, False, "negatives=50: loss='softmax' does not read it"),
        ({"share_negatives": True}, False, "share_negatives=True: .* does not read it; set it to False, or set a loss"),
        ({"logq": True}, False, "logq=True: .* does not read it; set it to False, or set a loss"),
        ({"loss": "sampled-softmax", "precision": "bfloat16"}, False, "precision='bfloat16': loss='sampled-softmax'"),
        ({}, True, "draw: loss='auto', which is 'softmax' for 8 items, draws nothing; set one that does"),
        (
            {"loss": "bce", "sampler": "uniform", "share_negatives": True},
            True,
            "draw: .*leave share_negatives and logq",
        ),
        ({"loss": "bce", "sampler": "uniform", "logq": True}, True, "draw: .*leave share_negatives and logq off"),
    ],
)
def test_what_the_loss_does_not_read_is_refused(log_of, settings, drawn, named):
    data = sasrec.split(log_of({"ada": "abcde", "bob": "defgh"}))

    with pytest.raises(sasrec.ConfigError, match=f"^{named}"):
        sasrec.train(data, sasrec.Config(epochs=1, width=8, **settings), draw=nobody if drawn else None)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_settings_of_a_preset_with_the_exact_loss_are_taken_or_say_how_they_are(log_of, name):
    data = sasrec.split(log_of({"ada": "abcde", "bob": "defgh"}))
    config = replace(sasrec.preset(name), loss="softmax", epochs=1)
    if name == "esasrec":
        with pytest.raises(
            ConfigError, match=r"^negatives=256: .* does not read it; set it to 'auto', or leave it out,"
        ):
            sasrec.train(data, config)
        config = replace(config, negatives="auto")

    assert settling.settled(config, data.train, items=8).loss == "softmax"


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (
            lambda rows, count, rng: rng.integers(8, size=len(rows)),
            "gave int64 of shape (T,); give integers of shape (T, 2)",
        ),
        (lambda rows, count, rng: rng.integers(8, size=(len(rows), 3)), "gave int64 of shape (T, 3); give integers of"),
        (lambda rows, count, rng: rng.random((len(rows), count)), "gave float64 of shape (T, 2); give integers of"),
        (lambda rows, count, rng: np.ones((len(rows), count), bool), "gave bool of shape (T, 2); give integers of"),
        (
            lambda rows, count, rng: [[1] * count for _ in rows],
            "gave a list; give a NumPy array of integers of shape (T, 2)",
        ),
        (lambda rows, count, rng: None, "gave a NoneType; give a NumPy array of integers"),
        (
            lambda rows, count, rng: np.full((len(rows), count), -7),
            "gave -7, which is no row of 8 items; give 0 to 7, or -1",
        ),
        (lambda rows, count, rng: np.full((len(rows), count), 8), "gave 8, which is no row of 8 items; give 0 to 7"),
        (
            lambda rows, count, rng: np.full((len(rows), count), 2**63, np.uint64),
            "gave 9223372036854775808, which is no",
        ),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["alone", "with features"])
def test_what_is_drawn_is_item_rows_of_the_shape_asked_for(log_of, draw, said, given):
    data = sasrec.split(log_of({"ada": "abcde", "bob": "defgh"}))  # four targets
    config = sasrec.Config(epochs=1, width=8, loss="bce", negatives=2, windows="last")
    kinds = pl.DataFrame({"item_id": data.log.items.ids, "kind": "one"})
    features = sasrec.read_features(kinds, data.log.items, columns=["kind"]) if given else None

    with pytest.raises(ConfigError) as error:
        sasrec.train(data, config, draw=draw, features=features)

    assert str(error.value).startswith(f"draw: {said.replace('(T', '(4')}")


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint16, np.int64])
def test_what_is_drawn_may_be_integers_of_any_size(log_of, kind):
    data = sasrec.split(log_of({"ada": "abcde", "bob": "defgh"}))
    config = sasrec.Config(epochs=1, width=8, loss="bce", negatives=2)

    found, expected = (
        sasrec.train(data, config, draw=lambda rows, count, rng, one=one: np.full((len(rows), count), 7, one))
        for one in (kind, np.int64)
    )

    assert equal_weights(found, expected)


def test_precision_is_that_of_exact_cross_entropy_alone(log_of, monkeypatch):
    monkeypatch.setattr(settling, "has_fast_bfloat16", lambda: True)
    train = Sequences.of([[0, 1, 2]])

    taken = {loss: settling.settled(sasrec.Config(loss=loss), train, items=9).precision for loss in ("auto", "bce")}

    assert taken == {"auto": "bfloat16", "bce": "float32"}


@pytest.mark.parametrize("later", [0, 400], ids=["everybody at once", "many who come later"])
def test_users_of_whom_nothing_is_known_yet_settle_nothing(later):
    train = Sequences.of([[0, 1, 2] * 20] * 100 + [[]] * later)

    taken = settling.settled(sasrec.Config(), train, items=9)

    assert (taken.length, taken.positions, taken.batch) == (200, "both", 16)
    assert settling.reasons(sasrec.Config(), taken, train, items=9)["batch"] == "16, as 100 users have training events"


def test_whoever_comes_after_the_training_period_has_the_vector_of_the_unknown(small_config):
    train = Sequences.of([[0, 1, 2, 3], [2], [], *[[1, 2, 3, 4]] * 60])
    config = settling.settled(replace(small_config, user_width=3, swap_users=0.5, average=0.5), train, items=5)
    training = begin(train, items=5, config=config)

    for number in (1, 2):
        training.epoch(number)
        with training.judged() as network:
            vectors = network.users.weight.detach().clone()

    assert vectors[network.users.unknown].abs().sum() > 0
    assert torch.equal(vectors[[1, 2]], vectors[[-1, -1]])
    assert not torch.equal(vectors[0], vectors[-1])


def test_a_loss_that_rounds_to_nothing_has_no_sign(capsys):
    Lines().epoch(EpochResult(1, -1e-9, None, None, 0.5, best=False))

    assert "loss 0.0000" in capsys.readouterr().err
