"""The chat page in a browser, against the served render: with jobs in the web process, and with a worker.

The model is `page/told.py`: it says what a test tells it, when it tells it, so that no test has to wait for a clock.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_page import PAGE_SECONDS, SIZE, Chat, chromium
from playwright.sync_api import (
    Browser,
    Page,
    Route,
    expect,
)
from rendering import Project
from running import Server, posix_only, python_of, running, services, wait_until
from wire import Wire, wire

pytestmark = [pytest.mark.needs("chromium"), posix_only, pytest.mark.xdist_group("page")]
FILES = Path(__file__).parent / "page"
CONTRAST = (FILES / "contrast.js").read_text("utf-8")
MAX_LINES = 860
HOSTILE = {
    "markup": "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><b>&lt;&amp;</b>",
    "right to left": "abc \u202eoverridden\u202c \u05e9\u05dc\u05d5\u05dd \u2067isolated and never closed",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \u2764\ufe0f",
    "marks": "Z" + "\u0300\u0336\u0489" * 50 + "algo",
    "spaces": "  two  \n\n\n\ttab\u00a0and\u2028 a line separator \x00\x07\x1b[31m",
    "one word": "x" * 5000,
    "100 kB": "All work and no play. " * 4545,
}
Serve = Callable[..., AbstractContextManager[Server]]
NOTICE = "Not complete: "
LOST = "Connection lost, coming back…"
PAUSES = """const timer = setTimeout;
    window.pauses = [];
    window.setTimeout = (call, ms) => {
        if (Number.isInteger(ms)) return timer(call, ms); // chance makes a pause no whole number
        window.pauses.push(ms);
        return timer(call, 0);
    };"""

NO_PAUSE_ENDS = """const timer = setTimeout;
    window.setTimeout = (call, ms) => Number.isInteger(ms) ? timer(call, ms) : 0;"""
TOLD = """window.told = [];
    addEventListener("load", () => new MutationObserver(() => told.push(document.body.innerText)).observe(
        document.querySelector("[role=log]"), { subtree: true, childList: true, characterData: true }));"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


