/** The conversation: what is asked, the answers while they are written, and what this tab remembers of both. */
import { attempt, call, follow, keep, LOST, newKey, problemOf, recall } from "./api.js";
import { add, page, showProblem } from "./page.js";
const HISTORY_BYTES = 900_000; // with the longest question less than 1 MiB, the server's default MAX_BODY_BYTES
const UNTOLD_MS = 300; // whoever a deploy cuts off is back sooner: a line that comes and goes would make the text jump
const SLOW_BYTES_PER_MS = 10; // a long history may take its time to be sent
const CAUSES = { length: "it grew too long", timeout: "it took too long", refusal: "the model declined",
  stopped: "you stopped it", cancelled: "it was stopped", lost: "the rest of it was lost" };
const GONE = { message: "The server does not have this answer any more.", retryable: true };
const FAILED = { message: "The answer could not be completed.", retryable: true }; // if its `error` was lost on the way
const LEFT = { message: "Nobody was reading the answer, or another tab has stopped it.", retryable: true };
const PROBLEMS = { cancelled: LEFT, error: FAILED, timeout: FAILED };
const conversation = attempt(() => JSON.parse(recall("conversation"))) ?? []; // { question, answer, reason, … }, …
let running; // the AbortController of the answer that is being written
const stop = () => running?.abort();
const save = () => (page.unsaved.hidden = keep("conversation", JSON.stringify(conversation)));

/** All but what would fail again with each question that follows: declined, refused, or ended at once for good. */
const isTold = ({ answer, reason, problem }) =>
  reason && reason !== "refusal" && (answer || problem?.retryable !== false);

/** What is sent along: the latest questions, and what came of them, as many as fit. Notes how many do not. */
function past(exchange) {
  let room = HISTORY_BYTES;
  const turns = conversation.filter(isTold).map(({ question, answer }) =>
    [{ role: "user", content: question }, { role: "assistant", content: answer.toWellFormed() }]
      .filter(({ content }) => content.trim()));
  exchange.forgotten = 1 + turns.findLastIndex((turn) => (room -= new Blob([JSON.stringify(turn)]).size) < 0);
  return turns.slice(exchange.forgotten).flat();
}

function showQuestion({ question }) {
  const article = add(page.messages, "article");
  add(article, "h2", "unseen", "You");
  return add(article, "p", "question", question).parentElement;
}

function showAnswer(article, { answer }) {
  const turn = Object.assign(add(article, "section"), { ariaAtomic: "true" }); // read as a whole, when it is complete
  add(turn, "h2", "unseen", "Answer");
  return add(turn, "p", "text").appendChild(new Text(answer)); // one node: a token may be half an emoji
}

function showEnd(article, exchange) {
  const [turn, { answer, reason, problem, forgotten, rated, stream_id }] = [article.lastChild, exchange];
  if (reason === "end") add(turn, "p", "unseen", "End of the answer.");
  else if (reason && reason !== "error") add(turn, "p", "quiet", `Not complete: ${CAUSES[reason] ?? reason}.`);
  if (forgotten) add(turn, "p", "quiet", `This chat is too long: its first ${forgotten} answers were not sent along.`);
  if (problem) showProblem(turn, problem, () => (turn.remove(), write(article, exchange, true)));
  if (answer && rated !== stream_id) offerFeedback(turn, exchange);
}

/** To be asked anew. With the same key, the server takes it for the same question: it is paid for once. */
const renew = (exchange) => Object.assign(exchange, { answer: "", place: 0, stream_id: null, key: newKey() });

async function post(exchange, signal, stopped, heard) {
  const asked = { question: exchange.question, history: past(exchange) };
  heard(Math.ceil(JSON.stringify(asked).length / SLOW_BYTES_PER_MS));
  const response = await call("chat/stream", asked, { "Idempotency-Key": exchange.key, signal });
  exchange.stream_id = response.headers.get("X-Stream-ID");
  if (stopped.aborted) cancel(exchange);
  save();
  return response;
}

/** If this fails, the server stops the answer itself: nobody reads it. */
const cancel = ({ stream_id }) =>
  stream_id && call(`chat/stream/${stream_id}`, null, { method: "DELETE", keepalive: true }).catch(() => {});

