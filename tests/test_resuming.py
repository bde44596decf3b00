"""A training that was stopped, however that came, goes on to the same bits; another one is refused."""

import json
import os
import resource
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.survival.training import SETTINGS, digest

import sasrec
from sasrec.data.features import Features, Recipe
from sasrec.errors import BundleError, ConfigError, DataError, OutputError
from sasrec.training import resuming

every_kind = pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: "-".join(map(str, one.values())))
ALWAYS = 1e-9  # minutes: after every step


class PowerError(Exception):
    pass


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture
def config(small_config):
    return replace(small_config, epochs=4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "walks.training"


@pytest.fixture
def cut(monkeypatch):
    """Lets the next training end in the middle of a step, so many steps after it began."""

    def install(steps):
        left = iter(range(steps))

        def step(epoch, loss):
            if next(left, None) is None:
                raise PowerError

        told = SimpleNamespace(step=step, epoch=lambda result: None)
        monkeypatch.setattr("sasrec.training.training.watched", lambda *_, **__: nullcontext(told))

    yield install
    monkeypatch.undo()


def categories(rows, *genres):
    """One genre for every item."""
    recipe = Recipe(columns=("genre",), values=tuple(("genre", genre) for genre in genres))
    return Features(rows, np.arange(len(rows) + 1), None, None, recipe)


def lasting(model):
    """Weights and record without what the clock says."""
    best = {name: value for name, value in model.record["best"].items() if name != "seconds"}
    record = {name: value for name, value in model.record.items() if name not in ("seconds", "cpu_seconds")}
    return digest(model), record | {"best": best}


def stopped(data, config, path, cut, steps, **options):
    """Leave a training behind whose state is that of so many steps."""
    cut(steps)
    with pytest.raises(PowerError):
        sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path, every=ALWAYS), **options)
    cut(10**9)


def resumed(data, config, path, **options):
    return sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path, resume=True), **options)


# The same bits


@every_kind
def test_a_training_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(data, config, path, cut, settings):
    config = replace(config, **settings)
    whole = sasrec.train(data, config)
    steps = whole.record["steps"]

    # After the last step of the first epoch, and within the third.
    for number in (steps // config.epochs, steps // 2 + 1):
        stopped(data, config, path, cut, number)
        again = resumed(data, config, path)
        path.unlink()

        assert lasting(again) == lasting(whole), number


def test_a_training_may_be_stopped_again_and_again(data, config, path, cut):
    whole = sasrec.train(data, config)
    checkpoint = sasrec.Checkpoint(path, every=ALWAYS)

    stopped(data, config, path, cut, 1)
    for _ in range(whole.record["steps"] // 3 - 1):
        cut(3)
        with pytest.raises(PowerError):
            sasrec.train(data, config, checkpoint=replace(checkpoint, resume=True))
    cut(10**9)
    again = resumed(data, config, path)

    assert lasting(again) == lasting(whole)


def test_training_with_features_goes_on_to_the_same_bits(data, config, path, cut):
    items = len(data.log.items)
    features = categories(np.arange(items) % 3, "a", "b", "c")
    config = replace(config, loss="sampled-softmax", item_updates="touched", negatives=5)
    whole = sasrec.train(data, config, features=features)

    stopped(data, config, path, cut, 6, features=features)
    again = resumed(data, config, path, features=features)

    assert lasting(again) == lasting(whole)


def test_writing_its_state_does_not_change_a_training(data, config, path):
    plain = sasrec.train(data, config)

    kept = sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path, every=ALWAYS))

    assert lasting(kept) == lasting(plain)
    assert path.exists(), "until the model is saved"


def test_the_best_weights_of_an_epoch_before_the_stop_are_kept(data, config, path, cut):
    config = replace(config, epochs=12, patience=4, learning_rate=0.03)
    whole = sasrec.train(data, config)
    steps = whole.record["steps"] // whole.record["epochs"]
    assert whole.record["best"]["epoch"] < whole.record["epochs"] - 2
    assert whole.record["stopped"] == "no better for 4 epochs"

    stopped(data, config, path, cut, steps * (whole.record["epochs"] - 1) + 1)
    again = resumed(data, config, path)

    assert lasting(again) == lasting(whole)


