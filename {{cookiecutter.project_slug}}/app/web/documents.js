/** The documents panel: each document becomes a job. Its progress is shown while it runs, and then its result. */
import { attempt, call, follow, keep, newKey, recall } from "./api.js";
import { add, page, showProblem } from "./page.js";
const documents = new Set(attempt(() => JSON.parse(recall("documents")))); // { title, job }, and at first { file }

async function accept(it) {
  const sent = call("documents", { title: it.title, text: await it.file.text() }, { "Idempotency-Key": it.key });
  it.job = (await (await sent).json()).id;
  documents.add(it);
  keep("documents", JSON.stringify([...documents], ["title", "job"]));
}

async function index(it, card = add(page.jobs, "article", "card")) {
  card.ariaBusy = "true"; // a screen reader hears of the end, not of every chunk
  card.replaceChildren();
  add(card, "h2", "", it.title);
  const bar = Object.assign(add(card, "progress"), { value: 0, ariaLabel: "Progress" });
  const state = add(card, "p", "quiet", it.job ? "reading" : "sending");
  try {
    if (!it.job) await accept(it);
    const ask = (signal) => call(`jobs/${it.job}/events`, null, { "Last-Event-ID": it.place, signal });
    const status = ({ state: word, progress: { fraction, message } }) =>
      [bar.value, state.textContent] = [fraction, [word, message].filter(Boolean).join(": ")];
    await follow(ask, { status }, Object.assign(it, { place: 0 }), { lost: (words) => (state.textContent = words) });
    const { error, result } = await (await call(`jobs/${it.job}`)).json();
    if (error) throw error;
    const terms = result?.top_terms.map(({ term, count }) => ` \u2068${term}\u2069 (${count})`); // in its own direction
    if (result) add(card, "p", "", `Chunks: ${result.chunks}, words: ${result.words}\nMost frequent:${terms}`);
  } catch (error) {
    if (it.job && error.status === 404 && it.file) [it.job, error.retryable] = [null, true]; // a server without a queue
    showProblem(card, error, () => index(it, card));
  }
  card.ariaBusy = "false";
}

page.files.onchange = () => {
  for (const file of page.files.files)
    index({ title: file.name.slice(0, 200).toWellFormed(), file, key: newKey() }); // a retry has the same key
  page.files.value = ""; // so that the same can be added again
};
documents.forEach((it) => index(it));
