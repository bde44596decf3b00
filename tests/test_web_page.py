"""The page of the server, in a real browser against a real server.

Who has no Chromium sees these tests skipped; `.ci/run` installs it.
"""

import http.client
import re
import shutil
import time
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
from playwright.sync_api import expect, sync_playwright

import sasrec
from sasrec.client import Client
from sasrec.retrieval.blend import Blend
from sasrec.serving.administration import Command, send
from sasrec.serving.pages import FILES

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

BOLD, SCRIPT = '<b onclick="0">&amp;</b>', "\"/><script>document.title='run'</script>"
TITLES = {
    "i00": "Alien",
    "i01": "Aliens",
    "i02": "<img src=x onerror=\"document.title='run'\">",
    "i03": "Das Boot",
    "i04": "איך לאהוב",
    "i05": "A title that goes on and on " * 6,
    "i06": "W" * 120,
    SCRIPT: "<script>document.title='run'</script>",
}

browser_test = pytest.mark.browser
FOLDER = files("sasrec.serving").joinpath("page")


@pytest.fixture(scope="module")
def odd_log(walks, log_of):
    """The log `walks`, where two items have markup for an id."""
    names = dict(enumerate([*walks.items.ids[:-2], BOLD, SCRIPT]))
    return log_of(
        {user: [names[row] for row in walks.histories[at].tolist()] for at, user in enumerate(walks.users.ids)}
    )


@pytest.fixture(scope="module")
def model(odd_log, small_config):
    """A network that leaves out what was seen, which on this log is not what training chooses."""
    trained = sasrec.train(sasrec.split(odd_log), small_config)
    trained.record["exclude_seen"] = True
    return trained