def test_the_time_before_the_stop_counts(data, config, path, cut, monkeypatch):
    hours = iter([7200.0, 7000.0])
    monkeypatch.setattr("sasrec.training.costs.Clock.seconds", property(lambda self: next(hours, 7200.0)))
    stopped(data, config, path, cut, 2)
    monkeypatch.setattr("sasrec.training.costs.Clock.seconds", property(lambda self: 0.0 - self._started))
    monkeypatch.setattr("sasrec.training.costs.time.perf_counter", lambda: 0.0)

    again = resumed(data, config, path)

    assert again.record["seconds"] == 7200.0


def test_every_epoch_has_one_line_of_history_however_often_it_was_trained(data, config, path, cut, tmp_path):
    sasrec.train(data, config, history=tmp_path / "whole.jsonl")
    parts = tmp_path / "parts.jsonl"
    parts.write_text("kept\n")
    stopped(data, config, path, cut, 6, history=parts)
    early = path.read_bytes()
    cut(7)
    with pytest.raises(PowerError):  # trained on to the fourth epoch, whose state is lost
        sasrec.train(data, config, history=parts, checkpoint=sasrec.Checkpoint(path, resume=True))
    cut(10**9)
    assert path.read_bytes() == early

    resumed(data, config, path, history=parts)

    kept, *lines = parts.read_text().splitlines()
    assert kept == "kept"
    assert [{**json.loads(line), "seconds": 0} for line in lines] == untimed(tmp_path / "whole.jsonl")


def untimed(history):
    return [{**json.loads(line), "seconds": 0} for line in history.read_text().splitlines()]


@pytest.mark.parametrize("left", [1, 9, 40, -1])
def test_a_line_of_history_that_was_cut_short_is_told_again(data, config, path, cut, tmp_path, left):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    steps = sasrec.train(data, config, history=whole).record["steps"] // config.epochs
    stopped(data, config, path, cut, 2 * steps + 1, history=parts)
    first, second, _ = parts.read_text().split("\n")
    parts.write_text(f"{first}\n{second[:left]}")

    resumed(data, config, path, history=parts)

    assert untimed(parts) == untimed(whole)


def test_a_line_of_history_that_lacks_its_end_alone_is_kept(data, config, path, cut, tmp_path):
    parts = tmp_path / "parts.jsonl"
    stopped(data, config, path, cut, 6, history=parts)
    before = parts.read_text().rstrip("\n")
    parts.write_text(before)

    resumed(data, config, path, history=parts)

    assert parts.read_text().startswith(f"{before}\n")
    assert [line["epoch"] for line in untimed(parts)] == [1, 2, 3, 4]


def test_where_the_disk_refuses_the_history_it_stays_whole_lines_and_the_state_is_written(data, config, path, tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    sasrec.train(data, config, history=whole)
    parts.write_text("# kept\n" * 2**18)  # more than a state has, which the disk still takes
    before = parts.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 200, hard))  # room for one line and a half
        with pytest.raises(OutputError, match=r"parts\.jsonl: cannot be written: File too large; choose another file"):
            sasrec.train(data, config, history=parts, checkpoint=sasrec.Checkpoint(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = parts.read_bytes()[before:]
    again = tmp_path / "again.jsonl"
    again.write_bytes(told)

    resumed(data, config, path, history=again)

    assert told.count(b"\n") == 1
    assert told.endswith(b"\n")
    assert untimed(again) == untimed(whole)


def test_a_device_that_takes_nothing_is_one_clear_error(data, config):
    if not os.path.exists("/dev/full"):
        pytest.skip("no device here that is full")

    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device; choose another"):
        sasrec.train(data, config, history="/dev/full")


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_history_that_is_no_text_is_refused(data, config, path, cut, tmp_path, goes_on):
    stopped(data, config, path, cut, 6)
    (tmp_path / "history").write_bytes(b"\xff\xfe")

    with pytest.raises(OutputError, match=r"history: cannot be read as lines of text: .*; choose another file"):
        sasrec.train(
            data,
            config,
            history=tmp_path / "history",
            checkpoint=sasrec.Checkpoint(path, resume=True) if goes_on else None,
        )

    assert (tmp_path / "history").read_bytes() == b"\xff\xfe"


def test_a_training_that_came_to_its_end_goes_on_from_there(data, config, path, cut, capsys):
    whole = sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path))

    cut(0)
    again = resumed(data, config, path, progress=True)

    assert lasting(again) == lasting(whole)
    assert f"all epochs trained, after {whole.record['steps']} steps" in capsys.readouterr().err


