"""A diagnosis finds what was put into a log: order that matters, and order that does not."""

import json
from copy import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, DataError, OutputError
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.recommender import Recommender
from sasrec.studies.diagnose import verdict
from sasrec.training.batches import rolling_windows

CONFIG = sasrec.Config(
    width=16,
    length=6,
    blocks=1,
    dropout=0.1,
    batch=32,
    epochs=20,
    learning_rate=0.01,
    precision="float32",
    seed=1,
)


def walk(rng, follow, events=9, items=20):
    history = rng.integers(0, items, 2).tolist()
    while len(history) < events:
        history.append(follow(history))
    return [f"i{item:02}" for item in history]


def made_of(log_of, follow, users=300):
    return sasrec.split(log_of({f"u{user:03}": walk(np.random.default_rng(user), follow) for user in range(users)}))


@pytest.fixture(scope="module")
def ordered(log_of):
    """Each item is the successor of the last but one: the last alone says nothing, and order all."""
    return sasrec.diagnose(made_of(log_of, lambda history: (history[-2] + 1) % 20), CONFIG, progress=False)


@pytest.fixture(scope="module")
def memoryless(log_of):
    """Each item is the successor of the last one, or any: nothing before the last says anything."""
    chance = np.random.default_rng(0)

    def follow(history):
        return (history[-1] + 1) % 20 if chance.random() < 0.7 else int(chance.integers(20))

    return sasrec.diagnose(made_of(log_of, follow), CONFIG, progress=False)


@pytest.fixture(scope="module")
def quick(walks, small_model, small_config):
    return sasrec.diagnose(sasrec.split(walks), small_config, model=small_model, retrain=True, progress=False)


def ndcg_of(diagnosis, name):
    return next(line.metrics["NDCG@10"] for line in diagnosis.lines if line.name == name)


def test_order_that_was_put_into_a_log_is_found(ordered):
    sentences = "\n".join(ordered.verdict)

    assert "Order matters: " in sentences
    assert "the last 2 items are enough" in sentences
    assert "A network is worth it" in sentences
    assert "Blocks are worth it" in sentences


def test_what_a_log_needs_two_items_for_cannot_be_had_from_one(ordered):
    whole = ndcg_of(ordered, "whole network").mean

    assert whole > 0.9
    for name in ("shown the last 1", "trained on the last 1", "trained without blocks", "Markov"):
        assert ndcg_of(ordered, name).mean < 0.4
    assert ndcg_of(ordered, "shown the last 2").mean == pytest.approx(whole, abs=0.01)


def test_a_network_is_set_beside_rules_too(quick, small_model, walks):
    report = sasrec.evaluate(small_model, sasrec.split(walks), k=[1, 10])
    rules = next(line for line in quick.lines if line.name == "Rules")

    for name, found in rules.metrics.items():
        assert found.mean == pytest.approx(report.row("Rules").metrics[name][0])


def test_a_network_that_might_have_got_further_is_noted(walks, small_model, small_config):
    last = small_model.record["best"]["epoch"]
    cut_short, went_on = copy(small_model), copy(small_model)
    cut_short.record, went_on.record = (small_model.record | {"epochs": last + more} for more in (0, 1))

    (less, more) = (
        sasrec.diagnose(sasrec.split(walks), small_config, model=one, progress=False) for one in (cut_short, went_on)
    )

    (note,) = set(less.notes) - set(more.notes)
    assert note.startswith(f"the whole network was at its best in its last epoch, number {last}: ")
    assert less.lines == more.lines


def test_order_that_a_log_does_not_have_is_not_found(memoryless):
    sentences = "\n".join(memoryless.verdict)

    assert "Order does not matter to this network" in sentences
    assert "Which item is the last matters" in sentences
    assert "the last item alone is enough" in sentences
    assert "A network is worth it" not in sentences