/** Asks for the answer, or reads on where it was lost. `again`: asks again if it is gone. */
async function write(article, exchange, again = false) {
  if (!exchange.key || (exchange.reason && exchange.reason !== "lost")) renew(exchange);
  Object.assign(exchange, { reason: null, problem: null });
  const [text, state] = [showAnswer(article, exchange), add(article.lastChild, "p", "quiet")];
  const { signal } = setRunning(new AbortController());
  let lost;
  const say = (words) => {
    lost = clearTimeout(lost);
    if (!signal.aborted) page.news.textContent = state.textContent = words;
  };
  say(exchange.stream_id ? "Coming back…" : "Sending…");
  const read = (silent) =>
    call(`chat/stream/${exchange.stream_id}`, null, { "Last-Event-ID": exchange.place, signal: silent });
  const ask = async (silent, heard) => {
    let response = exchange.stream_id && await read(silent).catch((error) => {
      if (!again || signal.aborted || error.status !== 404) throw error;
      renew(exchange);
      text.data = "";
    });
    response ||= await post(exchange, silent, signal, heard);
    again = false;
    say(exchange.answer ? "" : "Thinking…");
    return response;
  };
  try {
    await follow(ask, {
      token(event) { say(""); text.appendData(event.text); exchange.answer = text.data; },
      error: (event) => (exchange.problem = event),
      done({ reason }) { exchange.reason = reason; exchange.problem ??= PROBLEMS[reason]; },
    }, exchange, { signal, lost() {
      lost ??= setTimeout(() => say(LOST), UNTOLD_MS);
      exchange.problem = null;
    } });
    exchange.reason ??= "lost";
  } catch (error) {
    const gone = exchange.stream_id && error.status === 404;
    [exchange.problem, exchange.reason] = [gone ? GONE : problemOf(error), exchange.stream_id && "lost"];
  }
  if (signal.aborted) {
    Object.assign(exchange, { problem: null, reason: "stopped" });
    cancel(exchange);
  }
  clearTimeout(lost);
  state.remove();
  setRunning(null);
  showEnd(article, exchange);
  if (exchange.problem && !exchange.problem.retryable && !exchange.reason) page.question.value ||= exchange.question;
}

function setRunning(controller) {
  const free = [document.body, page.send, page.stop].includes(document.activeElement);
  running = controller;
  page.send.hidden = page.log.ariaBusy = Boolean(running);
  page.stop.hidden = !running;
  if (free) page.question.focus();
  page.news.textContent = ""; // a region of its own: screen readers don't read a busy log
  save();
  return running;
}

function offerFeedback(turn, exchange) {
  const [row, { stream_id }] = [add(turn, "div", "row"), exchange];
  const thank = () => (exchange.rated = stream_id, add(row, "p", "quiet", "Thank you for the feedback."));
  const rate = (rating) => {
    row.replaceChildren();
    page.question.focus();
    call("feedback", { stream_id, rating }, { "Idempotency-Key": `${stream_id}.${rating}` })
      .then(thank, (error) => showProblem(row, problemOf(error), () => rate(rating)));
  };
  add(row, "button", "quiet", "Good answer").onclick = () => rate(1);
  add(row, "button", "quiet", "Bad answer").onclick = () => rate(-1);
}

page.composer.onsubmit = () => {
  const exchange = { question: page.question.value };
  if (running || !exchange.question.trim()) return;
  conversation.push(exchange);
  page.composer.reset();
  write(showQuestion(exchange), exchange);
  page.log.scrollTop = page.log.scrollHeight;
};
page.question.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // 229: Safari's
  event.preventDefault();
  page.composer.requestSubmit();
};
page.new.onclick = () => {
  stop();
  page.messages.replaceChildren();
  conversation.length = 0;
  page.question.focus();
  save();
};
page.stop.onclick = () => stop();
document.addEventListener("keydown", ({ key, isComposing, target }) => {
  if (key !== "Escape" || isComposing) return;
  const panel = target.closest("details[open]");
  if (!panel) return stop();
  panel.firstChild.focus();
  panel.open = false;
});
addEventListener("pagehide", save); // what has come through; the rest is read after a reload

for (const exchange of conversation) {
  const article = showQuestion(exchange);
  if (exchange.problem) exchange.problem.status = 0; // forget a 401
  if (exchange.reason || exchange.problem) {
    showAnswer(article, exchange);
    showEnd(article, exchange);
  } else write(article, exchange);
}
let height = 0;
new ResizeObserver(() => {
  const { scrollTop, clientHeight, scrollHeight } = page.log;
  if (scrollTop + clientHeight > height - 50) page.log.scrollTop = scrollHeight; // not if the reader has scrolled up
  height = scrollHeight;
}).observe(page.messages);
