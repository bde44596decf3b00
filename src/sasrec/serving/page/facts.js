// What the server tells of itself: the model that answers, and the events that come in.

import { counted, nameOf, place, tag } from "./elements.js";
import { ask, showLatency } from "./server.js";

const BEAT = 3_000; // milliseconds between looks at the events
const SHOWN = 12; // events
const NAMES = {
  sasrec: "Network",
  blend: "Hybrid",
  rules: "Sequence rules",
  knn: "Item kNN",
  content: "Content",
  ease: "EASE",
  markov: "Markov chain",
  popularity: "Popularity",
  recent: "Recent popularity",
  onnx: "Network (ONNX)",
};

const day = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });

/** What a scorer is called; the second network of a hybrid has a number after its kind. */
export const scorerName = (name) => {
  const [kind, ...number] = name.split(" ");
  return [NAMES[kind] ?? kind, ...number].join(" ");
};

/** Show the model that answers; gives what the server tells of it, or null. */
export async function showModel() {
  const got = await ask("GET", "v1/model");
  if (got === null) return null;
  const model = got.answer;
  const sizes = [counted(model.items, "item"), counted(model.users, "user")];
  place("summary").textContent = [scorerName(model.kind), ...sizes].join(", ");
  const trained = Object.entries(model.trained).map(([name, value]) => [name.replaceAll("_", " "), plain(value)]);
  const facts = [
    ["version", tag("code", {}, model.model_version)],
    ["answers since", day.format(model.activated * 1000)],
    ["seen items", model.exclude_seen ? "left out" : "recommended again"],
    ["ids", Object.entries(model.ids).map(([whose, kind]) => `${whose} ${kind}`).join(", ")],
    ...trained,
    ...(model.earlier.length ? [["earlier versions", model.earlier.join(", ")]] : []),
  ];
  const lines = facts.map(([name, value]) => tag("div", {}, tag("dt", {}, name), tag("dd", {}, value)));
  place("model").replaceChildren(...lines);
  showLatency(place("model-latency"), got.milliseconds);
  return model;
}

/** A fact as people read it: of a long hash the beginning is enough. */
function plain(value) {
  if (typeof value === "number") return value.toLocaleString("en", { maximumFractionDigits: 4 });
  return value.replaceAll(/[0-9a-f]{32,}/g, (hash) => `${hash.slice(0, 12)}…`);
}

/**
 * Show the latest events again and again, as long as somebody can see them.
 * @param {function(string)} showUser Called with the name of a user that somebody clicks on.
 * @param {function(string)} versionIs Called with the version of the model at every look.
 */
export function watchEvents(showUser, versionIs) {
  let waiting = 0;

  async function look() {
    clearTimeout(waiting);
    const got = await ask("GET", "v1/events", { limit: SHOWN });
    clearTimeout(waiting);
    if (!document.hidden) waiting = setTimeout(look, BEAT);
    if (got === null) return;
    draw(got.answer.events);
    showLatency(place("feed-latency"), got.milliseconds);
    versionIs(got.answer.model_version);
  }

  function draw(events) {
    place("feed-empty").hidden = events.length > 0;
    const latest = place("feed").firstElementChild?.dataset.event;
    if (latest === events[0]?.id && place("feed").children.length === events.length) return; // the focus may be inside
    place("feed").replaceChildren(...events.map(row));
  }

  function row(event) {
    const at = new Date(event.arrived * 1000);
    const attributes = { type: "button", title: "Recommend to this user", onclick: () => showUser(event.user) };
    const who = tag("button.text", attributes, tag("bdi", {}, event.user));
    const time = tag("time.quiet", { datetime: at.toISOString() }, clock.format(at));
    return tag("li", { "data-event": event.id }, time, tag("span", {}, who, " ", tag("bdi", {}, nameOf(event))));
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(waiting) : look()));
  look();
  return { look };
}