# What becomes of a job. All else of the page is the same bytes with each queue, and so is what answers it but for
# app/jobs/: tests/test_tree.py holds that.
with_a_worker_too = pytest.mark.parametrize(
    "project", ["none", pytest.param("rq", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(scope="module", params=["none"])
def project(request: pytest.FixtureRequest, render: Callable[..., Project]) -> Project:
    project = render(queue_backend=request.param)
    project.sync()
    return project


@pytest.fixture(scope="module")
def env(project: Project) -> Iterator[Mapping[str, str]]:
    with services(project) as env:
        yield {**env, "PYTHONPATH": str(FILES)}


@pytest.fixture(scope="module")
def serve(project: Project, env: Mapping[str, str]) -> Serve:
    """`with serve(API_KEY="k"):` the project with a model that is told what to say."""

    @contextmanager
    def serve(port: int = 0, **settings: str) -> Iterator[Server]:
        command = (python_of(project), "-m", "uvicorn", "told:app", "--port", str(port), "--no-access-log")
        with running(*command, cwd=project.path, env={**env, **settings}) as process:
            yield Server(process)

    return serve


@pytest.fixture(scope="module")
def shared_server(project: Project, env: Mapping[str, str], serve: Serve) -> Iterator[Server]:
    """With its worker, if any. Its keep-alives come thick and fast."""
    with ExitStack() as stack:
        if (project.path / "app" / "worker.py").exists():
            stack.enter_context(running(python_of(project), "-m", "app.worker", cwd=project.path, env=env))
        large = str(2**24)  # for a document that takes a while
        yield stack.enter_context(serve(HEARTBEAT_SECONDS="0.05", DRAIN_SECONDS="0", MAX_BODY_BYTES=large))


@pytest.fixture
def server(shared_server: Server) -> Server:
    """The one that most tests share: nobody is being answered, and the model has nothing left to say."""
    wait_until(lambda: json.load(shared_server.request("DELETE", "/tell")) == 0)
    return shared_server


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """The tab that tests have one after the other, for a new one takes the browser most of a second."""
    with browser.new_context(viewport=SIZE) as context:
        context.set_default_timeout(PAGE_SECONDS * 1000)
        yield context.new_page()


@pytest.fixture
def tab(browser: Browser, page: Page) -> Iterator[Callable[..., Chat]]:
    """`tab(server)` opens the page in a tab that remembers nothing of others; with a script that runs before its own,
    or through a wire, in a new one. No test may leave a complaint."""
    chats: list[Chat] = []
    with ExitStack() as stack:

        def tab(server: Server, script: str = "", through: Wire | None = None) -> Chat:
            if script or through:
                context = stack.enter_context(browser.new_context())
                context.set_default_timeout(PAGE_SECONDS * 1000)
                context.add_init_script(script)
                chats.append(Chat(context.new_page(), server, through.port if through else server.port))
            else:
                page.goto(f"http://127.0.0.1:{server.port}/health")  # of the same origin, and without a script
                page.evaluate("sessionStorage.clear(), localStorage.clear()")
                chats.append(Chat(page, server, server.port))
                stack.callback(chats[-1].leave)
            return chats[-1]

        yield tab
        assert [chat.complaints for chat in chats if chat.complaints] == []


@pytest.fixture
def chat(tab: Callable[..., Chat], server: Server) -> Chat:
    return tab(server)


@pytest.fixture
def line(server: Server) -> Iterator[Wire]:
    with wire(server.port) as line:
        yield line


@pytest.fixture
def far(tab: Callable[..., Chat], server: Server, line: Wire) -> Chat:
    """A chat through a wire."""
    return tab(server, through=line)


def test_the_page_is_small(project: Project) -> None:
    """All of it is read in one sitting."""
    assert sum(project.read(name).count("\n") for name in project.files() if name.startswith("app/web/")) < MAX_LINES


def test_an_answer_is_seen_while_it_is_made(chat: Chat) -> None:
    """First that the model thinks, then each token as it comes, then that it is complete."""
    assert chat.page.title() == "my-chat"
    chat.ask("Count")
    expect(chat.page.get_by_role("status").first).to_have_text("Thinking…")
    expect(chat.log).to_have_attribute("aria-busy", "true")
    so_far = ""
    for word in ["One", ", two", ", \U0001f600"]:
        chat.tell(word)
        so_far += word
        expect(chat.text).to_have_text(so_far)
        expect(chat.stop).to_be_visible()
        expect(chat.log.get_by_text("Thinking…")).to_have_count(0)
    chat.tell({"end": "end"})
    expect(chat.send).to_be_visible()
    expect(chat.stop).to_be_hidden()
    expect(chat.log).to_have_attribute("aria-busy", "false")
    expect(chat.log.get_by_text("End of the answer.")).to_be_attached()
    expect(chat.question).to_be_focused()


def test_keep_alives_disturb_nothing(chat: Chat) -> None:
    """Nothing at all changes in the page while they come, before the first token and between two."""
    network = chat.page.context.new_cdp_session(chat.page)
    network.send("Network.enable")
    received: list[Any] = []
    network.on("Network.dataReceived", lambda event: received.append(event))
    chat.ask("Are you there?")
    for word in ["Still", " here"]:
        chat.page.evaluate(
            """() => { window.changes = []; new MutationObserver((changes) => window.changes.push(...changes))
                .observe(document, { subtree: true, childList: true, attributes: true, characterData: true }); }"""
        )
        received.clear()
        wait_until(lambda: len(received) >= 3, chat.page.wait_for_timeout)
        assert chat.page.evaluate("window.changes.length") == 0
        chat.tell(word)
        chat.page.wait_for_function("() => window.changes.length")
    chat.tell({"end": "end"})
    expect(chat.send).to_be_visible()
    assert chat.shown() == "Still here"


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_an_answer_can_be_stopped(chat: Chat, by: str) -> None:
    """For all of its readers, at once. The page keeps what came and says so, and the model is told of it."""
    chat.ask("Go on for ever")
    chat.tell("on and on")
    expect(chat.text).to_have_text("on and on")
    assert json.load(chat.server.request("GET", "/answering")) == 1
    chat.stop.click() if by == "button" else chat.page.keyboard.press("Escape")
    expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "you stopped it.")
    expect(chat.retry).to_have_count(0)
    expect(chat.question).to_be_focused()
    assert chat.shown() == "on and on"
    wait_until(lambda: json.load(chat.server.request("GET", "/answering")) == 0, chat.page.wait_for_timeout)
    wait_until(lambda: chat.stops == 1, chat.page.wait_for_timeout)
    assert chat.reads == []
    chat.exchange("continue", "Something else")
    assert chat.asked()[-1] == ["Go on for ever", "on and on", "continue"]


def test_an_answer_is_stopped_before_it_is_known(far: Chat, line: Wire) -> None:
    """It has no id yet that could be told to the server: that is made up for."""
    line.hold()
    far.question.fill("Too early")
    far.question.press("Enter")
    wait_until(lambda: far.asked() == [["Too early"]], far.page.wait_for_timeout)
    far.stop.click()
    expect(far.log.get_by_text(NOTICE)).to_have_text(NOTICE + "you stopped it.")
    assert json.load(far.server.request("GET", "/answering")) == 1
    line.release()
    wait_until(lambda: json.load(far.server.request("GET", "/answering")) == 0, far.page.wait_for_timeout)
    wait_until(lambda: far.stops == 1, far.page.wait_for_timeout)
    assert far.reads == []
    expect(far.page.get_by_role("status").first).to_have_text("Answer Not complete: you stopped it.")


def test_an_answer_that_is_stopped_before_it_is_known_stops_no_other(chat: Chat) -> None:
    """It comes after the one that was asked for in its place."""
    held: list[Route] = []
    chat.page.route("**/chat/stream", lambda route: held.append(route), times=1)
    chat.question.fill("Twice")
    chat.question.press("Enter")
    wait_until(lambda: len(held) == 1, chat.page.wait_for_timeout)
    chat.stop.click()
    chat.anew.click()
    chat.tell("One")
    expect(chat.text).to_have_text("One")
    held[0].continue_()
    wait_until(lambda: chat.stops == 1, chat.page.wait_for_timeout)
    wait_until(lambda: json.load(chat.server.request("GET", "/answering")) == 1, chat.page.wait_for_timeout)
    chat.finish(", two", "One, two")


def test_an_answer_that_is_out_of_reach_can_be_stopped(far: Chat, line: Wire) -> None:
    far.begin()
    line.broken = True
    line.cut()
    expect(far.log.get_by_text(LOST)).to_be_visible()
    far.stop.click()
    expect(far.log.get_by_text(NOTICE)).to_have_text(NOTICE + "you stopped it.")
    expect(far.send).to_be_visible()
    assert far.shown() == "One"


def test_an_answer_that_another_tab_has_stopped_can_be_asked_for_again(chat: Chat) -> None:
    """A copy of a tab reads the same answer."""
    chat.begin()
    with chat.page.expect_popup() as opened:
        chat.page.evaluate("() => void open(location.href)")
    other = opened.value
    expect(other.locator(".text")).to_have_text("One")
    other.get_by_role("button", name="Stop").click()
    expect(other.get_by_role("log").get_by_text(NOTICE)).to_have_text(NOTICE + "you stopped it.")
    expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "it was stopped.")
    chat.anew.click()
    expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    chat.finish("Two", "Two")
    assert len(set(chat.keys)) == 2


@pytest.mark.parametrize("first", ["in the middle", "before a word"])
def test_a_reload_reads_on(chat: Chat, first: str) -> None:
    """What is shown is whole, and there once. The model was asked once."""
    chat.ask("Count")
    if first == "in the middle":
        chat.tell("One")
        expect(chat.text).to_have_text("One")
    chat.page.reload()
    if first == "in the middle":
        expect(chat.text).to_have_text("One")
    else:
        expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    expect(chat.stop).to_be_visible()
    expect(chat.log).to_have_attribute("aria-busy", "true")
    chat.finish(", two", "One, two" if first == "in the middle" else ", two")
    expect(chat.page.locator(".text")).to_have_count(1)
    assert chat.asked() == [["Count"]]
    assert (len(chat.sent), chat.reads) == (1, ["2" if first == "in the middle" else "1"])
    chat.page.reload()
    expect(chat.log.get_by_text("End of the answer.")).to_be_attached()
    assert len(chat.reads) == 1


def test_what_comes_while_the_page_is_away_is_read_after_it(chat: Chat) -> None:
    chat.begin()
    url = chat.page.url
    chat.page.goto("about:blank")
    chat.tell(", two", ", three", {"end": "end"})
    wait_until(lambda: json.load(chat.server.request("GET", "/answering")) == 0, chat.page.wait_for_timeout)
    chat.page.goto(url)
    expect(chat.send).to_be_visible()
    assert chat.shown() == "One, two, three"
    assert chat.asked() == [["Count"]]


def away_and_back(far: Chat, line: Wire) -> None:
    """A reload in which nothing comes through any more."""
    url = far.page.url
    far.page.goto("about:blank")
    line.losing = False
    far.page.goto(url)


@pytest.mark.parametrize("by", ["a reload", "a cut"])
def test_a_question_whose_answer_is_lost_is_asked_once(far: Chat, line: Wire, by: str) -> None:
    """It is sent again with the same key."""
    far.exchange("Before", "0")
    line.losing = True
    far.question.fill("Count")
    far.question.press("Enter")
    wait_until(lambda: len(far.asked()) == 2, far.page.wait_for_timeout)
    if by == "a reload":
        away_and_back(far, line)
    else:
        line.broken = True  # or else the browser may send it again by itself
        line.cut()
        expect(far.log.get_by_text(LOST)).to_be_visible()
        line.broken = line.losing = False
    expect(far.log.get_by_text("Thinking…")).to_be_visible()
    far.finish("One", "One")
    assert far.asked() == [["Before"], ["Before", "0", "Count"]]
    assert len(far.keys) > 2
    assert far.keys[0] not in far.keys[1:]
    assert len(set(far.keys[1:])) == 1


def test_an_answer_whose_connection_is_cut_goes_on(far: Chat, line: Wire) -> None:
    """At once when that is possible. Until then the page says that it tries, and the answer can be stopped."""
    far.begin()
    line.cut()
    wait_until(lambda: far.reads == ["2"], far.page.wait_for_timeout)
    far.tell(", two")
    expect(far.text).to_have_text("One, two")
    expect(far.log.get_by_text(LOST)).to_have_count(0)
    line.broken = True
    line.cut()
    expect(far.log.get_by_text(LOST)).to_be_visible()
    expect(far.page.get_by_role("status").first).to_have_text(LOST)
    expect(far.stop).to_be_visible()
    far.question.fill("Typed meanwhile")
    far.question.press("Enter")
    far.tell(", three")
    line.broken = False
    expect(far.text).to_have_text("One, two, three")
    expect(far.log.get_by_text(LOST)).to_have_count(0)
    far.finish(", four", "One, two, three, four")
    expect(far.question).to_have_value("Typed meanwhile")
    assert far.asked() == [["Count"]]
    assert set(far.reads) == {"2", "3"}


def test_who_is_back_soon_is_not_told_that_the_connection_was_lost(
    tab: Callable[..., Chat], server: Server, line: Wire
) -> None:
    """A line that comes and goes would make the text jump, and be read aloud."""
    chat = tab(server, TOLD, line)
    chat.begin()
    line.cut()
    wait_until(lambda: chat.reads == ["2"], chat.page.wait_for_timeout)
    chat.finish(", two", "One, two")
    told = chat.page.evaluate("told")
    assert any("One, two" in each for each in told)
    assert not any(LOST in each for each in told)


def test_pauses_grow_up_to_a_bound(tab: Callable[..., Chat], server: Server, line: Wire) -> None:
    """The first try has none. Each is shortened by chance, for others were cut off at the same time."""
    chat = tab(server, PAUSES, line)
    chat.begin()
    line.broken = True
    line.cut()
    chat.page.wait_for_function("() => window.pauses.length >= 8")
    line.broken = False
    chat.finish(", two", "One, two")
    longest = [1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 15_000]
    pauses = chat.page.evaluate("window.pauses")[:8]
    assert all(ms / 2 <= pause <= ms for pause, ms in zip(pauses, longest, strict=True)), pauses


def test_a_network_that_is_back_ends_a_pause(tab: Callable[..., Chat], server: Server, line: Wire) -> None:
    chat = tab(server, NO_PAUSE_ENDS, line)
    chat.begin()
    line.broken = True
    line.cut()
    expect(chat.log.get_by_text(LOST)).to_be_visible()
    line.broken = False

    def back() -> bool:
        chat.page.evaluate("dispatchEvent(new Event('online'))")
        return chat.log.get_by_text(LOST).count() == 0

    wait_until(back, chat.page.wait_for_timeout)
    chat.finish(", two", "One, two")


def test_a_connection_that_is_silent_for_too_long_is_lost(tab: Callable[..., Chat], serve: Serve) -> None:
    """After two and a half heartbeats without a byte, and not before. The page's clock is put forward."""
    with serve() as server, wire(server.port) as line:
        chat = tab(server, through=line)
        chat.page.clock.install()
        chat.page.reload()
        chat.begin()
        line.silence()
        chat.tell(", two")
        chat.page.clock.fast_forward(20_000)
        assert chat.reads == []
        assert chat.shown() == "One"
        chat.page.clock.fast_forward(5_000)
        expect(chat.text).to_have_text("One, two")
        assert chat.reads == ["2"]
        chat.finish(", three", "One, two, three")
        assert chat.asked() == [["Count"]]


def test_a_connection_that_brings_keep_alives_is_not_lost(tab: Callable[..., Chat], server: Server) -> None:
    """However long they are all that comes. Here they come far more often than the page was told."""
    chat = tab(server, "/* in a tab of its own, for its clock */")
    chat.page.route(
        f"http://127.0.0.1:{server.port}/",
        lambda route: route.fulfill(
            response=(response := route.fetch()), body=response.text().replace('seconds="0.05"', 'seconds="10"')
        ),
    )
    chat.page.clock.install()
    chat.page.reload()
    assert chat.page.evaluate("document.documentElement.dataset.heartbeatSeconds") == "10"
    network = chat.page.context.new_cdp_session(chat.page)
    network.send("Network.enable")
    received: list[Any] = []
    network.on("Network.dataReceived", lambda event: received.append(event))
    chat.ask("Are you there?")
    for _ in range(4):
        received.clear()
        wait_until(lambda: len(received) >= 3, chat.page.wait_for_timeout)
        chat.page.clock.fast_forward(15_000)
    chat.finish("Yes", "Yes")
    assert chat.reads == []


def test_an_answer_that_is_gone_is_asked_for_again(chat: Chat) -> None:
    """One that is not there is final. What had come of it stays until its reader wants another."""
    chat.begin()
    gone = "**/chat/stream/*"
    chat.page.route(gone, lambda route: route.fulfill(status=404, json={"detail": "no such answer"}))
    chat.page.reload()
    lost = chat.log.get_by_text(NOTICE)
    expect(lost).to_have_text(NOTICE + "the rest of it was lost.")
    chat.page.unroute(gone)
    chat.page.reload()
    expect(lost).to_have_text(NOTICE + "the rest of it was lost.")
    assert chat.shown() == "One"
    assert chat.reads == ["2"]
    chat.tell({"end": "end"})
    wait_until(lambda: json.load(chat.server.request("GET", "/answering")) == 0, chat.page.wait_for_timeout)
    chat.anew.click()
    expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    chat.finish("Eins", "Eins")
    assert chat.reads == ["2"]
    assert chat.asked() == [["Count"], ["Count"]]
    assert len(set(chat.keys)) == 2


def test_an_answer_that_is_refused_for_want_of_a_key_is_read_on_with_one(chat: Chat) -> None:
    """It is not asked for again, for it may be there."""
    chat.begin()
    refused = "**/chat/stream/*"
    chat.page.route(refused, lambda route: route.fulfill(status=401, json={"detail": "no key"}))
    chat.page.reload()
    expect(chat.alert).to_contain_text("The server asks for an access key.")
    chat.page.unroute(refused)
    chat.page.keyboard.type("key")
    chat.page.keyboard.press("Enter")
    chat.retry.press("Enter")
    chat.finish(", two", "One, two")
    assert (len(chat.sent), chat.reads) == (1, ["2", "2"])


def test_an_error_that_was_lost_on_the_way_is_made_up_for(chat: Chat) -> None:
    """The connection was cut between it and the end. The page does not take a part for the whole."""
    chat.begin()
    chat.tell({"fail": True})
    expect(chat.retry).to_be_visible()
    (kept,) = chat.kept()
    assert (kept["place"], kept["reason"]) == (4, "error")
    chat.keep([kept | {"place": 3, "reason": None, "problem": None}])
    expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "it failed.")
    expect(chat.anew).to_be_visible()


