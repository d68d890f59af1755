"""Makes docs/page.png, the README's picture of the chat page: `uv run python docs/pictures.py`.

It renders the default project, serves it with the model of docs/pictured.py, and uses the page in Chromium, which must
be installed. With a folder as argument it puts more pictures there to look at: in light and dark, on a desk and on a
phone, amid an answer and behind it.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from chat_page import chromium  # noqa: E402
from playwright.sync_api import Page, ViewportSize, expect  # noqa: E402
from rendering import bake  # noqa: E402
from running import Server, python_of, running  # noqa: E402

DESK: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}
EARLIER = ("A gift for a friend who likes tea", "Why is my green tea bitter?")
QUESTION = "Which green tea is mild, and how do I brew it?"


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")


def converse(page: Page) -> None:
    """Some conversations, the last of which is shown, with what the model has thought."""
    for question in (*EARLIER, QUESTION):
        page.get_by_role("button", name="New chat").click()
        ask(page, question)
        expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    page.locator("#log summary").first.click()
    page.locator("#log").evaluate("(log) => { log.scrollTop = 0; }")
    page.mouse.move(0, 0)


def main(folder: Path | None) -> None:
    with TemporaryDirectory() as temporary:
        project = bake(Path(temporary) / "render", {"queue_backend": "none"})
        project.sync()
        command = (python_of(project), "-m", "uvicorn", "pictured:app", "--port", "0", "--no-access-log")
        with (
            running(*command, cwd=project.path, env={"PYTHONPATH": str(DOCS), "APP_NAME": "Tea Desk"}) as process,
            chromium() as browser,
        ):
            address = f"http://127.0.0.1:{Server(process).port}/"
            for scheme in ("light", "dark"):
                for name, size in (("desk", DESK), ("phone", PHONE)):
                    with browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce") as context:
                        page = context.new_page()
                        page.goto(address)
                        if folder:
                            page.screenshot(path=folder / f"{scheme}-{name}-empty.png")
                        converse(page)
                        if (scheme, name) == ("light", "desk"):
                            page.screenshot(path=DOCS / "page.png")
                        if folder:
                            page.screenshot(path=folder / f"{scheme}-{name}.png")
                            ask(page, "And a second pot?")
                            expect(page.locator("#log summary").last).to_have_text("Thinking…")
                            page.locator("#log summary").last.click()
                            page.screenshot(path=folder / f"{scheme}-{name}-thinking.png")
                            page.keyboard.press("Escape")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
