/** The conversation that is shown, and what a reader does with it: ask, edit, stop, go to another. */
import { show as showAnswer } from "./answer.js";
import { newKey } from "./api.js";
import { begin, find } from "./conversations.js";
import "./list.js";
import { add, addButton, page } from "./page.js";
const wide = matchMedia("(min-width: 64rem)"); // as in page.css
let shown, height;

function showExchange(exchange) {
  const article = add(shown.view, "article");
  add(article, "h2", "unseen", "You");
  add(article, "p", "question", exchange.question);
  addButton(add(article, "div", "row last"), "Edit", () => edit(article, exchange));
  showAnswer(shown, article, exchange);
}

function ask(question) {
  const exchange = { question, parts: [] };
  begin(shown, exchange);
  history.replaceState(null, "", `#${shown.id}`);
  showExchange(exchange);
  page.log.scrollTop = page.log.scrollHeight;
}

/** In place of the latest question. When it is sent, the old one gives way, with its answer. */
function edit(article, { question }) {
  const form = add(article, "form", "stack last");
  article.prepend(form);
  const box = Object.assign(add(form, "textarea"), { value: question, dir: "auto", ariaLabel: "Your question" });
  const row = add(form, "div", "row");
  addButton(row, "Cancel", () => (form.remove(), article.querySelector("button").focus()), "cancel");
  add(row, "button", "main", "Send");
  sendOnEnter(box);
  form.onsubmit = () => {
    if (!box.value.trim()) return;
    shown.exchanges.pop();
    article.remove();
    ask(box.value);
  };
  box.focus();
}

const sendOnEnter = (box) => (box.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // 229: Safari's
  event.preventDefault();
  box.form.requestSubmit();
});

/** The conversation that the address names, or a new one. Those that are left keep their elements: answers go on. */
function show(event) {
  const isNew = shown?.exchanges.length === 0;
  const wanted = find(location.hash.slice(1)) ?? (isNew ? shown : { id: newKey(), exchanges: [] });
  if (wanted !== shown) {
    [shown, height] = [wanted, 0];
    if (!shown.view) {
      shown.view = Object.assign(document.createElement("div"), { className: "column" });
      shown.exchanges.forEach(showExchange);
    }
    page.log.replaceChildren(shown.view, page.empty);
    observer.disconnect();
    observer.observe(shown.view);
    if (!wide.matches) page.chats.open = false;
    if (event?.type !== "conversations") page.question.focus(); // who deletes one is in the list
  }
  const running = Boolean(shown.run);
  const free = [document.body, page.send, page.stop].includes(document.activeElement) && running === page.stop.hidden;
  page.send.hidden = page.log.ariaBusy = running;
  page.stop.hidden = !running;
  if (free) page.question.focus();
}

const observer = new ResizeObserver(() => {
  const { scrollTop, clientHeight, scrollHeight } = page.log;
  if (scrollTop + clientHeight > height - 50) page.log.scrollTop = scrollHeight; // not if the reader has scrolled up
  height = scrollHeight;
});

sendOnEnter(page.question);
page.composer.onsubmit = () => {
  const question = page.question.value;
  if (shown.run || !question.trim()) return;
  page.composer.reset();
  ask(question);
};
page.new.onclick = () => {
  location.hash = "";
  show(); // at once: what is typed next is for the new one
  page.question.focus();
};
page.stop.onclick = () => shown.run?.abort();
document.addEventListener("keydown", ({ key, isComposing, target }) => {
  if (key !== "Escape" || isComposing) return;
  const [cancel, fold] = [target.form?.querySelector(".cancel"), target.closest("details[open]")];
  if (cancel) return cancel.click();
  if (!fold) return shown.run?.abort();
  fold.firstChild.focus();
  fold.open = false;
});
addEventListener("hashchange", show);
addEventListener("conversations", show);
wide.onchange = () => (page.chats.open = wide.matches);
wide.onchange();
show();