def test_a_server_that_can_not_answer_now_is_asked_again(tab: Callable[..., Chat], server: Server) -> None:
    chat = tab(server, PAUSES)
    chat.begin()
    busy = "**/chat/stream/*"
    chat.page.route(busy, lambda route: route.fulfill(status=503, json={"detail": "the server is going down"}))
    chat.page.reload()
    expect(chat.log.get_by_text(LOST)).to_be_visible()
    wait_until(lambda: len(chat.reads) > 2, chat.page.wait_for_timeout)
    chat.page.unroute(busy)
    chat.finish(", two", "One, two")


def test_the_model_is_told_what_came_of_each_question(chat: Chat) -> None:
    """Also of those that were stopped or broke; not of those that were refused, for they would be refused again."""
    chat.exchange("whole", "1")
    chat.begin("broken", "2 and")
    chat.tell({"fail": True})
    expect(chat.retry).to_be_visible()
    chat.begin("broken for good", "3 and")
    chat.tell({"fail": False})
    expect(chat.send).to_be_visible()
    chat.ask("stopped before a word")
    chat.stop.click()
    expect(chat.send).to_be_visible()
    chat.begin("declined", "No")
    chat.tell({"end": "refusal"})
    expect(chat.send).to_be_visible()
    chat.ask("impossible")
    chat.tell({"fail": False})
    expect(chat.send).to_be_visible()
    chat.question.fill("x" * 32_001)
    chat.question.press("Enter")
    expect(chat.alert.last).to_contain_text("(422)")
    chat.exchange("continue", "Yes")
    told = ["whole", "1", "broken", "2 and", "broken for good", "3 and", "stopped before a word", "continue"]
    assert chat.asked()[-1] == told
    roles = [message["role"][0] for message in chat.sent[-1]["history"]]
    assert roles == ["u", "a", "u", "a", "u", "a", "u"]


def test_an_error_that_may_pass_can_be_retried(chat: Chat) -> None:
    """It comes with the request's id, to report it. What had come of the answer gives way to the new one."""
    chat.ask("Twice?")
    chat.tell("half an ans", {"fail": True})
    expect(chat.alert).to_contain_text("The model could not answer.")
    expect(chat.alert).to_contain_text("Request id: ")
    assert chat.shown() == "half an ans"
    chat.retry.click()
    expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    chat.tell("whole", {"end": "end"})
    expect(chat.send).to_be_visible()
    assert chat.shown() == "whole"
    expect(chat.page.locator(".text")).to_have_count(1)
    expect(chat.alert).to_have_count(0)
    assert chat.sent == [{"question": "Twice?", "history": []}] * 2


def test_an_error_that_would_come_again_can_not(chat: Chat) -> None:
    chat.ask("Never?")
    chat.tell({"fail": False})
    expect(chat.alert).to_contain_text("The model could not answer.")
    expect(chat.retry).to_have_count(0)


def test_only_the_latest_answer_can_be_retried(chat: Chat) -> None:
    """What would be written above a later question would be out of order."""
    chat.ask("One")
    chat.tell({"fail": True})
    expect(chat.retry).to_be_visible()
    chat.ask("Two")
    expect(chat.retry).to_have_count(0)
    chat.tell({"end": "length"})


def test_a_question_that_the_server_refuses_can_be_changed(chat: Chat) -> None:
    chat.question.fill("x" * 32_001)
    chat.question.press("Enter")
    expect(chat.alert).to_contain_text("question: String should have at most 32000 characters (422)")
    expect(chat.retry).to_have_count(0)
    chat.log.get_by_role("button", name="Edit").click()
    expect(chat.page.get_by_label("Your question")).to_have_value("x" * 32_001)
    chat.page.get_by_label("Your question").fill("Shorter")
    chat.page.get_by_role("button", name="Ask").click()
    chat.tell("Yes", {"end": "end"})
    expect(chat.text).to_have_text("Yes")
    expect(chat.page.locator(".question")).to_have_text(["Shorter"])


def test_a_server_that_is_killed_leaves_what_came_through(tab: Callable[..., Chat], serve: Serve) -> None:
    """The page comes back until there is a server again. That one has to be asked anew."""
    with serve() as server:
        chat = tab(server)
        chat.begin("Are you well?", "So far, so")
        server.process.stop(signal.SIGKILL)
    expect(chat.log.get_by_text(LOST)).to_be_visible()
    assert chat.shown() == "So far, so"
    with serve(server.port):
        expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "the rest of it was lost.")
        assert chat.shown() == "So far, so"
        chat.anew.click()
        expect(chat.log.get_by_text("Thinking…")).to_be_visible()
        chat.finish("Yes", "Yes")


