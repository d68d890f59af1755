/** Markdown while it is written, as DOM nodes. HTML is text, an image is a link, and all links lead to the web. */
import { copy } from "./copy.js";
const WINDOW = 2000; // characters that may be needed to tell what something is: no link or emphasis is longer
const MAX_DEPTH = 10; // of quotes and lists in each other, and of emphasis: what is deeper is text
/** A line that has only begun, and may become one of several: `-` a list or a rule, `*` a list or emphasis. */
const UNDECIDED = /^(?=([\s>*+.)\d-]*))\1(?:[\s#_`~|:-]*|`{3,}[^`]*|~{3,}.*|\[[ x]?\]?\s*)$/i;
const CONTAINER = /^( *)(?:(>) ?|(?:[*+-]|(\d{1,9})[.)])(?:\s+|$))(?:\[([ x])\](?=\s))?/i;
const RULE = /^ *([*_-])\s*(?:\1\s*){2,}$/;
const FENCE = /^( *)(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ *(#{1,6})(?:\s+(.*)|$)/;
/** Where more than text may begin, and what that may be. No part can read the same in two ways: that may take ages. */
const SPECIAL = /[\\`*~[\n]|!(?=\[)|<(?=br)|(?<![\p{L}\p{N}_])(?:_|https?:\/\/)/giu;
const SPAN = new RegExp(`^(?:${[
  /\\(?<escaped>[!-\/:-@[-`{-~])|(?<newline>\\?\n|<br *\/?>)|(?<ticks>`+)(?!`)(?<code>[^]+?)(?<!`)\k<ticks>(?!`)/,
  /(?<url>https?:\/\/(?:\(U*\)|U)*(?:\(U*\)|(?![.,:;!?'~_])U))/,
  /!?\[(?<words>(?:[^\\[\]]|\\[^]|\[[^[\]]*\])*)\]\((?<href>[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+"[^"]*")?\)/,
  /(?<mark>(?<c>[*_~])\k<c>{0,2})(?!\s|\k<c>)(?<marked>T+?)(?<!\s|(?<!\k<mark>)\k<mark>)\k<mark>(?!\k<c>|(?<=_)W)/,
].map(({ source }) => source).join("|")})`.replaceAll("U", /[^\s<>"`|[\]{}\\^*()\u3000-\u303f\uff00-\uffef]/.source)
  .replace("T", /(?:[^`\\]|\\[^]|`[^`]*`|`(?![^`]*`))/.source).replace("W", /[\p{L}\p{N}]/u.source), "iu");
const TAGS = { "*": "em", _: "em", "**": "strong", __: "strong", "***": "strong", ___: "strong", "~~": "del" };

const fill = (element, children) => (element.append(...children), element);
const make = (tag, fields, ...children) => fill(Object.assign(document.createElement(tag), fields), children);
const inline = (text, open = false, depth = 0) => [...spans(text, 0, open, depth)].map(([node]) => node);

/** What a text shows: strings and elements, each with where it begins and ends. With `open` the text may go on, and
 * what it opens is shown as if it were closed. */
function* spans(text, at, open, depth) {
  for (let node, length; at < text.length; at += length) {
    SPECIAL.lastIndex = at;
    const seen = text.slice(at, at + WINDOW);
    const plain = seen.slice(0, (SPECIAL.exec(text)?.index ?? text.length) - at);
    [node, length] = plain ? [plain, plain.length] : special(seen, open && seen.length < WINDOW, depth);
    yield [node, at, at + length];
  }
}

/** What begins with more than text, and how many characters it takes. */
function special(text, open, depth) {
  const [run, sign] = /^([*_~`])\1*|^!?[^]/.exec(text);
  const closing = sign ? run : run.endsWith("[") && (text.includes("](") ? ")" : "]()");
  const found = SPAN.exec(text) ?? (open && closing ? SPAN.exec(text.trimEnd() + closing) : null);
  const closed = found?.input === text;
  const length = closed ? found[0].length : text.length;
  const inner = (part) => inline(part, !closed, depth + 1);
  const { escaped, newline, code, url, words, href = url, mark, marked } = found?.groups ?? {};
  if (escaped) return [escaped, length];
  if (newline) return [make("br"), length];
  if (code) return [make("code", {}, code.replaceAll("\n", " ").replace(/^ (?=.*[^ ])(.*) $/, "$1")), length];
  if (href !== undefined && (!closed || /^https?:\/\/[^/]/i.test(href))) {
    const to = closed && { href, target: "_blank", rel: "noopener noreferrer nofollow" };
    const link = make("a", to, ...(words ? inner(words) : [href]));
    for (const other of link.querySelectorAll("a")) other.replaceWith(...other.childNodes);
    return [link, length];
  }
  if (!TAGS[mark] || depth > MAX_DEPTH) return [run, run.length];
  return [make(TAGS[mark], {}, ...inner(mark.length > 2 ? mark[0] + marked + mark[0] : marked)), length];
}

/** A paragraph or a heading. Each piece renews the last WINDOW characters that are shown: they may become something. */
class Prose {
  constructor(tag, text) {
    Object.assign(this, { tag, element: make(tag), head: tag === "p" ? " " : "", rest: " ", shown: [] });
    this.write(text);
  }

  write(text) {
    this.head &&= text[0] === "\n" || this.head.length > WINDOW ? "" : this.head + text; // of a table, perhaps
    this.rest += text;
  }

  draw(open = true) {
    this.element.hidden = open && this.head[1] === "|";
    const seen = open ? this.rest.replace(/[*_~`]{1,3}$/, "") : this.rest; // it may close something
    let done = 1; // a character is before it
    for (const node of this.shown.splice(0)) node.remove();
    for (const [node, start, end] of spans(seen, 1, open, 0)) {
      this.element.append(node);
      if (open && start + WINDOW > seen.length) this.shown.push(this.element.lastChild);
      else done = end;
    }
    this.rest = this.rest.slice(done - 1);
  }

  end() { this.draw(false); }
}

function codeBlock([, { length }, fence, label]) {
  const code = make("code", {}, new Text());
  const button = make("button", { type: "button", textContent: "Copy", onclick: () => copy(code.textContent, button) });
  const bar = make("div", { className: "row" }, make("span", {}, label.trim()), button);
  const element = make("div", { className: "code" }, bar, make("pre", {}, code));
  const [indent, closing] = [new RegExp(`^ {0,${length}}`), new RegExp(`^\\s*${fence}${fence[0]}*\\s*$`)];
  let between = "";
  const write = (text) => code.firstChild.appendData(text);
  const line = (text) => (write(between + text.replace(indent, "")), (between = "\n"));
  return { element, closing, line, write };
}

const cellsOf = (row) =>
  row.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function table(head, marks) {
  const sides = marks.map((mark) => ["", "right", "left", "center"][2 * mark.startsWith(":") + mark.endsWith(":")]);
  const rowOf = (tag, cells) => make("tr", {}, ...Object.assign(sides.map(() => ""), cells).map((cell, column) =>
    make(tag, { className: sides[column] ?? "" }, ...inline(cell))));
  const body = make("tbody");
  const element = make("div", { className: "table" }, make("table", {}, make("thead", {}, rowOf("th", head)), body));
  return { element, waits: /^/, row: (cells) => body.append(rowOf("td", cells)) }; // all of a row is shown at once
}

/** What the page, a quote or an item holds. Its last block may be open, with others inside. */
class Blocks {
  constructor(element, depth = 0) { Object.assign(this, { element, depth }); }
  get open() { return this.last?.blocks?.open ?? this.last; }

  put(block) {
    this.open?.end?.();
    this.last = block;
    if (block && block.element !== this.element.lastChild) this.element.append(block.element);
  }

  /** Takes a line, or the beginning of one that is not whole. */
  line(text, whole) {
    const { last, open } = this;
    const goesOn = last?.start?.exec(text) ?? (last?.lax && (open.closing || !text.trim()) && /^ */.exec(text));
    if (goesOn) return last.blocks.line(text.slice(goesOn[0].length), whole);
    if (last?.closing) return whole && last.closing.test(text) ? this.put() : last.line(text);
    if (whole && RULE.test(text)) return this.put({ element: make("hr") });
    const found = this.depth < MAX_DEPTH && CONTAINER.exec(text);
    if (found && !(found[3] > 1 && last?.tag === "p")) return this.enter(found, text, whole); // it may be a year
    const [words, fence] = [text.trimStart(), whole && FENCE.exec(text)];
    const [, level, title = ""] = HEADING.exec(text) ?? [];
    const [cells, head] = [whole && text.includes("|") ? cellsOf(text) : [], last?.head ? cellsOf(last.head) : []];
    if (!words && whole) this.put();
    else if (fence) this.put(codeBlock(fence));
    else if (level) this.put(new Prose(`h${Math.min(level.length + 2, 6)}`, title));
    else if (cells[0] !== undefined && last?.row) last.row(cells);
    else if (cells[0] && cells.length === head.length && cells.every((cell) => /^:?-+:?$/.test(cell))) {
      last.element.remove();
      this.put(table(head, cells));
    } else if (open?.tag === "p" && words[0] !== "|") open.write(`\n${words}`); // a quote's, too, without its `>`
    else this.put(new Prose("p", words));
  }

  enter([marker, { length }, quote, number, done], text, whole) {
    const tag = quote ? "blockquote" : number ? "ol" : "ul";
    const list = !quote && this.element.lastChild?.localName === tag && this.element.lastChild;
    const element = list || make(tag, number && { start: number });
    const blocks = new Blocks(quote ? element : element.appendChild(make("li")), this.depth + 1);
    this.put({ element, blocks, lax: !quote, start: quote ? /^ *> ?/ : new RegExp(`^ {${length + 2}}`) });
    blocks.line(({ " ": "☐", x: "☑", X: "☑" }[done] ?? "") + text.slice(marker.length), whole);
  }
}

/** Shows Markdown in `element` while it grows: `append` takes more of it, however it is cut, and `end` ends it. */
export class Markdown {
  constructor(element) { Object.assign(this, { blocks: new Blocks(element), rest: "", begun: false }); }

  append(text) {
    this.rest += text.replaceAll("\r", "");
    if (document.hidden) this.draw(); // no frame would come
    else this.frame ??= requestAnimationFrame(() => this.draw());
  }

  end() {
    this.draw(true);
    this.blocks.put();
  }

  draw(last = false) {
    this.frame = cancelAnimationFrame(this.frame);
    const lines = this.rest.split("\n");
    const rest = lines.pop();
    for (const line of lines) this.line(line, true);
    this.rest = rest && !this.line(rest, last) ? rest : "";
    this.blocks.open?.draw?.();
  }

  /** Takes a line or a part of one. Returns whether it did: the beginning of a line may not tell what it is. */
  line(text, whole) {
    const [short, { open }] = [text.length < WINDOW, this.blocks];
    if (this.begun) open.write(text);
    else if (short && !whole && (open?.waits ?? UNDECIDED).test(text)) return false;
    else this.blocks.line(open?.closing ? text : text.replace(/^\s+/, spaced), short && whole);
    this.begun = !whole;
    return true;
  }
}
const spaced = (indent) => indent.replaceAll("\t", "    ");