# Another training


def test_another_log_is_refused(walks, config, path, cut, log_of):
    stopped(sasrec.split(walks), config, path, cut, 2)
    histories = {user: walks.items.raw(walks.histories[row]).to_list() for row, user in enumerate(walks.users.ids)}

    with pytest.raises(
        DataError, match=r"frame: holds other events than the log that .*walks\.training was trained on"
    ):
        resumed(sasrec.split(log_of(histories | {"u59": ["i01", "i02", "i03"]})), config, path)

    assert path.exists()


def test_another_split_is_refused(log_of, config, path, cut):
    log = log_of({f"u{u}": [f"i{(u + n) % 9}" for n in range(8)] for u in range(30)})
    timed = replace(log, histories=replace(log.histories, times=np.arange(240)))
    stopped(sasrec.split(timed), config, path, cut, 1)

    with pytest.raises(DataError, match=r"the split was .last-item: .* for .* and is 'time: .*' here; give what"):
        resumed(sasrec.split(timed, "time"), config, path)


@pytest.fixture
def fast(monkeypatch):
    """Says what the machine is from now on: whether bfloat16 is fast, how many threads it grants, its processor."""

    def install(bfloat16, threads, processor):
        monkeypatch.setattr("sasrec.training.settling.has_fast_bfloat16", lambda: bfloat16)
        monkeypatch.setattr("sasrec.training.settling.granted_threads", lambda: threads)
        monkeypatch.setattr("sasrec.training.machine._processor", lambda: processor)

    return install


AUTO = {"precision": "auto", "threads": "auto", "device": "auto"}


def test_what_the_machine_settled_stays_on_another_machine_with_a_warning(data, config, path, cut, fast):
    config = replace(config, **AUTO, loss="softmax")
    fast(True, 2, "one")
    whole = sasrec.train(data, config)
    stopped(data, config, path, cut, 5)
    fast(False, 1, "another")

    with pytest.warns(UserWarning, match="goes on") as told:
        again = resumed(data, config, path)

    settings = again.scorer.config
    assert (settings.precision, settings.threads, settings.device) == ("bfloat16", 2, "cpu")
    assert digest(again) == digest(whole)
    assert [str(one.message) for one in told] == [
        f"{path}: goes on with threads=2, which would be 1 here, precision='bfloat16', which would be 'float32' here",
        f"{path}: goes on, perhaps not to the same bits: processor one there and another here",
    ]


@pytest.mark.parametrize(("name", "there", "here"), [("precision", "bfloat16", "float32"), ("threads", 2, 1)])
def test_what_is_asked_for_in_the_place_of_what_the_machine_settled_is_refused(
    data, config, path, cut, fast, name, there, here
):
    fast(True, 2, "one")
    stopped(data, replace(config, **AUTO), path, cut, 2)

    with pytest.raises(ConfigError, match=f"settings differ: {name}={there!r} there and {here!r} here"):
        resumed(data, replace(config, **AUTO | {name: here}), path)


def test_a_device_that_is_not_here_is_not_gone_on_with(data, config, path, cut, monkeypatch):
    stopped(data, config, path, cut, 2)
    there = replace(config, device="auto").to_dict() | {"device": "cuda", "threads": 3}
    asked, taken = replace(config, **AUTO), replace(config, device="cpu")

    for present, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr("sasrec.training.resuming.has_device", lambda _, present=present: present)
        with pytest.warns(UserWarning, match="goes on with threads=3"):
            assert resuming.as_begun(path, there, asked, taken) == replace(taken, device=device, threads=3)


