"""Explanations over HTTP and in Python, held against the model asked again by hand without each event."""

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch

import sasrec
from sasrec.client import Client
from sasrec.errors import ConfigError, DataError, ScoreError, ServingError, UnknownIdError
from sasrec.model.attention import Layout
from sasrec.model.inspection import attention_seen
from sasrec.retrieval.blend import Blend
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.recommender import Recommender


@pytest.fixture(scope="module")
def running(serving, small_model, tmp_path_factory):
    with serving(small_model, data=tmp_path_factory.mktemp("server") / "data") as running:
        yield running


def standing(model, history, item, *, hidden=()):
    """Score and rank of an item after a history, from the list of everything that may be recommended."""
    everything = model.continue_from(history, k=100, exclude_seen=False)
    allowed = [one for one in everything["item_id"].to_list() if one == item or one not in hidden]
    score = everything.filter(everything["item_id"] == item)["score"][0]
    return pytest.approx(score, abs=1e-5), allowed.index(item) + 1


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("item", ["i02", "i24", "i05"])  # the last one is in the history itself
def test_each_event_is_left_out_in_turn_and_nothing_else_changes(client, small_model, item, exclude_seen):
    history = ["i03", "i04", "i05", "i04"]
    hidden = history if exclude_seen else []

    answer = client.explain(item, history=history, exclude_seen=exclude_seen)

    assert (answer.score, answer.rank) == standing(small_model, history, item, hidden=hidden)
    assert [one.item for one in answer.events] == history
    for at, one in enumerate(answer.events):
        rest = history[:at] + history[at + 1 :]
        assert (one.score_without, one.rank_without) == standing(small_model, rest, item, hidden=hidden)


def test_the_rank_is_that_in_the_recommendations(client):
    history = ["i03", "i07"]

    recommended = client.recommend(history=history, k=25).items

    for rank, one in enumerate(recommended, start=1):
        answer = client.explain(one.item, history=history)
        assert (answer.rank, answer.score) == (rank, pytest.approx(one.score, abs=1e-5))


def test_attention_is_what_the_last_position_looks_at(client, small_model, small_config):
    history = [f"i{at:02}" for at in range(9)]  # longer than the network reads
    rows = small_model.items.rows(history)

    shares = [one.attention for one in client.explain("i20", history=history).events]

    network, latest = small_model.scorer.network, torch.from_numpy(rows[-small_config.length :]).long()
    with torch.inference_mode(), attention_seen(network) as seen:
        network(latest, Layout.of(np.array([len(latest)])))
    by_hand = sum(weights[head, -1] for weights in seen for head in range(len(weights)))
    by_hand = by_hand / sum(len(weights) for weights in seen)
    assert shares == pytest.approx([0.0, 0.0, 0.0, *by_hand.tolist()], abs=1e-5)
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)


def test_only_the_latest_events_are_explained_after_the_whole_history(client, small_model):
    history = ["i03", "i04", "i05", "i06"]

    few, whole = client.explain("i20", history=history, events=2), client.explain("i20", history=history)

    assert [(one.item, one.attention, one.rank_without) for one in few.events] == [
        (one.item, one.attention, one.rank_without) for one in whole.events[2:]
    ]
    # Histories that are scored together decide how sums are rounded.
    assert [one.score_without for one in few.events] == pytest.approx(
        [one.score_without for one in whole.events[2:]], abs=1e-6
    )
    assert (few.score, few.used_history) == (pytest.approx(whole.score, abs=1e-6), 4)


def test_the_history_of_a_user_is_what_recommendations_take_it_to_be(client, small_model, walks):
    before = [walks.items.ids[int(row)] for row in walks.histories[7]]

    answer = client.explain("i20", "u07", ["i03", "nothing"], exclude_seen=False)

    known = [*before, "i03"]
    assert [one.item for one in answer.events] == known
    assert (answer.score, answer.rank) == standing(small_model, known, "i20")
    assert answer.unknown_items == ["nothing"]


def test_without_the_only_event_popular_items_would_be_the_answer(client, small_model):
    popular = small_model.recommend(["nobody"], k=25, unknown="popular")["item_id"].to_list()

    [only] = client.explain("i20", history=["i03"], exclude_seen=False).events

    assert (only.score_without, only.rank_without) == (None, popular.index("i20") + 1)
    assert only.attention == pytest.approx(1.0)


def test_of_nobody_known_there_is_nothing_to_explain_but_the_place(client, small_model):
    popular = small_model.recommend(["nobody"], k=25, unknown="popular")["item_id"].to_list()

    answer = client.explain(popular[3], "nobody")

    assert (answer.events, answer.source, answer.rank) == ([], "popular", 4)