@pytest.fixture(scope="module")
def running(serving, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    pl.DataFrame(list(TITLES.items()), schema=["item_id", "title"], orient="row").write_csv(folder / "titles.csv")
    with serving(model, data=folder / "data", titles=folder / "titles.csv") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed; on Debian: apt install chromium")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def errors():
    """What the browser complained of."""
    return []


@pytest.fixture
def page(browser, running, errors):
    """The page in a window of its own, as it is at first."""
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(running.url)
    expect(page.locator("#recommended .chips")).to_be_visible()
    yield page
    context.close()


def add(page, words):
    """Find an item and add the first that is found."""
    page.locator("#words").fill(words)
    expect(page.locator("#found li").first).to_be_visible()
    page.locator("#words").press("Enter")


def after(page, events):
    """Wait until the recommendations follow so many events."""
    expect(page.locator("#answers-status")).to_contain_text(f"After {events} event")
    expect(page.locator("#recommended table")).to_be_visible()


def shown(page):
    """The ids of the recommendations on the page."""
    return [one.get_attribute("data-item") for one in page.locator("#recommended > li").all()]


def ids(answer):
    return [one.item for one in answer.items]


def look_now(page):
    """Let the page look at the server at once, as it does when somebody comes back to it."""
    page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange')) }")


# What it shows


@browser_test
def test_recommendations_follow_every_click(page, client, errors):
    expect(page.locator("#answers-status")).to_have_text("What is most popular, as nothing is known yet.")
    assert shown(page) == ids(client.recommend())

    add(page, "das boot")
    after(page, 1)
    assert shown(page) == ids(client.recommend(history=["i03"]))

    second = shown(page)[2]
    page.locator("#recommended > li").nth(2).get_by_role("button", name=re.compile("^Add ")).click()
    after(page, 2)
    assert shown(page) == ids(client.recommend(history=["i03", second]))
    assert page.locator("#added li").count() == 2

    page.get_by_role("button", name="Remove Das Boot").click()
    after(page, 1)
    assert shown(page) == ids(client.recommend(history=[second]))
    assert re.fullmatch(r"\d+(\.\d)? ms", page.locator("#answers-latency").inner_text())
    assert errors == []


@browser_test
def test_why_is_what_the_server_explains(page, client):
    for words in ("i07", "i08", "das boot"):
        add(page, words)
    after(page, 3)

    why = client.explain(shown(page)[0], history=["i07", "i08", "i03"])

    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#recommended tbody tr").all()]
    by_effect = sorted(why.events, key=lambda one: -abs(why.score - one.score_without))
    assert [(name.strip(), attention.strip(), rank) for name, attention, _, rank in rows] == [
        (one.title or one.item, f"{100 * one.attention:.0f} %", f"{one.rank_without}") for one in by_effect
    ]
    for (_, _, adds, _), one in zip(rows, by_effect, strict=True):
        assert float(adds.replace("−", "-")) == pytest.approx(why.score - one.score_without, rel=0.01)
    carrier = min(why.events, key=lambda one: one.score_without)
    assert carrier.score_without < why.score
    expect(page.locator("#recommended .why p").first).to_contain_text(f"Most by {carrier.title or carrier.item}")


@browser_test
def test_a_click_shows_what_is_similar_and_another_adds_it(page, client):
    add(page, "das boot")
    after(page, 1)

    page.locator("#added .open").click()
    chips = page.locator("#added .chip")
    expect(chips).to_have_count(6)
    similar = ids(client.similar("i03", k=6))
    assert [chip.locator("bdi").last.text_content() for chip in chips.all()] == similar

    chips.nth(1).click()
    after(page, 2)
    assert shown(page) == ids(client.recommend(history=["i03", similar[1]]))


@browser_test
def test_the_switch_lets_a_counting_model_rank(page, client):
    add(page, "das boot")
    after(page, 1)
    page.get_by_role("radio", name="Network").focus()

    page.keyboard.press("ArrowRight")

    expect(page.get_by_role("radio", name="Markov chain")).to_be_checked()
    expect(page.locator("#recommended thead th")).to_have_count(3)  # nothing looks at anything
    expected = client.recommend(history=["i03"], scorer="markov")
    assert shown(page) == ids(expected)


@browser_test
def test_popularity_shows_nothing_similar_and_says_why(page):
    add(page, "das boot")
    after(page, 1)
    page.get_by_role("radio", name="Popularity").check()

    page.locator("#added .open").click()

    expect(page.locator("#added .why")).to_have_text("Popularity does not tell which items are alike.")


@browser_test
def test_the_switch_of_a_hybrid_has_its_parts_and_what_is_similar_follows_it(page, serving, model, odd_log, tmp_path):
    rules = sasrec.count(sasrec.split(odd_log), "rules", progress=False)
    scorer = Blend({"sasrec": (0.5, model.scorer), "rules": (0.5, rules.scorer)})
    hybrid = sasrec.Recommender.of_log(scorer, odd_log, record={})
    with serving(hybrid, data=tmp_path / "data") as running, Client(running.url) as client:
        page.goto(running.url)
        add(page, "i03")
        after(page, 1)
        names = page.locator("#scorers label").all_text_contents()
        page.get_by_role("radio", name="Sequence rules").check()
        expect(page.locator("#recommended thead th")).to_have_count(3)  # nothing looks at anything
        by_rules = ids(client.recommend(history=["i03"], scorer="rules"))
        for place, item in enumerate(by_rules):  # the hybrid looks at nothing either, so its answer may still be there
            expect(page.locator("#recommended > li").nth(place)).to_have_attribute("data-item", item)
        shown_by_rules = shown(page)
        page.locator("#added .open").click()
        expect(page.locator("#added .chip")).to_have_count(6)
        similar = [chip.locator("bdi").last.text_content() for chip in page.locator("#added .chip").all()]

        assert names == ["Hybrid", "Network", "Sequence rules", "Markov chain", "Popularity"]
        assert shown_by_rules == by_rules
        assert similar == ids(client.similar("i03", k=6, scorer="rules"))


@browser_test
def test_clicks_become_events_of_a_user_when_they_are_stored(page, client):
    page.get_by_label("Recommend to a user").fill("u07")
    page.keyboard.press("Enter")
    after(page, 8)
    assert shown(page) == ids(client.recommend("u07"))
    add(page, "das boot")
    after(page, 9)
    assert len(client.history("u07").events) == 8

    page.get_by_role("button", name="Store as 1 event of u07").dblclick()

    expect(page.locator("#added li")).to_have_count(0)
    expect(page.locator("#known-events li").first).to_contain_text("Das Boot")
    expect(page.locator("#feed li").first).to_contain_text("u07 Das Boot")
    after(page, 9)
    assert [one.item for one in client.history("u07").events[8:]] == ["i03"]

    page.get_by_label("Recommend to a user").fill("")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#known")).to_be_hidden()
    page.locator("#feed").get_by_role("button", name="u07").first.click()
    after(page, 9)


@browser_test
def test_a_model_that_looks_at_times_is_told_when_clicks_were(browser, serving, timed_model, tmp_path):
    with (
        serving(timed_model, data=tmp_path / "data") as running,
        Client(running.url) as client,
        browser.new_context() as context,
    ):
        page, asked = context.new_page(), []
        page.on("request", lambda one: asked.append(one.post_data_json) if "recommend" in one.url else None)
        page.goto(running.url)
        before = time.time()
        add(page, "i03")
        after(page, 1)
        add(page, "i05")
        after(page, 2)

        last = asked[-1]
        page.get_by_label("Recommend to a user").fill("somebody new")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Store as 2 events of somebody new").click()
        expect(page.locator("#added li")).to_have_count(0)
        stored = client.history("somebody new").events

        expect(page.locator("#trouble")).to_be_hidden()
        assert last["history"] == ["i03", "i05"]
        assert before - 1 < last["times"][0] <= last["times"][1] < time.time() + 1
        assert [one.time for one in stored] == pytest.approx(last["times"], abs=1e-5)


@browser_test
def test_the_history_survives_a_reload(page, client):
    add(page, "das boot")
    after(page, 1)

    page.reload()

    after(page, 1)
    expect(page.locator("#added li")).to_have_text(["Das Boot i03×"])


# Whatever an id or a title holds


@browser_test
def test_markup_in_titles_and_ids_is_shown_and_does_nothing(page, client, errors):
    client.add(SCRIPT, "i02")
    client.add(BOLD, BOLD)
    look_now(page)
    for words in ("onerror", BOLD, SCRIPT):
        add(page, words)
    after(page, 3)
    page.locator("#added .open").first.click()
    page.get_by_label("Recommend to a user").fill(SCRIPT)
    page.keyboard.press("Enter")
    after(page, 4)

    expect(page.locator("#added")).to_contain_text(TITLES["i02"])
    expect(page.locator("#added")).to_contain_text(SCRIPT)
    expect(page.locator("#known-user")).to_have_text(SCRIPT)
    expect(page.locator("#feed")).to_contain_text(f"{BOLD} {BOLD}")
    expect(page.locator("#recommended tbody")).to_contain_text(TITLES[SCRIPT])
    assert page.title() == "sasrec"
    assert page.locator("body :is(b, img, script, [onclick], [onerror])").count() == 0
    assert errors == []


@browser_test
def test_the_browser_refuses_to_make_markup_of_text_or_to_load_from_elsewhere(page):
    refused = page.evaluate(
        """async () => {
          const thrown = [], violated = new Set();
          document.addEventListener("securitypolicyviolation", (event) => violated.add(event.effectiveDirective));
          const script = document.createElement("script"), style = document.createElement("style");
          try { document.body.innerHTML = "<b>run</b>"; } catch (error) { thrown.push(error.name); }
          try { script.text = "document.title = 'run'"; } catch (error) { thrown.push(error.name); }
          try { await fetch("https://example.org/"); } catch (error) { thrown.push(error.name); }
          style.textContent = "body { display: none }";
          document.head.append(style);
          await new Promise((done) => setTimeout(done));
          return [thrown, [...violated].sort()];
        }"""
    )

    assert refused == [["TypeError"] * 3, ["connect-src", "require-trusted-types-for", "style-src-elem"]]


@browser_test
def test_the_page_asks_nobody_but_its_server(browser, running):
    asked = []
    context = browser.new_context()
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))

    page.goto(running.url)
    expect(page.locator("#model div").first).to_be_visible()
    expect(page.locator("#recommended .chips")).to_be_visible()
    context.close()

    paths = {one.removeprefix(running.url) for one in asked}
    assert all(one.startswith(running.url) for one in asked)
    assert {f"/{name}" for name in FILES if name.endswith((".js", ".css"))} <= paths


