"""Pages of results: complete in themselves, harmless whatever a title holds, with the numbers of the report."""

import re
import shutil
import subprocess
from copy import copy
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch

import sasrec
from sasrec.errors import ConfigError
from sasrec.model.inspection import attention_seen
from sasrec.retrieval.counting import Popularity

EVIL = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=1">',
    "</title></style></svg>&",
]
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """A page as a browser reads it: every element with its text, nested as they are written."""

    def __init__(self, text):
        super().__init__()
        self.root = self.current = ElementTree.Element("page")
        self.parents = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        element = ElementTree.SubElement(self.current, name, {key: value or "" for key, value in attributes})
        if name not in VOID:
            self.parents[element] = self.current
            self.current = element

    def handle_endtag(self, name):
        assert self.current.tag == name, f"</{name}> closes <{self.current.tag}>"
        self.current = self.parents[self.current]

    def handle_data(self, data):
        if len(self.current):
            self.current[-1].tail = (self.current[-1].tail or "") + data
        else:
            self.current.text = (self.current.text or "") + data

    def all(self, name, kind=None):
        return [one for one in self.root.iter(name) if kind is None or kind in one.get("class", "").split()]

    def section(self, name):
        return next(one for one in self.all("section") if one.get("id") == name)


def words(element):
    return " ".join("".join(element.itertext()).split())


def cells(element):
    return [[words(cell) for cell in row] for row in element.iter("tr")]


@pytest.fixture(scope="module")
def data(walks):
    return sasrec.split(walks)


@pytest.fixture(scope="module")
def report(small_model, data):
    return sasrec.evaluate(small_model, data, k=[5, 10])


@pytest.fixture(scope="module")
def titles(tmp_path_factory, walks):
    """A file of titles, some of which are markup; the last items have none."""
    path = tmp_path_factory.mktemp("titles") / "items.csv"
    items = walks.items.ids.to_list()
    shown = {"item_id": items[:-3], "title": [EVIL[at] if at < 3 else f"The film {at}" for at in range(len(items) - 3)]}
    pl.DataFrame(shown).write_csv(path)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory, report, small_model, data, titles):
    path = tmp_path_factory.mktemp("page") / "report.html"
    sasrec.write_page(path, report, model=small_model, data=data, user="u15", titles=titles)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def write(folder, *arguments, **named):
    sasrec.write_page(folder / "page.html", *arguments, **named)
    return Page((folder / "page.html").read_text(encoding="utf-8"))


# Complete and harmless


def test_every_element_is_closed_and_every_drawing_is_xml(text, page):
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)

    assert page.current is page.root
    assert len(drawings) > 8
    for one in drawings:
        ElementTree.fromstring(one)


def test_a_page_asks_for_nothing_and_runs_nothing(text, page):
    names = {one.tag for one in page.root.iter()}
    attributes = {key for one in page.root.iter() for key in one.attrib}
    links = [one.get("href") for one in page.root.iter() if one.get("href")]
    targets = {one.get("id") for one in page.root.iter()}

    assert not names & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "foreignObject", "image"}
    assert not [key for key in attributes if key.startswith("on") or key in ("src", "srcset", "style", "xlink:href")]
    assert links
    assert all(link.startswith("#") and link[1:] in targets for link in links)
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in next(one.get("content") for one in page.all("meta") if one.get("http-equiv"))


def test_markup_in_titles_is_shown_as_it_is(page):
    shown = {words(one) for one in page.all("bdi")}

    assert set(EVIL) <= shown
    assert "The film 5" in shown


def test_nothing_but_printable_characters_and_line_breaks_is_in_a_page(text):
    assert not [one for one in set(text) if not one.isprintable() and one != "\n"]


def test_no_drawing_holds_a_number_that_is_none(page):
    drawn = [value for one in page.all("svg") for part in one.iter() for value in part.attrib.values()]

    assert not [value for value in drawn if re.search(r"nan|inf", value, flags=re.IGNORECASE)]


