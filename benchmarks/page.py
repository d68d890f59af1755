#!/usr/bin/env python3
"""Measures what the chat page's Markdown takes while an answer of 100 kB grows, in Chromium.

    uv run --group bench python benchmarks/page.py

Beside it, in turn: the same text as it is, in one text node; and the same Markdown made anew for each piece, as pages
do that render the whole text again. A piece counts with the layout that it brings. A frame has 16.7 ms.
"""

import argparse
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Figures, machine, table

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "{{cookiecutter.project_slug}}" / "app" / "web"
sys.path.insert(0, str(ROOT / "tests"))
CONTESTANTS = {"text": "plain text", "ours": "Markdown", "anew": "Markdown made anew"}
PROSE = "And it goes on, and on, as answers do. " * 6
SECTION = f"""## A heading

Some **words** and *more* with `code` and [links](https://a.b/c), in a paragraph that goes on. {PROSE}

- one
- two
  - nested **again**

```py
async def brew(seconds: float = 60) -> str:
    return "Tea"
```

| Tea | Water |
|:--|--:|
| Sencha | 70 |
| Bancha | 85 |

"""
MEASURE = """async ([text, pieces, contestant]) => {
  const { Markdown } = await import("/markdown.js");
  const place = document.body.appendChild(document.createElement("div"));
  const [markdown, plain] = [new Markdown(place), new Text()];
  if (contestant === "text") place.append(plain);
  const [size, took] = [Math.ceil(text.length / pieces), []];
  for (let at = 0, number = 0; at < text.length; at += size, number++) {
    const piece = text.slice(at, at + size);
    const began = performance.now();
    if (contestant === "text") plain.appendData(piece);
    else if (contestant === "ours") (markdown.append(piece), markdown.draw());
    else {
      if (number % 40) continue;
      place.replaceChildren();
      const anew = new Markdown(place);
      anew.append(text.slice(0, at + size));
      anew.end();
    }
    place.offsetHeight;
    took.push(performance.now() - began);
  }
  place.remove();
  return took;
}"""


def answer(route: Any) -> None:
    if route.request.url.endswith(".js"):
        name = route.request.url.rpartition("/")[2]
        route.fulfill(body=(WEB / name).read_text("utf-8"), content_type="text/javascript")
    else:
        route.fulfill(body="<!doctype html>", content_type="text/html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the text, once")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    from chat_page import chromium

    length, pieces, rounds = (10_000, 400, 1) if options.quick else (100_000, 4000, 5)
    text = (SECTION * (length // len(SECTION) + 1))[:length]
    figures = Figures("text")
    with chromium() as browser, browser.new_page() as page:
        page.route("**/*", answer)
        page.goto("http://page.invalid/")
        version = browser.version
        for number in range(rounds):
            for contestant in list(CONTESTANTS)[:: -1 if number % 2 else 1]:
                took = page.evaluate(MEASURE, [text, pieces, contestant])
                tenth = max(1, len(took) // 10)
                add = partial(figures.add, "page", unit="ms", contestant=contestant)
                add(name="a piece at the beginning", value=median(took[:tenth]))
                add(name="a piece at the end", value=median(took[-tenth:]))
                add(name="the longest piece", value=max(took))
    if options.json:
        print(
            json.dumps(
                {"machine": machine({"chromium": version}), "figures": [asdict(figure) for figure in figures.values()]}
            )
        )
        return
    print(f"Chromium {version}; {length:,} characters in {pieces:,} pieces; medians of {rounds} rounds.\n")
    rows = ([figure.title, *map(figure.cell, CONTESTANTS)] for figure in figures.values())
    print(*table(["", *CONTESTANTS.values()], rows), sep="\n")


if __name__ == "__main__":
    main()
