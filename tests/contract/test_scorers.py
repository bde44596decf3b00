"""What every model keeps, whatever ranks inside it: the network and the counting models alike."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError
from sasrec.export.exporting import exported
from sasrec.model.building import build
from sasrec.retrieval import topk
from sasrec.retrieval.blend import Blend, NewItems
from sasrec.retrieval.content import Content, FeatureTensors, Recency
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.ease import ease
from sasrec.retrieval.linked import KNN, Linked
from sasrec.retrieval.neural import Neural
from sasrec.retrieval.recommender import Recommender

USERS, ITEMS = 40, 23
HUNGRY = 39  # this user had every item


def neural(histories):
    config = sasrec.Config(width=8, length=5, heads=2, positions="learned")
    generator = torch.Generator().manual_seed(3)
    network = build(config, items=ITEMS, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.5)
    return Neural(network, config)


def content(recency):
    """Of two categories, one of them with many values, and vectors; some items lack one or both."""
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 4, ITEMS)
    rows = np.concatenate([np.sort(rng.choice(9, count, replace=False)) for count in counts])
    vectors = rng.normal(size=(ITEMS, 6)) * (rng.random((ITEMS, 1)) > 0.2)
    told: FeatureTensors = {
        "features": (torch.from_numpy(rows), torch.from_numpy(np.concatenate(([0], np.cumsum(counts))))),
        "values": 9,
        "vectors": torch.from_numpy(vectors.astype(np.float32)),
    }
    return Content.of(told, items=ITEMS, settings=recency)


SCORERS = {
    "neural": neural,
    "exported": lambda histories: exported(neural(histories)),
    "popularity": lambda histories: Popularity.of(histories, items=ITEMS),
    "markov": lambda histories: Markov.of(histories, items=ITEMS),
    "rules": lambda histories: Linked.of(histories, items=ITEMS),
    "knn": lambda histories: Linked.of(histories, items=ITEMS, settings=KNN),
    "ease": lambda histories: ease(histories, items=ITEMS),
    "content": lambda _: content(Recency(last=3, decay=0.8)),
    "blend with new items": lambda histories: Blend(
        {"rules": (1.0, Linked.of(histories, items=ITEMS)), "content": (0.0, content(Recency()))},
        NewItems(np.array([0, 4, 21]), 0.7),
    ),
    "blend": lambda histories: Blend(
        {
            "network": (0.5, neural(histories)),
            "rules": (0.3, Linked.of(histories, items=ITEMS)),
            "popularity": (0.2, Popularity.of(histories, items=ITEMS)),
        }
    ),
}


def walked(log_of, ids):
    """Walks of 1 to 13 events with repeats; ids either way, integers far from their rows."""
    rng = np.random.default_rng(11)
    name = "u{}".format if ids == "text" else lambda number: 10**12 + 7 * number
    title = "i{:02}".format if ids == "text" else lambda number: 1_000 - 3 * number
    walks = {name(u): [title(i) for i in rng.integers(0, ITEMS, 1 + u % 13)] for u in range(HUNGRY)}
    return log_of(walks | {name(HUNGRY): [title(i) for i in rng.permutation(ITEMS)]})


@pytest.fixture(scope="module", params=SCORERS)
def scorer(request, log_of):
    """What never sees an id, nor an index."""
    return SCORERS[request.param](walked(log_of, "text").histories)


@pytest.fixture(scope="module", params=["text", "integer"])
def log(request, log_of):
    return walked(log_of, request.param)


@pytest.fixture(scope="module", params=[*SCORERS, "neural with an exact index", "neural with a coarse index"])
def model(request, log):
    kind, _, index = request.param.partition(" with a")
    model = Recommender(SCORERS[kind](log.histories), users=log.users, items=log.items, histories=log.histories)
    return model if not index else sasrec.indexed(model, overlap=1.0 if "coarse" in index else None)


@pytest.fixture
def telling(scorer):
    """A scorer that knows which items are alike."""
    if isinstance(scorer, Popularity):
        pytest.skip("popularity tells nothing of the kind")
    return scorer


@pytest.fixture
def comparing(model):
    """A model that knows which items are alike."""
    if isinstance(model.scorer, Popularity):
        pytest.skip("popularity tells nothing of the kind")
    return model


def history_of(model, user):
    return model.items.raw(model.histories[model.users.rows([user])[0]]).to_list()


def scores_of(model, history):
    """Raw item id to score, for one history alone."""
    scores = model.scorer.scores(Sequences.of([model.items.rows(history)]))[0]
    return dict(zip(model.items.ids.to_list(), scores.tolist(), strict=True))


def assert_best(answer, scores, allowed, k):
    """The answer's rows are the best k of the allowed items; where scores differ by rounding alone, any may stand."""
    found = answer["item_id"].to_list()
    expected = sorted((scores[item] for item in allowed), reverse=True)[:k]

    assert answer["rank"].to_list() == list(range(1, len(expected) + 1))
    assert len(set(found)) == len(found)
    assert set(found) <= set(allowed)
    assert answer["score"].to_list() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert [scores[item] for item in found] == pytest.approx(expected, rel=1e-5, abs=1e-6)


