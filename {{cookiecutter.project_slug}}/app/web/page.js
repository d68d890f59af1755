/** What every part of the page uses: its elements, how a problem is shown, and the access key. */
import { keep } from "./api.js";
import { copy } from "./copy.js";
export const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
/** Everything that is shown goes through here: as text, never as HTML. */
export const add = (parent, tag, className = "", textContent = "") =>
  parent.appendChild(Object.assign(document.createElement(tag), { className, textContent }));

export const addButton = (parent, words, onclick, className = "") =>
  Object.assign(add(parent, "button", className, words), { type: "button", onclick });

export const addCopy = (parent, text) =>
  addButton(parent, "Copy", async ({ currentTarget }) => (page.news.textContent = await copy(text(), currentTarget)));

export function showProblem(parent, { message, status, retryable, request_id }, retry) {
  const box = add(parent, "div", "alert", message);
  if (request_id) add(box, "p", "quiet", `Request id: ${request_id}`);
  if (retryable) addButton(add(box, "p"), "Try again", () => (box.remove(), retry()), "retry last");
  if (status === 401) [page.hint.textContent, page.access.open] = [message, true];
}

page.unlock.onsubmit = () => {
  keep("api-key", page.key.value.trim());
  page.access.open = false;
  document.querySelector("details[open] .retry, #log article:last-child .retry, #question").focus();
};
page.access.ontoggle = () => page.access.open && page.key.focus();
document.addEventListener("submit", (event) => event.preventDefault());