def test_the_same_result_gives_the_same_page(text, tmp_path, report, small_model, data, titles):
    sasrec.write_page(tmp_path / "again.html", report, model=small_model, data=data, user="u15", titles=titles)

    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_a_browser_runs_nothing_of_a_title(tmp_path, text):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser here")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]

    done = subprocess.run([*command, f"file://{tmp_path}/page.html"], capture_output=True, check=True, timeout=120)

    found = re.search("<title>(.*?)</title>", done.stdout.decode())
    assert found
    assert found[1].endswith("· sasrec")


# The numbers


def test_tables_hold_the_numbers_of_the_report(page, report):
    tables = [cells(one) for one in page.section("results").iter("table")]

    for k, table in zip((5, 10), tables, strict=True):
        assert table[0] == ["model", f"NDCG@{k}", f"HR@{k}", f"MRR@{k}", f"coverage@{k}"]
        for row, line in zip(report.rows, table[1:], strict=True):
            assert line[0] == row.model
            for name, cell in zip(table[0][1:4], line[1:4], strict=True):
                mean, error = row.metrics[name]
                low, high = max(mean - 1.96 * error, 0), mean + 1.96 * error
                assert cell == f"{mean:.4f} ± {error:.4f}{low:.4f} to {high:.4f}"
            assert line[4] == f"{row.coverage[f'coverage@{k}']:.1%}"


def test_the_lead_over_the_best_other_model_is_paired(page, report):
    own, *others = report.rows
    best = max(others, key=lambda row: row.metrics["NDCG@10"][0])
    gains = [np.where(row.ranks < 10, 1 / np.log2(row.ranks + 2), 0) for row in (own, best)]
    ahead = gains[0] - gains[1]

    tile = words(page.all("div", "tiles")[0][2])

    margin = 1.96 * ahead.std(ddof=1) / np.sqrt(len(ahead))
    verdict = "not told apart" if abs(ahead.mean()) <= margin else "better" if ahead.mean() > 0 else "worse"
    assert tile.startswith(f"{ahead.mean():+.4f} ± {margin:.4f}")
    assert f"ahead of {best.model}, over the same users: {verdict} at 95 %" in tile


@pytest.mark.parametrize("place", [0, 1])
def test_groups_hold_the_mean_of_their_users(page, report, data, place):
    counts = np.bincount(data.train.items, minlength=len(data.log.items))
    quantity = [data.test.histories.lengths, counts[data.test.targets]][place]

    header, *lines = cells(page.section("where-it-is-good")[1][place])

    reached = []
    for name, *shown in lines:
        low, high = (int(end) for end in (*name.split("–"), name)[:2]) if "–" in name else (int(name), int(name))
        users = [user for user in range(len(quantity)) if low <= quantity[user] <= high]
        reached += users
        for model, cell in zip(header[1:], shown, strict=True):
            ranks = next(row.ranks for row in report.rows if row.model == model)[users]
            mean = sum(1 / np.log2(rank + 2) if rank < 10 else 0.0 for rank in ranks) / len(users)
            assert cell.startswith(f"{mean:.4f}")
    assert sorted(reached) == list(range(len(quantity)))


def test_notes_protocol_and_facts_are_those_of_report_log_and_model(page, report, data, small_model):
    text = words(page.root)

    assert report.protocol in text
    assert all(note in text for note in report.notes)
    assert data.log.content_hash in text
    assert data.rule in text
    assert f"validation NDCG@10 {small_model.record['best']['ndcg']:.4f}" in text
    assert ["seed", "1"] in cells(page.section("model"))


def test_training_curves_are_those_of_the_record(page, small_model):
    loss, ndcg = (cells(figure)[1:] for figure in page.section("model").iter("figure"))

    history = small_model.record["history"]
    assert loss == [[f"{one['epoch']:g}", f"{one['loss']:.4f}"] for one in history]
    assert ndcg == [[f"{one['epoch']:g}", f"{one['ndcg']:.4f}"] for one in history]


# Users