def test_a_server_that_shuts_down_is_come_back_to(tab: Callable[..., Chat], serve: Serve) -> None:
    """What it says at its end is no end of the answer."""
    with serve(DRAIN_SECONDS="0") as server:
        chat = tab(server)
        chat.begin("Are you well?", "I have to")
        server.process.stop(signal.SIGTERM)
    expect(chat.log.get_by_text(LOST)).to_be_visible()
    expect(chat.alert).to_have_count(0)
    expect(chat.stop).to_be_visible()
    assert chat.shown() == "I have to"


def test_a_key_is_asked_for_where_one_is_needed(tab: Callable[..., Chat], serve: Serve) -> None:
    """By the keyboard alone: a wrong one is told from none, the right one opens, and a reload remembers it."""
    with serve(API_KEY="s3cret") as server:
        chat = tab(server)
        press = chat.page.keyboard.press
        panel = chat.page.locator("#access")
        chat.question.fill("Open?")
        chat.question.press("Enter")
        for hint, key in [
            ("The server asks for an access key.", "wrong"),
            ("does not accept this access key.", "s3cret"),
        ]:
            expect(panel).to_contain_text(hint)
            expect(chat.page.get_by_label("Access key", exact=True)).to_be_focused()
            chat.page.keyboard.type(key)
            press("Enter")
            expect(chat.retry).to_be_focused()
            press("Enter")
            chat.page.get_by_label("Access key", exact=True).evaluate("(input) => (input.value = '')")
        expect(chat.log.get_by_text("Thinking…")).to_be_visible()
        expect(panel).to_be_hidden()
        chat.page.reload()
        chat.question.fill("Still open?")
        chat.question.press("Enter")
        expect(chat.log.get_by_text("Thinking…")).to_be_visible()


def test_a_refusal_that_is_long_past_asks_for_no_key(chat: Chat) -> None:
    problem = {"message": "The server asks for an access key.", "status": 401, "retryable": True}
    chat.keep([{"question": "Open?", "answer": "", "problem": problem}])
    expect(chat.retry).to_be_visible()
    expect(chat.page.locator("#access")).to_be_hidden()


@with_a_worker_too
def test_a_document_is_followed_to_its_result(chat: Chat) -> None:
    """The progress is seen on its way to 100 %, then what the job has made of it."""
    chat.page.get_by_text("Documents", exact=True).click()
    panel = chat.page.get_by_role("region", name="Documents")
    text = "to be or not to be "
    seen = """() => { window.seen = []; new MutationObserver(() => window.seen.push(
        ...[...document.querySelectorAll("progress")].map(({ value }) => value)))
        .observe(document.getElementById("jobs"), { subtree: true, childList: true, attributes: true }); }"""
    chat.page.evaluate(seen)
    for title, times in {"Small": 1, "Large.txt": 80_000}.items():
        chat.add_document(title, text * times)
        card = panel.get_by_role("article").filter(has_text=title)
        expect(card).to_contain_text(f"words: {6 * times}\n")
        expect(card).to_contain_text(f"Most frequent: \u2068to\u2069 ({2 * times}), \u2068be\u2069 ({2 * times})")
        expect(card).to_contain_text("succeeded")
        expect(card).to_have_attribute("aria-busy", "false")
        assert card.get_by_role("progressbar", name="Progress").evaluate("(bar) => bar.value") == 1
    assert {value for value in chat.page.evaluate("window.seen") if 0 < value < 1}


@with_a_worker_too
def test_documents_survive_a_reload(chat: Chat) -> None:
    """Those that have been indexed, and those that are being so. Each is one job."""
    panel = chat.page.get_by_role("region", name="Documents")
    cards = panel.get_by_role("article")
    chat.page.get_by_text("Documents", exact=True).click()
    chat.add_document("Small", "to be")
    expect(cards).to_contain_text("words: 2\n")
    chat.add_document("Large", "to be or not to be " * 80_000)
    expect(cards.filter(has_text="Large").get_by_text(re.compile("^(queued|running)"))).to_be_visible()
    chat.page.reload()
    chat.page.get_by_text("Documents", exact=True).click()
    expect(cards.filter(has_text="Small")).to_contain_text("words: 2\n")
    expect(cards.filter(has_text="Large")).to_contain_text(f"words: {6 * 80_000}\n")
    expect(cards).to_have_count(2)
    expect(cards.filter(has_text="succeeded")).to_have_count(2)
    assert len(chat.documents) == 2


@with_a_worker_too
def test_a_document_that_the_server_may_not_have_is_sent_again(far: Chat, line: Wire) -> None:
    """With the same key: it is one job."""
    far.page.get_by_text("Documents", exact=True).click()
    line.losing = True
    with far.page.expect_request("**/documents"):
        far.add_document("Lost", "to be")
    line.broken = True  # or else the browser may send it again by itself
    line.cut()
    expect(far.page.get_by_role("article")).to_contain_text("There is no connection to the server.")
    line.broken = line.losing = False
    far.page.get_by_role("button", name="Try again").click()
    expect(far.page.get_by_role("article")).to_contain_text("words: 2\n")
    assert len(far.documents) == 2
    assert len(set(far.documents)) == 1


def test_a_document_with_a_long_name_is_indexed(chat: Chat) -> None:
    """It is cut, if need be amid an emoji."""
    chat.page.get_by_text("Documents", exact=True).click()
    chat.add_document("x" * 199 + "\U0001f600.txt", "to be")
    expect(chat.page.get_by_role("article")).to_contain_text("words: 2\n")


def test_a_document_that_is_refused_for_want_of_a_key_is_sent_with_one(chat: Chat) -> None:
    """The panel is still there for it, under the one that asks for the key."""
    refused = "**/documents"
    chat.page.route(refused, lambda route: route.fulfill(status=401, json={"detail": "no key"}))
    chat.page.get_by_text("Documents", exact=True).click()
    chat.add_document("Secret", "to be")
    expect(chat.page.get_by_label("Access key", exact=True)).to_be_focused()
    chat.page.unroute(refused)
    chat.page.keyboard.type("key")
    chat.page.keyboard.press("Enter")
    expect(chat.retry).to_be_focused()
    chat.retry.press("Enter")
    expect(chat.page.get_by_role("article")).to_contain_text("words: 2\n")


def test_a_key_is_asked_for_when_a_dialog_is_done(chat: Chat) -> None:
    """What is typed in it is not lost, and the panel would be of no use behind it."""
    chat.exchange("One", "1")
    refused = "**/feedback"
    held: list[Route] = []
    chat.page.route(refused, lambda route: held.append(route))
    chat.page.get_by_role("button", name="Good answer").click()
    wait_until(lambda: len(held) == 1, chat.page.wait_for_timeout)
    chat.page.get_by_role("button", name="Rename: One").press("Enter")
    chat.page.keyboard.type(" and two")
    held[0].fulfill(status=401, json={"detail": "no key"})
    expect(chat.alert).to_contain_text("The server asks for an access key.")
    expect(chat.page.get_by_label("Access key", exact=True)).to_be_hidden()
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("navigation").get_by_role("link")).to_have_text(["One and two"])
    expect(chat.page.get_by_label("Access key", exact=True)).to_be_focused()
    chat.page.unroute(refused)
    chat.page.keyboard.type("key")
    chat.page.keyboard.press("Enter")
    chat.retry.press("Enter")
    expect(chat.log.get_by_text("Thank you for the feedback.")).to_be_visible()


def test_feedback_that_fails_can_be_given_again(chat: Chat) -> None:
    """Also to an answer that is not the latest, while another is written."""
    chat.exchange("One", "1")
    chat.ask("Two")
    failing = "**/feedback"
    chat.page.route(failing, lambda route: route.fulfill(status=503, json={"detail": "not now"}))
    chat.page.get_by_role("button", name="Good answer").click()
    expect(chat.alert).to_contain_text("not now (503)")
    chat.page.unroute(failing)
    chat.retry.click()
    expect(chat.log.get_by_text("Thank you for the feedback.")).to_be_visible()
    chat.finish("2", "2")


@with_a_worker_too
def test_a_document_whose_connection_is_cut_is_followed_on(far: Chat, line: Wire) -> None:
    far.page.get_by_text("Documents", exact=True).click()
    card = far.page.get_by_role("article")
    with far.page.expect_request("**/jobs/*/events"):
        far.add_document("Large", "to be or not to be " * 80_000)
    line.cut()
    expect(card).to_contain_text(f"words: {6 * 80_000}\n")
    expect(far.retry).to_have_count(0)


