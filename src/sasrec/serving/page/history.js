// What the recommendations follow: items added here, after what is known of a user.

import { counted, nameOf, named, place, tag } from "./elements.js";
import { ask, inTurn, showLatency } from "./server.js";
import { showSimilar } from "./similar.js";

const SHOWN = 8; // known events
const KEPT = 200; // items added at most; the server takes up to 1,000
const REMEMBERED = "sasrec history";

/**
 * The history and whose it is; both survive a reload, in this tab alone.
 * @param {function()} changed Called whenever either has changed.
 * @param {function()} stored Called when events have been stored.
 * @param {function(): ?string} scorer Gives what ranks at the moment.
 */
export function history(changed, stored, scorer) {
  const asking = inTurn();
  let { user, added } = remembered();
  let known = [];

  function draw() {
    remember({ user, added });
    place("added").replaceChildren(...added.map(addedRow).reverse());
    place("history-empty").hidden = added.length > 0;
    place("history-actions").hidden = !added.length;
    place("store").hidden = user === null;
    place("store").textContent = `Store as ${counted(added.length, "event")} of ${user}`;
    drawKnown();
  }

  function addedRow(item, at) {
    const remove = () => {
      added.splice(at, 1);
      draw();
      (place("added").querySelectorAll("button.small")[added.length - at] ?? place("words")).focus();
      changed();
    };
    const attributes = { type: "button", "aria-label": `Remove ${nameOf(item)}`, onclick: remove };
    return row(item, tag("button.small", attributes, "×"));
  }

  /** An item that opens to show what is similar to it. */
  function row(item, ...buttons) {
    const panel = tag("div.why", { hidden: true });
    const toggle = () => {
      panel.hidden = !panel.hidden;
      open.setAttribute("aria-expanded", String(!panel.hidden));
      if (!panel.hidden) showSimilar(panel, item, add, scorer());
    };
    const attributes = { type: "button", "aria-expanded": "false", title: "Similar items", onclick: toggle };
    const open = tag("button.open", attributes, named(item));
    return tag("li", {}, tag("div.row", {}, open, ...buttons), panel);
  }

  /** Let an item be the latest. */
  function add(item) {
    // It has the id of an event already now, so that it is stored once however often that is tried; and its time, which
    // must not be before that of the item before it, even if the clock was put back.
    const time = Math.max(Date.now() / 1000, added.at(-1)?.time ?? 0);
    added = [...added, { item: item.item, title: item.title, id: randomName(), time }].slice(-KEPT);
    draw();
    changed();
  }

  function drawKnown() {
    place("known").hidden = user === null;
    place("known-user").textContent = user ?? "";
    const latest = known.slice(-SHOWN).reverse();
    place("known-events").replaceChildren(...latest.map((one) => row(one)));
    const earlier = known.length - latest.length;
    const more = earlier ? `and ${counted(earlier, "earlier event")}` : "";
    place("known-more").textContent = known.length ? more : "Nothing yet.";
  }

  async function lookUp() {
    known = [];
    if (user !== null) {
      const got = await asking("GET", `v1/users/${encodeURIComponent(user)}/history`, { limit: 1000 });
      if (got === null) return;
      known = got.answer.events;
      showLatency(place("known-latency"), got.milliseconds);
    }
    draw();
    changed();
  }

  async function store() {
    const given = added;
    const events = given.map((one) => ({ id: one.id, user, item: one.item, time: one.time }));
    if ((await ask("POST", "v1/events", { events })) === null) return;
    added = added.filter((one) => !given.includes(one));
    place("words").focus();
    stored();
    await lookUp();
  }

  place("store").addEventListener("click", store);
  place("clear").addEventListener("click", () => {
    added = [];
    draw();
    place("words").focus();
    changed();
  });
  place("user-form").addEventListener("submit", (event) => {
    event.preventDefault();
    show(place("user").value);
  });

  function show(name) {
    user = name === "" ? null : name;
    place("user").value = name;
    return lookUp();
  }

  return {
    add,
    /** Recommend to a user; to nobody in particular where the name is empty. */
    show,
    /** Ask again what is known of the user. */
    refresh: () => show(user ?? ""),
    /** As a request of the server has it. */
    get request() {
      return { user, history: added.map((one) => one.item), times: added.map((one) => one.time) };
    },
  };
}

function remember(state) {
  try {
    sessionStorage.setItem(REMEMBERED, JSON.stringify(state));
  } catch {
    // Some browsers are told to keep nothing; then a reload begins anew.
  }
}

function remembered() {
  const nothing = { user: null, added: [] };
  try {
    return JSON.parse(sessionStorage.getItem(REMEMBERED)) ?? nothing;
  } catch {
    return nothing;
  }
}

/** A name that no other event has. `crypto.randomUUID` is there on secure origins alone. */
function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