# With the keyboard, and for those who do not see


@browser_test
def test_the_keyboard_is_enough(page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Find items by title or id")).to_be_focused()

    page.keyboard.type("alien")
    options = page.get_by_role("option")
    expect(options).to_have_text(["Alien i00", "Aliens i01"])
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#words")).to_have_attribute("aria-activedescendant", "found-1")
    page.keyboard.press("ArrowDown")  # from the last to the first
    expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    after(page, 1)
    expect(page.locator("#words")).to_be_focused()
    expect(page.locator("#words")).to_have_attribute("aria-expanded", "false")
    expect(page.locator("#added li")).to_have_text(["Aliens i01×"])

    page.keyboard.type("alien")
    expect(options.first).to_be_visible()
    page.keyboard.press("Escape")
    expect(options).to_have_count(0)
    expect(page.locator("#words")).to_have_value("")

    page.locator("#recommended .row > .small").nth(3).focus()
    page.keyboard.press("Enter")
    after(page, 2)
    expect(page.locator("#recommended .row > .small").nth(3)).to_be_focused()

    opened = page.locator("#recommended .open")
    opened.nth(1).focus()
    page.keyboard.press("Space")
    expect(opened.nth(1)).to_have_attribute("aria-expanded", "true")
    expect(opened.nth(0)).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Space")
    expect(page.locator('#recommended .open[aria-expanded="true"]')).to_have_count(0)

    page.get_by_role("button", name=re.compile("^Remove ")).first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#added li")).to_have_count(0)
    expect(page.locator("#words")).to_be_focused()


@browser_test
def test_the_focus_can_be_seen_and_follows_the_order_of_the_page(page):
    add(page, "das boot")
    after(page, 1)
    places = []

    for _ in range(12):
        page.keyboard.press("Tab")
        places.append(
            page.evaluate(
                """() => {
                  const one = document.activeElement;
                  const seen = one.matches("[type=radio]") ? one.nextElementSibling : one;
                  const { outlineStyle, outlineWidth } = getComputedStyle(seen);
                  return [[...document.querySelectorAll("*")].indexOf(one), outlineStyle, outlineWidth];
                }"""
            )
        )

    assert [at for at, _, _ in places] == sorted({at for at, _, _ in places})
    assert {(style, width) for _, style, width in places} == {("solid", "2px")}


@browser_test
def test_every_control_has_a_name_and_changes_are_told(page):
    add(page, "das boot")
    after(page, 1)

    for role in ("button", "textbox", "combobox", "radio", "link", "listbox"):
        every, named = page.get_by_role(role), page.get_by_role(role, name=re.compile(r"[\w<]"))
        assert every.count() == named.count(), role
    expect(page.get_by_role("status").filter(has_text="After 1 event; the first is")).to_have_count(1)
    page.locator("#words").fill("no such thing")
    expect(page.get_by_role("status").filter(has_text="No title or id contains “no such thing”.")).to_have_count(1)


# When something is wrong


@browser_test
def test_a_server_that_is_gone_is_told_of_and_found_again(page, client):
    page.context.set_offline(True)
    look_now(page)
    expect(page.get_by_role("alert")).to_have_text(
        "The server does not answer. This page tries again every few seconds."
    )
    add_key = page.locator("#recommended .row > .small").first
    add_key.click()
    expect(page.locator("#added li")).to_have_count(1)

    page.context.set_offline(False)
    look_now(page)

    expect(page.get_by_role("alert")).to_be_hidden()
    after(page, 1)
    assert shown(page) == ids(client.recommend(history=[ids(client.recommend())[0]]))


@browser_test
def test_a_refusal_is_shown_in_the_words_of_the_server(page):
    refusal = '{"title": "The server has too much to do", "detail": "1024 requests wait; try again later"}'
    page.route(
        "**/v1/recommend",
        lambda route: route.fulfill(status=503, body=refusal, content_type="application/problem+json"),
    )

    page.locator("#recommended .row > .small").first.click()

    expect(page.get_by_role("alert")).to_have_text("The server has too much to do: 1024 requests wait; try again later")
    page.unroute("**/v1/recommend")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("alert")).to_be_hidden()