def test_a_file_that_is_gone_when_it_is_sent_is_told(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "gone.txt").write_text("to be")
    chat.page.get_by_text("Documents", exact=True).click()
    files = chat.page.get_by_label("Add text files")
    files.evaluate("(files) => [files.read, files.onchange] = [files.onchange, null]")
    files.set_input_files(tmp_path / "gone.txt")
    (tmp_path / "gone.txt").unlink()
    files.evaluate("(files) => files.read()")
    expect(chat.page.get_by_role("article").filter(has_text="gone.txt")).to_contain_text("could not be found")


def test_whose_answers_are_too_many_is_told_and_may_try_again(tab: Callable[..., Chat], serve: Serve) -> None:
    question = json.dumps({"question": "?"})
    with (
        serve(MAX_ANSWERS_PER_CALLER="1") as server,
        closing(server.request("POST", "/chat/stream", question)) as running,
    ):
        chat = tab(server)
        chat.question.fill("May I?")
        chat.question.press("Enter")
        expect(chat.alert).to_contain_text("no more than 1 of your answers may run at once")
        chat.tell({"end": "end"})
        running.read()
        chat.retry.click()
        chat.tell("You may.", {"end": "end"})
        expect(chat.log).to_contain_text("You may.")


def test_a_document_that_the_server_refuses_is_told(tab: Callable[..., Chat], serve: Serve) -> None:
    """A megabyte is too much by default."""
    with serve() as server:
        chat = tab(server)
        chat.page.get_by_text("Documents", exact=True).click()
        chat.add_document("much", "much " * 210_000)
        expect(chat.page.get_by_role("article")).to_contain_text("(413)")
        expect(chat.retry).to_have_count(0)


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_a_text_holds_is_shown_and_does_nothing(chat: Chat, kind: str) -> None:
    """As a question, as an answer, after a reload: every character, no element but paragraphs, no overflow; the page
    responds. Of white space, an answer keeps what Markdown does."""
    idle = chat.frames()
    text = HOSTILE[kind]
    question = text[:30_000]
    chat.ask("Say it")
    half = len(text) // 2
    chat.tell(text[:half], text[half:], {"end": "end"})
    expect(chat.send).to_be_visible()
    assert "".join(chat.shown().split()) == "".join(text.split())
    chat.exchange(question, "Yes")
    chat.page.reload()
    shown = chat.page.locator(".text").first.evaluate("(element) => element.textContent")
    assert "".join(shown.split()) == "".join(text.split())
    asked = chat.page.locator(".question").last.evaluate("(element) => element.textContent")
    assert asked == question.replace("\r\n", "\n")
    assert chat.page.locator(".text :not(p, br), .question > *").count() == 0
    assert chat.page.evaluate("window.hacked") is None
    assert chat.overflow() <= 0
    assert chat.frames() < 20 * idle


def test_a_text_is_shown_in_its_own_direction(chat: Chat) -> None:
    """Of Hebrew, what is last is at the left, also if it is Latin; and the mark of an item or a quote at the right."""
    hebrew = "\u05d0 abc!"
    code = "```\n  x\n  ```"
    chat.exchange(hebrew, f"{hebrew}\n\n> {hebrew}\n\n- {hebrew}\n\n  {code}\n\n# {hebrew}\n\n| {hebrew} |")
    left = """(element, at) => {
        const range = document.createRange();
        range.setStart(element.firstChild, at);
        range.setEnd(element.firstChild, at + 1);
        return range.getBoundingClientRect().left;
    }"""
    shown = chat.page.locator(".question, .text :is(p, h3, th)").all()
    assert len(shown) == 6
    for text in shown:
        assert text.evaluate(left, len(hebrew) - 1) < text.evaluate(left, 0)
    directions = "(found) => found.map((element) => getComputedStyle(element).direction)"
    assert chat.page.locator(".text :is(li, blockquote)").evaluate_all(directions) == ["rtl", "rtl"]
    assert chat.page.locator(".text pre").evaluate_all(directions) == ["ltr"]


def test_a_reload_keeps_the_conversation(chat: Chat) -> None:
    """What is shown, and what is sent along."""
    chat.exchange("Who was\nHamlet?", "A prince.")
    chat.ask("Of where?")
    chat.tell({"fail": True})
    expect(chat.retry).to_be_visible()
    chat.retry.click()
    expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    chat.tell("Of Den")
    expect(chat.text).to_have_text("Of Den")
    chat.page.reload()
    expect(chat.page.locator(".question")).to_have_text(["Who was Hamlet?", "Of where?"])
    expect(chat.page.locator(".text")).to_have_text(["A prince.", "Of Den"])
    history = [{"role": "user", "content": "Who was\nHamlet?"}, {"role": "assistant", "content": "A prince."}]
    assert chat.sent[-1] == {"question": "Of where?", "history": history}
    chat.tell("mark.", {"end": "length"})
    expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "it grew too long.")
    chat.page.reload()
    expect(chat.page.locator(".text")).to_have_text(["A prince.", "Of Denmark."])
    expect(chat.alert).to_have_count(0)
    chat.exchange("And then?", "He died.")
    assert [message["content"] for message in chat.sent[-1]["history"]][2:] == ["Of where?", "Of Denmark."]


def test_a_new_chat_knows_nothing_of_the_old_one(chat: Chat) -> None:
    """A reload shows the one that was shown. A tab that is new begins a new one."""
    chat.exchange("One", "1")
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.page.locator(".question")).to_have_count(0)
    expect(chat.page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    expect(chat.question).to_be_focused()
    chat.exchange("Three", "3")
    assert chat.sent[-1] == {"question": "Three", "history": []}
    chat.page.reload()
    expect(chat.page.locator(".question")).to_have_text(["Three"])
    other = chat.page.context.new_page()
    other.goto(chat.page.url.partition("#")[0])
    expect(other.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    expect(other.get_by_role("navigation").get_by_role("link")).to_have_text(["Three", "One"])


def test_an_answer_goes_on_in_a_conversation_that_is_left(chat: Chat) -> None:
    """Nothing of it is seen in the other one, where Stop is not for it. After a reload it is read on."""
    chat.begin("First", "One")
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.send).to_be_visible()
    expect(chat.log).to_have_attribute("aria-busy", "false")
    chat.page.keyboard.press("Escape")
    chat.tell(", two")
    chats = chat.page.get_by_role("navigation", name="Chats")
    chats.get_by_role("link", name="First").click()
    expect(chat.text).to_have_text("One, two")
    expect(chat.stop).to_be_visible()
    expect(chat.question).to_be_focused()
    chat.page.get_by_role("button", name="New chat").click()
    chat.page.reload()
    chats.get_by_role("link", name="First").click()
    chat.finish(", three", "One, two, three")
    assert chat.asked() == [["First"]]
    assert (len(chat.sent), chat.reads) == (1, ["3"])


def test_conversations_are_named_and_deleted(chat: Chat) -> None:
    """By the keyboard too: what has the focus leads on. What is deleted by mistake is there again."""
    for question in ["  First\nline", "Second"]:
        chat.page.get_by_role("button", name="New chat").click()
        chat.exchange(question, "Yes")
    links = chat.page.get_by_role("navigation").get_by_role("link")
    expect(links).to_have_text(["Second", "First line"])
    expect(links.first).to_have_attribute("aria-current", "page")
    chat.page.get_by_role("button", name="Rename: First").press("Enter")
    name = chat.page.get_by_label("Name of the chat")
    expect(name).to_be_focused()
    name.fill("nobody wants this")
    name.press("Escape")
    expect(chat.page.get_by_role("button", name="Rename: First")).to_be_focused()
    chat.page.keyboard.press("Enter")
    name.fill("<b>The first</b>")
    name.press("Enter")
    expect(links).to_have_text(["Second", "<b>The first</b>"])
    expect(chat.page.get_by_role("button", name="Rename: <b>The first</b>")).to_be_focused()

    delete = chat.page.get_by_role("button", name="Delete: Second")
    delete.press("Enter")
    undo = chat.page.get_by_role("button", name="Undo the deletion: Second")
    expect(undo).to_be_focused()
    expect(chat.page.locator(".question")).to_have_count(0)
    chat.page.keyboard.press("Enter")
    expect(delete).to_be_focused()
    expect(chat.page.locator(".question")).to_have_text(["Second"])
    chat.page.keyboard.press("Enter")
    chat.page.get_by_role("button", name="Delete: <b>The first</b>").press("Enter")
    expect(undo).to_have_count(0)
    chat.page.get_by_role("button", name="Undo").click()
    chat.page.reload()
    expect(links).to_have_text(["<b>The first</b>"])


def test_a_conversation_that_is_deleted_is_stopped(chat: Chat) -> None:
    """Its end does not bring it back."""
    chat.begin()
    chat.page.get_by_role("button", name="Delete: Count").press("Enter")
    wait_until(lambda: chat.stops == 1, chat.page.wait_for_timeout)
    wait_until(lambda: json.load(chat.server.request("GET", "/answering")) == 0, chat.page.wait_for_timeout)
    expect(chat.send).to_be_visible()
    assert chat.page.evaluate("localStorage.length") == 0
    chat.page.get_by_role("button", name="Undo").press("Enter")
    expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "you stopped it.")
    assert chat.kept()[0]["reason"] == "stopped"


