/** The conversation that is shown, and what a reader does with it: ask, edit, stop, go to another. */
import { anew, show as showAnswer } from "./answer.js";
import { newKey } from "./api.js";
import { begin, find } from "./conversations.js";
import { showList } from "./list.js";
import { add, addButton, change, page } from "./page.js";
let shown, end;

function showExchange(exchange) {
  const article = add(shown.view, "article");
  add(article, "h2", "unseen", "You");
  add(article, "p", "question", exchange.question);
  const askInstead = (question) => {
    shown.exchanges.pop();
    article.remove();
    ask(question);
  };
  const edit = () => change(exchange.question, "Your question", "Ask", askInstead);
  addButton(add(article, "div", "row last"), "Edit", edit);
  showAnswer(shown, article, exchange);
}

function ask(question) {
  const exchange = { question, ...anew() };
  shown.exchanges.push(exchange);
  begin(shown);
  history.replaceState(null, "", `#${shown.id}`);
  showExchange(exchange);
  page.log.scrollTop = page.log.scrollHeight;
  page.question.focus();
}

/** The conversation that the address names, or a new one. Those that are left keep their elements: answers go on. */
function show() {
  const isNew = shown?.exchanges.length === 0;
  const wanted = find(location.hash.slice(1)) ?? (isNew ? shown : { id: newKey(), exchanges: [] });
  if (wanted !== shown) {
    shown = wanted;
    if (!shown.view) {
      shown.view = document.createElement("div");
      shown.exchanges.forEach(showExchange);
    }
    page.exchanges.replaceChildren(shown.view);
    page.log.scrollTop = page.log.scrollHeight;
    page.chats.hidePopover();
    page.editor.close();
  }
  page.log.ariaBusy = Boolean(shown.run);
  page.send.textContent = shown.run ? "Stop" : "Send";
  showList();
}

/** What is read grows at its end, and has less space while a question is typed, above all on a phone. */
const observer = new ResizeObserver(() => {
  const { scrollTop, clientHeight, scrollHeight } = page.log;
  if (scrollTop > end - 50) page.log.scrollTop = scrollHeight; // not if the reader has scrolled up
  end = scrollHeight - clientHeight;
});
for (const element of [page.exchanges, page.log]) observer.observe(element);

page.composer.onsubmit = ({ submitter }) => {
  const question = page.question.value;
  if (shown.run && submitter) shown.run.abort(); // the button says "Stop"
  else if (!shown.run && question.trim()) {
    page.composer.reset();
    ask(question);
  }
  page.question.focus();
};
document.addEventListener("keydown", ({ key, isComposing }) => {
  if (key === "Escape" && !isComposing && !document.querySelector(":modal, :popover-open")) shown.run?.abort();
});
function goTo() {
  show();
  page.question.focus();
}
page.new.onclick = () => {
  location.hash = "";
  goTo(); // at once: what is typed next is for the new one
};
addEventListener("hashchange", goTo);
addEventListener("conversations", show);
goTo();