def test_an_item_that_the_model_does_not_know_is_told_so(client):
    with pytest.raises(ServingError, match="does not know the item 'what'") as refused:
        client.explain("what", history=["i03"])

    assert refused.value.status == 404


# Other scorers


@pytest.mark.parametrize("kind", [Markov, Popularity])
def test_what_counts_the_same_histories_ranks_instead_of_the_model(client, small_model, kind):
    counted = Recommender(
        kind.of(small_model.histories, items=len(small_model.items)),
        users=small_model.users,
        items=small_model.items,
        histories=small_model.histories,
    )

    answer = client.recommend(history=["i03", "i04"], k=25, exclude_seen=True, scorer=kind.kind)

    expected = counted.continue_from(["i03", "i04"], k=25, exclude_seen=True)
    found = {one.item: one.score for one in answer.items}
    assert found == pytest.approx(dict(expected.select("item_id", "score").iter_rows()), abs=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert client.recommend(history=["i03", "i04"], scorer="sasrec") == client.recommend(history=["i03", "i04"])


def test_a_markov_chain_goes_by_the_last_event_alone(client):
    answer = client.explain("i20", history=["i03", "i04", "i05"], scorer="markov")

    first, second, _ = answer.events
    assert [one.attention for one in answer.events] == [None] * 3
    assert first.score_without == second.score_without == pytest.approx(answer.score)


def test_the_model_lists_what_can_rank_and_a_name_that_is_none_of_them_is_refused(client):
    assert client.model().scorers == ["sasrec", "markov", "popularity"]

    for ask in (
        lambda: client.recommend(scorer="magic"),
        lambda: client.explain("i03", scorer="magic"),
        lambda: client.rank(["i03"], scorer="magic"),
        lambda: client.similar("i03", scorer="magic"),
    ):
        with pytest.raises(ServingError, match="/scorer: 'magic' is none of sasrec, markov, popularity") as refused:
            ask()
        assert refused.value.status == 422


def test_popularity_is_not_asked_which_items_are_alike(client):
    with pytest.raises(ServingError, match="/scorer: popularity does not tell which items are alike") as refused:
        client.similar("i03", scorer="popularity")

    assert refused.value.status == 422


def test_popularity_stands_beside_a_model_of_the_latest_events(serving, walks, tmp_path):
    model = sasrec.count(sasrec.split(walks), "recent", progress=False)

    with serving(model, data=tmp_path / "data") as running, Client(running.url) as client:
        facts = client.model()
        ranked = {name: client.rank(["i01", "i02", "i03"], history=["i04"], scorer=name) for name in facts.scorers}

    known = Popularity.of(walks.histories, items=len(walks.items))
    assert (facts.kind, facts.scorers) == ("recent", ["recent", "markov", "popularity"])
    for name, scorer in (("recent", model.scorer), ("popularity", known)):
        counts = dict(zip(walks.items.ids, scorer.counts / scorer.counts.sum(), strict=True))
        assert {one.item: one.score for one in ranked[name].items} == pytest.approx(
            {item: counts[item] for item in ("i01", "i02", "i03")}
        )


@pytest.fixture(scope="module")
def hybrid(small_model, walks):
    """A blend of the network with two models that count; each has a weight, whatever it is worth."""
    data = sasrec.split(walks)
    parts = [small_model, *(sasrec.count(data, name, progress=False) for name in ("rules", "markov"))]
    scorer = Blend(
        {part.scorer.kind: (weight, part.scorer) for weight, part in zip((0.5, 0.3, 0.2), parts, strict=True)}
    )
    return {part.scorer.kind: part for part in [Recommender.of_log(scorer, walks, record={}), *parts]}


@pytest.fixture(scope="module")
def asked(serving, hybrid, tmp_path_factory):
    with (
        serving(hybrid["blend"], data=tmp_path_factory.mktemp("hybrid") / "data") as running,
        Client(running.url) as client,
    ):
        yield client


def test_a_blend_offers_itself_its_parts_and_what_counts_the_same_histories(asked):
    assert asked.model().scorers == ["blend", "sasrec", "rules", "markov", "popularity"]


@pytest.mark.parametrize("name", ["blend", "sasrec", "rules", "markov"])
def test_a_part_of_a_blend_ranks_and_finds_similar_items_as_it_does_alone(asked, hybrid, name):
    alone, history = hybrid[name], ["i03", "i04"]
    candidates = ["i20", "i07", "i01"]

    recommended = asked.recommend(history=history, k=25, exclude_seen=False, scorer=name)
    ranked = asked.rank(candidates, history=history, scorer=name)
    similar = asked.similar("i03", k=24, scorer=name)

    for answer, expected in (
        (recommended, alone.continue_from(history, k=25, exclude_seen=False)),
        (ranked, alone.score(history, candidates)),
        (similar, alone.similar("i03", k=24)),
    ):
        found = {one.item: one.score for one in answer.items}
        assert found == pytest.approx(dict(expected.select("item_id", "score").iter_rows()), abs=1e-5)


def test_the_network_of_a_blend_tells_what_it_looks_at(asked, client):
    history = ["i03", "i04", "i05"]

    of_part = asked.explain("i20", history=history, exclude_seen=False, scorer="sasrec")

    assert of_part.events == client.explain("i20", history=history, exclude_seen=False).events
    assert asked.explain("i20", history=history).events[0].attention is None


# In Python


def told(answer):
    """What an explanation says, of Python or of the server, as plain values."""
    events = [
        (getattr(one, "item", None) or one.item_id, one.attention, one.score_without, one.rank_without)
        for one in answer.events
    ]
    return answer.score, answer.rank, events, answer.source, answer.used_history


@pytest.mark.parametrize("kind", ["blend", "sasrec", "rules", "markov"])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_python_and_the_server_give_the_same_numbers(asked, hybrid, kind, exclude_seen):
    history = ["i03", "i04", "i05", "i04"]

    over_http = asked.explain("i20", history=history, exclude_seen=exclude_seen, scorer=kind)
    known = asked.explain("i20", "u07", history, exclude_seen=exclude_seen, scorer=kind, events=3)

    in_python = hybrid[kind].explain(history, "i20", exclude_seen=exclude_seen)
    assert told(in_python) == told(over_http)
    assert told(hybrid[kind].explain(history, "i20", user="u07", exclude_seen=exclude_seen, events=3)) == told(known)
    assert len(in_python.events) == 4


def test_what_is_known_of_a_user_comes_before_the_history_that_is_given(small_model, walks):
    before = [walks.items.ids[int(row)] for row in walks.histories[7]]

    alone = small_model.explain([], "i20", user="u07", exclude_seen=False)
    gone_on = small_model.explain(["i03", "i04"], "i20", user="u07", exclude_seen=False)

    for answer, history in ((alone, before), (gone_on, [*before, "i03", "i04"])):
        assert (answer.score, answer.rank) == standing(small_model, history, "i20")
        assert [one.item_id for one in answer.events] == history
        assert [one.event for one in answer.events] == [*range(1, len(history) + 1)]
        for at, one in enumerate(answer.events):
            rest = history[:at] + history[at + 1 :]
            assert (one.score_without, one.rank_without) == standing(small_model, rest, "i20")


def test_a_network_that_tells_users_apart_is_told_the_user(walks, small_config):
    model = sasrec.train(sasrec.split(walks), replace(small_config, user_width=4), progress=False)
    item = model.recommend(["u07"], k=1, exclude_seen=False)

    own = model.explain([], item["item_id"][0], user="u07", exclude_seen=False)
    others = model.explain([one.item_id for one in own.events], item["item_id"][0], exclude_seen=False)

    assert (own.rank, own.score) == (1, pytest.approx(item["score"][0], abs=1e-5))
    assert others.score != pytest.approx(own.score, abs=1e-5)


def test_the_latest_events_keep_their_places_in_the_history(small_model):
    answer = small_model.explain(["i03", "i04", "i05", "i06"], "i20", events=2)

    assert [(one.event, one.item_id) for one in answer.events] == [(3, "i05"), (4, "i06")]
    assert answer.used_history == 4


@pytest.mark.filterwarnings("default")
def test_items_and_users_that_are_unknown_are_refused_or_left_out_as_elsewhere(small_model):
    for ask in (
        lambda: small_model.explain(["i03", "what"], "i20"),
        lambda: small_model.explain(["i03"], "what"),
        lambda: small_model.explain(["i03"], "i20", user="nobody"),
    ):
        with pytest.raises(UnknownIdError, match=r"1 unknown (item: 'what'|user: 'nobody'); known are"):
            ask()
    with pytest.raises(UnknownIdError, match="unknown item: 'what'"):  # there is nothing without it
        small_model.explain(["i03"], "what", unknown="ignore")

    with pytest.warns(UserWarning, match="skipped 1 unknown item: 'what'"):
        warned = small_model.explain(["i03", "what", "i04"], "i20", unknown="skip")
    ignored = small_model.explain(["what", "i03", "i04"], "i20", user="nobody", unknown="ignore")

    assert warned == ignored == small_model.explain(["i03", "i04"], "i20")


@pytest.mark.parametrize("history", [[], ["nothing"]])
def test_without_a_known_event_there_is_a_place_among_popular_items_or_an_error(client, small_model, history):
    with pytest.raises(UnknownIdError, match="history: no item of it is known to the model; give some that are"):
        small_model.explain(history, "i20", unknown="ignore")

    answer = small_model.explain(history, "i20", unknown="popular")

    assert told(answer) == told(client.explain("i20", history=history))
    assert (answer.events, answer.source, answer.used_history) == ((), "popular", 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"events": 0}, ConfigError, "events: expected an integer >= 1, found 0"),
        ({"events": 2.5}, ConfigError, "events: expected an integer >= 1, found 2.5"),
        ({"exclude_seen": "no"}, ConfigError, "exclude_seen"),
        ({"unknown": "drop"}, ConfigError, "unknown: expected 'raise', 'skip', 'ignore' or 'popular', found 'drop'"),
        ({"times": [1, 2]}, ConfigError, "times: this model does not look at times; leave them out"),
        ({"at": 3}, ConfigError, "at: this model does not look at times; leave it out"),
        ({"history": "i03"}, DataError, r"history: expected a list of ids, found the single text 'i03'"),
        ({"item": ["i03"]}, UnknownIdError, "unknown item"),
    ],
)
def test_what_cannot_be_explained_is_said(small_model, options, error, message):
    with pytest.raises(error, match=message):
        small_model.explain(**{"history": ["i03", "i04"], "item": "i20"} | options)


