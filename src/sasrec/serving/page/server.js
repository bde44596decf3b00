// Questions to the server. A question without an answer gives null, and the reason to whoever watches `troubles`.

import { tag } from "./elements.js";

const PATIENCE = 10_000; // milliseconds

/**
 * What stands between this page and its answers. It tells of a `change` whenever that changes, and of `regained` when
 * the server answers again.
 */
export const troubles = new (class extends EventTarget {
  #found = new Map();
  lost = false;

  /** Everything that is wrong, in words. */
  get words() {
    const lost = this.lost ? ["The server does not answer. This page tries again every few seconds."] : [];
    return [...lost, ...this.#found.values()];
  }

  answered(kind) {
    const regained = this.lost;
    this.lost = false;
    if (this.#found.delete(kind) || regained) this.dispatchEvent(new Event("change"));
    if (regained) this.dispatchEvent(new Event("regained"));
  }

  refused(kind, words) {
    this.answered(kind);
    this.#found.set(kind, words);
    this.dispatchEvent(new Event("change"));
  }

  unanswered() {
    this.lost = true;
    this.dispatchEvent(new Event("change"));
  }
})();

/**
 * One question.
 * @param {string} method GET or POST.
 * @param {string} path Relative to the page, so that a proxy may put both below a path of its own.
 * @param {Object} given The query of a GET, the body of a POST.
 * @param {AbortSignal} [signal] Ends the wait, without a reason.
 * @returns {Promise<?{answer: Object, milliseconds: number}>}
 */
export async function ask(method, path, given = {}, signal = new AbortController().signal) {
  const inQuery = method === "GET";
  const kind = path.replace(/users\/.*\//, "users/"); // what goes wrong with one user is over with the next
  const started = performance.now();
  let response, answer;
  try {
    response = await fetch(inQuery ? `${path}?${new URLSearchParams(given)}` : path, {
      method,
      signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]),
      headers: inQuery ? {} : { "content-type": "application/json" },
      body: inQuery ? null : JSON.stringify(given),
    });
    answer = await response.json();
  } catch {
    if (!signal.aborted) troubles.unanswered();
    return null;
  }
  if (signal.aborted) return null;
  if (!response.ok) {
    troubles.refused(kind, `${answer.title}: ${answer.detail}`);
    return null;
  }
  troubles.answered(kind);
  return { answer, milliseconds: performance.now() - started };
}

/** `ask` for questions of which only the latest matters: each ends the wait for the one before. */
export function inTurn() {
  let current = new AbortController();
  return (method, path, given) => {
    current.abort();
    current = new AbortController();
    return ask(method, path, given, current.signal);
  };
}

/** How long an answer took, to stand beside it. */
export const latency = (got) => tag("span.latency", {}, took(got.milliseconds));

/** Write how long an answer took. */
export function showLatency(element, milliseconds) {
  element.textContent = took(milliseconds);
}

const took = (milliseconds) => `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
