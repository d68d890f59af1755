/** What every part of the page uses: its elements, how a problem is shown and a text changed, and the access key. */
import { keep } from "./api.js";
export const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
/** Everything that is shown goes through here: as text, never as HTML. */
export const add = (parent, tag, className = "", textContent = "") =>
  parent.appendChild(Object.assign(document.createElement(tag), { className, textContent }));

export const addButton = (parent, words, onclick, className = "") =>
  Object.assign(add(parent, "button", className, words), { onclick });

export function showProblem(parent, { message, status, retryable, request_id }, retry) {
  const box = add(parent, "div", "alert", message);
  if (request_id) add(box, "p", "quiet", `Request id: ${request_id}`);
  if (retryable) addButton(add(box, "p"), "Try again", () => (box.remove(), retry()), "main retry");
  if (status !== 401) return;
  page.hint.textContent = message;
  const ask = () => page.access.showPopover({ source: box }); // the panel that it may be in stays open
  page.editor.open ? page.editor.addEventListener("close", ask, { once: true }) : ask(); // of no use behind it
}

page.access.onsubmit = () => {
  keep("api-key", page.key.value.trim());
  page.access.hidePopover();
  document.querySelector(":popover-open .retry, #log article:last-child .retry, #question").focus();
};

/** Lets the reader change a text, and gives what it has become to `take`, by a button that says what that does. */
export function change(text, label, done, take) {
  Object.assign(page.draft, { value: text, ariaLabel: label });
  page.done.textContent = done;
  page.editor.onsubmit = ({ submitter }) => {
    const changed = page.draft.value.trim();
    page.editor.close();
    if (changed && submitter?.value !== "cancel") take(changed);
  };
  page.editor.showModal();
}

/** The browser gives the focus back to what had it, unless that is gone, or hidden in the drawer of a phone. */
page.editor.onclose = () => (document.querySelector(":focus:not(#editor *)") ?? page.question).focus();

document.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  const { key, shiftKey, isComposing, keyCode, target: { enterKeyHint, form } } = event;
  if (!enterKeyHint || key !== "Enter" || shiftKey || isComposing || keyCode === 229) return; // 229: Safari's
  event.preventDefault();
  form.requestSubmit();
});
