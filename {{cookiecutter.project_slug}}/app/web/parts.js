/** What an answer is made of, in the order in which it comes: texts, the model's thoughts, and its tools. */
import { Markdown } from "./markdown.js";
import { add } from "./page.js";
const STATES = { called: "running…", done: "done", failed: "failed", left: "not finished" };

/** The answer itself. */
export const textOf = ({ parts }) =>
  parts.filter(({ kind }) => kind === "text").map(({ text }) => text).join("\n\n");

/** How each kind of part is shown. `append` shows what is added to it, and `end` that it is whole. */
const SHOW = {
  text: (place) => new Markdown(add(place, "div", "text")),
  reasoning(place, part) {
    const fold = add(place, "details", "aside");
    const [summary, text] = [add(fold, "summary", "", "Thinking…"), SHOW.text(fold)];
    return { append: (more) => text.append(more), end() {
      text.end();
      part.seconds ??= Math.max(1, Math.round((Date.now() - part.began) / 1000));
      summary.textContent = `Thought for ${part.seconds} s`;
    } };
  },
  tool(place, part) {
    const fold = add(place, "details", "aside");
    const [summary, body] = [add(fold, "summary"), add(fold, "div")];
    return { end() {}, append() {
      summary.textContent = `${part.name} `;
      add(summary, "span", part.state, STATES[part.state]);
      body.replaceChildren();
      for (const [name, value] of [["Input", part.input], ["Output", part.output]]) {
        if (value === undefined) continue;
        add(body, "h3", "", name);
        add(body, "pre", "", typeof value === "string" ? value : JSON.stringify(value, null, 2));
      }
    } };
  },
};

/** Shows what there is of an answer, and then what is added to it. */
export function showParts(turn, parts) {
  add(turn, "h2", "unseen", "Answer");
  const [place, views] = [add(turn, "div"), new Map()];
  let last;
  const show = (part) => {
    last?.end();
    last = SHOW[part.kind](place, part);
    last.append(part.text);
    views.set(part, last);
  };
  const take = (kind, event) => {
    const part = kind === "tool" ? parts.find(({ id }) => id === event.id) : parts.at(-1);
    if (part?.kind !== kind) return show(parts[parts.push({ kind, began: Date.now(), ...event }) - 1]);
    Object.assign(part, event, event.text && { text: part.text + event.text });
    views.get(part).append(event.text);
  };
  const end = () => {
    last?.end();
    for (const { id, state } of parts) if (state === "called") take("tool", { id, state: "left" });
  };
  parts.forEach(show);
  return { take, end };
}
