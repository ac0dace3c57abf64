// What the page says: a status line, problems that can be tried again, and the question for an API key.

const problems = new Map(); // of what was tried: {text, again}
const waitingForKey = new Map(); // of what was tried: again
let tasks = 0; // that the progress bar stands for

function say(text) {
  byId("status").textContent = text;
}

/** Show the progress bar while the work lasts. */
async function showingProgress(work) {
  tasks += 1;
  byId("progress").hidden = false;
  try {
    return await work;
  } finally {
    tasks -= 1;
    byId("progress").hidden = tasks === 0;
  }
}

/**
 * Say what failed.
 * @param {string} what was tried; a later failure of the same replaces this one.
 * @param {Error} error of `service.js`, or an aborted request, of which nothing is said.
 * @param {?function} again does it again.
 */
function complain(what, error, again = null) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    waitingForKey.set(what, again);
    problems.delete(what);
    byId("key-problem").textContent = apiKey ? error.message : "";
  } else {
    waitingForKey.delete(what);
    problems.set(what, { text: error.message, again });
  }
  say("");
  showProblems();
}

/** Forget the problem with something that went well, or is no longer wanted. */
function settle(...tried) {
  for (const what of tried) {
    problems.delete(what);
    waitingForKey.delete(what);
  }
  showProblems();
}

function showProblems() {
  const texts = [...new Set([...problems.values()].map(({ text }) => text))];
  byId("problem").hidden = texts.length === 0;
  byId("problem-text").textContent = texts.join(" ");
  byId("again").hidden = ![...problems.values()].some(({ again }) => again);
  const form = byId("key-form");
  const asks = waitingForKey.size > 0;
  if (asks && form.hidden) {
    form.hidden = false;
    byId("key").focus();
  }
  form.hidden = !asks;
}

function tryAgain() {
  const all = [...problems.values()].map(({ again }) => again);
  problems.clear();
  showProblems();
  for (const again of all) again?.();
}

function useKey(event) {
  event.preventDefault();
  setApiKey(byId("key").value.trim());
  byId("key").value = "";
  const all = [...waitingForKey.values()];
  waitingForKey.clear();
  showProblems();
  byId("source").focus();
  for (const again of all) again?.();
}

function listenToMessages() {
  byId("again").addEventListener("click", tryAgain);
  byId("dismiss").addEventListener("click", () => {
    problems.clear();
    showProblems();
  });
  byId("key-form").addEventListener("submit", useKey);
}