# The scorer


@pytest.mark.parametrize("histories", [[[0]], [[1, 2], [3]], [list(range(ITEMS)) * 50, [4] * 7, [22]]])
def test_every_item_has_a_finite_score_after_every_history(scorer, histories):
    scores = scorer.scores(Sequences.of(histories))

    assert scores.shape == (len(histories), ITEMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_scores_are_the_callers_to_change(scorer):
    histories = Sequences.of([[1, 2], [3]])
    kept = scorer.scores(histories).copy()

    scorer.scores(histories).fill(7.0)

    assert np.array_equal(scorer.scores(histories), kept)


def test_similarities_are_the_callers_to_change(telling):
    kept = telling.similarities(2).copy()

    telling.similarities(2).fill(7.0)

    assert np.array_equal(telling.similarities(2), kept)


@given(st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=9), min_size=1, max_size=9), st.randoms())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scores_do_not_depend_on_who_else_is_scored(scorer, histories, order):
    places = list(range(len(histories)))
    order.shuffle(places)

    together = scorer.scores(Sequences.of([histories[place] for place in places]))
    alone = np.concatenate([scorer.scores(Sequences.of([history])) for history in histories])

    np.testing.assert_allclose(together, alone[places], rtol=1e-5, atol=5e-6)  # scores go up to 10


def test_similarities_are_cosines(telling):
    similar = np.stack([telling.similarities(item) for item in range(ITEMS)])

    assert similar.shape == (ITEMS, ITEMS)
    assert np.abs(similar).max() <= 1 + 1e-6
    np.testing.assert_allclose(similar, similar.T, rtol=1e-5, atol=1e-6)


def test_a_scorer_made_of_its_parts_gives_the_same_bits(scorer):
    histories = Sequences.of([[1, 2], [3], [4, 4, 5]])

    config, tensors = scorer.to_parts()
    again = type(scorer).from_parts(ITEMS, json.loads(json.dumps(config)), tensors)

    assert np.array_equal(again.scores(histories), scorer.scores(histories))


def test_a_scorer_made_of_its_parts_finds_the_same_items_alike(telling):
    config, tensors = telling.to_parts()

    again = type(telling).from_parts(ITEMS, json.loads(json.dumps(config)), tensors)

    assert np.array_equal(again.similarities(3), telling.similarities(3))


@pytest.mark.parametrize("items", [1, ITEMS - 1, ITEMS + 1])
def test_parts_of_another_catalogue_are_refused(scorer, items):
    with pytest.raises(BundleError):
        type(scorer).from_parts(items, *scorer.to_parts())


