// Questions to the service. All paths are relative, so that the page works behind a prefix.

const ATTEMPTS = 4; // before it is said that the service is busy
const LONGEST_WAIT_S = 10;
let apiKey = "";

/** What the service, or the network on the way to it, objects to; `status` is 0 where there was no answer. */
class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function setApiKey(key) {
  apiKey = key;
}

/**
 * Ask, and ask again while the service is busy.
 * @param {string} path relative to the page.
 * @param {?Object} fields of a form to post; null asks with GET.
 * @param {{signal: AbortSignal, as: string}} options as: `json` or `blob`.
 * @returns the body. Throws Problem, or the AbortError of the signal.
 */
async function ask(path, fields = null, { signal, as = "json" } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await reaching(() => fetch(path, requestOf(fields, signal)), signal);
    if (answer.ok) return reaching(() => answer[as](), signal);
    const problem = await problemOf(answer);
    if (answer.status !== 429 || attempt === ATTEMPTS) throw problem;
    const seconds = Number.parseFloat(answer.headers.get("Retry-After")) || 1;
    say("The service is busy; trying again.");
    await pause(Math.min(seconds, LONGEST_WAIT_S), signal);
  }
}

function requestOf(fields, signal) {
  const headers = apiKey ? { "X-Api-Key": apiKey } : {};
  if (!fields) return { headers, signal };
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) body.append(name, value, "picture");
    else body.append(name, value);
  }
  return { method: "POST", headers, body, signal };
}

async function reaching(work, signal) {
  try {
    return await work();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new Problem(0, "The service cannot be reached.");
  }
}

/** The `detail` of a problem document; a gateway on the way may answer anything else. */
async function problemOf(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string" && detail) return new Problem(answer.status, sentence(detail));
  } catch {
    // Not JSON: the status has to do.
  }
  return new Problem(answer.status, `The service answered ${answer.status} ${answer.statusText}.`);
}

function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text[0].toUpperCase() + text.slice(1) + end;
}