class Odd:
    """Scores every item alike but the last, after histories of two events."""

    kind, reads_times, items = "odd", False, 25

    def scores(self, histories):
        scores = np.ones((len(histories), self.items), np.float32)
        scores[histories.lengths == 2, -1] = np.nan
        return scores


def test_scores_that_are_no_numbers_are_refused_whichever_item_has_them(small_model):
    known = {name: getattr(small_model, name) for name in ("users", "items", "histories")}
    model = Recommender(Odd(), **known)

    with pytest.raises(ScoreError, match="NaN"):
        model.explain(["i03", "i04", "i05"], "i20")

    assert model.explain(["i03"], "i20", exclude_seen=False).rank == 21  # of equal scores


def test_histories_are_scored_in_parts_that_stay_small(small_model, monkeypatch):
    seen = []
    scorer = small_model.scorer

    class Watched:
        kind, reads_times, items = "watched", False, scorer.items

        def scores(self, histories):
            seen.append(len(histories.items))
            return scorer.scores(histories)

    known = {name: getattr(small_model, name) for name in ("users", "items", "histories")}
    history = [f"i{at % 25:02}" for at in range(40)]
    monkeypatch.setattr("sasrec.retrieval.topk._BLOCK_BYTES", 4 * 40 * 3)  # three histories of 40 events

    answer = Recommender(Watched(), **known).explain(history, "i20", exclude_seen=False, events=40)

    assert max(seen) <= 3 * 40
    for at, one in enumerate(answer.events):
        assert one.rank_without == standing(small_model, history[:at] + history[at + 1 :], "i20")[1]


