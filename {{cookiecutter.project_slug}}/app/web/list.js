/** The list of conversations. Each can be opened, named and deleted, and the latest deletion undone. */
import { all, remove, restore, save, titleOf } from "./conversations.js";
import { add, addButton, page } from "./page.js";

/** What has the focus is found again by its id when the list is made anew: "Undo" where "Delete" was. */
function show(conversation) {
  const [row, title, { id, deleted }] = [add(page.list, "li", "row"), titleOf(conversation), conversation];
  const offer = (what, words, label, action) =>
    Object.assign(addButton(row, words, action), { id: `${what}-${id}`, ariaLabel: `${label}: ${title}` });
  if (deleted) {
    add(row, "p", "quiet", `Deleted: ${title}`);
    return offer("delete", "Undo", "Undo the deletion", () => restore(conversation));
  }
  const current = location.hash === `#${id}` ? "page" : null;
  Object.assign(add(row, "a", "", title), { href: `#${id}`, id: `open-${id}`, title, ariaCurrent: current });
  offer("rename", "✎", "Rename", () => rename(row, conversation));
  offer("delete", "×", "Delete", () => remove(conversation));
}

function rename(row, conversation) {
  row.replaceChildren();
  const box = Object.assign(add(row, "input"), { value: titleOf(conversation), ariaLabel: "Name of the chat" });
  box.id = `rename-${conversation.id}`;
  box.select();
  box.onkeydown = (event) => {
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault(); // else Enter would press the button that has the focus next
    if (event.key === "Escape") box.value = "";
    box.blur();
  };
  box.onblur = () => {
    conversation.title = box.value.trim() || conversation.title;
    box.remove();
    save(conversation);
    document.getElementById(box.id)?.focus();
  };
}

function showAll() {
  if (page.list.querySelector("input")) return; // not while a name is typed
  const { id } = document.activeElement;
  page.list.replaceChildren();
  all().forEach(show);
  document.getElementById(id)?.focus();
}
addEventListener("hashchange", showAll);
addEventListener("conversations", showAll);
showAll();
