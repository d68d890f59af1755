/** An answer, from the question on: asked for, shown while it is written, come back to, and rated. */
import { call, follow, LOST, newKey, problemOf } from "./api.js";
import { save } from "./conversations.js";
import { add, addButton, addCopy, page, showProblem } from "./page.js";
import { Parts, textOf } from "./parts.js";
const HISTORY_BYTES = 900_000; // with the longest question less than 1 MiB, the server's default MAX_BODY_BYTES
const UNTOLD_MS = 300; // whoever a deploy cuts off is back sooner: a line that comes and goes would make the text jump
const SLOW_BYTES_PER_MS = 10; // a long history may take its time to be sent
const CAUSES = { length: "it grew too long", timeout: "it took too long", refusal: "the model declined",
  stopped: "you stopped it", cancelled: "it was stopped", lost: "the rest of it was lost" };
const GONE = { message: "The server does not have this answer any more.", retryable: true };
const FAILED = { message: "The answer could not be completed.", retryable: true }; // if its `error` was lost on the way
const LEFT = { message: "Nobody was reading the answer, or another tab has stopped it.", retryable: true };
const PROBLEMS = { cancelled: LEFT, error: FAILED, timeout: FAILED };

/** All but what would fail again with each question that follows: declined, refused, or ended at once for good. */
const isTold = ({ reason, problem, ...exchange }) =>
  reason && reason !== "refusal" && (textOf(exchange) || problem?.retryable !== false);

/** What is sent along: the latest questions, and what came of them, as many as fit. Notes how many do not. */
function past({ exchanges }, exchange) {
  let room = HISTORY_BYTES;
  const turns = exchanges.filter(isTold).map((told) =>
    [{ role: "user", content: told.question }, { role: "assistant", content: textOf(told) }]
      .filter(({ content }) => content.trim()));
  exchange.forgotten = 1 + turns.findLastIndex((turn) => (room -= new Blob([JSON.stringify(turn)]).size) < 0);
  return turns.slice(exchange.forgotten).flat();
}

/** To be asked anew. With the same key, the server takes it for the same question: it is paid for once. */
const renew = (exchange) => Object.assign(exchange, { parts: [], place: 0, stream_id: null, key: newKey() });

async function post(conversation, exchange, signal, stopped, heard) {
  const asked = { question: exchange.question, history: past(conversation, exchange) };
  heard(Math.ceil(JSON.stringify(asked).length / SLOW_BYTES_PER_MS));
  const response = await call("chat/stream", asked, { "Idempotency-Key": exchange.key, signal });
  exchange.stream_id = response.headers.get("X-Stream-ID");
  if (stopped.aborted) cancel(exchange);
  save(conversation);
  return response;
}

/** If this fails, the server stops the answer itself: nobody reads it. */
const cancel = ({ stream_id }) =>
  stream_id && call(`chat/stream/${stream_id}`, null, { method: "DELETE", keepalive: true }).catch(() => {});

/** Asks for the answer, or reads on where it was lost. `again`: asks again if it is gone. */
async function write(conversation, article, exchange, again = false) {
  if (!exchange.key || (exchange.reason && exchange.reason !== "lost")) renew(exchange);
  Object.assign(exchange, { reason: null, problem: null });
  const [turn, parts] = showParts(article, exchange);
  const state = add(turn, "p", "state quiet");
  const { signal } = (conversation.run = new AbortController());
  save(conversation);
  let lost;
  const say = (words) => {
    lost = clearTimeout(lost);
    if (signal.aborted) return;
    state.textContent = words;
    if (turn.isConnected) page.news.textContent = words;
  };
  say(exchange.stream_id ? "Coming back…" : "Sending…");
  const read = (silent) =>
    call(`chat/stream/${exchange.stream_id}`, null, { "Last-Event-ID": exchange.place, signal: silent });
  const ask = async (silent, heard) => {
    const response = await (exchange.stream_id ? read(silent) : post(conversation, exchange, silent, signal, heard));
    again = false;
    say(exchange.parts.length ? "" : "Thinking…");
    return response;
  };
  const take = (kind) => (event) => (say(""), parts.take(kind, event));
  try {
    await follow(ask, {
      token: take("text"), reasoning: take("reasoning"), tool: take("tool"),
      error: (event) => (exchange.problem = event),
      done({ reason }) { exchange.reason = reason; exchange.problem ??= PROBLEMS[reason]; },
    }, exchange, { signal, lost() {
      lost ??= setTimeout(() => say(LOST), UNTOLD_MS);
      exchange.problem = null;
    } });
    exchange.reason ??= "lost";
  } catch (error) {
    const gone = exchange.stream_id && error.status === 404;
    if (gone && again && !signal.aborted) return (turn.remove(), write(conversation, article, renew(exchange)));
    [exchange.problem, exchange.reason] = [gone ? GONE : problemOf(error), exchange.stream_id && "lost"];
  }
  if (signal.aborted) {
    Object.assign(exchange, { problem: null, reason: "stopped" });
    cancel(exchange);
  }
  clearTimeout(lost);
  state.remove();
  parts.end();
  conversation.run = null;
  save(conversation);
  showEnd(conversation, article, exchange);
  const isRefused = exchange.problem?.retryable === false && !exchange.reason;
  if (isRefused && turn.isConnected) page.question.value ||= exchange.question;
}

function showParts(article, { parts }) {
  const turn = add(article, "section");
  add(turn, "h2", "unseen", "Answer");
  return [turn, new Parts(add(turn, "div"), parts)];
}

/** What became of an answer, and what can be done with it. */
function showEnd(conversation, article, exchange) {
  const [turn, text] = [article.lastChild, textOf(exchange)];
  const { reason, problem, forgotten, rated, stream_id } = exchange;
  const again = () => (turn.remove(), write(conversation, article, exchange, true));
  if (reason === "end") add(turn, "p", "unseen", "End of the answer.");
  else if (reason && reason !== "error") add(turn, "p", "quiet", `Not complete: ${CAUSES[reason] ?? reason}.`);
  if (forgotten) add(turn, "p", "quiet", `This chat is too long: its first ${forgotten} answers were not sent along.`);
  if (problem) showProblem(turn, problem, again);
  if (turn.isConnected) page.news.textContent = turn.innerText; // heard once, and as a whole
  const row = add(turn, "div", "row");
  if (text) addCopy(row, () => text);
  if (!problem) addButton(row, "Regenerate", again, "last");
  if (text && rated !== stream_id) offerFeedback(add(row, "span", "row"), conversation, exchange);
}

function offerFeedback(row, conversation, exchange) {
  const { stream_id } = exchange;
  const thank = () => {
    exchange.rated = stream_id;
    save(conversation);
    add(row, "p", "quiet", "Thank you for the feedback.");
  };
  const rate = (rating) => {
    row.replaceChildren();
    page.question.focus();
    call("feedback", { stream_id, rating }, { "Idempotency-Key": `${stream_id}.${rating}` })
      .then(thank, (error) => showProblem(row, problemOf(error), () => rate(rating)));
  };
  addButton(row, "Good answer", () => rate(1));
  addButton(row, "Bad answer", () => rate(-1));
}

/** Shows the answer of an exchange if it has ended, and else goes on with it. */
export function show(conversation, article, exchange) {
  if (!exchange.reason && !exchange.problem) return write(conversation, article, exchange);
  if (exchange.problem) exchange.problem.status = 0; // forget a 401
  showParts(article, exchange)[1].end();
  showEnd(conversation, article, exchange);
}
