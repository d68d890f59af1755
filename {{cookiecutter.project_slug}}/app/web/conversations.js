/** The conversations that this browser keeps, each under a key of its own: what another tab has written stays. */
import { attempt } from "./api.js";
import { page } from "./page.js";
const PREFIX = "chat:";
const known = new Map(); // by id: { id, title, at, exchanges }, and in this tab its `view`, and the `run` of an answer
const unsaved = new Set();
const tell = () => dispatchEvent(new Event("conversations"));
export const all = () => [...known.values()].sort((one, other) => other.at - one.at);
export const find = (id) => known.get(id)?.deleted ? undefined : known.get(id);
export const titleOf = ({ title, exchanges }) =>
  title || exchanges[0].question.trim().slice(0, 200).replace(/\s+/g, " ");

/** Where the browser refuses it, the conversation stays in memory, and the page says so. */
export function save(conversation) {
  const { id, title, at, exchanges, deleted } = conversation;
  if (deleted || known.get(id) !== conversation) return; // the end of an answer that nobody wants any more
  const kept = attempt(() => !localStorage.setItem(PREFIX + id, JSON.stringify({ title, at, exchanges })));
  unsaved[kept ? "delete" : "add"](conversation);
  page.unsaved.hidden = !unsaved.size;
  tell();
}

export function begin(conversation, exchange) {
  conversation.exchanges.push(exchange);
  conversation.at = Date.now();
  known.set(conversation.id, conversation);
}

/** Only the latest deletion can be undone. */
export function remove(conversation) {
  conversation.run?.abort();
  all().filter(({ deleted }) => deleted).forEach(({ id }) => known.delete(id));
  conversation.deleted = true;
  attempt(() => localStorage.removeItem(PREFIX + conversation.id));
  unsaved.delete(conversation);
  unsaved.forEach(save); // there may be room now
  tell();
}
export const restore = (conversation) => save(Object.assign(conversation, { deleted: false }));

function load(key) {
  const [id, mine] = [key.slice(PREFIX.length), known.get(key.slice(PREFIX.length))];
  if (mine?.run || unsaved.has(mine)) return; // what this tab has is newer
  const kept = attempt(() => JSON.parse(localStorage.getItem(key)));
  const [here, there] = [mine?.exchanges.at(-1), kept?.exchanges.at(-1)];
  if (here?.reason && here.stream_id === there?.stream_id) Object.assign(mine, { title: kept.title, at: kept.at });
  else if (kept) known.set(id, { ...kept, id });
  else if (!mine?.deleted) known.delete(id);
}
addEventListener("storage", ({ key, newValue }) => {
  if (!key?.startsWith(PREFIX)) return;
  if (newValue === null) known.get(key.slice(PREFIX.length))?.run?.abort();
  load(key);
  tell();
});
attempt(() => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).forEach(load));
addEventListener("pagehide", () => all().filter(({ run }) => run).forEach(save)); // the rest is read after a reload
