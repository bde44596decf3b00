// The field that finds items: a combobox with a list, as the ARIA Authoring Practices have it.

import { counted, named, place, tag } from "./elements.js";
import { inTurn, showLatency } from "./server.js";

const PAUSE = 80; // milliseconds without a key before the server is asked
const LIMIT = 20;

/**
 * Bring the field to life.
 * @param {function(Object)} choose Called with the item that somebody chooses.
 */
export function search(choose) {
  const field = place("words");
  const list = place("found");
  const status = place("search-status");
  const asking = inTurn();
  let items = [];
  let active = -1;
  let waiting = 0;

  function close() {
    clearTimeout(waiting);
    items = [];
    show();
    status.textContent = "";
    place("search-latency").textContent = "";
  }

  function show() {
    active = items.length ? 0 : -1;
    const options = items.map((item, at) => {
      const listeners = { onclick: () => take(at), onpointermove: () => activate(at) };
      return tag("li", { role: "option", id: `found-${at}`, ...listeners }, named(item));
    });
    list.replaceChildren(...options);
    list.hidden = !items.length;
    field.setAttribute("aria-expanded", String(items.length > 0));
    activate(active);
  }

  function activate(at) {
    active = at;
    [...list.children].forEach((one, place) => one.setAttribute("aria-selected", String(place === at)));
    if (at < 0) field.removeAttribute("aria-activedescendant");
    else field.setAttribute("aria-activedescendant", `found-${at}`);
  }

  function move(to) {
    activate((to + items.length) % items.length);
    list.children[active].scrollIntoView({ block: "nearest" });
  }

  function take(at) {
    const item = items[at];
    field.value = "";
    close();
    choose(item);
  }

  async function find() {
    const words = field.value.trim();
    if (!words) return close();
    const got = await asking("GET", "v1/items/search", { q: words.slice(0, 200), limit: LIMIT });
    if (got === null || words !== field.value.trim()) return;
    items = got.answer.items;
    show();
    const many = items.length === LIMIT ? `the first ${LIMIT} items` : counted(items.length, "item");
    status.textContent = items.length ? `${many}; Enter adds the marked one.` : `No title or id contains “${words}”.`;
    showLatency(place("search-latency"), got.milliseconds);
  }

  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(find, field.value.trim() ? PAUSE : 0);
  });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      field.value = "";
      close();
    } else if (!items.length) {
      return;
    } else if (event.key === "ArrowDown") {
      move(active + 1);
    } else if (event.key === "ArrowUp") {
      move(active - 1);
    } else if (event.key === "Enter") {
      take(active);
    } else {
      return;
    }
    event.preventDefault();
  });
  // The list must not take the focus from the field before a click has chosen from it.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  field.addEventListener("blur", close);
}