def test_lines_stand_beside_the_whole_network_each_with_all_metrics(quick):
    assert [(line.part, line.length) for line in quick.lines] == [
        ("whole", None),
        *[("shuffled", None)] * 2,
        *[("shown", length) for length in (1, 2, 3, 5)],
        ("counted", None),
        ("counted", 1),
        ("counted", 0),
        *[("retrained", length) for length in (1, 2, 3, 5)],
        ("retrained", 1),
    ]
    assert all(list(line.metrics) == ["NDCG@10", "HR@1", "HR@10"] for line in quick.lines)


def test_the_first_line_is_the_evaluation_of_the_model(quick, small_model, walks):
    report = sasrec.evaluate(small_model, sasrec.split(walks), k=[1, 10])

    for name, found in quick.lines[0].metrics.items():
        assert found.mean == pytest.approx(report[name])


def test_a_given_model_is_not_trained_again(walks, small_model, small_config, monkeypatch):
    from sasrec.studies import diagnose

    trained = []
    monkeypatch.setattr(diagnose, "train", lambda data, config, **rest: trained.append(config) or small_model)

    sasrec.diagnose(sasrec.split(walks), small_config, model=small_model, progress=False)

    assert [(config.blocks, config.length) for config in trained] == [(small_config.blocks, 1), (0, 1)]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"positions": "both", "times": "both", "heads": 2, "branch": "mean"}, ("learned", "learned")),
        ({"positions": "relative", "times": "relative", "bidirectional": True, "learn": "last"}, ("none", "none")),
        ({"norm": "pre", "gated": True, "activation": "swiglu", "feed_forward": 12}, ("learned", "none")),
        ({"network": "stamp", "learn": "last", "positions": "none"}, ("none", "none")),
    ],
    ids=str,
)
def test_the_network_without_blocks_lacks_what_blocks_alone_read(
    settings, kept, walks, small_model, small_config, monkeypatch
):
    from sasrec.studies import diagnose

    trained = []
    monkeypatch.setattr(diagnose, "train", lambda data, config, **rest: trained.append(config) or small_model)

    sasrec.diagnose(sasrec.split(walks), replace(small_config, **settings), model=small_model, progress=False)

    found = trained[-1]
    assert (found.blocks, found.network, found.length, found.dropout) == (0, "sasrec", 1, small_config.dropout)
    assert (found.positions, found.times) == kept
    assert (found.heads, found.norm, found.gated, found.feed_forward) == (1, "paper", False, "auto")
    assert (found.branch, found.bidirectional) == ("none", False)


def test_a_given_model_lends_its_settings(walks, small_model, small_config, quick):
    data = sasrec.split(walks)

    assert sasrec.diagnose(data, model=small_model, retrain=True, progress=False) == quick


def test_without_a_model_one_is_trained_as_train_does(walks, small_config, quick):
    assert sasrec.diagnose(sasrec.split(walks), small_config, retrain=True, progress=False) == quick