def test_a_conversation_that_another_tab_deletes_is_stopped(chat: Chat) -> None:
    """Its end does not bring it back."""
    chat.begin()
    other = chat.page.context.new_page()
    other.goto(chat.page.url.partition("#")[0])
    other.get_by_role("button", name="Delete: Count").press("Enter")
    wait_until(lambda: json.load(chat.server.request("GET", "/answering")) == 0, chat.page.wait_for_timeout)
    expect(chat.send).to_be_visible()
    expect(chat.page.get_by_role("navigation").get_by_role("link")).to_have_count(0)
    assert chat.page.evaluate("localStorage.length") == 0


def test_two_tabs_keep_what_each_has_written(chat: Chat) -> None:
    """Each sees the other's conversations, also the one that both show, and what is deleted."""
    chat.exchange("Here", "1")
    with chat.page.expect_popup() as opened:
        chat.page.evaluate("() => void open(location.href)")
    other = opened.value
    expect(other.locator(".text")).to_have_text("1")
    chat.exchange("And?", "2")
    expect(other.locator(".text")).to_have_text(["1", "2"])
    other.get_by_role("button", name="New chat").click()
    other.get_by_label("Your message").fill("There")
    other.keyboard.press("Enter")
    expect(other.get_by_role("log").get_by_text("Thinking…")).to_be_visible()
    chat.tell("3", {"end": "end"})
    expect(other.get_by_role("button", name="Send")).to_be_visible()
    for page in [chat.page, other]:
        expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["There", "Here"])
    chat.page.reload()
    expect(chat.page.locator(".text")).to_have_text(["1", "2"])
    other.get_by_role("button", name="Delete: Here").press("Enter")
    expect(chat.page.locator(".question")).to_have_count(0)
    expect(chat.page.get_by_role("navigation").get_by_role("link")).to_have_text(["There"])


def test_a_name_that_is_given_while_two_tabs_read_an_answer_stays(chat: Chat) -> None:
    chat.begin()
    with chat.page.expect_popup() as opened:
        chat.page.evaluate("() => void open(location.href)")
    other = opened.value
    expect(other.get_by_role("button", name="Stop")).to_be_visible()
    chat.page.get_by_role("button", name="Rename: Count").press("Enter")
    chat.page.get_by_label("Name of the chat").fill("Numbers")
    chat.page.keyboard.press("Enter")
    for page in chat.page, other:
        expect(page.get_by_role("link", name="Numbers")).to_be_visible()
    chat.finish(", two", "One, two")
    expect(other.get_by_role("button", name="Send")).to_be_visible()
    for page in chat.page, other:
        page.reload()
        expect(page.get_by_role("link", name="Numbers")).to_be_visible()


def test_what_is_no_conversation_is_left_alone(chat: Chat) -> None:
    """Another page of the same origin may keep something under a name like that."""
    foreign = ["", "no JSON", "null", "7", '"text"', "[]", "{}", '{"exchanges": "text"}', '{"exchanges": [1]}']
    chat.exchange("Mine", "1")
    other = chat.page.context.new_page()
    other.goto(chat.page.url.replace("#", "health#"))
    other.evaluate("(texts) => texts.forEach((text, number) => { localStorage[`chat:${number}`] = text; })", foreign)
    chat.exchange("Still mine", "2")
    chat.page.reload()
    expect(chat.page.locator("#list a")).to_have_text(["Mine"])
    expect(chat.page.locator(".question")).to_have_text(["Mine", "Still mine"])
    assert (
        other.evaluate("(count) => [...Array(count).keys()].map((number) => localStorage[`chat:${number}`])", 9)
        == foreign
    )


def test_a_browser_that_is_full_says_so_and_loses_nothing_that_is_shown(chat: Chat) -> None:
    """What was kept before stays, and a deletion makes space."""
    chat.exchange("Large", "1")
    chat.page.get_by_role("button", name="New chat").click()
    chat.exchange("Small", "2")
    notice = chat.page.get_by_text("a reload would lose what is new")
    expect(notice).to_be_hidden()
    fill = """() => { for (let text = "x".repeat(2 ** 22); text; )
        try { localStorage.filling = (localStorage.filling ?? "") + text; }
        catch { text = text.slice(Math.ceil(text.length / 2)); } }"""
    chat.page.evaluate(fill)
    chat.exchange("More?", "3" * 1000)
    expect(notice).to_be_visible()
    expect(chat.page.locator(".text")).to_have_text(["2", "3" * 1000])
    assert [exchange["question"] for exchange in chat.kept()] == ["Small"]
    chat.page.evaluate("localStorage.removeItem('filling')")
    chat.page.get_by_role("button", name="Delete: Large").press("Enter")
    expect(notice).to_be_hidden()
    chat.page.reload()
    expect(chat.page.locator(".question")).to_have_text(["Small", "More?"])


def test_what_a_model_thinks_is_folded_and_its_tools_have_a_line_each(chat: Chat) -> None:
    """In the order in which they come, with the time; and so they are after a reload."""
    chat.ask("How many?")
    folds = chat.log.locator("summary")
    chat.tell({"thought": "First "}, {"thought": "I look it up."})
    expect(folds).to_have_text("Thinking…")
    thought = chat.log.get_by_text("First I look it up.")
    expect(thought).to_be_hidden()
    folds.click()
    expect(thought).to_be_visible()
    chat.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 4000; }")
    called = {"id": "1", "name": "look_up", "state": "called", "input": {"word": "<b>"}}
    chat.tell("I look.", {"tool": called}, {"tool": called | {"id": "2", "name": "other"}})
    expect(folds).to_have_text([re.compile("Thought for [45] s"), "look_up running…", "other running…"])
    chat.page.reload()
    done = called | {"state": "done", "output": ["three", 3]}
    chat.tell({"tool": done}, {"tool": called | {"id": "2", "name": "other", "state": "failed", "output": "No <i>"}})
    expect(folds).to_have_text([re.compile("Thought for [45] s"), "look_up done", "other failed"])
    expect(chat.log.get_by_text('"word": "<b>"')).to_have_count(2)
    expect(chat.log.get_by_text("No <i>")).to_be_hidden()
    folds.last.press("Enter")
    expect(chat.log.get_by_text("No <i>")).to_be_visible()
    chat.tell({"tool": called | {"id": "3", "name": "slow"}}, "Three.", {"end": "end"})
    expect(chat.send).to_be_visible()
    chat.page.reload()
    expect(folds).to_have_text([re.compile("Thought"), "look_up done", "other failed", "slow not finished"])
    parts = chat.log.locator("section > div:not(.row) > *")
    kinds = parts.evaluate_all("(all) => all.map(({ className }) => className)")
    assert kinds == ["aside", "text", "aside", "aside", "aside", "text"]
    chat.exchange("And?", "Four.")
    assert chat.asked()[-1] == ["How many?", "I look.\n\nThree.", "And?"]


def test_an_answer_is_copied_as_it_was_written(chat: Chat) -> None:
    """Also over plain HTTP, where browsers give a page no clipboard."""
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.exchange("Write", "**One**\n\n- two")
    copy = chat.log.get_by_role("button", name=re.compile("Copy|Copied"))
    for secure in [True, False]:
        chat.page.evaluate("navigator.clipboard.writeText('nothing yet')")
        if not secure:
            chat.page.evaluate(
                "Object.defineProperty(navigator, 'clipboard', { configurable: true, value: undefined })"
            )
        copy.click()
        expect(copy).to_have_text("Copied")
        expect(copy).to_be_focused()
        expect(chat.page.get_by_role("status").first).to_have_text("Copied")
        chat.page.evaluate("delete navigator.clipboard")
        assert chat.page.evaluate("navigator.clipboard.readText()") == "**One**\n\n- two"
        expect(copy).to_have_text("Copy")


