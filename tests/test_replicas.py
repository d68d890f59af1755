"""Two servers of a project behind nginx, which sends each request to the other one: readers take them for one server.
While one after the other is replaced, and the workers too, no request is refused, no answer cut and no job lost."""

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from operator import ge
from pathlib import Path
from typing import Any

import pytest
from chat_page import PAGE_SECONDS, Chat, chromium
from front_ends import (
    CHATS,
    END,
    KEY,
    READY,
    SCENES,
    Client,
    one_or_slow,
    readme_page,
    regenerated_after_the_end,
    scripted,
    serving_folder,
)
from nginx import nginx
from playwright.sync_api import Browser, expect
from rendering import Project
from running import (
    Process,
    Server,
    free_port,
    posix_only,
    python_of,
    request,
    running,
    services,
    wait_until,
)

pytestmark = [posix_only, pytest.mark.needs("nginx"), pytest.mark.xdist_group("replicas")]
WORDS_IN_A_DRAIN = 75  # the model's pauses before so many take longer than DRAIN_SECONDS
KEYED = {"Authorization": f"Bearer {KEY}"}
ENDED_SECONDS = 30.0  # half of ANSWER_DRAIN_SECONDS, and some times what a busy machine needs
# What a reader of the page sees of an answer, change by change: how long its text is, and whether an error is shown.
WATCH = """() => {
    window.seen = [];
    const log = document.querySelector("[role=log]");
    const look = () => seen.push([log.querySelector(".text").textContent.length, log.querySelector(".alert") !== null]);
    new MutationObserver(look).observe(log, { subtree: true, childList: true, characterData: true });
}"""


class Replicas:
    """Two servers, each at a port that stays its own, behind nginx, which listens at `port`."""

    def __init__(self, start: Callable[[int], Process], before: Callable[..., int], log: Path) -> None:
        self._start = start
        self._log = log
        self.servers = [Server(process) for process in [start(free_port()), start(free_port())]]
        self.port = before(*(server.port for server in self.servers))

    def requests(self) -> list[tuple[str, str]]:
        """Each that has ended: its method, and the server that has answered."""
        lines = [line.split() for line in self._log.read_text("utf-8").splitlines()]
        return [(line[0], line[-1]) for line in lines]

    def place_of(self, question: str) -> int:
        """Which of them asks the model this."""
        wait_until(lambda: self._asked(question) != [])
        (place,) = self._asked(question)
        return place

    def _asked(self, question: str) -> list[int]:
        return [
            place for place, server in enumerate(self.servers) if f"asked: {question} caller=" in server.process.text
        ]

    def replace(self, place: int) -> Process:
        """Tell a server to stop, and start another as soon as nobody listens at its port. Gives the old one's process,
        which may run on."""
        old = self.servers[place]
        old.process.send(signal.SIGTERM)
        wait_until(lambda: not listens(old.port))
        self.servers[place] = Server(self._start(old.port))
        return old.process


