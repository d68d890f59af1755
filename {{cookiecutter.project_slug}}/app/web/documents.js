/** The documents panel: each document becomes a job. Its progress is shown while it runs, and then its result. */
import { call, follow, problemOf } from "./api.js";
import { add, page, showProblem } from "./page.js";

async function index({ title, text, file }, headers, card) {
  card.ariaBusy = "true"; // a screen reader hears of the end, not of every chunk
  card.replaceChildren();
  add(card, "h2", "", title);
  const bar = Object.assign(add(card, "progress"), { value: 0, ariaLabel: "Progress" });
  const state = add(card, "p", "quiet", "sending");
  try {
    const { id } = await (await call("documents", { title, text: await file?.text() ?? text }, headers)).json();
    await follow(await call(`jobs/${id}/events`), { status: ({ state: word, progress }) =>
      [bar.value, state.textContent] = [progress.fraction, [word, progress.message].filter(Boolean).join(": ")] });
    const { ended_at, error, result } = await (await call(`jobs/${id}`)).json();
    if (!ended_at) throw new TypeError("the server shut down before the job ended");
    if (error) throw error;
    const terms = result?.top_terms.map(({ term, count }) => ` \u2068${term}\u2069 (${count})`); // in its own direction
    if (result) add(card, "p", "", `Chunks: ${result.chunks}, words: ${result.words}\nMost frequent:${terms}`);
  } catch (error) {
    showProblem(card, problemOf(error), () => index({ title, text, file }, headers, card));
  }
  card.ariaBusy = "false";
}

page.upload.onsubmit = () => {
  const headers = { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") }; // a retry has the same
  const [title, text, file] = [page.title.value, page.text.value, page.file.files[0]];
  page.upload.reset();
  page.text.disabled = false;
  index({ title, text, file }, headers, add(page.jobs, "article", "card"));
};
page.file.onchange = ({ target: { files: [file] } }) => {
  page.text.disabled = Boolean(file);
  page.title.value ||= file?.name.slice(0, 200) ?? "";
};
