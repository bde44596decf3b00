// Elements made of text and other elements: whatever a title holds, it stays text.

/**
 * An element.
 * @param {string} name Its kind, then classes, as in `li.known`.
 * @param {Object} attributes What is null or false is left out; a function under `onclick` and the like is a listener.
 * @param {...(Node|string|null)} content What it holds; null is left out.
 */
export function tag(name, attributes = {}, ...content) {
  const [kind, ...classes] = name.split(".");
  const element = document.createElement(kind);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...content.filter((one) => one !== null));
  return element;
}

/** The element of the page with this id. */
export const place = (id) => document.getElementById(id);

/** What an item is called: its title, or its id. */
export const nameOf = (item) => item.title ?? item.item;

/** An item as people read it: the title with the id beside it, or the id alone. A title may run from right to left. */
export function named(item) {
  const id = tag("bdi", {}, item.item);
  if (item.title === undefined) return tag("span.name", {}, id);
  return tag("span.name", {}, tag("bdi", {}, item.title), " ", tag("small", {}, id));
}

/** Text for those who cannot see, beside signs for those who can. */
export function sign(shown, said) {
  return tag("span", {}, tag("span", { "aria-hidden": "true" }, shown), tag("span.unseen", {}, said));
}

/** A bar of a share between -1 and 1, which only repeats a number beside it. */
export function bar(share) {
  const element = tag(share < 0 ? "span.bar.less" : "span.bar", { "aria-hidden": "true" });
  element.style.setProperty("--share", Math.min(Math.abs(share), 1));
  return element;
}

const scoreFormat = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });

/** A score with three digits that count. */
export const scored = (score) => scoreFormat.format(score).replace("-", "−");

/** A change of a score, with its sign. */
export const changed = (change) => (change > 0 ? "+" : "") + (change === 0 ? "0" : scored(change));

/** A count of things: `1 item`, `2 items`. */
export const counted = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;