def listens(port: int) -> bool:
    with suppress(ConnectionRefusedError, ConnectionResetError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture(scope="module")
def project(render: Callable[..., Project]) -> Project:
    project = render(queue_backend="rq", front_end="ai-sdk")
    project.sync()
    return project


@pytest.fixture(scope="module")
def readme_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def readme_port(readme_folder: Path) -> Iterator[int]:
    """Where a page is served that may ask the replicas."""
    with serving_folder(readme_folder) as port:
        yield port


@pytest.fixture(scope="module")
def replicas(project: Project, readme_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("nginx")
    with services(project) as env, ExitStack() as stack:

        def start(port: int) -> Process:
            settings = {"API_KEY": KEY, "DRAIN_SECONDS": "1", "ANSWER_DRAIN_SECONDS": "60"}
            settings["CORS_ORIGINS"] = f"http://127.0.0.1:{readme_port}"
            return stack.enter_context(scripted(project, env, port, **settings))

        def before(*ports: int) -> int:
            return stack.enter_context(nginx(folder, *ports))

        yield Replicas(start, before, folder / "requests.log")


@pytest.fixture(params=one_or_slow(list(CHATS)))
def client(
    request: pytest.FixtureRequest, client_process: "Callable[[str], subprocess.Popen[str]]", replicas: Replicas
) -> Client:
    """Each version's `useChat`, which asks at nginx."""
    return Client(client_process(request.param), *replicas.servers, port=replicas.port)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, replicas: Replicas) -> Iterator[Chat]:
    """The chat page, from nginx."""
    with browser.new_context() as context:
        context.set_default_timeout(PAGE_SECONDS * 1000)
        context.add_init_script(f"sessionStorage.setItem('api-key', '{KEY}')")
        chat = Chat(context.new_page(), replicas.servers[0], replicas.port)
        yield chat
        assert chat.complaints == []


def ask(page: Chat, question: str, begins: str) -> None:
    page.question.fill(question)
    page.question.press("Enter")
    expect(page.text).to_contain_text(begins)


# An answer ends in Redis up to 50 ms after it has ended for its readers. A page that regenerates at once, as no person
# is able to, joins it at the other server.
@pytest.mark.parametrize(
    "scene", [scene for scene in SCENES if scene is not regenerated_after_the_end], ids=lambda scene: scene.__name__
)
def test_the_pages_of_a_chat_take_them_for_one_server(
    scene: Callable[[Client], None], client: Client, replicas: Replicas
) -> None:
    before = len(replicas.requests())
    scene(client)
    wait_until(lambda: len({server for _, server in replicas.requests()[before:]}) == 2)


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("between", [0, 1])
def test_the_page_stops_the_model_whichever_server_is_told(
    between: int, page: Chat, replicas: Replicas, tmp_path: Path
) -> None:
    """The other one than that which asks the model; and that one, where one request is between the two."""
    question = f"wait in {tmp_path.name}"
    ask(page, question, f"You said: {question}")
    for _ in range(between):
        assert request(replicas.port, "GET", "/health").status == 200
    place, before = replicas.place_of(question), len(replicas.requests())
    page.stop.click()
    expect(page.log.get_by_text("Not complete: you stopped it.")).to_be_visible()
    maker = replicas.servers[place]
    maker.process.printed(f"(?s)closed: {question} caller=.*usage stream=.* reason=cancelled")
    wait_until(lambda: "DELETE" in dict(replicas.requests()[before:]))
    told = dict(replicas.requests()[before:])["DELETE"]
    assert (told == f"127.0.0.1:{maker.port}") == bool(between)


@pytest.mark.needs("chromium")
def test_a_rolling_deploy_cuts_no_answer(page: Chat, client: Client, replicas: Replicas, tmp_path: Path) -> None:
    """The page reads one that the first server makes, and `useChat` one that the second makes. Whoever read at a server
    that goes reads on, wherever; each model is asked once; and each server makes its answer to the end."""
    questions = [f"count until {tmp_path / name}" for name in ("page", "chat")]
    ask(page, questions[0], "You said: 0")
    page.page.evaluate(WATCH)
    client.begin(scene="comesBackToItsEnd", question=questions[1], id=tmp_path.name)
    places = [replicas.place_of(question) for question in questions]
    assert sorted(places) == [0, 1]
    expect(page.text).to_contain_text(" 1 ")
    gone = []
    for place in places:
        shown = number_on(page)
        gone.append(replicas.replace(place))
        expect(page.text).to_contain_text(f" {shown + WORDS_IN_A_DRAIN} ")
    assert [process.alive for process in gone] == [True, True]
    for question in questions:
        Path(question.removeprefix("count until ")).touch()

    expect(page.send).to_be_visible()
    assert_counted(page.shown())
    (exchange,) = page.kept()
    assert exchange["reason"] == "end"
    assert page.reads
    lengths, alerts = zip(*page.page.evaluate("seen"), strict=True)
    assert list(lengths) == sorted(lengths), "a part of the text was gone for a moment"
    assert not any(alerts)

    *left, last = client.answer()["pages"]
    assert left
    assert {each["error"] for each in left} == {"The server is restarting."}
    question, answer = last.pop("messages")
    assert last == READY
    (text,) = answer["texts"]
    assert_counted(text)
    assert answer == {"id": answer["id"], "role": "assistant", "texts": [text], "state": "done", "metadata": END}

    for process, asked in zip(gone, questions, strict=True):
        assert process.wait(ENDED_SECONDS) == -signal.SIGTERM
        assert f"closed: {asked} caller=" in process.text
        assert re.search("usage stream=.* reason=end", process.text)
        assert not re.search("ERROR|WARNING|Traceback", process.text), process.text
    texts = [process.text for process in [*gone, *(server.process for server in replicas.servers)]]
    for question in questions:
        assert sum(text.count(f"asked: {question} caller=") for text in texts) == 1


@pytest.mark.slow
@pytest.mark.needs("chromium", "node", "npm")
@pytest.mark.parametrize("name", list(CHATS))
@pytest.mark.parametrize("ended", [False, True], ids=["runs", "ended"])
def test_the_page_of_the_readme_comes_back_to_an_answer_whose_server_is_replaced(
    ended: bool,
    name: str,
    browser: Browser,
    packages: Path,
    project: Project,
    readme_folder: Path,
    readme_port: int,
    replicas: Replicas,
    tmp_path: Path,
) -> None:
    """While it runs there, and when it has ended. The model is asked once."""
    readme_page(project, packages, readme_folder, name, replicas.port)
    question, enough = f"count until {tmp_path / 'enough'}", tmp_path / "enough"
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{readme_port}")
        page.get_by_role("textbox").fill(question)
        page.get_by_role("textbox").press("Enter")
        page.get_by_text("assistant: You said: 0").wait_for()
        old = replicas.replace(replicas.place_of(question))
        page.get_by_text("The server is restarting.").wait_for()
        if ended:
            enough.touch()
            old.wait(ENDED_SECONDS)
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("assistant: You said: 0").wait_for()
        enough.touch()
        page.get_by_role("button").wait_for(state="detached")
        texts = page.get_by_role("paragraph").all_inner_texts()
    assert texts[0] == f"user: {question}"
    assert_counted(texts[1].removeprefix("assistant: "))
    assert len(texts) == 2
    assert old.wait(ENDED_SECONDS) == -signal.SIGTERM
    said = [process.text for process in [old, *(server.process for server in replicas.servers)]]
    assert sum(text.count(f"asked: {question} caller=") for text in said) == 1


class Reader:
    """Asks, and follows the answer to its end, wherever it can be read; then it asks again."""

    WORDS = " ".join(f"word-{number}" for number in range(60))

    def __init__(self, port: int, enough: threading.Event) -> None:
        self._port = port
        self._enough = enough
        self.whole = self.came_back = 0

    def run(self) -> None:
        while not self._enough.is_set():
            self._ask()
            self.whole += 1

    def _ask(self) -> None:
        response = request(self._port, "POST", "/chat/stream", json.dumps({"question": self.WORDS}), KEYED)
        assert response.status == 200, response.read()
        path, text, place = response.headers["Location"], "", ""
        while True:
            name, reason = "", ""
            with suppress(HTTPException, OSError):  # a connection that is lost ends like one that says `shutdown`
                for line in response:
                    key, _, value = line.decode().rstrip("\n").partition(": ")
                    if key == "event":
                        name = value
                    elif key == "id":
                        place = value
                    elif name == "token" and key == "data":
                        text += json.loads(value)["text"]
                    elif name == "done" and key == "data":
                        reason = json.loads(value)["reason"]
            if reason not in ("", "shutdown"):
                break
            self.came_back += 1
            response = request(self._port, "GET", path, headers={**KEYED, "Last-Event-ID": place})
            assert response.status == 200, response.read()
        assert (reason, text) == ("end", f"You said: {self.WORDS}")


class Poster:
    """Hands in one document after another."""

    def __init__(self, port: int, enough: threading.Event) -> None:
        self._port = port
        self._enough = enough
        self.jobs: list[str] = []

    def run(self) -> None:
        while not self._enough.wait(0.2):
            self.post()

    def post(self) -> None:
        body = json.dumps({"title": "Hamlet", "text": "to be " * 30_000})
        response = request(self._port, "POST", "/documents", body, KEYED)
        assert response.status == 202, response.read()
        self.jobs.append(response.headers["Location"])

    def all_done(self) -> bool:
        """Whether each has succeeded, with one attempt: none was lost, or had to be done again."""
        jobs = [json.loads(request(self._port, "GET", path, headers=KEYED).read()) for path in self.jobs]
        assert {job["attempts"] for job in jobs} <= {0, 1}
        return {job["status"] for job in jobs} == {"succeeded"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "queue", ["rq", "celery-redis", pytest.param("dramatiq-rabbitmq", marks=pytest.mark.needs("rabbitmq"))]
)
def test_a_deploy_refuses_no_request_cuts_no_answer_and_loses_no_job(
    queue: str, render: Callable[..., Project], tmp_path: Path
) -> None:
    """Some follow answers and one hands in jobs all the while. Each web server is told to stop while it makes an answer
    that takes much longer than DRAIN_SECONDS, and each worker is replaced by another when there is enough to do."""
    project = render(queue_backend=queue)
    project.sync()
    enough = threading.Event()
    with services(project) as env, ExitStack() as stack:
        settings = {"API_KEY": KEY, "DRAIN_SECONDS": "0.2", "ANSWER_DRAIN_SECONDS": "60"}

        def start(*command: str) -> Process:
            python = python_of(project)
            return stack.enter_context(running(python, "-m", *command, cwd=project.path, env={**env, **settings}))

        def serve(port: int) -> Process:
            return start("uvicorn", "app.main:app", "--port", str(port))

        def before(*ports: int) -> int:
            return stack.enter_context(nginx(tmp_path, *ports))

        def work() -> Process:
            return start("app.worker")

        workers = [work(), work()]
        replicas = Replicas(serve, before, tmp_path / "requests.log")
        readers = [Reader(replicas.port, enough) for _ in range(4)]
        poster = Poster(replicas.port, enough)
        pool = stack.enter_context(ThreadPoolExecutor(len(readers) + 1))
        stack.callback(enough.set)
        busy = [*(pool.submit(reader.run) for reader in readers), pool.submit(poster.run)]

        def done() -> list[int]:
            return [*(reader.whole for reader in readers), len(poster.jobs) // 3]

        def go_on() -> None:
            """Until each has done some more, or has failed."""
            wanted = [each + 1 for each in done()]
            wait_until(lambda: any(each.done() for each in busy) or all(map(ge, done(), wanted)))

        def is_asked(web: Process) -> None:
            asked = web.text.count("POST /chat/stream")
            wait_until(lambda: web.text.count("POST /chat/stream") > asked)

        go_on()
        for place in (0, 1):
            old = replicas.servers[place].process
            is_asked(old)
            gone = replicas.replace(place)
            go_on()
            assert gone.wait(ENDED_SECONDS) == -signal.SIGTERM
            assert not re.search("ERROR|Traceback", gone.text), gone.text
        for old in workers:
            work()
            for _ in range(8):
                poster.post()
            assert old.stop(seconds=ENDED_SECONDS) == 0
            assert "Traceback" not in old.text
            go_on()
        enough.set()
        for each in busy:
            each.result()
        wait_until(poster.all_done)
        assert sum(reader.came_back for reader in readers) >= 2
        print(f"{sum(r.whole for r in readers)} answers, {sum(r.came_back for r in readers)} of them read on elsewhere")
        print(f"{len(poster.jobs)} jobs")
        statuses = [line.split()[2] for line in (tmp_path / "requests.log").read_text("utf-8").splitlines()]
        assert set(statuses) <= {"200", "202"}


def number_on(page: Chat) -> int:
    """The last whole one."""
    return int(page.shown().split()[-2])


def assert_counted(text: Any) -> None:
    """All numbers are there, once and in order."""
    numbers = text.removeprefix("You said: ").split()
    assert numbers == [str(number) for number in range(len(numbers))]
