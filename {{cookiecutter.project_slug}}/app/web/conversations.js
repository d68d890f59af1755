/** The conversations that this browser keeps, each under a key of its own: what another tab has written stays. */
import { attempt } from "./api.js";
const PREFIX = "chat:";
const known = new Map(); // by id: { id, title, at, exchanges }, and in this tab its `view`, and the `run` of an answer
export const all = () => [...known.values()].sort((one, other) => other.at - one.at);
export const find = (id) => known.get(id)?.deleted ? undefined : known.get(id);
export const begin = (conversation) => known.set(conversation.id, Object.assign(conversation, { at: Date.now() }));
const tell = () => dispatchEvent(new Event("conversations"));

/** Where the browser refuses it, the conversation is `unsaved`: it stays in memory, and the page says so. */
export function save(conversation) {
  const { id, title, at, exchanges, deleted } = conversation;
  if (deleted || known.get(id) !== conversation) return; // the end of an answer that nobody wants any more
  const text = JSON.stringify({ title, at, exchanges });
  conversation.unsaved = !attempt(() => !localStorage.setItem(PREFIX + id, text));
  tell();
}

/** Only the latest deletion can be undone. */
export function remove(conversation) {
  conversation.run?.abort();
  all().filter(({ deleted }) => deleted).forEach(({ id }) => known.delete(id));
  Object.assign(conversation, { deleted: true, unsaved: false });
  attempt(() => localStorage.removeItem(PREFIX + conversation.id));
  all().filter(({ unsaved }) => unsaved).forEach(save); // there may be space now
  tell();
}
export const restore = (conversation) => save(Object.assign(conversation, { deleted: false }));

/** What is kept under a key: at first, and when another tab has changed it. Without a text it is deleted. */
function load([key, text]) {
  if (!key?.startsWith(PREFIX)) return;
  const id = key.slice(PREFIX.length);
  const [mine, kept] = [known.get(id), attempt(() => JSON.parse(text))];
  const [here, there] = [mine?.exchanges.at(-1), kept?.exchanges?.at?.(-1)];
  if (typeof there?.question !== "string") { // or it is no conversation
    known.delete(id);
    mine?.run?.abort();
  } else if (mine?.run) mine.title = kept.title; // of the answer, both tabs have what comes
  else if (mine?.unsaved) return; // what this tab has is newer
  else if (here?.reason && here.stream_id === there.stream_id) Object.assign(mine, { title: kept.title, at: kept.at });
  else known.set(id, { ...kept, id });
}
addEventListener("storage", ({ key, newValue }) => {
  load([key, newValue]);
  tell();
});
attempt(() => Object.entries(localStorage).forEach(load));
addEventListener("pagehide", () => all().filter(({ run }) => run).forEach(save)); // the rest is read after a reload