def test_users_are_shown_with_what_they_did_and_would_be_recommended(page, data, small_model, titles):
    shown = dict(pl.read_csv(titles).iter_rows())
    cards = page.all("div", "card")
    hits = 0

    def said(item):
        return f"{shown[item]} {item}" if item in shown else item

    for card in cards:
        user = words(card.find("h3")).removeprefix("User ")
        lent = data.of_user(user)
        history = lent["train"] + lent["valid"]
        [target] = lent["test"]
        answer = small_model.continue_from(history, k=10)["item_id"].to_list()
        past, recommended = ([words(line) for line in one.iter("li")] for one in card.iter("ol"))
        assert past == [said(item) for item in history[-10:]]
        assert recommended == [said(item) + " ✓ held out" * (item == target) for item in answer]
        assert len(page_hits(card)) == answer.count(target)
        hits += answer.count(target)
        seen = target in history
        assert ("cannot be recommended" in words(card.find("p"))) == (seen and small_model.exclude_seen)

    assert len(cards) == 10
    assert words(cards[0].find("h3")) == "User u15"
    assert len({words(card.find("h3")) for card in cards}) == 10
    assert hits, "or this test shows nothing"


def page_hits(card):
    return [line for line in card.iter("li") if line.get("class") == "hit"]


def test_attention_is_that_of_the_network(page, data, small_model):
    row = int(data.log.users.rows(["u15"])[0])
    place = data.test.users.tolist().index(row)
    weights = looks(small_model, data.test.histories.take(np.array([place])))

    maps = [cells(figure)[1:] for figure in page.section("attention").iter("figure")]

    assert len(maps) == len(weights) == 2
    for lines, one in zip(maps, weights, strict=True):
        assert [line[1:] for line in lines] == [[f"{x:.2f}" for x in row] for row in one.mean(dim=0).tolist()]


def looks(model, history):
    items, layout, users = model.scorer.given(history)
    with torch.inference_mode(), attention_seen(model.scorer.network) as found:
        model.scorer.network(items, layout, users=users)
    return found


def test_attention_is_seen_through_the_whole_network(small_model, data):
    history = data.test.histories.take(np.array([30]))

    weights = looks(small_model, history)

    length = min(int(history.lengths[0]), small_model.scorer.config.length)
    assert [one.shape for one in weights] == [(small_model.scorer.config.heads, length, length)] * 2
    assert all((one.sum(dim=2) - 1).abs().max() < 1e-5 and not one.triu(1).any() for one in weights)


# What is given, and what is not


def test_a_report_alone_is_a_page(tmp_path, report):
    page = write(tmp_path, report)

    assert [words(one) for one in page.all("h2")] == ["Results", "Where it is good"]


def test_validation_users_are_grouped_by_their_own_histories(tmp_path, small_model, data):
    page = write(tmp_path, sasrec.evaluate(small_model, data, on="valid"), model=small_model, data=data)

    lines = cells(page.section("where-it-is-good")[1][0])[1:]
    bounds = [int(end) for line in lines for end in line[0].split("–")]
    assert (bounds[0], bounds[-1]) == (data.valid.histories.lengths.min(), data.valid.histories.lengths.max())


def test_a_model_that_counts_has_a_page_too(tmp_path, walks, data):
    scorer = Popularity.of(data.train, items=len(walks.items))
    model = sasrec.Recommender(scorer, users=walks.users, items=walks.items, histories=walks.histories)

    page = write(tmp_path, sasrec.evaluate(model, data, k=3), model=model, data=data)

    assert [words(one) for one in page.all("h2")] == ["Results", "Where it is good", "Users", "Model", "Data"]
    assert "By history length: NDCG@3" in words(page.root)


def test_a_single_user_makes_a_page_without_errors(tmp_path, log_of, small_config):
    data = sasrec.split(log_of({"a": "pqrs", "b": "pq", "c": "rs"}))
    model = sasrec.train(data, small_config)

    page = write(tmp_path, sasrec.evaluate(model, data), model=model, data=data)

    assert "nan" not in words(page.root).lower()


