/** Talks to the server: requests, streams of events, and the key that goes along. Knows nothing of the page. */
const memory = new Map(); // for texts that sessionStorage refuses, when it is forbidden or full
export const attempt = (action) => { try { return action(); } catch { return null; } };
/** Keeps a text until the tab is closed. Returns whether it will outlive a reload. */
export const keep = (name, text) => memory.set(name, text) && attempt(() => !sessionStorage.setItem(name, text));
export const recall = (name) => memory.get(name) ?? attempt(() => sessionStorage.getItem(name));

/** What to show of an error. `fetch` and its streams throw a TypeError when the connection fails. */
export const problemOf = ({ name, message, status, retryable, request_id }) => name === "TypeError"
  ? { message: "There is no connection to the server.", retryable: true } : { message, status, retryable, request_id };

/** Sends a GET or, with `json`, a POST, and returns the response. Throws what `problemOf` understands. */
export async function call(path, json, { signal, ...headers } = {}) {
  const [method, body, key] = [json ? "POST" : "GET", json && JSON.stringify(json), recall("api-key")];
  Object.assign(headers, json && { "Content-Type": "application/json" }, key && { Authorization: `Bearer ${key}` });
  const response = await fetch(path, { method, body, headers, signal });
  if (response.ok) return response;
  const { status, statusText } = response;
  const detail = (await response.json().catch(() => null))?.detail ?? statusText;
  const words = detail.map?.(({ loc, msg }) => [...loc.slice(1), msg].join(": ")).join("; ") ?? detail; // a list at 422
  const refused = key ? "The server does not accept this API key." : "The server asks for an API key.";
  const error = new Error(status === 401 ? refused : `The server says: ${words} (${status})`);
  const retryable = status >= 500 || [401, 408, 429].includes(status);
  throw Object.assign(error, { status, retryable, request_id: response.headers.get("X-Request-ID") });
}

/** Calls `on[name](data)` for each event of a stream, up to `done`, its last. Throws when the stream is cut. */
export async function follow({ body }, on) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = "", chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      const frames = (rest + chunk.value).split("\n\n"); // our server ends each frame so, and its data is one line
      rest = frames.pop();
      for (const frame of frames) {
        const { event, data } = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/)));
        if (Object.hasOwn(on, event)) on[event](JSON.parse(data)); // else nobody asks for it, or it is a keep-alive
        if (event === "done") return;
      }
    }
    throw new TypeError("the stream has ended without done");
  } finally {
    reader.cancel().catch(() => {});
  }
}