@browser_test
def test_another_version_of_the_model_shows_at_once(page, running, log_of, tmp_path, small_config):
    small = log_of({f"u{user}": ["i00", "i01", "i03", "i02"] for user in range(5)})
    sasrec.train(sasrec.split(small), small_config).save(tmp_path / "small.sasrec")

    version = send(Command("activate", str(tmp_path / "small.sasrec")), running.data)
    look_now(page)

    expect(page.locator("#model code")).to_have_text(version)
    expect(page.locator("#summary")).to_have_text("Network, 4 items, 5 users")
    expect(page.locator("#recommended > li")).to_have_count(4)
    assert send(Command("rollback"), running.data) == running.version


# How it looks


@browser_test
@pytest.mark.parametrize("width", [320, 360, 800])
def test_nothing_is_wider_than_a_phone(page, width):
    page.set_viewport_size({"width": width, "height": 700})
    for words in ("goes on", "WWW", "das boot"):
        add(page, words)
    after(page, 3)
    page.locator("#added .open").first.click()
    expect(page.locator("#added .chip").first).to_be_visible()

    beyond, small = page.evaluate(
        """() => [
          document.documentElement.scrollWidth - innerWidth,
          [...document.querySelectorAll("button, input[type=text]")].filter((one) => {
            const box = one.getBoundingClientRect();
            return box.width && !one.matches(".text") && (box.width < 24 || box.height < 24);
          }).map((one) => one.outerHTML),
        ]"""
    )

    assert beyond <= 0
    assert small == []


