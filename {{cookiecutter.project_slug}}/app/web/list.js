/** The list of conversations. Each can be opened, named and deleted, and the latest deletion undone. */
import { all, remove, restore, save } from "./conversations.js";
import { add, addButton, change, page } from "./page.js";

/** What has the focus is found again by its id when the list is made anew: "Undo" where "Delete" was. */
function show(conversation) {
  const [row, { id, deleted, exchanges }] = [add(page.list, "li", "row"), conversation];
  const title = conversation.title || exchanges[0].question.trim().slice(0, 200).replace(/\s+/g, " ");
  const offer = (what, words, label, action) =>
    Object.assign(addButton(row, words, action), { id: `${what}-${id}`, ariaLabel: `${label}: ${title}` });
  if (deleted) {
    add(row, "p", "quiet", `Deleted: ${title}`);
    return offer("delete", "Undo", "Undo the deletion", () => restore(conversation));
  }
  const current = location.hash === `#${id}` ? "page" : null;
  Object.assign(add(row, "a", "", title), { href: `#${id}`, id: `open-${id}`, title, ariaCurrent: current });
  const rename = (name) => save(Object.assign(conversation, { title: name }));
  offer("rename", "✎", "Rename", () => change(title, "Name of the chat", "Save", rename));
  offer("delete", "×", "Delete", () => remove(conversation));
}

export function showList() {
  const { id } = document.activeElement;
  page.list.replaceChildren();
  all().forEach(show);
  document.getElementById(id)?.focus();
  page.unsaved.hidden = !all().some(({ unsaved }) => unsaved);
}
