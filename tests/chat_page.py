"""The chat page in Chromium, as a test uses it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from needs import NEEDS
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    FilePayload,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)
from running import Server, request

PAGE_SECONDS = 8.0  # for what the browser is asked to do: a busy machine takes its time
SIZE: ViewportSize = {"width": 1280, "height": 720}
expect.set_options(timeout=PAGE_SECONDS * 1000)
# Chromium would load two pages for the address bar of each window, which a page's context opens: more work than all of
# the rest. Nor need it start a process in advance for each window that may come. The option takes the place of
# Playwright's own, so these are followed by what that names.
WITHOUT = ["WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "SpareRendererForSitePerProcess"]
WITHOUT += ["AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"]
WITHOUT += ["DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay"]
WITHOUT += ["MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch"]
WITHOUT += ["ThirdPartyStoragePartitioning"]


@contextmanager
def chromium() -> Iterator[Browser]:
    args = ["--no-sandbox", f"--disable-features={','.join(WITHOUT)}"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=NEEDS["chromium"].path(), args=args) as browser,
    ):
        yield browser


class Chat:
    """A browser's tab with the page, and what it sent; `complaints` is what a developer would see in its console."""

    def __init__(self, page: Page, server: Server, port: int) -> None:
        self.page = page
        self.server = server
        self.sent: list[dict[str, Any]] = []
        self.keys: list[str] = []  # one for each that was sent
        self.reads: list[str] = []  # behind which event an answer was read on
        self.stops = 0
        self.documents: list[str] = []  # the key of each that was sent
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", self._fail)
        page.on("request", self._note)
        page.goto(f"http://127.0.0.1:{port}/")
        self.question = page.get_by_label("Your message")
        self.send = page.get_by_role("button", name="Send", exact=True)
        self.stop = page.get_by_role("button", name="Stop", exact=True)
        self.retry = page.get_by_role("button", name="Try again", exact=True)
        self.anew = page.get_by_role("button", name="Regenerate", exact=True)
        self.text = page.locator(".text").last
        self.log = page.get_by_role("log")
        self.alert = self.log.locator(".alert")

    def leave(self) -> None:
        """Leave the tab to another test, which finds nothing in it."""
        self.page.goto("about:blank")
        self.page.remove_listener("console", self._hear)
        self.page.remove_listener("pageerror", self._fail)
        self.page.remove_listener("request", self._note)
        self.page.unroute_all()
        self.page.emulate_media(color_scheme="null", reduced_motion="null")
        self.page.set_viewport_size(SIZE)
        for other in self.page.context.pages:
            if other is not self.page:
                other.close()

    def _hear(self, message: ConsoleMessage) -> None:
        # What the network or the server refused is for the page to tell: its users have no console.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def _fail(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _note(self, request: Request) -> None:
        if request.url.endswith("/chat/stream") and request.post_data:
            self.sent.append(json.loads(request.post_data))
            self.keys.append(request.headers["idempotency-key"])
        elif request.url.endswith("/documents"):
            self.documents.append(request.headers["idempotency-key"])
        elif "/chat/stream/" in request.url:
            self.stops += request.method == "DELETE"
            self.reads += [request.headers["last-event-id"]] if request.method == "GET" else []

    def tell(self, *words: Any) -> None:
        """Have the model say these: a text, a failure or its end."""
        for word in words:
            assert request(self.server.port, "POST", "/tell", json.dumps(word)).status == 200

    def ask(self, question: str) -> None:
        """Ask, and wait until the model is asked."""
        self.question.fill(question)
        self.question.press("Enter")
        expect(self.log.get_by_text("Thinking…")).to_be_visible()

    def asked(self) -> Any:
        """What the model was told, each time that it was asked."""
        return json.load(self.server.request("GET", "/asked"))

    def begin(self, question: str = "Count", answer: str = "One") -> None:
        """Ask, and wait for the beginning of the answer."""
        self.ask(question)
        self.tell(answer)
        expect(self.text).to_have_text(answer)

    def finish(self, rest: str, whole: str) -> None:
        """Tell the rest; what is shown is the whole."""
        self.tell(rest, {"end": "end"})
        expect(self.send).to_be_visible()
        assert self.shown() == whole

    def exchange(self, question: str, answer: str) -> None:
        self.ask(question)
        self.tell(answer, {"end": "end"})
        expect(self.send).to_be_visible()

    def shown(self) -> Any:
        """The latest answer, exactly: what `expect` compares has no spaces to speak of."""
        return self.text.evaluate("(element) => element.textContent")

    def kept(self) -> Any:
        """The questions, and what came of them, that the browser keeps of the conversation that is shown."""
        return self.page.evaluate("JSON.parse(localStorage[`chat:${location.hash.slice(1)}`]).exchanges")

    def keep(self, exchanges: list[dict[str, Any]]) -> None:
        """As if the browser had kept this conversation. An `answer` stands for its parts."""
        parts = [{"parts": [{"kind": "text", "text": each.get("answer", "")}]} | each for each in exchanges]
        self.page.evaluate(
            "(kept) => { localStorage['chat:kept'] = kept; history.replaceState(null, '', '#kept'); }",
            json.dumps({"at": 0, "exchanges": parts}, ensure_ascii=False),
        )
        self.page.reload()

    def add_document(self, title: str, text: str) -> None:
        """Choose a file of this name and text."""
        file: FilePayload = {"name": title, "mimeType": "text/plain", "buffer": text.encode()}
        self.page.get_by_label("Add text files").set_input_files(file)

    def frames(self) -> float:
        """How long the page takes to be drawn again: the shortest of some tries, in case the machine is busy."""
        drawn = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        tries = []
        for _ in range(5):
            began = time.monotonic()
            self.page.evaluate(drawn)
            tries.append(time.monotonic() - began)
        return min(tries)

    def overflow(self) -> Any:
        """How many pixels are out of sight to the right, but for what can be scrolled there, or ends in an ellipsis."""
        return self.page.evaluate(
            """() => Math.max(...[document.documentElement, ...document.querySelectorAll("body, body *")]
                .filter((element) => element.clientWidth && element.checkVisibility())
                .filter((element) => !element.matches(".unseen, input, pre, .table"))
                .filter((element) => getComputedStyle(element).textOverflow !== "ellipsis")
                .map(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth))"""
        )
