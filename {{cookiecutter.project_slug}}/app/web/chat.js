/** The conversation: what is asked, the answers while they are written, and what this tab remembers of both. */
import { attempt, call, follow, keep, problemOf, recall } from "./api.js";
import { add, page, showProblem } from "./page.js";
const HISTORY_BYTES = 900_000; // with the longest question less than 1 MiB, the server's default MAX_BODY_BYTES
const CAUSES = { length: "it grew too long", timeout: "it took too long", shutdown: "the server shut down",
  refusal: "the model declined", stopped: "you stopped it", lost: "the connection was lost; what came is kept" };
const LEFT = { message: "You left before the answer was complete.", retryable: true };
const conversation = attempt(() => JSON.parse(recall("conversation"))) ?? []; // { question, answer, reason, … }, …
let running; // the AbortController of the answer that is being written
const stop = (problem = null, reason = "stopped") => running?.abort([problem, reason]);
const save = () => (page.unsaved.hidden = keep("conversation", JSON.stringify(conversation)));

/** What is sent along: the latest questions and answers that ended well, as many as fit. Notes how many do not. */
function past(exchange) {
  let room = HISTORY_BYTES;
  const pairs = conversation.filter(({ answer, reason }) => answer && ["end", "length"].includes(reason))
    .map(({ question: q, answer: a }) => [{ role: "user", content: q }, { role: "assistant", content: a.toWellFormed() }]);
  exchange.forgotten = 1 + pairs.findLastIndex((pair) => (room -= new Blob([JSON.stringify(pair)]).size) < 0);
  return pairs.slice(exchange.forgotten).flat();
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
  if (problem) showProblem(turn, problem, () => (turn.remove(), write(article, exchange)));
  if (answer && rated !== stream_id) offerFeedback(turn, exchange);
}

async function write(article, exchange) {
  const { question } = Object.assign(exchange, { answer: "", reason: null, problem: null, stream_id: null });
  const [text, state] = [showAnswer(article, exchange), add(article.lastChild, "p", "quiet", "Sending…")];
  setRunning(new AbortController());
  try {
    await follow(await call("chat/stream", { question, history: past(exchange) }, { signal: running.signal }), {
      status({ stream_id: id }) { exchange.stream_id = id; page.news.textContent = state.textContent = "Thinking…"; },
      token(event) { state.remove(); text.appendData(event.text); exchange.answer = text.data; },
      error: (event) => (exchange.problem = event),
      done: (event) => (exchange.reason = event.reason),
    });
  } catch (error) {
    const { aborted, reason } = running.signal; // see `stop`
    [exchange.problem, exchange.reason] = aborted ? reason : [problemOf(error), exchange.stream_id && "lost"];
  }
  state.remove();
  setRunning(null);
  showEnd(article, exchange);
  if (exchange.problem && !exchange.problem.retryable && !exchange.reason) page.question.value ||= question;
}

function setRunning(controller) {
  const free = [document.body, page.send, page.stop].includes(document.activeElement);
  running = controller;
  page.send.hidden = page.log.ariaBusy = Boolean(running);
  page.stop.hidden = !running;
  if (free) page.question.focus();
  page.news.textContent = ""; // a region of its own: screen readers don't read a busy log
  save();
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
addEventListener("pagehide", () => (stop(LEFT, null), save())); // a reload keeps what has come through

for (const exchange of conversation) {
  if (exchange.problem || !exchange.reason) exchange.problem = { ...exchange.problem ?? LEFT, status: 0 }; // forget a 401
  const article = showQuestion(exchange);
  showAnswer(article, exchange);
  showEnd(article, exchange);
}
let height = 0;
new ResizeObserver(() => {
  const { scrollTop, clientHeight, scrollHeight } = page.log;
  if (scrollTop + clientHeight > height - 50) page.log.scrollTop = scrollHeight; // not if the reader has scrolled up
  height = scrollHeight;
}).observe(page.messages);
