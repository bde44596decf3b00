"""Links are counted and followed as nested loops would."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError
from sasrec.retrieval import links as of_links
from sasrec.retrieval.linked import KNN, RULES, Linked, Linking
from sasrec.retrieval.links import count_links, follow

ITEMS = 6
histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=8)
asked = st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=5), min_size=1, max_size=5)
settings = st.builds(
    Linking,
    window=st.integers(1, 9),
    fade=st.sampled_from([0.0, 1.0, 2.5]),
    backward=st.sampled_from([0.0, 0.25, 1.0]),
    shrink=st.sampled_from([0.0, 10.0]),
    discount=st.sampled_from([0.0, 0.25, 0.5]),
    decay=st.sampled_from([0.5, 0.8, 1.0]),
)


def counted(train, setting):
    """n_ij by nested loops over pairs of events."""
    found = defaultdict(float)
    for one in train:
        for place, earlier in enumerate(one):
            for gap, later in enumerate(one[place + 1 : place + 1 + setting.window], start=1):
                found[earlier, later] += gap**-setting.fade
                found[later, earlier] += setting.backward * gap**-setting.fade
    return {pair: total for pair, total in found.items() if total}


def table(links):
    """A table of links as a dictionary."""
    return {
        (source, int(target)): float(weight)
        for source in range(len(links))
        for target, weight in zip(
            links[source], links.weights[links.offsets[source] : links.offsets[source + 1]], strict=True
        )
    }


@given(histories, settings)
def test_links_are_those_of_nested_loops(train, setting):
    links = count_links(
        Sequences.of(train), items=ITEMS, window=setting.window, fade=setting.fade, backward=setting.backward
    )

    assert table(links) == pytest.approx(counted(train, setting), rel=1e-6)


@given(histories, asked, settings)
def test_scores_are_those_of_the_formula(train, questions, setting):
    events = Counter(item for one in train for item in one)
    pairs = counted(train, setting)

    scores = Linked.of(Sequences.of(train), items=ITEMS, settings=setting).scores(Sequences.of(questions))

    for row, question in enumerate(questions):
        for item in range(ITEMS):
            linked = sum(
                setting.decay**age * pairs.get((source, item), 0.0) / (max(events[source], 1) + setting.shrink) ** 0.5
                for age, source in enumerate(reversed(question))
            )
            share = events[item] / max(events.total(), 1) / 1000
            expected = (linked + share) / (max(events[item], 1) + setting.shrink) ** setting.discount
            assert float(scores[row, item]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_rules_worked_by_hand():
    # a b c, a c: after a came b at gap 1, c at gaps 2 and 1; after b came c. Two a, one b, two c; nothing backward.
    rules = replace(RULES, backward=0.0, discount=0.0, decay=0.5)

    scores = Linked.of(Sequences.of([[0, 1, 2], [0, 2]]), items=3, settings=rules).scores(Sequences.of([[0, 1]]))

    shares = np.array([2 / 5, 1 / 5, 2 / 5]) / 1000
    linked = np.array([0.0, 0.5 * 1 / 2**0.5, 0.5 * 1.5 / 2**0.5 + 1])
    np.testing.assert_allclose(scores[0], linked + shares, rtol=1e-6)


def test_flat_links_both_ways_divided_by_both_counts_are_cosines_of_users():
    rng = np.random.default_rng(4)
    train = [rng.permutation(ITEMS)[: rng.integers(1, ITEMS)].tolist() for _ in range(50)]
    had = np.zeros((50, ITEMS))
    for user, one in enumerate(train):
        had[user, one] = 1
    norms = np.linalg.norm(had, axis=0)
    knn = replace(KNN, shrink=0.0, decay=1.0)

    scores = Linked.of(Sequences.of(train), items=ITEMS, settings=knn).scores(
        Sequences.of([[item] for item in range(ITEMS)])
    )

    cosines = had.T @ had / np.outer(norms, norms)
    np.fill_diagonal(cosines, 0)
    np.testing.assert_allclose(scores, cosines, atol=1e-3)


@given(histories, asked, settings)
def test_the_size_of_the_parts_changes_no_link_and_no_score(train, questions, setting):
    def linked():
        return Linked.of(Sequences.of(train), items=ITEMS, settings=setting)

    whole = linked()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_links, "_PAIRS", 1)
        small = linked()
        scores = small.scores(Sequences.of(questions))

    assert table(small.links) == pytest.approx(table(whole.links), rel=1e-6)
    np.testing.assert_allclose(scores, whole.scores(Sequences.of(questions)), rtol=1e-5, atol=1e-9)


def test_of_too_many_links_the_strongest_are_kept(monkeypatch):
    monkeypatch.setattr(of_links, "_MOST", 2)
    train = Sequences.of([[0, 1]] * 3 + [[0, 2]] + [[0, 3]] * 2 + [[4, 2]])

    links = count_links(train, items=5, window=1, fade=1.0, backward=0.0)

    assert table(links) == {(0, 1): 3.0, (0, 3): 2.0, (4, 2): 1.0}


def test_events_that_weigh_nothing_any_more_are_not_followed():
    links = count_links(Sequences.of([[0, 1], [2, 3]]), items=4, window=1, fade=1.0, backward=0.0)

    scores = follow(links, Sequences.of([[0] + [2] * 60]), decay=0.5)

    assert scores[0].tolist() == pytest.approx([0, 0, 0, 2], rel=1e-3)


def test_items_beyond_32_bits_of_pairs_are_linked():
    items = 3_000_000

    scores = Linked.of(Sequences.of([[items - 1, items - 2, items - 1]]), items=items).scores(
        Sequences.of([[items - 1]])
    )

    assert int(scores[0].argmax()) == items - 2


@given(histories.filter(any))
def test_similarity_is_the_cosine_of_the_links(train):
    model = Linked.of(Sequences.of(train), items=ITEMS)
    matrix = np.zeros((ITEMS, ITEMS))
    for (source, target), weight in table(model.links).items():
        matrix[source, target] = weight
    norms = np.linalg.norm(matrix, axis=1)

    found = np.stack([model.similarities(item) for item in range(ITEMS)])

    np.testing.assert_allclose(found, matrix @ matrix.T / np.maximum(np.outer(norms, norms), 1e-12), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"window": 0}, {"decay": 0.0}, {"decay": "0.5"}, {"kind": "others"}, {"shrink": -1.0}, {"more": 1}],
)
def test_settings_that_cannot_be_are_refused(change):
    config, tensors = Linked.of(Sequences.of([[0, 1, 2]]), items=3).to_parts()

    with pytest.raises(BundleError):
        Linked.from_parts(3, config | change, tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": torch.tensor([0, 2, 1, 4])},
        {"offsets": torch.tensor([1, 2, 3, 4])},
        {"offsets": torch.tensor([0, 1, 2, 3])},
        {"linked": torch.tensor([1, 2, 3, 0], dtype=torch.int32)},
        {"linked": torch.tensor([1, -1, 0, 0], dtype=torch.int32)},
        {"counts": torch.tensor([1.0, -1.0, 1.0])},
    ],
)
def test_links_that_point_elsewhere_are_refused(change):
    config, tensors = Linked.of(Sequences.of([[0, 1, 2]]), items=3, settings=replace(RULES, window=1)).to_parts()
    assert len(tensors["linked"]) == 4

    with pytest.raises(BundleError):
        Linked.from_parts(3, config, tensors | change)