def test_an_explanation_is_printed_as_a_table(log_of):
    log = log_of({"ada": ["x", "y"], "bob": ["x", "y"], "cyd": ["y", "z"]})
    model = Recommender.of_log(Markov.of(log.histories, items=3), log, record={})

    # After x came y twice, after y z once; one step more is spread as x 2/6, y 3/6, z 1/6.
    assert str(model.explain(["x", "y"], "z", exclude_seen=False)).splitlines() == [
        "z: score 0.5833, rank 1 after 2 events",
        "event  item_id  attention  score_without  rank_without",
        "    1  x                          0.5833             1",
        "    2  y                          0.0556             3",
    ]
    assert str(model.explain(["x"], "z")).splitlines() == [
        "z: score 0.0556, rank 2 after 1 event",
        "event  item_id  attention  score_without  rank_without",
        "    1  x                                             2",
    ]
    assert str(model.explain([], "z", unknown="popular")) == (
        "z: score 0.1667, rank 3 of the popular items, as nothing of the history is known"
    )


def test_an_explanation_is_plain_values_for_a_file(small_model, tmp_path):
    answer = small_model.explain(["i03", "i04"], "i20")

    sasrec.write_json(tmp_path / "why.json", answer)

    written = json.loads((tmp_path / "why.json").read_text())
    assert (written["item_id"], written["score"], written["rank"]) == ("i20", answer.score, answer.rank)
    assert [tuple(one.values()) for one in written["events"]] == [astuple(one) for one in answer.events]


# Latest events


def test_the_latest_events_are_shown_once_each_and_never_those_of_the_forgotten(running, client):
    client.add("feed a", "i03", event="f1")
    client.add("feed b", "i04", event="f2")
    client.add("feed a", "i03", event="f1")  # again

    latest = client.latest(limit=2)
    client.forget("feed b")

    assert [(one.user, one.item, one.id) for one in latest.events] == [("feed b", "i04", "f2"), ("feed a", "i03", "f1")]
    assert latest.model_version == running.version
    assert [one.id for one in client.latest(limit=1).events] == ["f1"]