def test_a_scorer_of_another_catalogue_makes_no_model(scorer, log_of):
    other = log_of({"a": ["x", "y"]})

    with pytest.raises(BundleError, match="the scorer ranks 23 items, the vocabulary holds 2"):
        Recommender(scorer, users=other.users, items=other.items, histories=other.histories)


# The best k


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_recommendations_are_the_best_allowed_items_by_brute_force(model, data):
    items = model.items.ids.to_list()
    user = data.draw(st.sampled_from(model.users.ids.to_list()))
    k = data.draw(st.integers(1, ITEMS + 5))
    exclude_seen = data.draw(st.booleans())
    allow = data.draw(st.none() | st.lists(st.sampled_from(items)))
    deny = data.draw(st.none() | st.lists(st.sampled_from(items)))
    history = history_of(model, user)
    hidden = {*(history if exclude_seen else ()), *(deny or ())}
    allowed = {*items} if allow is None else {*allow}

    known = model.recommend([user], k=k, exclude_seen=exclude_seen, allow=allow, deny=deny)
    unseen = model.continue_from(history, k=k, exclude_seen=exclude_seen, allow=allow, deny=deny)

    for answer in (known, unseen):
        assert_best(answer, scores_of(model, history), allowed - hidden, k)


def standing(model, history, item, hidden):
    """Score and best and worst rank of an item after a history, where scores that differ by rounding may swap."""
    scores = scores_of(model, history)
    own, others = scores.pop(item), [score for one, score in scores.items() if one not in hidden]
    slack = 1e-5 * abs(own) + 5e-6  # scores go up to 10
    above = sum(score > own + slack for score in others)
    return own, above + 1, above + 1 + sum(abs(score - own) <= slack for score in others)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_an_explanation_is_the_place_of_an_item_without_each_event_in_turn(model, exclude_seen, place):
    ids = model.items.ids.to_list()
    history, item = [ids[at] for at in (3, 7, 11, 7, 19, 2)], ids[place]
    hidden = {*history} if exclude_seen else set()

    answer = model.explain(history, item, exclude_seen=exclude_seen)

    found = [(answer.score, answer.rank), *((one.score_without, one.rank_without) for one in answer.events)]
    rests = [history, *(history[:at] + history[at + 1 :] for at in range(len(history)))]
    for (score, rank), rest in zip(found, rests, strict=True):
        own, best, worst = standing(model, rest, item, hidden)
        assert score == pytest.approx(own, rel=1e-5, abs=5e-6)
        assert best <= rank <= worst
    assert [one.item_id for one in answer.events] == history


def test_a_share_of_attention_is_told_by_those_who_pay_any_and_sums_to_one(model):
    ids = model.items.ids.to_list()

    shares = [one.attention for one in model.explain([ids[at] for at in (3, 7, 11, 7, 19, 2, 4)], ids[0]).events]

    if model.kind in ("sasrec", "onnx"):
        assert shares[:2] == [0, 0]  # beyond the network's length
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    else:
        assert shares == [None] * 7


def test_a_shorter_answer_is_the_beginning_of_a_longer_one(model):
    longest = model.recommend(model.users.ids, k=ITEMS)

    for k in range(1, ITEMS):
        assert_frame_equal(model.recommend(model.users.ids, k=k), longest.filter(pl.col("rank") <= k))


def test_ranks_start_at_one_and_scores_fall_for_every_user(model):
    answer = model.recommend(model.users.ids, k=7, exclude_seen=False)

    for _, rows in answer.group_by("user_id", maintain_order=True):
        assert rows["rank"].to_list() == [1, 2, 3, 4, 5, 6, 7]
        assert rows["score"].is_sorted(descending=True)
        assert rows["item_id"].n_unique() == 7
    assert answer["user_id"].unique(maintain_order=True).to_list() == model.users.ids.to_list()


