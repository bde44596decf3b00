// What is similar to an item, each a click away from the history.

import { nameOf, named, scored, tag } from "./elements.js";
import { ask, latency } from "./server.js";

const K = 6;
const ALIKE_TO_NONE = ["popularity", "recent"]; // scorers to which no item is like another

/**
 * Fill a panel with the items most like one.
 * @param {function(Object)} add Called with an item that somebody adds to the history.
 * @param {?string} scorer What tells how alike items are; null is the model.
 */
export async function showSimilar(panel, item, add, scorer) {
  if (ALIKE_TO_NONE.includes(scorer)) {
    panel.replaceChildren(tag("p", {}, "Popularity does not tell which items are alike."));
    return;
  }
  const got = await ask("GET", "v1/similar", { item: item.item, k: K, ...(scorer === null ? {} : { scorer }) });
  if (got === null) return;
  const chips = got.answer.items.map((one) => {
    const attributes = { type: "button", title: "Add to the history", onclick: () => add(one) };
    return tag("li", {}, tag("button.chip", attributes, named(one), tag("span.score", {}, scored(one.score))));
  });
  const label = `Similar to ${nameOf(item)}; a click adds one to the history`;
  panel.replaceChildren(
    tag("h4", {}, "Similar items", latency(got)),
    tag("ul.chips", { role: "list", "aria-label": label }, ...chips),
  );
}