@browser_test
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_things_move_only_where_movement_is_welcome(page, motion):
    page.emulate_media(reduced_motion=motion)
    add(page, "das boot")
    after(page, 1)
    expect(page.locator(".moved.new").first).to_be_visible()

    names = page.locator(".moved.new").first.evaluate("(one) => getComputedStyle(one).animationName")

    assert names == ("none" if motion == "reduce" else "arrive")


@browser_test
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page, scheme):
    page.emulate_media(color_scheme=scheme)
    add(page, "das boot")
    after(page, 1)

    contrasts = page.evaluate(
        """() => {
          const shade = (rgb) => rgb.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
            .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
            .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
          const behind = (one) => {
            const color = getComputedStyle(one).backgroundColor;
            return color === "rgba(0, 0, 0, 0)" ? behind(one.parentElement) : color;
          };
          const texts = [...document.querySelectorAll("body *")].filter((one) =>
            one.checkVisibility() && [...one.childNodes].some((text) => text.nodeType === 3 && text.data.trim()));
          return texts.map((one) => {
            const [low, high] = [shade(getComputedStyle(one).color), shade(behind(one))].sort((a, b) => a - b);
            return [(high + 0.05) / (low + 0.05), one.textContent];
          });
        }"""
    )

    assert len(contrasts) > 40
    assert [text for contrast, text in contrasts if contrast < 4.5] == []


def test_the_colours_are_those_of_the_reports():
    def palette(css):
        return re.findall(r"--(?:paper|card|ink|quiet|line|link|hit|hit-ink|heat|s\d): #\w+", css)

    report = files("sasrec.report").joinpath("page.css").read_text()

    assert palette(FOLDER.joinpath("page.css").read_text()) == palette(report)
    assert len(palette(report)) == 30


# The files


def test_every_file_is_served_with_its_type_and_a_strict_policy(running):
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=30)

    for name, media_type in FILES.items():
        connection.request("GET", "/" if name == "index.html" else f"/{name}")
        answer = connection.getresponse()
        content = answer.read()

        assert (answer.status, answer.headers["content-type"]) == (200, media_type)
        assert content == FOLDER.joinpath(name).read_bytes()
        policy = answer.headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "*" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    connection.close()


def test_all_files_of_the_folder_are_served_and_none_names_another_address():
    texts = {one.name: one.read_text(encoding="utf-8") for one in FOLDER.iterdir()}

    assert set(texts) == set(FILES)
    for name, text in texts.items():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name


def test_no_script_makes_markup_of_text():
    unsafe = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|\beval\(|new Function|srcdoc")

    scripts = [Path(name) for name in FILES if name.endswith(".js")]

    assert len(scripts) > 3
    assert [name for name in scripts if unsafe.search(FOLDER.joinpath(name.name).read_text(encoding="utf-8"))] == []