def test_other_settings_are_refused_and_named(data, config, path, cut):
    stopped(data, config, path, cut, 2)

    with pytest.raises(ConfigError) as error:
        resumed(data, replace(config, dropout=0.3, epochs=9), path)

    assert str(error.value) == (
        f"{path}: settings differ: dropout=0.2 there and 0.3 here, epochs=4 there and 9 here; give what {path} began "
        "with, or remove that file to start anew"
    )


def test_other_features_are_refused(data, config, path, cut):
    items = len(data.log.items)
    ones, others = (categories(rows % 2, "a", "b") for rows in (np.arange(items), np.arange(items) // 2))
    stopped(data, config, path, cut, 2, features=ones)

    for features in (others, None):
        with pytest.raises(ConfigError, match="the features of items differ"):
            resumed(data, config, path, features=features)


def test_a_sampler_of_ones_own_must_come_again(data, config, path, cut):
    config = replace(config, loss="bce")

    def draw(rows, count, rng):
        return rng.integers(25, size=(len(rows), count))

    whole = sasrec.train(data, config, draw=draw)
    stopped(data, config, path, cut, 5, draw=draw)

    with pytest.raises(ConfigError, match=r"a sampler of the caller's own \(draw\)"):
        resumed(data, config, path)
    assert lasting(resumed(data, config, path, draw=draw)) == lasting(whole)


def test_another_machine_goes_on_with_a_warning(data, config, path, cut, monkeypatch):
    stopped(data, config, path, cut, 2)
    here = resuming.describe()
    monkeypatch.setattr(resuming, "describe", lambda: {**here, "torch": "9.9"})

    with pytest.warns(UserWarning, match=r"goes on, perhaps not to the same bits: torch .* there and 9\.9 here"):
        resumed(data, config, path)


def test_a_stopped_training_is_never_overwritten_by_a_new_one(data, config, path, cut):
    stopped(data, config, path, cut, 2)
    before = path.read_bytes()

    with pytest.raises(
        sasrec.OutputError,
        match=r"holds a training that was stopped, or whose model was not saved; pass resume=True to go on with it",
    ):
        sasrec.train(data, config, checkpoint=sasrec.Checkpoint(path))

    assert path.read_bytes() == before


def test_where_nothing_was_stopped_nothing_goes_on(data, config, path):
    with pytest.raises(BundleError, match=r"walks\.training: there is no stopped training to go on with; start one"):
        resumed(data, config, path)


def test_a_whole_file_of_another_shape_is_refused(data, config, path, cut):
    stopped(data, config, path, cut, 2)
    checkpoint = sasrec.Checkpoint(path)
    state = checkpoint.read()
    name = next(name for name in state.tensors if name.startswith("training.optimiser.") and name.endswith("exp_avg"))
    for tensors in (
        state.tensors | {name: state.tensors[name][:1].clone()},
        {key: tensor for key, tensor in state.tensors.items() if key != "training.network.items.weight"},
        state.tensors | {"training.dropout.generator": state.tensors["training.dropout.generator"][:9].clone()},
    ):
        checkpoint.write(state._replace(tensors=tensors))

        with pytest.raises(BundleError, match="is whole but does not fit together"):
            resumed(data, config, path)


@pytest.mark.parametrize("part", ["training", "course"])
@pytest.mark.parametrize("value", [None, [], {"step": "many", "results": 3}])
def test_a_whole_file_of_other_values_is_refused(data, config, path, cut, part, value):
    stopped(data, config, path, cut, 2)
    checkpoint = sasrec.Checkpoint(path)
    state = checkpoint.read()
    checkpoint.write(state._replace(values={**state.values, part: value}))

    with pytest.raises(BundleError, match="is whole but does not fit together"):
        resumed(data, config, path)
