/** An answer, from the question on: asked for, shown while it is written, come back to, and rated. */
import { call, follow, newKey } from "./api.js";
import { copy } from "./copy.js";
import { save } from "./conversations.js";
import { add, addButton, page, showProblem } from "./page.js";
import { showParts, textOf } from "./parts.js";
const HISTORY_BYTES = 900_000; // with the longest question less than 1 MiB, the server's default MAX_BODY_BYTES
const CAUSES = { length: "it grew too long", timeout: "it took too long", refusal: "the model declined",
  stopped: "you stopped it", cancelled: "it was stopped", lost: "the rest of it was lost", error: "it failed" };

/** An answer that is still to be asked for. With the same key it is paid for once, however often that is done. */
export const anew = () => ({ key: newKey(), stream_id: null, place: 0, parts: [], reason: null, problem: null });

/** All but what would fail again with each question that follows: declined, refused, or ended at once for good. */
const isTold = ({ reason, problem, ...exchange }) =>
  reason && reason !== "refusal" && (textOf(exchange) || problem?.retryable !== false);

/** What is sent along: the latest questions, and what came of them, as many as fit. Notes how many do not. */
function past({ exchanges }, exchange) {
  let space = HISTORY_BYTES;
  const turns = exchanges.filter(isTold).map((told) =>
    [{ role: "user", content: told.question }, { role: "assistant", content: textOf(told) }]
      .filter(({ content }) => content.trim()));
  exchange.forgotten = 1 + turns.findLastIndex((turn) => (space -= new Blob([JSON.stringify(turn)]).size) < 0);
  return turns.slice(exchange.forgotten).flat();
}

/** Shows what there is of an answer, and has the rest of it unless it has ended. */
export async function show(conversation, article, exchange) {
  const turn = add(article, "section");
  const parts = showParts(turn, exchange.parts);
  if (exchange.problem) exchange.problem.status = 0; // forget a 401
  if (exchange.problem || exchange.reason) parts.end();
  else await write(conversation, exchange, turn, parts);
  showEnd(conversation, article, turn, exchange);
}

/** Asks for an answer or reads on, and shows what comes, up to its end. */
async function write(conversation, exchange, turn, parts) {
  const state = add(turn, "p", "state quiet");
  const say = (words) => {
    state.textContent = words;
    if (state.isConnected) page.news.textContent = words;
  };
  const { signal } = (conversation.run = new AbortController());
  save(conversation);
  say(exchange.stream_id ? "Coming back…" : "Sending…");
  const ask = async (silent) => {
    const [known, response] = [exchange.stream_id, await request(conversation, exchange, silent)];
    const stream_id = known ?? response.headers.get("X-Stream-ID");
    if (signal.aborted) return cancel(stream_id); // which was not known when it was stopped
    Object.assign(exchange, { stream_id, problem: null }); // an earlier connection may have ended with one
    save(conversation);
    say(exchange.parts.length ? "" : "Thinking…");
    return response;
  };
  const take = (kind) => (event) => (say(""), parts.take(kind, event));
  const on = {
    token: take("text"), reasoning: take("reasoning"), tool: take("tool"),
    error: (event) => (exchange.problem = event),
    done: ({ reason }) => (exchange.reason = reason),
  };
  const stopped = new Promise((done) => (signal.onabort = done));
  try {
    await Promise.race([follow(ask, on, exchange, { signal, lost: say }), stopped]);
    exchange.reason ??= "lost";
  } catch (error) {
    if (exchange.stream_id && error.status === 404) exchange.reason = "lost";
    else exchange.problem = error;
  }
  if (signal.aborted) {
    Object.assign(exchange, { problem: null, reason: "stopped" });
    if (exchange.stream_id) cancel(exchange.stream_id);
  }
  state.remove();
  parts.end();
  conversation.run = null;
  save(conversation);
}

function request(conversation, exchange, signal) {
  const { question, key, stream_id, place } = exchange;
  if (stream_id) return call(`chat/stream/${stream_id}`, null, { "Last-Event-ID": place, signal });
  return call("chat/stream", { question, history: past(conversation, exchange) }, { "Idempotency-Key": key, signal });
}

/** If this fails, the server stops the answer itself: nobody reads it. */
const cancel = (id) => call(`chat/stream/${id}`, null, { method: "DELETE", keepalive: true }).catch(() => {});

/** What became of an answer, and what can be done with it. */
function showEnd(conversation, article, turn, exchange) {
  const { reason, problem, forgotten } = exchange;
  const again = () => {
    turn.remove();
    page.question.focus();
    Object.assign(exchange, reason ? anew() : { problem: null });
    show(conversation, article, exchange);
  };
  if (reason === "end") add(turn, "p", "unseen", "End of the answer.");
  else if (reason && !problem) add(turn, "p", "quiet", `Not complete: ${CAUSES[reason] ?? reason}.`);
  if (forgotten) add(turn, "p", "quiet", `This chat is too long: its first ${forgotten} answers were not sent along.`);
  if (problem) showProblem(turn, problem, again);
  if (turn.isConnected) page.news.textContent = turn.innerText; // heard once, and as a whole
  const [row, text] = [add(turn, "div", "row"), textOf(exchange)];
  const copyText = async ({ target }) => (page.news.textContent = await copy(text, target));
  if (text) addButton(row, "Copy", copyText);
  if (!problem) addButton(row, "Regenerate", again, "last");
  if (text) offerFeedback(add(row, "span"), exchange);
}

function offerFeedback(place, { stream_id }) {
  const rate = (rating) => {
    place.replaceChildren();
    page.question.focus();
    call("feedback", { stream_id, rating }, { "Idempotency-Key": `${stream_id}.${rating}` }).then(
      () => add(place, "p", "quiet", "Thank you for the feedback."),
      (error) => showProblem(place, error, () => rate(rating)),
    );
  };
  addButton(place, "Good answer", () => rate(1));
  addButton(place, "Bad answer", () => rate(-1));
}
