// The page as a whole: what is asked for when something changes.

import { answers } from "./answers.js";
import { place, tag } from "./elements.js";
import { scorerName, showModel, watchEvents } from "./facts.js";
import { history } from "./history.js";
import { search } from "./search.js";
import { troubles } from "./server.js";

let scorer = null;
let version = null;

const past = history(
  recommend,
  () => feed.look(),
  () => scorer,
);
const list = answers(past.add);
const feed = watchEvents(past.show, versionIs);

function recommend() {
  list.refresh({ ...past.request, scorer });
}

/** A switch between what can rank, where there is more than one. */
function drawScorers(names) {
  if (!names.includes(scorer)) scorer = names[0];
  const choices = names.map((name) => {
    const chosen = () => {
      scorer = name;
      recommend();
    };
    const attributes = { type: "radio", name: "scorer", value: name, checked: name === scorer, onchange: chosen };
    return tag("label", {}, tag("input", attributes), tag("span", {}, scorerName(name)));
  });
  place("scorers").replaceChildren(place("scorers").firstElementChild, ...choices);
  place("scorers").hidden = names.length < 2;
}

/** Ask for everything again. */
async function begin() {
  const model = await showModel();
  if (model === null) return;
  version = model.model_version;
  drawScorers(model.scorers);
  await past.refresh();
}

function versionIs(found) {
  if (version !== null && version !== found) begin();
}

troubles.addEventListener("change", () => {
  place("trouble").textContent = troubles.words.join(" ");
  place("trouble").hidden = !troubles.words.length;
  document.body.classList.toggle("lost", troubles.lost);
});
troubles.addEventListener("regained", begin);

search(past.add);
begin();
