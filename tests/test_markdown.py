"""The page's Markdown in a browser: what it shows, whole or piece by piece, and what that takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_page import chromium
from playwright.sync_api import Page, Route
from running import BASE

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.xdist_group("page")]
FILES = {
    **{name: BASE / "app" / "web" / name for name in ("copy.js", "markdown.js", "prose.js")},
    "cases.js": Path(__file__).parent / "page" / "markdown.js",
}
SLOWER = 10  # times: what grows with the square of the length is a hundred times as slow at its end
PROSE = "Some **words** and *more* with `code` and [links](https://a.b/c) in a line that goes on. "
MIXED = f"""# Title

{PROSE * 3}

- one
- two
  - nested

```py
x = 1
y = 2
```

| a | b |
|---|---|
| 1 | 2 |

1. x
2. y

> a quote

"""
LONG = {
    "a bit of all": MIXED,
    "a paragraph": PROSE,
    "lines": "word\n",
    "a list": "- item **b**\n",
    "a table": "| 1 | 2 |\n",
    "code": "x = 1\n",
    "a line of code": "x",
    "stars": "*",
    "emphasis that is never closed": "*a ",
    "emphasis that is never opened": "a* ",
    "marks that close nothing": "*a **b ~~c [d ",
    "waves": "~",
    "brackets": "[",
    "images that are never closed": "![",
    "links that are never closed": "[a](h",
    "a link that is never closed": "(",
    "backticks": "`",
    "code that is never closed": "`a ",
    "backslashes": "\\",
    "quotes": "> ",
    "bullets": "- ",
    "an item without a letter": "1 ",
    "numbers": "1. ",
    "pipes": "|",
    "white space": " ",
    "an address": "a",
    "addresses": "https://a.b/c ",
    "addresses in each other": "https://(",
}
BEGINS = {
    "a table": "|a|b|\n|-|-|\n",
    "code": "```\n",
    "a line of code": "```\n",
    "a link that is never closed": "[a](",
    "an address": "https://",
    "an item without a letter": "- ",
}
# What is written, and what is shown, without what is always the same. A code block begins with its label.
CASES = [
    ("Hi", "<p>Hi</p>"),
    ("a\nb", "<p>a<br>b</p>"),
    ("a\n\nb", "<p>a</p><p>b</p>"),
    ("# T\ntext", "<h3>T</h3><p>text</p>"),
    ("###### deep", "<h6>deep</h6>"),
    ("####### no", "<p>####### no</p>"),
    (
        "**b** *i* `c` ~~s~~ ***bi***",
        "<p><strong>b</strong> <em>i</em> <code>c</code> <del>s</del> <strong><em>bi</em></strong></p>",
    ),
    ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
    ("snake_case_name _i_ __b__", "<p>snake_case_name <em>i</em> <strong>b</strong></p>"),
    ("*a_ b* (_c_), __init__.py", "<p><em>a_ b</em> (<em>c</em>), <strong>init</strong>.py</p>"),
    ("a \\*b\\*", "<p>a *b*</p>"),
    ("[x](https://a.b/c_(d))", '<p><a href="https://a.b/c_(d)">x</a></p>'),
    ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ("[x](/local)", "<p>[x](/local)</p>"),
    ("see https://a.b/c, ok", '<p>see <a href="https://a.b/c">https://a.b/c</a>, ok</p>'),
    ("(https://a.b/c)", '<p>(<a href="https://a.b/c">https://a.b/c</a>)</p>'),
    ("![pic](https://a.b/p.png)", '<p><a href="https://a.b/p.png">pic</a></p>'),
    (
        "- a\n- b\n  - c\n\n    more\n- d",
        "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p><p>more</p></li></ul></li><li><p>d</p></li></ul>",
    ),
    ("1. a\n2. b\n\n3. c", '<ol start="1"><li><p>a</p></li><li><p>b</p></li><li><p>c</p></li></ol>'),
    ("3) x", '<ol start="3"><li><p>x</p></li></ol>'),
    ("* a\n+ b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    ("- [x] done\n- [ ] todo", "<ul><li><p>[x] done</p></li><li><p>[ ] todo</p></li></ul>"),
    (
        "- \U0001f600 1. \u05d0\n  - b \u05d0\n- 1\n\n> **\u0627** b",
        '<ul><li dir="rtl"><p>\U0001f600 1. \u05d0</p><ul><li><p>b \u05d0</p></li></ul></li><li><p>1</p></li></ul>'
        '<blockquote dir="rtl"><p><strong>\u0627</strong> b</p></blockquote>',
    ),
    ("> q\n> r\n\nout", "<blockquote><p>q<br>r</p></blockquote><p>out</p>"),
    ("> lazy\nline", "<blockquote><p>lazy</p></blockquote><p>line</p>"),
    ("```py\na = 1\n\nb\n```\nafter", '<div class="code">py:<pre><code>a = 1\n\nb</code></pre></div><p>after</p>'),
    ("```\nopen", '<div class="code">:<pre><code>open</code></pre></div>'),
    ("```\nopen\n", '<div class="code">:<pre><code>open</code></pre></div>'),
    ("~~~\n```\n~~~", '<div class="code">:<pre><code>```</code></pre></div>'),
    (
        "- a\n  ```js\n  x\n  ```\n- b",
        '<ul><li><p>a</p><div class="code">js:<pre><code>x</code></pre></div></li><li><p>b</p></li></ul>',
    ),
    ("> ```\n> # a\n# b", '<blockquote><div class="code">:<pre><code># a</code></pre></div></blockquote><h3>b</h3>'),
    ("a\n---\nb", "<p>a</p><hr><p>b</p>"),
    ("***", "<hr>"),
    ("_ _ _\n__ _ a", "<hr><p>__ _ a</p>"),
    (
        "|a|b|\n|---|:-:|\n|`x|`|",
        '<table><tr><th>a</th><th class="center">b</th></tr><tr><td>`x</td><td class="center">`</td></tr></table>',
    ),
    ("|a|b|\nno table", "<table><tr><th>a</th><th>b</th></tr></table><p>no table</p>"),
    (
        "| a | b\n|--|--:\n| 1 | 2",
        '<table><tr><th>a</th><th class="right">b</th></tr><tr><td>1</td><td class="right">2</td></tr></table>',
    ),
    ("a | b\n--|--:\n1 | 2", "<p>a | b<br>--|--:<br>1 | 2</p>"),
    ("| a\\|b | c |", "<table><tr><th>a|b</th><th>c</th></tr></table>"),
    ("`a *b* c", "<p>`a <em>b</em> c</p>"),
    ("**a *b***, *a **b***", "<p><strong>a <em>b</em></strong>, <em>a <strong>b</strong></em></p>"),
    ("*a [b* c](https://d.e)", "<p><em>a [b</em> c](https://d.e)</p>"),
    ("[[1]](https://a.b) [2]", '<p><a href="https://a.b">[1]</a> [2]</p>'),
    ("[https://a.b](https://a.b)", '<p><a href="https://a.b">https://a.b</a></p>'),
    ("https:// and http, hhttps://a.b.", '<p>https:// and http, h<a href="https://a.b">https://a.b</a>.</p>'),
    ("<b>x</b> &amp; <script>", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp; &lt;script&gt;</p>"),
    ("text\n```\ncode\n```", '<p>text</p><div class="code">:<pre><code>code</code></pre></div>'),
    ("**bold\n\nnext", "<p>**bold</p><p>next</p>"),
    ("`open", "<p>`open</p>"),
    ("a `` ` `` b", "<p>a <code> ` </code> b</p>"),
    ("line  \nbreak", "<p>line  <br>break</p>"),
    ("\U0001f600 emoji **\U0001f600**", "<p>\U0001f600 emoji <strong>\U0001f600</strong></p>"),
    ("  indented", "<p>indented</p>"),
    ("\ttab", "<p>tab</p>"),
    ("a\r\nb", "<p>a<br>b</p>"),
    ("", ""),
    ("\n\n\n", ""),
    ("**a*b**", "<p><strong>a*b</strong></p>"),
    ("[a [b] c](https://x.y)", '<p><a href="https://x.y">a [b] c</a></p>'),
    ('[x](https://a.b "title")', '<p>[x](<a href="https://a.b">https://a.b</a> "title")</p>'),
    ("1986. A year", '<ol start="1986"><li><p>A year</p></li></ol>'),
    ("- a\n\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    ("- \n- x", "<ul><li></li><li><p>x</p></li></ul>"),
    (
        "> - a\n>   - b\n> \n> c",
        "<blockquote><ul><li><p>a</p><ul><li><p>b</p></li></ul></li></ul><p>c</p></blockquote>",
    ),
    ("**[x](https://a.b)**", '<p><strong><a href="https://a.b">x</a></strong></p>'),
    ("*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"),
    ("`a`b`c`", "<p><code>a</code>b<code>c</code></p>"),
    ("a<br>b", "<p>a<br>b</p>"),
    ("https://a.b/?q=1&b=(2)", '<p><a href="https://a.b/?q=1&amp;b=(2)">https://a.b/?q=1&amp;b=(2)</a></p>'),
    ("**Note:**text", "<p><strong>Note:</strong>text</p>"),
    ("text **bold**, more", "<p>text <strong>bold</strong>, more</p>"),
    (
        "1. a\n   ```\n   x\n   ```\n2. b",
        '<ol start="1"><li><p>a</p><div class="code">:<pre><code>x</code></pre></div></li><li><p>b</p></li></ol>',
    ),
    (
        "| a |\n|---|\n| **b** |",
        "<table><tr><th>a</th></tr><tr><td><strong>b</strong></td></tr></table>",
    ),
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """With the module, and what the tests ask of it."""
    with chromium() as browser, browser.new_page() as page:

        def answer(route: Route) -> None:
            if file := FILES.get(route.request.url.rpartition("/")[2]):
                route.fulfill(body=file.read_text("utf-8"), content_type="text/javascript")
            else:
                route.fulfill(body="<!doctype html>", content_type="text/html")

        page.route("**/*", answer)
        page.goto("http://page.invalid/")
        page.evaluate("import('/cases.js').then((cases) => { window.cases = cases; })")
        yield page


def test_it_shows_the_same_however_it_comes(page: Page) -> None:
    """Whole, by single units of UTF-16, and in pieces by chance."""
    for written, shown in CASES:
        assert set(page.evaluate("(text) => cases.ways(text)", written)) == {shown}, written


def test_what_is_finished_stays_as_it_is(page: Page) -> None:
    """Its elements too: what a reader has selected in them stays selected."""
    assert page.evaluate("(text) => cases.changed(text)", MIXED * 3) == []


def test_nothing_jumps_while_it_is_written(page: Page) -> None:
    assert page.evaluate("(text) => cases.jumps(text)", MIXED * 3) == 0


@pytest.mark.parametrize("kind", LONG)
def test_a_piece_takes_no_longer_behind_100_kb(page: Page, kind: str) -> None:
    """Whatever they are. Some pieces at the beginning are measured beside as many at the end."""
    begin, part = BEGINS.get(kind, ""), LONG[kind]
    first, last = page.evaluate("(text) => cases.times(text)", (begin + part * 100_000)[:100_000])
    assert last <= SLOWER * max(first, 1)


def test_no_link_leads_elsewhere_than_to_the_web(page: Page) -> None:
    hostile = (
        "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,x) [d](//a.b) [e](x:y) ![f](file:///x)"
    )
    shown = page.evaluate("(text) => cases.shown([text]).innerHTML", f"{hostile} [g](HTTPS://a.b) <a href=x onclick=y>")
    assert shown.count("<a ") == 1
    assert '<a href="HTTPS://a.b" target="_blank" rel="noopener noreferrer nofollow">g</a>' in shown
    assert "<img" not in shown


def test_a_code_block_is_copied_as_it_is_written(page: Page) -> None:
    page.evaluate("document.body.append(cases.shown(['```js\\na < b\\n  c\\n```']))")
    page.evaluate("""Object.defineProperty(navigator, "clipboard", {
        configurable: true, value: { writeText: async (text) => { window.copied = text; } } })""")
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("copied") == "a < b\n  c"


def test_a_browser_that_refuses_to_copy_is_not_said_to_have_copied(page: Page) -> None:
    page.evaluate("document.body.replaceChildren(cases.shown(['```js\\na < b\\n```']))")
    page.evaluate("""Object.defineProperty(navigator, "clipboard", {
        configurable: true, value: { writeText: () => Promise.reject(new DOMException("no", "NotAllowedError")) } })""")
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Could not copy").wait_for()


def test_what_comes_within_a_frame_is_drawn_once(page: Page) -> None:
    """And without a frame, when it ends."""
    drawn = page.evaluate("(text) => cases.drawn(text)", "a *b* c")
    assert drawn == {"frames": 1, "text": "a b c"}
