/** Talks to the server: requests, streams of events, and the key that goes along. Knows nothing of the page. */
const memory = new Map(); // for texts that sessionStorage refuses, when it is forbidden or full
export const attempt = (action) => { try { return action(); } catch { return null; } };
/** Keeps a text until the tab is closed. */
export const keep = (name, text) => memory.set(name, text) && attempt(() => sessionStorage.setItem(name, text));
export const recall = (name) => memory.get(name) ?? attempt(() => sessionStorage.getItem(name));

/** For `Idempotency-Key`. (`randomUUID` is only for pages that came over TLS.) */
export const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** Sends a GET or, with `json`, a POST, and returns the response. Throws a problem, as `showProblem` takes it. */
export async function call(path, json, { signal, keepalive, method = json ? "POST" : "GET", ...headers } = {}) {
  const [body, key] = [json && JSON.stringify(json), recall("api-key")];
  Object.assign(headers, json && { "Content-Type": "application/json" }, key && { Authorization: `Bearer ${key}` });
  const response = await fetch(path, { method, body, headers, signal, keepalive }).catch(({ name }) => {
    throw { name, message: "There is no connection to the server.", retryable: true };
  });
  if (response.ok) return response;
  const { status, statusText } = response;
  const detail = (await response.json().catch(() => null))?.detail ?? statusText;
  const words = detail.map?.(({ loc, msg }) => [...loc.slice(1), msg].join(": ")).join("; ") ?? detail; // a list at 422
  const refused = key ? "The server does not accept this access key." : "The server asks for an access key.";
  const message = status === 401 ? refused : `The server says: ${words} (${status})`;
  const passes = status >= 500 || [408, 429].includes(status);
  const [retryable, request_id] = [passes || status === 401, response.headers.get("X-Request-ID")];
  throw { message, status, retryable, request_id, lost: passes && method === "GET" }; // `lost`: see `follow`
}

const HEARTBEAT_SECONDS = Number(document.documentElement.dataset.heartbeatSeconds);
const SILENCE_MS = Math.min(1000 * Math.max(2.5 * HEARTBEAT_SECONDS, 2), 2 ** 31 - 1); // what a timer can take
const REQUEST_MS = 90_000; // for the first response: a long history may take its time to be sent
const MAX_PAUSE_MS = 15_000;

/** Calls `on[name](data)` for each event of a stream, up to `done`, its last. Comes back to a stream that is cut, ended
 * by a shutdown, or silent for longer than keep-alives allow: at once, then after growing pauses, told to `lost`.
 *
 * `ask(silent)` returns the response with the events behind `reading.place`, which is kept up to date; it gives up at
 * the signal `silent`. Throws what will not pass. When `signal` aborts, it ends in its own time, and calls no more. */
export async function follow(ask, on, reading, { lost, signal = AbortSignal.any([]) }) {
  for (let tries = 0; !signal.aborted; tries++) {
    const silence = new AbortController();
    let timer;
    const heard = (ms = SILENCE_MS) => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), ms);
    };
    try {
      heard(reading.place ? SILENCE_MS : REQUEST_MS);
      const response = await ask(silence.signal);
      if (signal.aborted || response.status === 204) return; // 204: all was read
      heard();
      for await (const { event, id, data } of eventsOf(response, heard)) {
        if (signal.aborted) return;
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
      silence.abort(); // nothing more of this connection
    }
    if (!tries || signal.aborted) continue; // whoever a deploy cuts off is back at once, and need not be told
    lost("Connection lost, coming back…");
    await pause(Math.min(1000 * 2 ** (tries - 1), MAX_PAUSE_MS));
  }
}

async function* eventsOf({ body }, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    heard();
    const frames = (rest + chunk.value).split("\n\n"); // our server ends each frame so, and its data is one line
    rest = frames.pop();
    yield* frames.map((frame) => Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/))));
  }
}

/** Ends early when there is a network again. Not all who were cut off at once come back at once. */
const pause = (ms) => new Promise((done) => {
  setTimeout(done, ms * (0.5 + Math.random() / 2));
  addEventListener("online", done, { once: true });
});