@pytest.mark.parametrize("windows", ["last", "rolling"])
def test_smaller_networks_learn_from_the_steps_of_the_whole_one_in_steps_as_large(
    walks, small_model, small_config, monkeypatch, windows
):
    from sasrec.studies import diagnose

    data, trained = sasrec.split(walks), []
    monkeypatch.setattr(diagnose, "train", lambda data, config, **rest: trained.append((data, config)) or small_model)
    config = replace(small_config, windows=windows, length=4)

    sasrec.diagnose(data, config, model=small_model, retrain=True, progress=False)

    long = data.train.lengths[data.train.lengths >= 2]
    targets = np.minimum(long - 1, 4) if windows == "last" else long - 1
    assert [config.length for _, config in trained] == [1, 2, 3, 1]
    for cut, config in trained:
        cuts = rolling_windows(cut.train, length=config.length, shortest=config.shortest)
        assert (config.windows, config.learn, len(cuts.rows)) == ("rolling", "last", targets.sum())
        assert config.batch == pytest.approx(small_config.batch * targets.mean(), abs=0.5)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_all_that_was_seen_is_left_out_of_every_line_or_of_none(walks, small_model, exclude_seen):
    data = sasrec.split(walks)
    record = small_model.record | {"exclude_seen": exclude_seen}
    model = Recommender(
        small_model.scorer, users=walks.users, items=walks.items, histories=walks.histories, record=record
    )

    found = sasrec.diagnose(data, model=model, progress=False)

    popularity = Popularity.of(data.train, items=len(walks.items))
    shown = {"whole network": 50, "shown the last 1": 1, "shown the last 3": 3, "Popularity": 50}
    for name, length in shown.items():
        scorer = popularity if name == "Popularity" else small_model.scorer
        hits = []
        for row, target in enumerate(data.test.targets):
            history = data.test.histories[row]
            scores = scorer.scores(Sequences.of([history[-length:]]))[0].copy()
            own = scores[target]
            if exclude_seen:
                scores[history] = -np.inf
            rank = (scores > own).sum() + ((scores == own).sum() - 1) / 2
            hits.append(np.isfinite(scores[target]) and rank < 10)
        line = next(line for line in found.lines if line.name == name)
        assert line.metrics["HR@10"].mean == pytest.approx(np.mean(hits))
    assert f"exclude_seen={exclude_seen}" in found.protocol


def test_a_network_of_one_item_has_nothing_to_shorten(walks, small_config):
    found = sasrec.diagnose(sasrec.split(walks), replace(small_config, length=1, epochs=1), progress=False)

    assert not [line for line in found.lines if line.part == "shown"]
    assert [line.name for line in found.lines if line.part == "retrained"] == ["trained without blocks"]
    assert "History: the network sees one item as it is." in found.verdict


def test_a_network_that_finds_nothing_is_not_judged_by_its_order(log_of):
    # Nobody's target is ever trained on, and 30 other items stand before them.
    log = log_of({f"u{user}": [*(f"a{(user + step) % 30}" for step in range(12)), f"z{user}"] for user in range(30)})

    found = sasrec.diagnose(sasrec.split(log), replace(CONFIG, initial="small", epochs=3), progress=False)

    assert found.lines[0].metrics["NDCG@10"].mean == 0
    assert found.verdict[0].startswith("The whole network finds nobody's target")
    assert found.verdict[1].startswith("A network is not worth it")
    assert "whole network" in str(found)
    assert any("fewer than 50 users" in note for note in found.notes)


def test_a_model_that_counts_is_refused(walks):
    data = sasrec.split(walks)
    counted = Recommender(
        Popularity.of(data.train, items=len(walks.items)),
        users=walks.users,
        items=walks.items,
        histories=walks.histories,
    )

    with pytest.raises(ConfigError, match="needs a network, found a model of kind 'popularity'"):
        sasrec.diagnose(data, model=counted)


def test_a_model_of_another_split_is_refused(small_model, log_of):
    other = sasrec.split(log_of({user: ["x", "y", "z", "w"] for user in ("ada", "bob")}))

    with pytest.raises(DataError, match="trained on another log or split"):
        sasrec.diagnose(other, model=small_model)


def test_a_model_with_features_beside_networks_without_and_the_other_way_round_is_refused(walks, small_model):
    record = small_model.record | {"features": "features: genre (3 values)"}
    model = Recommender(
        small_model.scorer, users=walks.users, items=walks.items, histories=walks.histories, record=record
    )
    table = pl.DataFrame({"item_id": walks.items.ids, "genre": [f"g{row % 3}" for row in range(25)]})
    features = sasrec.read_features(table, walks.items, columns=["genre"])

    with pytest.raises(ConfigError, match=r"a diagnosis needs those .*; pass features= as then \(genre \(3 values\)\)"):
        sasrec.diagnose(sasrec.split(walks), model=model, progress=False)
    with pytest.raises(ConfigError, match=r"a diagnosis needs those .*; it had none"):
        sasrec.diagnose(sasrec.split(walks), model=small_model, features=features, progress=False)