def test_users_answer_in_the_order_and_as_often_as_they_are_asked(model):
    first, second, third = model.users.ids.to_list()[:3]

    answer = model.recommend([third, first, third, second], k=2, exclude_seen=False)

    assert answer["user_id"].to_list() == [third, third, first, first, third, third, second, second]
    assert answer["item_id"][:2].to_list() == answer["item_id"][4:6].to_list()


def test_a_user_who_had_every_item_gets_nothing_unless_seen_items_may_come_again(model):
    hungry = next(user for user in model.users.ids if len({*history_of(model, user)}) == ITEMS)

    assert model.recommend([hungry], k=5, exclude_seen=True).is_empty()
    assert len(model.recommend([hungry], k=5, exclude_seen=False)) == 5


def test_no_users_get_an_answer_of_the_same_columns(model):
    asked, none = model.recommend(model.users.ids[:1], k=2), model.recommend([], k=2)

    assert none.is_empty()
    assert none.schema == asked.schema
    assert none.columns == ["user_id", "item_id", "score", "rank"]


def test_nothing_allowed_gives_nothing(model):
    assert model.recommend(model.users.ids[:3], allow=[]).is_empty()
    assert model.continue_from(model.items.ids[:2], allow=[]).is_empty()


@pytest.mark.parametrize("k", [0, -1, True, 2.5, "3", None])
def test_k_is_an_integer_of_one_or_more(model, k, tmp_path):
    message = "k: expected an integer >= 1, found"

    for ask in (
        lambda: model.recommend(model.users.ids[:1], k=k),
        lambda: model.continue_from(model.items.ids[:1], k=k),
        lambda: model.similar(model.items.ids[0], k=k),
        lambda: model.recommend_all(tmp_path / "all.parquet", k=k),
    ):
        with pytest.raises(ConfigError, match=message):
            ask()
    assert not list(tmp_path.iterdir())


def test_a_history_of_an_unseen_user_is_treated_as_that_of_a_known_one(model):
    for user in model.users.ids:
        known = model.recommend([user], k=5).drop("user_id")
        unseen = model.continue_from(history_of(model, user), k=5)

        assert_frame_equal(known, unseen)


# Similar items and scores


@pytest.mark.parametrize("k", [1, 5, ITEMS + 10])
def test_similar_items_never_hold_the_item_itself(comparing, k):
    for row, item in enumerate(comparing.items.ids):
        answer = comparing.similar(item, k=k)

        cosines = dict(zip(comparing.items.ids.to_list(), comparing.scorer.similarities(row).tolist(), strict=True))
        assert_best(answer, cosines, {*cosines} - {item}, k)


def test_similar_items_are_allowed_and_not_denied(comparing):
    item, *others = comparing.items.ids.to_list()

    answer = comparing.similar(item, k=30, allow=[item, *others[:8]], deny=others[5:])

    assert set(answer["item_id"]) == set(others[:5])
    assert comparing.similar(item, deny=[item, *others]).is_empty()


def test_similar_items_are_the_same_when_the_model_is_asked_again_or_saved(comparing, tmp_path):
    item, *some = comparing.items.ids.to_list()
    comparing.save(tmp_path / "model")

    before, _ = comparing.similar(item, k=5), comparing.similar(item, deny=some)

    assert_frame_equal(comparing.similar(item, k=5), before, check_exact=True)
    assert_frame_equal(sasrec.load(tmp_path / "model").similar(item, k=5), before, check_exact=True)


def test_popularity_finds_no_similar_items(log):
    parts = {name: (0.5, SCORERS["popularity"](log.histories)) for name in ("popularity", "recent")}

    for scorer in (SCORERS["popularity"](log.histories), Blend(parts)):
        model = Recommender(scorer, users=log.users, items=log.items, histories=log.histories)
        with pytest.raises(ConfigError, match="popularity does not tell which items are alike"):
            model.similar(model.items.ids[0])


