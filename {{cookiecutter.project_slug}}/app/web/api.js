/** Talks to the server: requests, streams of events, and the key that goes along. Knows nothing of the page. */
const memory = new Map(); // for texts that sessionStorage refuses, when it is forbidden or full
export const attempt = (action) => { try { return action(); } catch { return null; } };
/** Keeps a text until the tab is closed. Returns whether it will outlive a reload. */
export const keep = (name, text) => memory.set(name, text) && attempt(() => !sessionStorage.setItem(name, text));
export const recall = (name) => memory.get(name) ?? attempt(() => sessionStorage.getItem(name));

/** What to show of an error. `fetch` and its streams throw a TypeError when the connection fails. */
export const problemOf = ({ name, message, status, retryable, request_id }) => name === "TypeError"
  ? { message: "There is no connection to the server.", retryable: true } : { message, status, retryable, request_id };

/** For `Idempotency-Key`. (`randomUUID` is only for pages that came over TLS.) */
export const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** Sends a GET or, with `json`, a POST, and returns the response. Throws what `problemOf` understands. */
export async function call(path, json, { signal, keepalive, method = json ? "POST" : "GET", ...headers } = {}) {
  const [body, key] = [json && JSON.stringify(json), recall("api-key")];
  Object.assign(headers, json && { "Content-Type": "application/json" }, key && { Authorization: `Bearer ${key}` });
  const response = await fetch(path, { method, body, headers, signal, keepalive });
  if (response.ok) return response;
  const { status, statusText } = response;
  const detail = (await response.json().catch(() => null))?.detail ?? statusText;
  const words = detail.map?.(({ loc, msg }) => [...loc.slice(1), msg].join(": ")).join("; ") ?? detail; // a list at 422
  const refused = key ? "The server does not accept this access key." : "The server asks for an access key.";
  const error = new Error(status === 401 ? refused : `The server says: ${words} (${status})`);
  const passes = status >= 500 || [408, 429].includes(status);
  const [retryable, request_id] = [passes || status === 401, response.headers.get("X-Request-ID")];
  throw Object.assign(error, { status, retryable, request_id, lost: passes && method === "GET" }); // see `follow`
}

const HEARTBEAT_SECONDS = Number(document.documentElement.dataset.heartbeatSeconds);
const SILENCE_MS = Math.min(1000 * Math.max(2.5 * HEARTBEAT_SECONDS, 2), 2 ** 31 - 1); // what a timer can take
const MAX_PAUSE_MS = 15_000;
export const LOST = "Connection lost, coming back…";

/** Calls `on[name](data)` for each event of a stream, up to `done`, its last. Comes back to a stream that is cut, ended
 * by a shutdown, or silent for longer than keep-alives allow: at once, then after pauses that grow.
 *
 * `ask(silent, heard)` returns the response with the events behind `reading.place`, which is kept up to date. It gives
 * up at the signal `silent`, and calls `heard(ms)` if its request takes longer. Throws what will not pass, and when
 * `signal` aborts. */
export async function follow(ask, on, reading, { lost, signal = new AbortController().signal }) {
  for (let tries = 0; ; tries++) {
    const silence = new AbortController();
    let timer;
    const heard = (more = 0) => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS + more);
    };
    try {
      heard();
      const response = await Promise.race([ask(silence.signal, heard), aborted(signal)]);
      if (response.status === 204) return; // all was read
      heard();
      for await (const { event, id, data } of eventsOf(response, heard, signal)) {
        const fields = data && JSON.parse(data);
        if (event === "done" && fields.reason === "shutdown") break; // of this connection
        if (Object.hasOwn(on, event)) on[event](fields); // else nobody asks for it, or it is a keep-alive
        if (id) [reading.place, tries] = [Number(id), 0];
        if (event === "done") return;
      }
    } catch (error) {
      if (!silence.signal.aborted && !error.lost && error.name !== "TypeError") throw error;
    } finally {
      clearTimeout(timer);
    }
    signal.throwIfAborted();
    lost();
    if (tries) await pause(Math.min(1000 * 2 ** (tries - 1), MAX_PAUSE_MS), signal);
    signal.throwIfAborted();
  }
}

async function* eventsOf({ body }, heard, signal) {
  const reader = body.pipeThrough(new TextDecoderStream(), { signal }).getReader();
  try {
    for (let rest = "", chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      heard();
      const frames = (rest + chunk.value).split("\n\n"); // our server ends each frame so, and its data is one line
      rest = frames.pop();
      yield* frames.map((frame) => Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/))));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const aborted = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

/** Ends early when there is a network again, or at the signal. Not all who were cut off at once come back at once. */
async function pause(ms, signal) {
  const over = new AbortController();
  await new Promise((done) => {
    setTimeout(done, ms * (0.5 + Math.random() / 2));
    addEventListener("online", done, { signal: over.signal });
    signal.addEventListener("abort", done, { signal: over.signal });
  });
  over.abort();
}