@pytest.mark.parametrize("interrupted", [1, 2])
def test_ctrl_c_in_a_training_ends_it_all(walks, small_model, small_config, monkeypatch, interrupted):
    from sasrec.studies import diagnose

    trained = []

    def train(data, config, **rest):
        trained.append(config)
        stopped = "interrupted" if len(trained) == interrupted else "all epochs trained"
        record = small_model.record | {"stopped": stopped}
        return Recommender(
            small_model.scorer, users=walks.users, items=walks.items, histories=walks.histories, record=record
        )

    monkeypatch.setattr(diagnose, "train", train)

    with pytest.raises(KeyboardInterrupt):
        sasrec.diagnose(sasrec.split(walks), small_config, progress=False)
    assert len(trained) == interrupted


def test_what_is_done_is_told_before_it_is_done(walks, small_model, small_config, capsys):
    found = sasrec.diagnose(sasrec.split(walks), small_config, model=small_model, progress=True)

    first, *later = capsys.readouterr().err.splitlines()
    assert first.startswith("to do: train 2 networks, each for at most 3 epochs of ")
    assert "ranking: shuffled as a whole, 5 times" in later
    told = later[later.index("ranking: whole network") + 1]
    assert told.startswith(f"NDCG@10 {found.lines[0].metrics['NDCG@10'].mean:.4f}  HR@1 ")
    assert "training: trained without blocks" in later


def test_nothing_is_told_unasked(walks, small_model, small_config, capsys):
    sasrec.diagnose(sasrec.split(walks), small_config, model=small_model, progress=False)
    sasrec.diagnose(sasrec.split(walks), small_config, model=small_model)  # standard error is no terminal here

    assert capsys.readouterr() == ("", "")


def test_a_notebook_shows_the_table_of_a_diagnosis(quick):
    assert repr(quick) == str(quick)
    assert repr(quick).endswith("\n".join(quick.verdict))


def test_the_table_the_json_and_the_verdict_say_the_same(quick, tmp_path):
    sasrec.write_json(tmp_path / "d.json", quick)
    saved = json.loads((tmp_path / "d.json").read_text())

    assert saved == quick.to_dict()
    assert saved["verdict"] == str(quick).splitlines()[-len(quick.verdict) :]
    assert saved["facts"]["unique"]["1"] == quick.facts.unique[1]
    for line in saved["lines"]:
        shown = next(row for row in str(quick).splitlines() if row.startswith(f"{line['name']} "))
        for found in line["metrics"].values():
            assert f"{found['mean']:.4f}" in shown
    with pytest.raises(OutputError, match="exists already"):
        sasrec.write_json(tmp_path / "d.json", quick)


@pytest.mark.parametrize("users", [1, 49, 50])
def test_fewer_than_fifty_users_give_figures_and_no_answers(quick, users):
    found = verdict(quick.lines, "A network.", length=8, users=users)

    told = f"Order, history, network and blocks cannot be judged from so few users: {users} tested, where it takes 50."
    assert (found == (told,)) is (users < 50)
    assert len(found) == (1 if users < 50 else 5)


def test_a_single_user_is_refused(log_of):
    data = sasrec.split(log_of({"u": ["a", "b", "c"]}))

    with pytest.raises(DataError, match="found one user to test with, who tells nothing of others; a diagnosis takes"):
        sasrec.diagnose(data)


def test_a_network_of_a_device_that_is_not_here_is_diagnosed_on_what_is_found(walks, small_model, model_of_a_gpu):
    with pytest.warns(UserWarning, match="torch finds no 'cuda' here; the network is trained on 'cpu'"):
        found = sasrec.diagnose(sasrec.split(walks), model=model_of_a_gpu, progress=False)

    assert found.lines == sasrec.diagnose(sasrec.split(walks), model=small_model, progress=False).lines
