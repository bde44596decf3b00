"""An earlier model is ranked as it would answer today's users, by brute force through its public answers."""

import math

import numpy as np
import pytest

import sasrec
from sasrec.evaluation.earlier import beside
from sasrec.evaluation.protocol import evaluate


@pytest.fixture(scope="module")
def data(log_of):
    """Users known and new, histories with items that `walks` has not, some without any that it has."""
    rng = np.random.default_rng(5)
    histories = {f"u{u:02}": [f"i{i:02}" for i in rng.integers(0, 33, 3 + u % 7)] for u in range(40, 75)}
    histories |= {f"x{u}": ["novel-1", "novel-2", f"i{u:02}"] for u in range(6)}
    return sasrec.split(log_of(histories))


def expected_rank(model, history, target, *, exclude_seen):
    """Place of the target in all that the model would recommend; infinite where it never would."""
    answer = model.continue_from(history, k=25, exclude_seen=exclude_seen, unknown="popular")
    scores = dict(zip(answer["item_id"], answer["score"], strict=True))
    if target not in scores:
        return math.inf
    above = sum(score > scores[target] for score in scores.values())
    ties = sum(score == scores[target] for score in scores.values()) - 1
    return above + ties / 2


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("kind", ["network", "markov"])
def test_ranks_are_those_of_the_answers_that_a_server_would_give(small_model, walks, data, kind, exclude_seen):
    model = small_model if kind == "network" else sasrec.count(sasrec.split(walks), "markov", progress=False)
    report = evaluate(sasrec.count(data, "popularity", progress=False), data, exclude_seen=exclude_seen)

    found = beside(report, model, data, name="earlier").rows[1]

    users = data.log.users.ids.to_list()
    asked = [data.of_user(users[row]) for row in report.users]
    expected = [
        expected_rank(model, one["train"] + one["valid"], one["test"][0], exclude_seen=exclude_seen) for one in asked
    ]
    assert found.ranks.tolist() == expected
    assert math.inf in expected
    assert found.metrics["HR@10"][0] == pytest.approx(np.mean([rank < 10 for rank in expected]))


def test_a_model_of_the_same_log_has_the_row_that_it_has_itself(small_model, walks):
    data = sasrec.split(walks)
    report = evaluate(small_model, data, k=[1, 10])

    found = beside(report, small_model, data, name="the same")

    itself, again = found.rows[:2]
    assert again.metrics == itself.metrics
    assert again.coverage == itself.coverage
    assert [row.model for row in found.rows] == ["SASRec (softmax)", "the same", "Rules", "Markov", "Popularity"]
    assert found.notes == report.notes


def test_coverage_is_of_the_catalogue_of_today(small_model, walks, log_of):
    users = walks.users.ids.to_list()
    fewer = {user: [f"i{row:02}" for row in walks.histories[place] if row < 6] for place, user in enumerate(users)}
    data = sasrec.split(log_of({user: items for user, items in fewer.items() if items}))
    report = evaluate(sasrec.count(data, "popularity", progress=False), data)

    found = beside(report, small_model, data, name="earlier").rows[1]

    asked = [data.of_user(data.log.users.ids[int(row)]) for row in report.users]
    answers = [
        small_model.continue_from(
            one["train"] + one["valid"], k=10, exclude_seen=report.exclude_seen, unknown="popular"
        )
        for one in asked
    ]
    shown = {item for answer in answers for item in answer["item_id"]}
    assert shown - {*data.log.items.ids}
    assert found.coverage["coverage@10"] == len(shown & {*data.log.items.ids}) / len(data.log.items)


def test_targets_that_the_earlier_model_does_not_know_are_counted(small_model, data):
    report = evaluate(sasrec.count(data, "popularity", progress=False), data)

    found = beside(report, small_model, data, name="earlier")

    held = [data.of_user(user)["test"] for user in data.log.users.ids]
    unknown = sum(bool(one) and one[0] not in small_model.items.ids.to_list() for one in held)
    assert f"{unknown} of {len(report.users)} targets are items that 'earlier' does not know" in str(found)


def test_user_vectors_go_with_their_users(walks, data, small_config):
    """Users known to the earlier model keep their own vectors although their rows are others."""
    config = sasrec.Config(**(small_config.to_dict() | {"user_width": 4, "attention_width": 12, "feed_forward": 12}))
    model = sasrec.train(sasrec.split(walks), config, progress=False)
    report = evaluate(sasrec.count(data, "popularity", progress=False), data, exclude_seen=False)

    found = beside(report, model, data, name="earlier").rows[1]

    known = [(at, row) for at, row in enumerate(report.users) if data.log.users.ids[int(row)] in set(model.users.ids)]
    assert known
    for at, row in known:
        user = data.log.users.ids[int(row)]
        lent = data.of_user(user)
        past = [item for item in lent["train"] + lent["valid"] if item in set(model.items.ids)]
        there = model.items.rows(past).astype(np.int32)
        asked = sasrec.data.sequences.Sequences(there, np.array([0, len(there)]), users=model.users.rows([user]))
        scores = model.scorer.scores(asked)[0]
        target = int(model.items.rows(lent["test"])[0])
        if target >= 0:
            assert found.ranks[at] == pytest.approx(float((scores > scores[target]).sum()))


def test_a_model_that_looks_at_times_is_told_that_of_each_target(timed_model, timed_rows):
    data = sasrec.split(sasrec.read_log(timed_rows))
    report = sasrec.evaluate(timed_model, data, k=5)

    row = beside(report, timed_model, data, name="the same").rows[1]

    np.testing.assert_array_equal(row.ranks, report.rows[0].ranks)
