/** What every part of the page uses: its elements, how a problem is shown, and the access key. */
import { keep } from "./api.js";
export const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
/** Everything that is shown goes through here: as text, never as HTML. */
export const add = (parent, tag, className = "", textContent = "") =>
  parent.appendChild(Object.assign(document.createElement(tag), { className, textContent }));

export const addButton = (parent, words, onclick, className = "") =>
  Object.assign(add(parent, "button", className, words), { type: "button", onclick });

/** Only pages that came over TLS, or from this machine, are given the clipboard. Others copy what is selected. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = Object.assign(add(document.body, "textarea", "unseen"), { value: text });
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  if (!copied) throw new Error("The browser does not let the page copy.");
}
export const addCopy = (parent, text) => addButton(parent, "Copy", async ({ currentTarget: button }) => {
  const done = await copy(text()).then(() => "Copied", () => "Could not copy");
  page.news.textContent = button.textContent = done;
  button.focus(); // the other way has taken the focus
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

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
