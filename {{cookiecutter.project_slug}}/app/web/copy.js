/** Copies a text, and says on the button that was pressed whether it is copied. Returns what it says. */
export async function copy(text, button) {
  button.textContent = await write(text, button).then(() => "Copied", () => "Could not copy");
  setTimeout(() => (button.textContent = "Copy"), 2000);
  return button.textContent;
}

/** Only pages that came over TLS, or from this machine, are given the clipboard. Others copy what is selected. */
async function write(text, button) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
  document.body.append(box);
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  button.focus(); // the box has taken the focus
  if (!copied) throw new Error("The browser does not let the page copy.");
}