def test_the_last_answer_is_made_anew(chat: Chat) -> None:
    chat.exchange("One", "1")
    chat.exchange("Two", "2")
    anew = chat.log.get_by_role("button", name="Regenerate")
    expect(anew).to_have_count(1)
    anew.click()
    expect(chat.page.locator(".text")).to_have_text(["1"])
    expect(anew).to_have_count(0)
    expect(chat.question).to_be_focused()
    chat.tell("zw")
    expect(chat.text).to_have_text("zw")
    top = chat.text.evaluate("(text) => text.getBoundingClientRect().top")
    chat.finish("ei", "zwei")
    assert chat.text.evaluate("(text) => text.getBoundingClientRect().top") == top, "it jumps when it is complete"
    assert chat.sent[-1] == chat.sent[-2]
    assert len(set(chat.keys)) == 3
    chat.page.reload()
    expect(chat.page.locator(".text")).to_have_text(["1", "zwei"])


def test_the_last_question_is_edited(chat: Chat) -> None:
    """What is in the composer stays there. When it is sent, its old answer gives way."""
    chat.exchange("One", "1")
    chat.exchange("Two\nlines", "2")
    chat.question.fill("a draft")
    edit = chat.log.get_by_role("button", name="Edit")
    box = chat.page.get_by_label("Your question")
    for way in ["Escape", "Cancel"]:
        edit.press("Enter")
        expect(box).to_have_value("Two\nlines")
        expect(box).to_be_focused()
        box.fill("Nobody wants this")
        box.press("Escape") if way == "Escape" else chat.page.get_by_role("button", name=way).click()
        expect(box).to_be_hidden()
        expect(edit).to_be_focused()
        expect(chat.page.locator(".question")).to_have_text(["One", "Two lines"])
    edit.press("Enter")
    box.fill("Three")
    box.press("Enter")
    expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    expect(chat.question).to_be_focused()
    chat.finish("3", "3")
    expect(chat.page.locator(".question")).to_have_text(["One", "Three"])
    expect(chat.page.locator(".text")).to_have_text(["1", "3"])
    expect(chat.question).to_have_value("a draft")
    assert chat.asked()[-1] == ["One", "1", "Three"]
    chat.page.reload()
    expect(chat.page.locator(".question")).to_have_text(["One", "Three"])


def test_a_conversation_that_is_too_long_is_sent_in_part_and_says_so(chat: Chat) -> None:
    """The latest of it, in fewer bytes than the server takes."""
    chat.keep([{"question": str(number), "answer": "\u20ac" * 30_000, "reason": "end"} for number in range(20)])
    chat.exchange("And?", "Well.")
    expect(chat.log).to_contain_text("This chat is too long: its first 11 answers were not sent along.")
    contents = [message["content"] for message in chat.sent[-1]["history"]]
    assert contents[::2] == [str(number) for number in range(11, 20)]
    assert len(json.dumps(chat.sent[-1], ensure_ascii=False).encode()) < 2**20


@pytest.mark.parametrize(
    "lacking",
    [
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };",
        """for (const name of ["localStorage", "sessionStorage"])
            Object.defineProperty(window, name, { get() { throw new DOMException("", "SecurityError"); } });""",
    ],
    ids=["full", "forbidden"],
)
def test_a_tab_that_can_keep_nothing_chats_all_the_same(tab: Callable[..., Chat], server: Server, lacking: str) -> None:
    """It says that a reload would lose the conversation; until then it has all of it, and the key."""
    chat = tab(server, lacking)
    chat.exchange("One", "1")
    expect(chat.page.get_by_text("a reload would lose what is new")).to_be_visible()
    chat.page.get_by_role("button", name="Access key").click()
    chat.page.get_by_label("Access key", exact=True).fill("k-1")
    chat.page.keyboard.press("Enter")
    with chat.page.expect_request("**/chat/stream") as asked:
        chat.exchange("Two", "2")
    assert asked.value.headers["authorization"] == "Bearer k-1"
    assert [message["content"] for message in chat.sent[-1]["history"]] == ["One", "1"]


def test_the_policy_keeps_out_what_is_not_the_pages_own(tab: Callable[..., Chat], server: Server) -> None:
    """Without it, each of these would do what it says."""
    chat = tab(
        server,
        "addEventListener('securitypolicyviolation', (e) => (window.violations ??= []).push(e.effectiveDirective));",
    )
    attempts = """() => {
        const add = (tag, words) => document.body.append(Object.assign(document.createElement(tag), words));
        add("style", { textContent: "h1 { display: none }" });
        document.querySelector("h1").setAttribute("style", "display: none");
        try { add("script", { textContent: "window.hacked = 1" }); } catch (error) { window.thrown = error.name; }
        add("img", { src: "http://127.0.0.2:9/elsewhere.png" });
        try { document.querySelector("h1").innerHTML = "<b>bold</b>"; } catch (error) { window.thrown += error.name; }
        return fetch("http://127.0.0.2:9/").catch(() => {});
    }"""
    chat.page.evaluate(attempts)
    chat.page.wait_for_function("() => window.violations?.length >= 6")
    assert chat.page.evaluate("window.hacked") is None
    expect(chat.page.get_by_role("heading", name="my-chat")).to_be_visible()
    violated = set(chat.page.evaluate("window.violations"))
    assert violated >= {"style-src-elem", "style-src-attr", "connect-src", "img-src", "require-trusted-types-for"}
    assert chat.complaints
    chat.complaints.clear()


def test_the_page_is_found_under_a_prefix(tab: Callable[..., Chat], server: Server) -> None:
    """Behind a proxy that takes it away again."""
    chat = tab(server)

    def forward(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/prefix/", "/")))

    chat.page.route("**/prefix/**", forward)
    chat.page.goto(f"http://127.0.0.1:{server.port}/prefix/")
    expect(chat.question).to_be_focused()
    chat.tell("Found", {"end": "end"})
    chat.question.fill("Found?")
    chat.question.press("Enter")
    expect(chat.text).to_have_text("Found")
    expect(chat.send).to_be_visible()
    loaded = chat.page.evaluate("() => performance.getEntriesByType('resource').map(({ name }) => name)")
    assert len(loaded) > 5
    assert [url for url in loaded if "/prefix/" not in url] == []


def test_everything_can_be_reached_and_done_by_the_keyboard(chat: Chat) -> None:
    """In the order in which it is seen; Enter sends, Shift+Enter does not, nor the Enter that ends a composition."""
    press = chat.page.keyboard.press
    expect(chat.question).to_be_focused()
    press("Enter")
    chat.page.keyboard.type("two")
    press("Shift+Enter")
    chat.page.keyboard.type("lines")
    chat.question.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    expect(chat.question).to_have_value("two\nlines")
    press("Enter")
    expect(chat.log.get_by_text("Thinking…")).to_be_visible()
    chat.tell("Yes", {"end": "end"})
    expect(chat.send).to_be_visible()
    expect(chat.question).to_have_value("")
    assert [body["question"] for body in chat.sent] == ["two\nlines"]
    names: list[str] = []
    chat.page.get_by_role("button", name="New chat").focus()
    for _ in range(14):
        names.append(chat.page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText"))
        ring = chat.page.evaluate(
            """() => getComputedStyle(document.activeElement).outlineColor !== "rgba(0, 0, 0, 0)"
                && getComputedStyle(document.activeElement).outlineStyle === "solid"
                || getComputedStyle(document.activeElement.parentElement).boxShadow !== "none" """
        )
        assert ring, f"{names[-1]} does not show that it has the focus"
        press("Tab")
    assert names == [
        "New chat",
        "Documents",
        "Access key",
        "two lines",
        "Rename: two lines",
        "Delete: two lines",
        "Conversation",
        "Edit",
        "Copy",
        "Regenerate",
        "Good answer",
        "Bad answer",
        "Your message",
        "Send",
    ]
    chat.page.get_by_text("Documents", exact=True).focus()
    press("Enter")
    press("Tab")
    expect(chat.page.get_by_label("Add text files")).to_be_focused()
    press("Escape")
    expect(chat.page.get_by_text("Documents", exact=True)).to_be_focused()
    expect(chat.page.get_by_label("Add text files")).to_be_hidden()


def test_escape_closes_what_is_open_before_it_stops_an_answer(chat: Chat) -> None:
    chat.begin()
    chat.page.get_by_role("button", name="Rename: Count").press("Enter")
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_label("Name of the chat")).to_be_hidden()
    chat.page.get_by_role("button", name="Documents").click()
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_label("Add text files")).to_be_hidden()
    expect(chat.stop).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.log.get_by_text(NOTICE)).to_have_text(NOTICE + "you stopped it.")


