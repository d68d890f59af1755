/** What tests/test_markdown.py asks of the page's Markdown. */
import { Markdown } from "./markdown.js";

/** What is shown of these pieces, drawn after each. `look` is called after each too. */
export function shown(pieces, look = () => {}) {
  const element = document.createElement("div");
  const markdown = new Markdown(element);
  for (const piece of pieces) {
    markdown.append(piece);
    markdown.draw();
    look(element);
  }
  markdown.end();
  look(element);
  return element;
}

const CODE_BAR = /<div class="row"><span>(.*?)<\/span><button type="button">Copy<\/button><\/div>/g;
const ALWAYS = / (?:(?:target|rel)="[^"]*"|class=""|dir="ltr")|<\/?t(?:head|body)>|<div class="table">|(?<=<\/table>)<\/div>/g;
/** Compactly: without what is always the same. A code block's bar is its label. */
export const html = (element) => element.innerHTML.replace(CODE_BAR, "$1:").replace(ALWAYS, "");

/** In pieces of up to `most` UTF-16 units, which may part a character. */
export function cut(text, most, random) {
  const pieces = [];
  for (let at = 0; at < text.length; at += pieces.at(-1).length) pieces.push(text.slice(at, at + 1 + random() * most));
  return pieces;
}

export function randoms(seed) {
  return () => (seed = (seed * 16807) % 2147483647) / 2147483647;
}

/** Whole, unit by unit, and twice in pieces by chance. */
export const ways = (text) =>
  [[text], [...Array(text.length).keys()].map((at) => text[at]), cut(text, 5, randoms(1)), cut(text, 30, randoms(2))]
    .map((pieces) => html(shown(pieces)));

/** Which finished blocks were made anew, or changed, while more came. */
export function changed(text) {
  const seen = new Map();
  const found = new Set();
  shown(cut(text, 12, randoms(3)), (element) => {
    for (const block of [...element.children].slice(0, -1)) {
      const before = seen.get(block);
      if (before !== undefined && before !== block.outerHTML) found.add(block.outerHTML);
      seen.set(block, block.outerHTML);
    }
    const lost = [...seen.keys()].filter((block) => block.parentNode !== element);
    lost.forEach((block) => found.add(block.outerHTML));
  });
  return [...found];
}

/** The height of what is shown may only grow: how often it did not. */
export function jumps(text) {
  const place = document.body.appendChild(document.createElement("div"));
  let [height, found] = [0, 0];
  const markdown = new Markdown(place);
  for (const piece of cut(text, 6, randoms(4))) {
    markdown.append(piece);
    markdown.draw();
    if (place.offsetHeight < height) found++;
    height = place.offsetHeight;
  }
  place.remove();
  return found;
}

/** How long some pieces take at the beginning, and as many behind nearly all of the text, in milliseconds. */
export function times(text) {
  const [first, last] = [[], []];
  const [some, size] = [40, 100];
  const pieces = [...Array(2 * some).keys()].map((at) => text.slice(at * size, (at + 1) * size));
  pieces.splice(some, 0, text.slice(2 * some * size));
  for (let run = 0; run < 4; run++) { // the shortest counts: a busy machine is late now and then
    const took = [];
    let began = performance.now();
    shown(pieces, () => {
      took.push(performance.now() - began);
      began = performance.now();
    });
    const sum = (few) => few.reduce((all, each) => all + each, 0);
    first.push(sum(took.slice(0, some)));
    last.push(sum(took.slice(some + 1, 2 * some + 1)));
  }
  return [Math.min(...first), Math.min(...last)];
}

/** How often a text is drawn that comes in many pieces at once, and what is shown behind its end. */
export async function drawn(text) {
  const element = document.createElement("div");
  const markdown = new Markdown(element);
  let frames = 0;
  const draw = markdown.draw.bind(markdown);
  markdown.draw = (last) => { frames++; draw(last); };
  for (const unit of text) markdown.append(unit);
  await new Promise(requestAnimationFrame);
  const seen = frames;
  markdown.append("");
  markdown.end();
  return { frames: seen, text: element.textContent };
}
