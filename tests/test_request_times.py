"""A network with `times` learns, is measured and answers with the times that its users would give it."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec import bundle
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError, DataError
from sasrec.training.batches import batches, last_windows, rolling_windows
from sasrec.training.beginning import begin
from sasrec.training.settling import settled

DAY = 86_400
START = 1_000_000_000


@pytest.fixture(scope="module")
def rows(timed_rows):
    return timed_rows


@pytest.fixture(scope="module")
def log(rows):
    return sasrec.read_log(rows)


@pytest.fixture(scope="module")
def data(log):
    return sasrec.split(log)


@pytest.fixture(scope="module")
def config(timed_config):
    return timed_config


@pytest.fixture(scope="module")
def model(timed_model):
    return timed_model


def user_of(model, row):
    return model.users.ids[row]


# What is known of times


def test_a_target_is_asked_for_at_its_own_time(log, data):
    for part, back in (("test", 1), ("valid", 2)):
        holdout = getattr(data, part)
        for place, user in enumerate(holdout.users):
            times = log.histories.times[log.histories.offsets[user] : log.histories.offsets[user + 1]]
            assert holdout.histories.asked[place] == times[-back]
            assert holdout.histories.lengths[place] == len(times) - back


def test_every_event_is_followed_by_the_next_one_or_by_the_request():
    histories = Sequences(
        np.arange(5, dtype=np.int32), np.array([0, 2, 5]), times=np.array([1, 4, 2, 3, 9]), asked=np.array([7, 10])
    )

    assert histories.followed().tolist() == [4, 7, 3, 9, 10]
    assert histories.last(2).followed().tolist() == [4, 7, 9, 10]
    assert histories.take(np.array([1, 0])).followed().tolist() == [3, 9, 10, 4, 7]
    assert replace(histories, asked=None).followed() is None
    assert replace(histories, times=None).followed() is None


@pytest.mark.parametrize("windows", [last_windows, rolling_windows])
@pytest.mark.parametrize("learn", ["all", "last"])
def test_a_position_of_a_batch_asks_at_the_time_of_the_event_that_follows_it(data, windows, learn):
    train = data.train
    when = {}
    for user in range(len(train)):
        first, stop = train.offsets[user], train.offsets[user + 1]
        for event in range(first, stop - 1):
            when.setdefault((user, int(train.times[event])), set()).add(int(train.times[event + 1]))

    for batch in batches(train, windows(train, length=4), size=7, learn=learn, rng=np.random.default_rng(0)):
        happened, asked = (one.tolist() for one in batch.layout.times)
        owners = np.repeat(batch.users.numpy(), batch.layout.lengths.numpy())
        assert len(happened) == len(asked) == len(batch.items)
        assert all(one[2] in when[one[0], one[1]] for one in zip(owners, happened, asked, strict=True))


def test_batches_of_other_networks_carry_no_times(data, config):
    asked = replace(settled(config, data.train, items=15), times="none")
    training = begin(data.train, items=15, config=asked)
    batch = next(batches(training.train, last_windows(training.train, length=4), size=7, rng=np.random.default_rng(0)))

    assert data.train.times is not None
    assert batch.layout.times is None


def test_a_position_learns_from_the_state_that_would_answer_there(data, config, model):
    training = begin(data.train, items=15, config=replace(settled(config, data.train, items=15), dropout=0.0))
    training.network.load_state_dict(model.scorer.network.state_dict())
    train = data.train
    windows = last_windows(train, length=config.length)
    batch = next(batches(train, windows, size=999, rng=np.random.default_rng(0)))

    with torch.no_grad():
        learned = training.network(batch.items, batch.layout, training.drop)
    answered = model.scorer.states(
        replace(
            train.slices(windows.rows, windows.starts, windows.stops - 1),
            asked=train.times[train.offsets[windows.rows] + windows.stops - 1],
        )
    )

    order = {int(row): place for place, row in enumerate(windows.rows)}
    places = [order[int(row)] for row in batch.users]
    torch.testing.assert_close(learned[batch.layout.lasts], answered[places], rtol=1e-4, atol=1e-5)


# Training


def test_one_seed_gives_the_same_bits(data, config, model):
    again = sasrec.train(data, config, progress=False)

    found, expected = again.scorer.network.state_dict(), model.scorer.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found["blocks.1.attention.bias.times.buckets"].any()
    assert found["blocks.0.weight"].any()


def test_a_log_without_times_is_refused_before_training(walks, config):
    with pytest.raises(DataError, match="times='both' needs the time of every event, and this log has none"):
        sasrec.train(sasrec.split(walks), config, progress=False)


def test_places_in_each_users_own_history_are_no_times(rows, config):
    places = rows.with_columns(timestamp=pl.int_range(pl.len()).over("user_id"))
    log = sasrec.read_log(places, time_unit="order")

    with pytest.raises(DataError, match="this log has places in each user's own history"):
        sasrec.train(sasrec.split(log), config, progress=False)


def test_stamp_has_no_place_for_times():
    with pytest.raises(ConfigError, match="times: network='stamp' does not read it; leave it out"):
        sasrec.Config(times="learned", network="stamp", learn="last")


def test_the_clock_may_start_anywhere(rows, data, config, model):
    later = rows.with_columns(pl.col("timestamp") + 300_000_000)

    moved = sasrec.train(sasrec.split(sasrec.read_log(later)), config, progress=False)

    found, expected = moved.scorer.network.state_dict(), model.scorer.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("times", "least", "most"), [("learned", 0.95, 1.0), ("both", 0.95, 1.0), ("none", 0.6, 0.9)])
def test_what_only_the_time_of_the_request_tells_is_learned(times, least, most):
    # Soon the series goes on, after a month it starts again; nothing but the clock says which.
    rng, rows = np.random.default_rng(0), []
    for user in range(120):
        item, time = int(rng.integers(12)), START
        for _ in range(12):
            rows.append((f"u{user}", f"i{item}", time))
            soon = rng.random() < 0.5
            item, time = ((item + 1) % 12, time + 30) if soon else (0, time + 30 * DAY)
    data = sasrec.split(sasrec.read_log(pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")))
    config = sasrec.Config(
        width=16, length=12, dropout=0.0, epochs=30, patience=30, learning_rate=0.01, seed=2, times=times
    )

    model = sasrec.train(data, config, progress=False)

    assert least < model.record["best"]["ndcg"] <= most


# Evaluation


def test_report_and_record_say_that_the_time_of_the_request_was_known(data, model, small_config):
    plain = sasrec.train(data, small_config, progress=False)

    assert "the time of each target is known as that of the request" in sasrec.evaluate(model, data).protocol
    assert model.record["request_time"] == "that of the event to predict, in training, validation and evaluation"
    assert model.record["time_unit"] == "s"
    assert "request" not in sasrec.evaluate(plain, data).protocol
    assert not {"request_time", "time_unit"} & set(plain.record)


def test_ranks_are_those_of_recommendations_at_the_time_of_the_target(log, data, model):
    report, holdout = sasrec.evaluate(model, data, exclude_seen=False), data.test
    for place in range(0, len(holdout), 7):
        history = log.items.raw(holdout.histories[place]).to_list()
        happened = holdout.histories.times[holdout.histories.offsets[place] : holdout.histories.offsets[place + 1]]
        target = log.items.ids[int(holdout.targets[place])]

        answer = model.continue_from(
            history, times=happened, at=holdout.histories.asked[place], k=15, exclude_seen=False
        )

        rank = answer.filter(pl.col("item_id") == target)["rank"].item()
        assert report.rows[0].ranks[place] == rank - 1


def test_a_log_that_counts_time_otherwise_is_refused(rows, model):
    in_ms = sasrec.read_log(rows.with_columns(pl.col("timestamp") * 1000), time_unit="ms")
    without = sasrec.read_log(rows, time="")

    with pytest.raises(DataError, match=r"was trained on times in 's', the log has 'ms'; read it as in training"):
        sasrec.evaluate(model, sasrec.split(in_ms))
    with pytest.raises(DataError, match=r"was trained on times in 's', the log has none"):
        sasrec.evaluate(model, sasrec.split(without))


# Answers


def test_a_known_user_is_answered_as_somebody_with_the_same_history_and_times(log, model):
    for row in (0, 5, 8):
        history = log.items.raw(log.histories[row]).to_list()
        times = log.histories.times[log.histories.offsets[row] : log.histories.offsets[row + 1]]
        at = int(times[-1]) + 5_000

        known = model.recommend([user_of(model, row)], at=at).drop("user_id")
        told = model.continue_from(history, times=times, at=at)
        candidates = known["item_id"].to_list()
        scores = model.score(history, candidates, times=times.tolist(), at=datetime.fromtimestamp(at, UTC))

        assert told["item_id"].to_list() == candidates
        np.testing.assert_allclose(told["score"], known["score"], rtol=1e-5)
        np.testing.assert_allclose(scores["score"], known["score"], rtol=1e-5)


def test_answers_depend_on_the_time_of_the_request_and_without_one_it_is_now(model):
    users = model.users.ids.to_list()
    last = START + 2_000 * DAY

    soon, later, unset = (model.recommend(users, at=at)["score"].to_numpy() for at in (START + 10 * DAY, last, None))

    np.testing.assert_allclose(unset, model.recommend(users, at=datetime.now(UTC))["score"], rtol=1e-5)
    assert not np.allclose(soon, later)


def test_a_request_before_the_last_event_counts_as_at_its_time(log, model):
    row = 5
    last = int(log.histories.times[log.histories.offsets[row + 1] - 1])
    history, times = log.items.ids[3:6].to_list(), [last - 5 * DAY, last - DAY, last]

    early, at_once = (model.continue_from(history, times=times, at=at) for at in (last - 3 * DAY, last))
    known_early, known = (model.recommend([user_of(model, row)], at=at) for at in (START, last))

    assert early.equals(at_once)
    assert known_early.equals(known)


def test_items_that_are_left_out_of_a_history_take_their_times_along(model):
    items = model.items.ids
    known = model.continue_from([items[1], items[2]], times=[START, START + DAY], at=START + 2 * DAY)

    some = model.continue_from(
        [items[1], "nobody knows it", items[2]],
        times=[START, START + 9, START + DAY],
        at=START + 2 * DAY,
        unknown="ignore",
    )

    assert some.equals(known)


def test_times_that_are_missing_or_of_no_use_are_refused(model, small_model):
    item, other = model.items.ids[0], small_model.items.ids[0]

    with pytest.raises(ConfigError, match="times: this model looks at when events happened; give the times"):
        model.continue_from([item])
    with pytest.raises(ConfigError, match="times: this model looks at when events happened; give the times"):
        model.score([item], [item])
    with pytest.raises(ConfigError, match="times: this model does not look at times; leave them out"):
        small_model.continue_from([other], times=[1])
    with pytest.raises(ConfigError, match="at: this model does not look at times; leave it out"):
        small_model.recommend([small_model.users.ids[0]], at=3)
    with pytest.raises(ConfigError, match="times: the network looks at when events happened and when it is asked"):
        model.scorer.scores(Sequences.of([[1, 2]]))


def test_everybody_is_answered_at_one_time(model, tmp_path):
    model.recommend_all(tmp_path / "all.parquet", k=3, at=START + 500 * DAY)

    expected = model.recommend(model.users.ids.to_list(), k=3, at=START + 500 * DAY)
    found = pl.read_parquet(tmp_path / "all.parquet")
    assert found["item_id"].to_list() == expected["item_id"].to_list()


@pytest.mark.parametrize(("overlap", "least"), [(None, 1.0), (0.9, 0.8)])
def test_an_index_finds_what_the_model_does(model, overlap, least):
    users = model.users.ids.to_list()

    found = sasrec.indexed(model, overlap=overlap, k=3).recommend(users, k=3, at=START)

    expected = model.recommend(users, k=3, at=START)
    assert len(found.join(expected, on=["user_id", "item_id"])) >= least * len(expected)


# Other models made of it


def test_blend_and_refit_look_at_times_too(data, model):
    blended = sasrec.blend(data, [model, "markov"], progress=False)
    release = sasrec.refit(model, data, progress=False)

    assert blended.reads_times
    assert release.reads_times
    assert "the time of each target is known as that" in sasrec.evaluate(blended, data).protocol
    assert len(release.recommend(["u05"], k=3, at=START)) == len(blended.recommend(["u05"], k=3, at=START)) == 3


# Saving


def test_a_saved_model_answers_as_before(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = sasrec.load(tmp_path / "model")

    users, at = model.users.ids.to_list(), START + 99 * DAY
    assert loaded.recommend(users, at=at).equals(model.recommend(users, at=at))
    assert loaded.record == model.record


def test_a_model_that_does_not_look_at_times_keeps_none(data, small_config):
    assert sasrec.train(data, small_config, progress=False).histories.times is None


@pytest.mark.parametrize(
    "times",
    [
        None,
        np.zeros(3, np.int64),
        np.zeros(1, np.float32),
        np.full(1, np.nan),
        np.full(1, 2**62, dtype=np.int64),
        np.full(1, -(2**63), dtype=np.int64),
    ],
    ids=["missing", "too-few", "type", "nan", "too-late", "too-early"],
)
def test_times_that_do_not_fit_are_refused(model, tmp_path, times):
    path = tmp_path / "model"
    count = len(model.histories.items)
    if times is not None and len(times) == 1:
        times = np.resize(times, count)
    kind, parts = model.scorer.kind, model.scorer.to_parts()
    histories = replace(model.histories, times=times)
    bundle.save(
        bundle.Bundle(kind, parts[0], model.users, model.items, histories, parts[1], model.record), path, replace=False
    )

    with pytest.raises(BundleError, match=r"model: (its files are whole but do not fit|the model looks at times)"):
        sasrec.load(path)
