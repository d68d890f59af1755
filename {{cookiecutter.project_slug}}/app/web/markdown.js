/** Markdown while it is written, as DOM nodes. HTML is text, an image is a link, and all links lead to the web. */
import { copy } from "./copy.js";
import { add, make, Prose } from "./prose.js";
const MAX_DEPTH = 10; // of quotes and lists in each other
/** A line's beginning that does not tell yet what it is, as `-`; or at which side the mark stands, as `- 1`. */
const UNDECIDED = /^[\s>*+.)\d-]*(?:[#`~_\s]*$|```|~~~|\|)|^ *(?:>|(?:[*+-]|\d+[.)]) )\P{L}*$/u;
const RIGHT_TO_LEFT = /^\P{L}*[\p{Script=Arabic}\p{Script=Hebrew}]/u;
const CONTAINER = /^( *)(?:(>) ?|(?:[*+-]|(\d{1,9})[.)])(?: +|$))/;
const RULE = /^ *([*_-])(?:\s*\1){2,}\s*$/;
const FENCE = /^( *)(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^(#{1,6})(?:\s+(.*)|$)/s;

function codeBlock([, { length }, fence, label]) {
  const code = make("code");
  const button = make("button", { type: "button", textContent: "Copy", onclick: () => copy(code.textContent, button) });
  const bar = make("div", { className: "row" }, make("span", {}, label.trim()), button);
  const element = make("div", { className: "code" }, bar, make("pre", {}, code));
  const [indent, closing] = [new RegExp(`^ {0,${length}}`), new RegExp(`^\\s*${fence}+\\s*$`)];
  const write = (text) => add(code, text);
  const line = (text) => write((code.firstChild ? "\n" : "") + text.replace(indent, ""));
  return { element, closing, line, write };
}

/** Lines that begin with `|`. The first is the head. If the second is of dashes, it tells how columns are aligned. */
function tableBlock() {
  const table = make("table");
  let [count, sides] = [0, []];
  const row = (line) => {
    const cells = line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());
    const tag = count++ ? "td" : "th";
    if (count === 2 && cells.every((cell) => /^:?-+:?$/.test(cell))) {
      sides = cells.map((cell) => (/^:.*:$/.test(cell) ? "center" : cell.endsWith(":") ? "right" : ""));
    } else {
      const row = table.appendChild(make("tr"));
      for (const cell of cells) row.append(new Prose(tag).write(cell.replaceAll("\\|", "|")).end());
    }
    [...table.lastChild.children].forEach((cell, column) => (cell.className = sides[column] ?? ""));
  };
  return { element: make("div", { className: "table" }, table), row };
}

/** Shows Markdown in `element` while it grows: `append` takes more of it, however it is cut, and `end` ends it. */
export class Markdown {
  constructor(element) { Object.assign(this, { element, containers: [], rest: "", begun: false }); }
  get place() { return (this.containers.at(-1) ?? this).element; }

  append(text) {
    this.rest += text.replaceAll("\r", "");
    if (document.hidden) this.draw(); // no frame would come
    else this.frame ??= requestAnimationFrame(() => this.draw());
  }

  end() {
    if (this.rest || this.begun) this.rest += "\n";
    this.draw();
    this.put();
  }

  draw() {
    this.frame = cancelAnimationFrame(this.frame);
    const lines = this.rest.split("\n");
    this.rest = lines.pop();
    for (const line of lines) {
      this.take(line);
      this.begun = false;
    }
    if (!this.begun && UNDECIDED.test(this.rest.slice(0, 100))) return; // it waits until it is whole, or tells
    this.take(this.rest);
    this.begun = true;
    this.rest = "";
  }

  /** Takes a line or a part of one: first the marks of the quotes and lists that it is in, then what it is there. */
  take(text) {
    if (this.begun) return this.block.write(text);
    let rest = this.block?.closing ? text : text.replace(/^\s+/, (indent) => indent.replaceAll("\t", "    "));
    const skip = (pattern) => {
      const found = pattern.exec(rest);
      rest = rest.slice(found?.[0].length);
      return found;
    };
    const left = this.containers.findIndex(({ goesOn }) => !skip(goesOn));
    if (left >= 0) this.put(null, left);
    if (this.block?.closing) return this.block.closing.test(rest) ? this.put() : this.block.line(rest);
    while (this.containers.length < MAX_DEPTH && CONTAINER.test(rest) && !RULE.test(rest))
      this.enter(skip(CONTAINER), rest);
    const words = rest.trimStart();
    const fence = FENCE.exec(rest);
    const [, level, title = ""] = HEADING.exec(words) ?? [];
    if (words[0] === "|") {
      if (!this.block?.row) this.put(tableBlock());
      this.block.row(words);
    } else if (!words) this.put();
    else if (RULE.test(words)) this.put({ element: make("hr") });
    else if (fence) this.put(codeBlock(fence));
    else if (level) this.put(new Prose(`h${Math.min(level.length + 2, 6)}`).write(title));
    else if (this.block?.element.localName === "p") this.block.write(`\n${words}`);
    else this.put(new Prose("p").write(words));
  }

  /** Ends the last block, and the quotes and items beyond a depth. Begins another block, if one is given. */
  put(block, depth = this.containers.length) {
    this.block?.end?.();
    this.containers.length = depth;
    this.block = block;
    if (block) this.place.append(block.element);
  }

  /** Begins a quote, or an item of a list, with this text. */
  enter([, { length }, quote, number], text) {
    this.put();
    const tag = quote ? "blockquote" : number ? "ol" : "ul";
    const last = this.place.lastChild;
    const outer = last?.localName === tag ? last : this.place.appendChild(make(tag, number && { start: number }));
    const element = quote ? outer : outer.appendChild(make("li"));
    element.dir ||= RIGHT_TO_LEFT.test(text) ? "rtl" : "ltr";
    const goesOn = quote ? /^ *> ?/ : new RegExp(`^(?: {${length + 2}}| *$)`); // an item: further in, or a blank line
    this.containers.push({ element, goesOn });
  }
}