def test_a_taken_name_is_refused_unless_it_may_be_replaced(tmp_path, report):
    path = tmp_path / "page.html"
    path.write_text("mine")

    with pytest.raises(sasrec.OutputError, match="exists already"):
        sasrec.write_page(path, report)

    assert path.read_text() == "mine"
    sasrec.write_page(path, report, replace=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_another_split_than_the_report_s_is_refused(tmp_path, report, log_of, small_model, walks):
    fewer = sasrec.split(log_of({f"u{u:02}": [f"i{i:02}" for i in range(25)] for u in range(3)}))

    with pytest.raises(sasrec.DataError, match="does not hold out the 54 users of the report"):
        write(tmp_path, report, data=fewer)


def test_a_model_of_other_items_is_refused(tmp_path, report, log_of, small_model):
    other = sasrec.split(log_of({"a": ["x", "y", "z"]}))

    with pytest.raises(sasrec.DataError, match="its items are not those of the model"):
        write(tmp_path, report, model=small_model, data=other)


@pytest.mark.parametrize(
    ("user", "error", "words"),
    [
        ("nobody", sasrec.UnknownIdError, "'nobody'"),
        ("u00", sasrec.DataError, "'u00': nothing of theirs was predicted"),
    ],
)
def test_a_user_who_cannot_be_shown_is_refused(tmp_path, report, small_model, data, user, error, words):
    with pytest.raises(error, match=words):
        write(tmp_path, report, model=small_model, data=data, user=user)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lacking", ["model", "data"])
@pytest.mark.parametrize("given", ["user", "titles"])
def test_a_user_and_titles_without_anybody_to_show_are_refused(
    tmp_path, report, small_model, data, titles, lacking, given
):
    named = {"model": small_model, "data": data, given: {"user": "u15", "titles": titles}[given]} | {lacking: None}

    with pytest.raises(ConfigError, match="give model= and data= too"):
        sasrec.write_page(tmp_path / "page.html", report, **named)


def test_epochs_that_were_not_validated_have_a_loss_and_no_validation(tmp_path, data, small_config):
    model = sasrec.train(data, replace(small_config, epochs=5, validate_every=2), progress=False)

    page = write(tmp_path, sasrec.evaluate(model, data), model=model, data=data)

    loss, ndcg = (cells(figure)[1:] for figure in page.section("model").iter("figure"))
    history = model.record["history"]
    assert loss == [[f"{one['epoch']:g}", f"{one['loss']:.4f}"] for one in history]
    assert ndcg == [[f"{one['epoch']:g}", f"{one['ndcg']:.4f}"] for one in history if one["epoch"] in (2, 4, 5)]


def test_users_of_another_log_are_shown_as_people_that_the_model_does_not_know(
    tmp_path, data, walks, small_config, log_of
):
    model = sasrec.train(data, replace(small_config, user_width=8, epochs=8), progress=False)
    rows = {f"z{user}": walks.items.raw(walks.histories[row]).to_list() for row, user in enumerate(walks.users.ids)}
    others = sasrec.split(log_of(rows))
    report = sasrec.evaluate(model, others)

    page = write(tmp_path, report, model=model, data=others)

    text = words(page.section("users"))
    ranks = dict(zip(others.log.users.raw(report.users), report.rows[0].ranks, strict=True))
    shown = {user: rank for user, rank in ranks.items() if f"{user} " in text}
    assert len(shown) == 10
    for user, rank in shown.items():
        own = text[text.index(f"{user} ") :]
        assert f"rank {rank + 1:g} of" in own[: own.index(" of 25") + 6], user


def test_the_rank_of_a_held_out_item_is_among_what_was_ranked(tmp_path, data, walks, small_model):
    report = sasrec.evaluate(small_model, data, exclude_seen=True)

    text = words(write(tmp_path, report, model=small_model, data=data).section("users"))

    told = re.findall(r"User (\S+) Held out: \S+?, rank \S+ of (\d+)", text)
    assert told
    for user, ranked in told:
        before = walks.histories[int(walks.users.known_rows([user])[0])][:-1]
        assert int(ranked) == 25 - len({*before.tolist()}), user


def test_what_is_no_result_is_refused(tmp_path, small_model):
    with pytest.raises(
        ConfigError, match="result: expected a Report, Comparison or Diagnosis, found a Recommender; give what"
    ):
        sasrec.write_page(tmp_path / "page.html", small_model)


def test_a_history_without_any_validation_has_a_loss_alone(tmp_path, data, small_model, report):
    history = [one | {"ndcg": None} for one in small_model.record["history"]]
    model = copy(small_model)
    model.record = small_model.record | {"history": history}

    page = write(tmp_path, report, model=model, data=data)

    (loss,) = (cells(figure)[1:] for figure in page.section("model").iter("figure"))
    assert loss == [[f"{one['epoch']:g}", f"{one['loss']:.4f}"] for one in history]