def test_a_reader_who_has_scrolled_up_is_left_there(chat: Chat) -> None:
    """Others see the newest line, also while they type."""
    lines = "\n".join(f"line {number}" for number in range(100))
    chat.ask("Much?")
    chat.tell(lines)
    at_end = "(log) => log.scrollHeight - log.clientHeight - log.scrollTop < 2"
    chat.page.wait_for_function(at_end, arg=chat.log.element_handle())
    chat.tell("\n" + lines)
    expect(chat.text).to_contain_text("line 99line 0")
    chat.page.wait_for_function(at_end, arg=chat.log.element_handle())
    chat.question.fill("\n" * 8)
    chat.page.wait_for_function(at_end, arg=chat.log.element_handle())
    chat.log.evaluate("(log) => (log.scrollTop = 200)")
    top = chat.text.evaluate("(text) => text.getBoundingClientRect().top")
    chat.tell("\nthe last line", {"end": "end"})
    expect(chat.send).to_be_visible()
    chat.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert chat.text.evaluate("(text) => text.getBoundingClientRect().top") == pytest.approx(top, abs=1)
    assert chat.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), "the page scrolls, not the log"


@pytest.fixture(params=[("light", 360), ("dark", 360), ("light", 1280)], ids=["light", "dark", "wide"])
def busy(request: pytest.FixtureRequest, tab: Callable[..., Chat], server: Server) -> Chat:
    """A page that shows all it has at once: in each colour scheme on a phone, and with its panels side by side."""
    scheme, width = request.param
    chat = tab(server)
    chat.page.emulate_media(color_scheme=scheme)
    chat.page.set_viewport_size({"width": width, "height": 640})
    return chat


def everything(chat: Chat) -> Iterator[str]:
    """All that the page may show, one thing after the other."""
    yield "nothing"
    chat.ask("A question with averylongwordthatdoesnotfitintoasinglelineofaphoneandthereforehastobebrokensomewhere?")
    yield "thinking"
    chat.tell({"tool": {"id": "t", "name": "a_tool" * 10, "state": "done"}}, "An answer", {"end": "end"})
    expect(chat.send).to_be_visible()
    yield "an answer"
    failing = "**/feedback"
    chat.page.route(failing, lambda route: route.fulfill(status=503, json={"detail": "not now"}))
    chat.page.get_by_role("button", name="Good answer").click()
    expect(chat.retry).to_be_visible()
    yield "feedback that failed"
    chat.page.unroute(failing)
    chat.retry.click()
    expect(chat.log.get_by_text("Thank you for the feedback.")).to_be_visible()
    yield "feedback"
    chat.ask("Another")
    chat.tell({"fail": True})
    expect(chat.retry).to_be_visible()
    chat.question.fill("Something that is typed")
    yield "an error"
    chat.retry.focus()
    yield "a button with the focus"
    chat.page.get_by_text("Documents", exact=True).click()
    yield "a form"
    chat.add_document("A title", "to be or not to be")
    expect(chat.page.get_by_text("Most frequent")).to_be_visible()
    yield "a result"
    chat.page.get_by_text("Documents", exact=True).click()
    chat.page.get_by_role("button", name="Access key").click()
    yield "the form for the key"


def test_everything_can_be_read_and_fits(busy: Chat) -> None:
    """WCAG AA contrast of texts, edges and the focus, in light and dark; nothing to be scrolled sideways."""
    for what in everything(busy):
        contrast = busy.page.evaluate(CONTRAST)
        assert contrast["looked"] > 5
        assert contrast["found"] == [], what
        assert busy.overflow() <= 0, what


def test_headings_stand_out_and_wide_code_shows_the_focus(chat: Chat) -> None:
    """No heading is smaller than the text, and the ring lies within the code, whose box cuts off what is outside."""
    chat.exchange("Show", "".join(f"{'#' * level} {level}\n" for level in range(1, 7)) + "```\n" + "x" * 500)
    sizes = chat.page.locator(".text :is(h3, h4, h5, h6)").evaluate_all(
        "(found) => found.map((element) => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert len(sizes) == 6
    assert min(sizes) > 16
    chat.page.get_by_role("button", name="Copy").first.focus()
    chat.page.keyboard.press("Tab")
    style = chat.page.locator("pre:focus-visible").evaluate("(code) => getComputedStyle(code).outlineOffset")
    assert float(style.removesuffix("px")) <= -2


def test_the_measure_of_contrast_finds_what_is_too_faint(chat: Chat) -> None:
    """What tells the test above from one that always passes."""
    chat.page.evaluate("document.querySelector('h1').style.color = '#8b8b8b'")
    assert [found[:5] for found in chat.page.evaluate(CONTRAST)["found"]] == ["3.41:"]


def test_a_screen_reader_finds_names_and_roles(chat: Chat) -> None:
    chat.exchange("What?", "That.")
    chat.page.get_by_text("Documents", exact=True).click()
    expect(chat.page.locator("body")).to_match_aria_snapshot("""
        - banner:
          - button "New chat"
          - heading "my-chat" [level=1]
          - button "Documents"
          - region "Documents":
            - paragraph: "An example of a job: it counts words. Answers don't use it."
            - text: Add text files
            - button "Add text files"
          - button "Access key"
        - navigation "Chats":
          - list:
            - listitem:
              - link "What?"
              - 'button "Rename: What?"'
              - 'button "Delete: What?"'
          - paragraph: Chats are kept in this browser.
        - main:
          - log "Conversation":
            - article:
              - heading "You" [level=2]
              - paragraph: What?
              - button "Edit"
              - heading "Answer" [level=2]
              - paragraph: That.
              - paragraph: End of the answer.
              - button "Copy"
              - button "Regenerate"
              - button "Good answer"
              - button "Bad answer"
        - status: Answer That. End of the answer.
        - textbox "Your message"
        - button "Send"
    """)


HEARD = """() => {
    window.heard = [];
    const look = (changes) => {
        const regions = changes.map(({ target }) => (target.closest ?? target.parentElement.closest).call(
            target.closest ? target : target.parentElement, "[aria-live], [role=status], [role=log], [role=alert]"));
        const live = [...new Set(regions)].filter((region) => region && region.ariaLive !== "off");
        heard.push(...live.map((region) => region.innerText.trim()).filter((text) => text && text !== heard.at(-1)));
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def test_a_screen_reader_hears_an_answer_once(chat: Chat) -> None:
    """At its end, not token by token; and of another conversation nothing, for what is opened is no news."""
    chat.page.evaluate(HEARD)
    chat.ask("Count")
    chat.tell({"thought": "Hm"}, "One", ", two")
    expect(chat.text).to_have_text("One, two")
    chat.tell(", three", {"end": "length"})
    expect(chat.send).to_be_visible()
    chat.page.get_by_role("button", name="New chat").click()
    chat.page.get_by_role("link", name="Count").click()
    expect(chat.text).to_have_text("One, two, three")
    heard = chat.page.evaluate("heard.map((text) => text.split(/\\s+/).join(' '))")
    assert heard == [
        "Sending…",
        "Thinking…",
        "Answer Thought for 1 s One, two, three Not complete: it grew too long.",
    ]


def test_whoever_wants_no_motion_sees_none(chat: Chat) -> None:
    chat.page.emulate_media(reduced_motion="reduce")
    chat.ask("Still?")
    running = "() => document.getAnimations().filter(({ playState }) => playState === 'running').length"
    assert chat.page.evaluate(running) == 0
    chat.page.emulate_media(reduced_motion="no-preference")
    chat.page.wait_for_function(running)


def test_a_phone_has_its_conversations_in_a_drawer(chat: Chat) -> None:
    """It is closed until it is asked for, and again when a conversation is chosen or named, or by Escape."""
    chat.exchange("One", "1")
    chat.page.set_viewport_size({"width": 360, "height": 740})
    drawer = chat.page.get_by_role("navigation", name="Chats")
    opener = chat.page.get_by_role("button", name="Chats")
    expect(drawer).to_be_hidden()
    chat.page.get_by_role("button", name="New chat").click()
    opener.click()
    drawer.get_by_role("link", name="One").click()
    expect(drawer).to_be_hidden()
    expect(chat.text).to_have_text("1")
    opener.click()
    drawer.get_by_role("link", name="One").press("Escape")
    expect(drawer).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    drawer.get_by_role("button", name="Rename").click()
    chat.page.get_by_label("Name of the chat").press("Enter")
    expect(chat.question).to_be_focused()
    for turned in False, True:
        if turned:
            opener.click()
        chat.page.set_viewport_size({"width": 1280, "height": 740})
        expect(drawer).to_be_visible()
        chat.log.get_by_role("button", name="Copy").click(trial=True)
        chat.page.set_viewport_size({"width": 360, "height": 740})
