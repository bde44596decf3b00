"""A whole evaluation of four users, every number worked out by hand.

    ada   a b c | d | a          bob   b c a | b | c
    cyd   c a   | b | a          dan   a b           (too short: trains only)

Training steps: a>b 2, b>c 2, c>a 2. Training events: a 4, b 3, c 3, d 0, of 10.
Test histories end in d, b and b.
"""

import numpy as np
import pytest

import sasrec
from sasrec.retrieval.counting import Popularity
from sasrec.retrieval.recommender import Recommender


@pytest.fixture(scope="module")
def report(log_of):
    log = log_of({"ada": [*"abcda"], "bob": [*"bcabc"], "cyd": [*"caba"], "dan": [*"ab"]})
    data = sasrec.split(log)
    model = Recommender(Popularity.of(data.train, items=4), users=log.users, items=log.items, histories=log.histories)
    return sasrec.evaluate(model, data, k=[1, 2], exclude_seen=False)


def test_popularity(report):
    # Scores a .4, b .3, c .3, d 0. Targets a, c, a: c ties with b for places 1 and 2.
    row = report.rows[-1]

    assert row.ranks.tolist() == [0.0, 1.5, 0.0]
    assert row.metrics["HR@1"][0] == pytest.approx(2 / 3)
    assert row.metrics["HR@2"][0] == 1.0
    assert row.metrics["NDCG@2"][0] == pytest.approx((2 + 1 / np.log2(3.5)) / 3)
    assert row.metrics["MRR@2"][0] == pytest.approx((2 + 1 / 2.5) / 3)
    assert row.metrics["Precision@2"][0] == pytest.approx(1 / 2)
    # Values 1, 0, 1: sample variance 1/3, over 3 users.
    assert row.metrics["HR@1"][1] == pytest.approx(1 / 3)
    assert row.coverage["coverage@1"] == 1 / 4


def test_markov(report):
    # After d nothing followed: popularity, a first. After b came c twice: c (2.3/3), then a (.4/3), b, d.
    row = report.row("Markov")

    assert row.model == "Markov"
    assert row.ranks.tolist() == [0.0, 0.0, 1.0]
    assert row.metrics["HR@1"][0] == pytest.approx(2 / 3)
    assert row.metrics["NDCG@2"][0] == pytest.approx((2 + 1 / np.log2(3)) / 3)
    assert row.coverage["coverage@1"] == 2 / 4


def test_what_the_report_says_of_the_targets(report):
    assert report.notes == ()
    assert report.protocol.startswith("protocol: last-item split, test; 3 users, whole catalogue of 4 items ranked")
