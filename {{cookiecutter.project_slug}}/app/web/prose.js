/** The text of a paragraph, a heading or a cell, while it is written: emphasis, code and links, as DOM nodes. */
const MAX_SPAN = 2000; // characters of emphasis, code or a link: what is longer is text
const MAX_DEPTH = 10; // of emphasis and links in each other
const TAGS = { "*": "em", _: "em", "**": "strong", __: "strong", "~~": "del" };
const LETTER = /[\p{L}\p{N}]/u;
const PLAIN = /^(?:[^\\`*_~![\]<h\n]+|h(?!t|$))/;
const IN_ADDRESS = /[^\s()<>"*|[\]\\`\u3000-\u303f\uff00-\uffef]/.source;
const ADDRESS = new RegExp(`^https?://(?:${IN_ADDRESS}|\\(${IN_ADDRESS}*(?:\\)|$))+(?:$|(?<![.,:;!?'_~]))`);
/** What may come next, and how it is shown: the first that fits. What reaches the end of the text may go on, and waits:
 * hence each `$`. */
const TOKENS = [
  [PLAIN, (prose, text) => prose.add(text)],
  [/^\\([!-/:-@[-`{-~])/, (prose, _, sign) => prose.add(sign)],
  [/^(`+)(?!`)(?:(.*?[^`])\1(?!`)|.*$)/, (prose, _, ticks, code) => prose.add(make("code", {}, code))],
  [/^([*_~])\1*/, (prose, run) => prose.emphasis(run)],
  [/^!?\[/, (prose, mark) => prose.open("a", mark)],
  [/^\](?:\(([^\s()]*(?:\([^\s()]*(?:\)|$)[^\s()]*)*)(?:\)|$))?/, (prose, end, url) => prose.link(end, url)],
  [ADDRESS, (prose, url) => prose.add(lead(make("a", {}, url), url))],
  [/^(?:\n|<br ?\/?>)/, (prose) => prose.add(make("br"))],
  [/^(?:<b?r? ?\/?|h(?:tt?p?s?:?\/?\/?)?|[^])/, (prose, text) => prose.add(text)], // the beginning of one, perhaps
];

export function make(tag, fields, ...children) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
}

export function add(element, node) {
  if (typeof node === "string" && element.lastChild instanceof Text) element.lastChild.appendData(node);
  else element.append(node);
}

function lead(link, href) {
  for (const inner of link.querySelectorAll("a")) inner.replaceWith(...inner.childNodes);
  return Object.assign(link, { href, target: "_blank", rel: "noopener noreferrer nofollow" });
}

const undo = ({ element, mark }) => element.replaceWith(mark, ...element.childNodes);

/** Takes each character once. Emphasis and links are shown when they open, and undone if nothing closes them. */
export class Prose {
  constructor(tag) { Object.assign(this, { element: make(tag), opened: [], rest: "", before: " ", at: 0 }); }
  add(node) { add((this.opened.at(-1) ?? this).element, node); }

  write(text) {
    this.rest += text;
    while (this.rest) {
      const seen = this.rest.slice(0, MAX_SPAN);
      const [pattern, show] = TOKENS.find(([pattern]) => pattern.test(seen));
      const [token, ...parts] = pattern.exec(seen);
      if (token !== seen) show(this, token, ...parts);
      else if (pattern === PLAIN || seen.length === MAX_SPAN) this.add(token);
      else break; // it may go on
      this.rest = this.rest.slice(token.length);
      this.before = token.at(-1);
      this.at += token.length;
    }
    return this;
  }

  end() {
    this.write("\n"); // nothing waits before it, and it is not shown itself
    this.opened.forEach(undo);
    return this.element;
  }

  open(tag, mark) {
    const element = make(tag);
    this.add(element);
    this.opened.push({ element, mark, at: this.at });
    if (this.opened.length > MAX_DEPTH) undo(this.opened.shift());
  }

  /** Closes what was opened last with one of these marks, and returns it. What is still open in it is undone. */
  close(...marks) {
    while (this.opened[0]?.at < this.at - MAX_SPAN) undo(this.opened.shift());
    const index = this.opened.findLastIndex(({ mark }) => marks.includes(mark));
    const [found, ...inner] = index < 0 ? [] : this.opened.splice(index);
    inner.forEach(undo);
    return found;
  }

  /** Three signs are two marks: the outer opens first, and the inner closes first. */
  emphasis(run) {
    const next = this.rest[run.length];
    const isFree = (sign) => run[0] !== "_" || !LETTER.test(sign); // an underscore within a word is one
    const [closes, opens] = [this.before.trim() && isFree(next), next.trim() && isFree(this.before)];
    const marks = run.length === 3 ? [run.slice(1), run[0]] : [run];
    if (this.opened.at(-1)?.mark === run[0]) marks.reverse();
    for (const mark of marks) {
      if (closes && this.close(mark)) continue;
      if (opens && TAGS[mark]) this.open(TAGS[mark], mark);
      else this.add(mark);
    }
  }

  link(end, url) {
    const found = this.close("[", "![");
    if (found && /^https?:\/\/[^/]/i.test(url)) return lead(found.element, url);
    if (found) undo(found);
    this.add(end);
  }
}
