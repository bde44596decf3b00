// Recommendations, each with why it is there and what is similar to it.

import { bar, changed, counted, nameOf, named, place, scored, sign, tag } from "./elements.js";
import { inTurn, latency, showLatency } from "./server.js";
import { showSimilar } from "./similar.js";

const K = 10;
const EVENTS = 20; // explained: the latest
const SHOWN = 8; // of these: what changes the score most

/**
 * The list of recommendations.
 * @param {function(Object)} add Called with an item that somebody adds to the history.
 */
export function answers(add) {
  const list = place("recommended");
  const recommending = inTurn();
  const explaining = inTurn();
  let about = {}; // the request that the list answers
  let before = null; // items of the list before, to tell what has moved
  let open; // the item that is opened; undefined is the first, null none

  async function refresh(request) {
    const got = await recommending("POST", "v1/recommend", { ...request, k: K });
    if (got === null) return;
    const { items, source, used_history: used } = got.answer;
    about = request;
    const focus = focused();
    list.replaceChildren(...items.map(row));
    before = items.map((one) => one.item);
    restore(focus);
    showLatency(place("answers-latency"), got.milliseconds);
    place("answers-status").textContent = !items.length
      ? "Nothing is left to recommend."
      : source === "popular"
        ? "What is most popular, as nothing is known yet."
        : `After ${counted(used, "event")}; the first is ${nameOf(items[0])}.`;
    if (open !== null && items.length) toggle(items.find((one) => one.item === open) ?? items[0], true);
  }

  function row(item, at) {
    const name = tag(
      "button.open",
      { type: "button", "aria-expanded": "false", "aria-controls": `why-${at}`, onclick: () => clicked(item) },
      named(item),
    );
    const plus = tag(
      "button.small",
      { type: "button", "aria-label": `Add ${nameOf(item)} to the history`, onclick: () => add(item) },
      "+",
    );
    const score = tag("span.score", { title: "Score" }, scored(item.score));
    const head = tag("div.row", {}, name, moved(item, at), score, plus);
    return tag("li", { "data-item": item.item }, head, tag("div.why", { id: `why-${at}`, hidden: true }));
  }

  function moved(item, at) {
    if (before === null) return tag("span.moved");
    const was = before.indexOf(item.item);
    if (was === at) return tag("span.moved");
    if (was < 0) return tag("span.moved.new", {}, "new");
    const places = Math.abs(was - at);
    return tag("span.moved", {}, was > at ? sign(`▲ ${places}`, `up ${places}`) : sign(`▼ ${places}`, `down ${places}`));
  }

  function clicked(item) {
    const wasOpen = rowOf(item).querySelector(".open").getAttribute("aria-expanded") === "true";
    open = wasOpen ? null : item.item;
    toggle(item, !wasOpen);
  }

  /** Open one item, which closes all others, or close it. */
  function toggle(item, opened) {
    for (const one of list.children) {
      const isOpen = opened && one.dataset.item === item.item;
      one.querySelector(".open").setAttribute("aria-expanded", String(isOpen));
      one.querySelector(".why").hidden = !isOpen;
      if (!isOpen) one.querySelector(".why").replaceChildren();
    }
    if (opened) fill(item, rowOf(item).querySelector(".why"));
  }

  function rowOf(item) {
    return [...list.children].find((one) => one.dataset.item === item.item);
  }

  async function fill(item, panel) {
    const why = tag("div");
    const similar = tag("div");
    panel.replaceChildren(why, similar);
    showSimilar(similar, item, add, about.scorer);
    drawWhy(why, await explaining("POST", "v1/explain", { ...about, item: item.item, events: EVENTS }));
  }

  /** Which button of which row has the focus, as the row is about to be replaced. */
  function focused() {
    const row = document.activeElement?.closest("#recommended > li");
    if (!row) return null;
    const kind = [".row > .small", ".chip"].find((one) => document.activeElement.matches(one)) ?? ".open";
    return { at: [...list.children].indexOf(row), kind };
  }

  function restore(focus) {
    if (focus === null) return;
    const row = list.children[Math.min(focus.at, list.children.length - 1)];
    (row?.querySelector(focus.kind) ?? row?.querySelector(".open") ?? place("words")).focus();
  }

  return { refresh };
}

function drawWhy(panel, got) {
  if (got === null) return;
  const why = got.answer;
  const parts = [tag("h4", {}, "Why", latency(got)), tag("p", {}, ...reason(why))];
  if (why.events.length) parts.push(table(why));
  if (why.used_history > SHOWN) {
    const among = why.used_history > EVENTS ? `the latest ${EVENTS} of ` : "";
    const all = counted(why.used_history, "event");
    parts.push(tag("p.quiet", {}, `The ${SHOWN} that change the score most, among ${among}${all}.`));
  }
  panel.replaceChildren(...parts);
}

/** The whole in one sentence. */
function reason(why) {
  const { events, rank } = why;
  if (!events.length) return [`Nothing is known yet; it is number ${rank} of what is most popular.`];
  if (events[0].score_without === null) {
    const number = events[0].rank_without.toLocaleString("en");
    return [`By the only event that is known: without it, this would be number ${number} among what is popular.`];
  }
  const first = events.reduce((most, one) => (one.score_without <= most.score_without ? one : most));
  if (first.score_without >= why.score) {
    return ["No single event carries it: whichever is left out, the score is no lower."];
  }
  const without = first.rank_without.toLocaleString("en");
  const then =
    first.rank_without === rank
      ? `, though without it this would still be number ${rank}.`
      : `: without it, this would be number ${without} instead of ${rank}.`;
  return ["Most by ", tag("bdi", {}, nameOf(first)), then];
}

/** What each event does for the item, the greatest change of the score first. */
function table(why) {
  const looks = why.events[0].attention !== null;
  const adds = (one) => (one.score_without === null ? 0 : why.score - one.score_without);
  const events = why.events.toSorted((one, other) => Math.abs(adds(other)) - Math.abs(adds(one)));
  const largest = Math.abs(adds(events[0])) || 1;
  const rows = events.slice(0, SHOWN).map((one) =>
    tag(
      "tr",
      {},
      tag("th", { scope: "row" }, tag("bdi", {}, nameOf(one))),
      looks ? tag("td", {}, `${(100 * one.attention).toFixed(0)} %`, bar(one.attention)) : null,
      one.score_without === null ? tag("td", {}, "–") : tag("td.adds", {}, changed(adds(one)), bar(adds(one) / largest)),
      tag("td", {}, one.rank_without.toLocaleString("en")),
    ),
  );
  const heads = [
    ["Event", "Of the history"],
    ...(looks ? [["Attention", "Share of what the network looks at after the history; the same for every item"]] : []),
    ["Adds to score", "The score minus what it would be if this event had not been"],
    ["Rank without", "The rank if this event had not been"],
  ];
  const head = tag("tr", {}, ...heads.map(([text, title]) => tag("th", { scope: "col", title }, text)));
  return tag("table", {}, tag("thead", {}, head), tag("tbody", {}, ...rows));
}