def test_scores_come_in_the_order_of_the_candidates(model):
    history = model.items.ids.to_list()[2:5]
    candidates = model.items.ids.to_list()[::-1] + history

    answer = model.score(history, candidates)

    scores = [scores_of(model, history)[item] for item in candidates]
    assert answer["item_id"].to_list() == candidates
    # Two ways to one product may differ in the last bit, and so in the order of two scores that nearly tie.
    told = answer["score"].to_list()
    assert told == pytest.approx(scores, rel=1e-5, abs=1e-8)
    assert answer["rank"].to_list() == [1 + sum(other > mine for other in told) for mine in told]


def test_scores_are_those_that_recommendations_show(model):
    history = model.items.ids.to_list()[2:5]

    answer = model.continue_from(history, k=6)

    assert model.score(history, answer["item_id"])["score"].to_list() == pytest.approx(answer["score"].to_list())


# All users, files and side effects


@pytest.mark.parametrize("block", [1, 7, USERS])
def test_recommendations_for_all_are_those_for_each(model, tmp_path, monkeypatch, block):
    monkeypatch.setattr(topk, "_BLOCK_BYTES", 4 * ITEMS * block)

    rows = model.recommend_all(tmp_path / "all.parquet", k=4, exclude_seen=True)

    answer = pl.read_parquet(tmp_path / "all.parquet")
    assert len(answer) == rows
    assert_frame_equal(answer, model.recommend(model.users.ids, k=4, exclude_seen=True))


def test_a_saved_model_answers_the_same_when_it_is_loaded(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = sasrec.load(tmp_path / "model")
    loaded.index = model.index  # an index is made, not saved
    item, *some = model.items.ids.to_list()[3:9]

    for ask in (
        lambda one: one.recommend(model.users.ids, k=5),
        lambda one: one.continue_from(some, k=5),
        lambda one: one.score(some, [item, *some]),
    ):
        assert_frame_equal(ask(model), ask(loaded), check_exact=True)


def test_asking_changes_neither_the_model_nor_the_question(model):
    users, allow, history = model.users.ids.to_list()[:4], model.items.ids.to_list(), model.items.ids.to_list()[:3]
    before = model.recommend(users, k=5)
    asked = ([*users], [*allow], [*history])

    model.recommend(users, k=9, exclude_seen=True, allow=allow, deny=history)
    model.continue_from(history, k=9, deny=allow[:4])
    model.score(history, allow)

    assert (users, allow, history) == asked
    assert_frame_equal(model.recommend(users, k=5), before, check_exact=True)


# Ranking a holdout


def test_a_report_ranks_as_the_recommendations_do(model, log):
    data = sasrec.split(log)
    holdout = data.test

    ranks = sasrec.evaluate(model, data, k=5, exclude_seen=False).rows[0].ranks

    for place, target in enumerate(holdout.targets):
        history = model.items.raw(holdout.histories[place]).to_list()
        scores = scores_of(model, history)
        own = scores.pop(model.items.ids[int(target)])
        near = [abs(score - own) < 1e-6 for score in scores.values()]
        expected = sum(score > own and not tied for score, tied in zip(scores.values(), near, strict=True))
        assert ranks[place] == pytest.approx(expected + sum(near) / 2, abs=sum(near) / 2)
        if not any(near):
            answer = model.continue_from(history, k=ITEMS, exclude_seen=False)
            assert answer["item_id"][int(ranks[place])] == model.items.ids[int(target)]


def test_a_report_is_the_same_whatever_the_size_of_the_blocks(model, log, monkeypatch):
    data = sasrec.split(log)

    whole = sasrec.evaluate(model, data, k=[1, 5])
    monkeypatch.setattr(topk, "_BLOCK_BYTES", 1)
    single = sasrec.evaluate(model, data, k=[1, 5])

    for ours, theirs in zip(whole.rows, single.rows, strict=True):
        np.testing.assert_array_equal(ours.ranks, theirs.ranks)
        assert (ours.model, ours.metrics, ours.coverage) == (theirs.model, theirs.metrics, theirs.coverage)
