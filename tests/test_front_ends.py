"""Clients that we have not written connect to a project that speaks their dialect: the AI SDK's chat, OpenAI's SDKs.

Each client is a process of its own, which takes orders: `tests/clients/`. Its versions are pinned here.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from needs import NEEDS
from playwright.sync_api import sync_playwright
from rendering import Project, environment, exclusive, run
from running import Server, posix_only, python_of, request, running, services

pytestmark = [posix_only, pytest.mark.xdist_group("front-ends")]
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
PYTHON_SDK = "openai==3.57.0"
KEY = "k-1"
node_tests = pytest.mark.needs("node", "npm")


class Client:
    """A client's process. An order is a question and how to ask it; the server is told by each."""

    def __init__(self, process: "subprocess.Popen[str]", server: Server) -> None:
        self.process = process
        self.server = server

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
        url = f"http://127.0.0.1:{self.server.port}"
        self.process.stdin.write(json.dumps({"url": url, "key": KEY} | order) + "\n")
        self.process.stdin.flush()

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
    wanted = PACKAGES if pytestconfig.getoption("--slow") else dict(list(CHATS.items())[-1:])
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


Serve = Callable[..., Server]


@contextmanager
def serving(project: Project, **settings: str) -> Iterator[Server]:
    """The project with a model that does what the question says, a key, and keep-alives between tokens."""
    command = (python_of(project), "-m", "uvicorn", "scripted_app:app", "--app-dir", str(CLIENTS), "--port", "0")
    settings = {"API_KEY": KEY, "HEARTBEAT_SECONDS": "0.005", "DRAIN_SECONDS": "0", **settings}
    with services(project) as env, running(*command, cwd=project.path, env=env | settings) as process:
        yield Server(process)


def rendered(render: Callable[..., Project], front_end: str) -> Project:
    project = render(front_end=front_end)
    project.sync()
    return project


# The AI SDK


@pytest.fixture(scope="session")
def chat_project(render: Callable[..., Project]) -> Project:
    return rendered(render, "ai-sdk")


@pytest.fixture(scope="session")
def chat_server(chat_project: Project) -> Iterator[Server]:
    with serving(chat_project) as server:
        yield server


def one_or_slow(names: Sequence[str]) -> list[Any]:
    """Parameters: the last of the clients, and the others where slow tests run."""
    *others, last = names
    slow = [pytest.param(name, marks=[node_tests, pytest.mark.slow]) for name in others]
    return [*slow, pytest.param(last, marks=node_tests)]


@pytest.fixture(params=one_or_slow(list(CHATS)))
def chat(
    request: pytest.FixtureRequest,
    client_process: "Callable[[str], subprocess.Popen[str]]",
    chat_server: Server,
) -> Client:
    """Each version's chat, which speaks to one server."""
    return Client(client_process(request.param), chat_server)


def test_a_chat_reads_the_whole_answer_and_goes_on(chat: Client) -> None:
    """The second question carries what the SDK made of the first answer."""
    first, second = chat.ask(questions=["to be", "or not to be"])["answers"]
    assert first == {
        "id": first["id"],
        "status": "ready",
        "text": "You said: to be",
        "state": "done",
        "metadata": {"reason": "end"},
    }
    assert second == {**first, "id": second["id"], "text": "You said: or not to be"}
    chat.server.process.printed(f"usage stream={second['id']} model=echo reason=end .*input_tokens=10 ")


@pytest.mark.parametrize(("question", "reason"), [("be cut", "length"), ("refuse", "refusal")])
def test_a_chat_is_told_why_an_answer_is_short(chat: Client, question: str, reason: str) -> None:
    (answer,) = chat.ask(questions=[question])["answers"]
    assert (answer["status"], answer["state"], answer["metadata"]) == ("ready", "done", {"reason": reason})


@pytest.mark.parametrize(("question", "text"), [("fail", "You said: fail"), ("fail at once", None)])
def test_a_chat_keeps_a_part_of_an_answer_as_one_and_goes_on(chat: Client, question: str, text: str | None) -> None:
    failed, after = chat.ask(questions=[question, "again"])["answers"]
    assert (failed["status"], failed["error"]) == ("error", "The model could not answer.")
    assert (failed.get("text"), failed.get("state")) == (text, "streaming" if text else None)
    assert "metadata" not in failed
    assert (after["status"], after["text"]) == ("ready", "You said: again")


def test_a_reader_who_stops_stops_the_model(chat: Client) -> None:
    (answer,) = chat.ask(questions=["wait for me"], stop=True)["answers"]
    assert (answer["status"], answer["state"]) == ("ready", "streaming")
    assert "metadata" not in answer
    chat.server.process.printed(f"usage stream={answer['id']} model=echo reason=cancelled")


def test_a_chat_without_the_key_is_told(chat: Client) -> None:
    (answer,) = chat.ask(questions=["to be"], key="wrong")["answers"]
    assert (answer["status"], "a valid API key is needed" in answer["error"]) == ("error", True)


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


def test_a_page_that_loads_in_the_middle_of_an_answer_gets_all_of_it(chat: Client) -> None:
    """Also when its connection is lost once more."""
    pages, screens = play(chat, "loadsAgain")
    assert pages == [LOST, LOST, READY]
    (question, part), (_, more), (same_question, answer) = screens
    assert part["state"] == more["state"] == "streaming"
    assert same_question == question
    assert answer == {"id": part["id"], **whole(question)}


def test_a_page_that_loads_after_an_answer_has_ended_gets_all_of_it(chat: Client) -> None:
    """And one that has all of it already is left as it is."""
    pages, screens = play(chat, "loadsAgainAfterTheEnd")
    assert pages == [LOST, READY, READY]
    (question, part), again, third = screens
    assert again == third == [question, {"id": part["id"], **whole(question)}]


def test_two_tabs_show_the_same_answer(chat: Client) -> None:
    pages, (one, two) = play(chat, "twoTabs")
    assert pages == [READY, READY]
    assert one == two == [one[0], {"id": one[1]["id"], **whole(one[0])}]


@pytest.mark.parametrize("name", one_or_slow(("ai6", "ai7")))
def test_a_hidden_tab_that_has_lost_its_connection_shows_the_answer_once_when_it_is_seen_again(
    name: str, client_process: "Callable[[str], subprocess.Popen[str]]", chat_server: Server
) -> None:
    """5.0.277 would show what it had twice, and 5.0.0 doesn't ask. The README says what a page does instead."""
    pages, ((question, answer),) = play(Client(client_process(name), chat_server), "isSeenAgain")
    assert pages == [READY]
    assert answer == {"id": answer["id"], **whole(question)}


def test_a_page_that_has_lost_its_connection_and_regenerates_gets_the_answer_that_runs(chat: Client) -> None:
    pages, (other, page) = play(chat, "regeneratesWhileItRuns")
    assert pages == [READY, READY]
    assert other == page == [page[0], {"id": page[1]["id"], **whole(page[0])}]


def test_an_answer_that_has_ended_is_made_anew_where_the_page_regenerates(chat: Client) -> None:
    pages, ((question, first), (same_question, second)) = play(chat, "regeneratesAfterTheEnd")
    assert pages == [READY, READY]
    assert same_question == question
    assert first == {"id": first["id"], **whole(question)}
    assert second == {"id": second["id"], **whole(question)}
    assert first["id"] != second["id"]


def test_a_page_that_sends_a_part_of_an_answer_gets_the_rest(chat: Client) -> None:
    """The SDK appends it to what is there, as a second part."""
    pages, ((question, part), (_, answer)) = play(chat, "asksWithAPartOfTheAnswer")
    assert pages == [LOST, READY]
    first, rest = answer["texts"]
    assert first == part["texts"][0]
    assert rest
    assert answer == {"id": part["id"], **whole(question), "texts": [first, rest]}
    assert first + rest == whole(question)["texts"][0]


def test_a_page_stops_the_answer_for_all(chat: Client) -> None:
    """One that reads it by its own question, one that has come back to it, and one that comes later."""
    pages, screens = play(chat, "stopsInAnotherTab")
    assert pages == [READY, READY, READY]
    question, answer = screens[0]
    assert screens == [[question, answer]] * 3
    assert answer == {"id": answer["id"], "role": "assistant", "texts": ["You said: wait"], "state": "streaming"}
    chat.server.process.printed(f"usage stream={answer['id']} model=echo reason=cancelled")


def test_another_question_while_an_answer_runs_stops_it_and_is_answered(chat: Client) -> None:
    """5.0.0 would write both answers into each other's messages."""
    pages, (page, other) = play(chat, "asksSomethingElse")
    assert pages == [READY, READY]
    question, stopped, second, answer = page
    assert other == [question, stopped]
    assert (stopped["texts"], stopped["state"], "metadata" in stopped) == (["You said: wait"], "streaming", False)
    assert answer == {"id": answer["id"], **whole(second)}
    chat.server.process.printed(f"usage stream={stopped['id']} model=echo reason=cancelled")


@pytest.mark.parametrize("name", one_or_slow([name for name in CHATS if name != "ai5-first"]))
def test_a_page_that_finds_nothing_to_come_back_to_is_ready(
    name: str, client_process: "Callable[[str], subprocess.Popen[str]]", chat_server: Server
) -> None:
    """That of `ai` 5.0.0 goes on waiting: it takes no 204, nor any other status, for a no."""
    pages, ((question,),) = play(Client(client_process(name), chat_server), "findsNothing")
    assert (pages, question["role"]) == ([READY], "user")


@pytest.mark.slow
@node_tests
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_answer_that_dies_with_its_server_is_never_whole(
    number: signal.Signals, client_process: "Callable[[str], subprocess.Popen[str]]", chat_project: Project
) -> None:
    """For none of its readers. It was asked once."""
    with serving(chat_project) as server:
        chats = [Client(client_process(name), server) for name in CHATS]
        for place, chat in enumerate(chats):
            chat.begin(scene="isThereWhenTheServerEnds", id=f"chat-{place}")
        server.process.printed(r"(?s)(asked: wait.*){4}")
        server.process.stop(number)
        for chat in chats:
            for page in chat.answer()["pages"]:
                assert page["status"] == "error"
                assert page["error"] == "The server is restarting." or number == signal.SIGKILL
                _, answer = page["messages"]
                assert (answer["texts"], answer["state"]) == (["You said: wait"], "streaming")
                assert "metadata" not in answer


# OpenAI's SDKs


@pytest.fixture(scope="session")
def api_project(render: Callable[..., Project]) -> Project:
    return rendered(render, "openai")


@pytest.fixture(scope="session")
def api_server(api_project: Project) -> Iterator[Server]:
    with serving(api_project) as server:
        yield server


@pytest.fixture(params=one_or_slow(("openai", "python")))
def sdk(
    request: pytest.FixtureRequest, client_process: "Callable[[str], subprocess.Popen[str]]", api_server: Server
) -> Client:
    """OpenAI's SDK for Node, and that for Python, which speak to one server."""
    return Client(client_process(request.param), api_server)


USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("question", "finish"), [("to be", "stop"), ("be cut", "length"), ("refuse", "content_filter")]
)
def test_an_sdk_reads_the_whole_answer(sdk: Client, stream: bool, question: str, finish: str) -> None:
    answer = sdk.ask(question=question, stream=stream, extra=USAGE if stream else {})
    assert answer["id"].startswith("chatcmpl-")
    words = len(question.split())
    assert answer == {
        "text": f"You said: {question}",
        "finish": finish,
        "id": answer["id"],
        "model": "echo",
        "tokens": words + 2 + words,
    }


def test_an_sdk_lists_the_model(sdk: Client) -> None:
    assert sdk.ask(list="echo") == {"text": "echo", "model": "echo"}


def test_a_stream_that_fails_raises_in_an_sdk(sdk: Client) -> None:
    answer = sdk.ask(question="fail", stream=True)
    assert (answer["text"], answer.get("finish")) == ("You said: fail", None)
    assert (answer["error"]["kind"], answer["error"]["code"]) == ("APIError", "model_error")
    assert "The model could not answer." in answer["error"]["message"]


@pytest.mark.parametrize(
    ("order", "kind", "status", "code", "param"),
    [
        ({"question": "fail"}, "InternalServerError", 502, "model_error", None),
        ({"question": "fail at once"}, "InternalServerError", 502, "model_error", None),
        ({"question": "x", "key": "wrong"}, "AuthenticationError", 401, "invalid_api_key", None),
        ({"question": ""}, "BadRequestError", 400, None, "messages"),
        ({"question": "x", "extra": {"n": 2}}, "BadRequestError", 400, None, "n"),
        ({"question": "x", "extra": {"tool_choice": "required"}}, "BadRequestError", 400, None, "tool_choice"),
        ({"question": "x", "stream": True, "extra": {"n": 2}}, "BadRequestError", 400, None, "n"),
        ({"question": [{"type": "image_url"}]}, "BadRequestError", 400, None, "messages[0].content"),
        ({"list": "other"}, "NotFoundError", 404, None, None),
    ],
)
def test_an_sdk_raises_the_error_that_it_is(
    sdk: Client, order: dict[str, Any], kind: str, status: int, code: str | None, param: str | None
) -> None:
    error = sdk.ask(**order)["error"]
    assert [error[field] for field in ("kind", "status", "code", "param")] == [kind, status, code, param]


def test_an_sdk_that_stops_reading_stops_the_model(sdk: Client) -> None:
    answer = sdk.ask(question="wait for me", stream=True, stop=True)
    assert "error" not in answer
    stream = answer["id"].removeprefix("chatcmpl-")
    sdk.server.process.printed(f"usage stream={stream} model=echo reason=cancelled")


def test_an_sdk_that_waits_no_longer_stops_the_model(sdk: Client) -> None:
    """Also where there is no stream, whose handler the server itself would let run on."""
    question = f"wait for {sdk.process.pid}"
    error = sdk.ask(question=question, timeout=1000)["error"]
    assert "timed out" in error["message"]
    sdk.server.process.printed(f"(?s)closed: {question}\n.*usage stream=[^ ]+ model=echo reason=cancelled")


@pytest.mark.slow
@node_tests
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stream", [True, False])
def test_an_sdk_raises_when_the_server_dies(
    number: signal.Signals,
    stream: bool,
    client_process: "Callable[[str], subprocess.Popen[str]]",
    api_project: Project,
) -> None:
    with serving(api_project) as server:
        sdks = [Client(client_process(name), server) for name in ("openai", "python")]
        for sdk in sdks:
            (sdk.begin if stream else sdk.send)(question="wait", stream=stream)
        server.process.printed(r"(?s)(asked: wait.*){2}")
        server.process.stop(number)
        for sdk in sdks:
            answer = sdk.answer()
            assert answer.get("finish") is None
            assert answer["error"]["message"]
            if number == signal.SIGTERM:
                assert answer["error"]["kind"] == ("APIError" if stream else "InternalServerError")
                assert answer["error"]["code"] == "server_shutdown"


def test_keep_alives_stand_between_tokens_and_no_client_minds(chat_server: Server, api_server: Server) -> None:
    """All of the answers above were read beside them."""
    headers = {"Authorization": f"Bearer {KEY}"}
    messages = [{"role": "user", "content": "to be", "parts": [{"type": "text", "text": "to be"}]}]
    body = json.dumps({"messages": messages, "stream": True})
    for server, path in ((chat_server, "/api/chat"), (api_server, "/v1/chat/completions")):
        with closing(request(server.port, "POST", path, body, headers)) as answer:
            frames = answer.read().split(b"\n\n")
        assert frames.count(b": keep-alive") > 1
        assert frames[-2] == b"data: [DONE]"


def test_what_open_webui_sends_is_answered_as_it_reads_it(api_server: Server) -> None:
    """Its requests as Open WebUI 0.12.4 was seen to send them: it takes gigabytes, and does not run here.

    It asks for the models of a connection, with the key; offers its own tools with each question, also after an answer
    of another model that has called one; passes on to its page whatever the event stream holds; and asks for a title.
    """
    headers = {"Authorization": f"Bearer {KEY}", "X-OpenWebUI-User-Name": "Ann", "X-OpenWebUI-Chat-Id": "c-1"}
    with closing(request(api_server.port, "GET", "/v1/models", headers=headers)) as models:
        (model,) = json.load(models)["data"]
    call = {"id": "c", "type": "function", "function": {"name": "search_web", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "found"},
        {"role": "user", "content": "to be"},
    ]
    tools = [{"type": "function", "function": {"name": f"tool_{number}", "parameters": {}}} for number in range(36)]
    asked = {"model": model["id"], "stream": True, "messages": messages, "tools": tools, **USAGE}
    with closing(request(api_server.port, "POST", "/v1/chat/completions", json.dumps(asked), headers)) as answer:
        assert "text/event-stream" in answer.headers["Content-Type"]
        frames = answer.read().decode().split("\n\n")
    data = [frame.removeprefix("data: ") for frame in frames if frame.startswith("data: ")]
    assert data[-1] == "[DONE]"
    texts = [choice["delta"].get("content", "") for chunk in map(json.loads, data[:-1]) for choice in chunk["choices"]]
    assert "".join(texts) == "You said: to be"
    title = {"model": model["id"], "stream": False, "max_tokens": 1000, "messages": [messages[-1]]}
    with closing(request(api_server.port, "POST", "/v1/chat/completions", json.dumps(title), headers)) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] == "You said: to be"


# A browser


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page_port(packages: Path) -> Iterator[int]:
    """Where a page is served that has all clients in one script."""
    folder = packages / "page"
    with exclusive(folder.with_suffix(".lock")):
        bundle(packages, folder, "browser.mjs")
    with serving_folder(folder) as port:
        yield port


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


PAGE_SCRIPT = """
import { createRoot } from "react-dom/client";
const key = "%s";
createRoot(document.body).render(<Page id="chat/1" />);
"""


@pytest.mark.slow
@node_tests
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("name", list(CHATS))
def test_the_page_of_the_readme_comes_back_to_its_answer_and_stops_it(
    name: str, packages: Path, chat_project: Project
) -> None:
    """With React and each version's `useChat`, in a browser."""
    folder, script = packages / f"readme-{name}", packages / f"readme-{name}.tsx"
    folder.mkdir()
    _, _, code = chat_project.read("README.md").partition("```tsx\n")
    question = "as many words as it takes to load a page again before the answer to them has come to its own end"
    with (
        serving_folder(folder) as page_port,
        serving(chat_project, CORS_ORIGINS=f"http://127.0.0.1:{page_port}") as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=NEEDS["chromium"].path(), args=["--no-sandbox"]) as browser,
    ):
        code = code.partition("```")[0].replace(":8000", f":{server.port}")
        script.write_text(code + PAGE_SCRIPT % KEY, "utf-8")
        bundle(packages, folder, script.name, f"--alias:ai={name}", f"--alias:@ai-sdk/react=react-{name}")
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{page_port}")
        page.get_by_role("textbox").fill(question)
        page.get_by_role("textbox").press("Enter")
        page.get_by_text("assistant: You said: as many").wait_for()
        page.reload()
        page.get_by_text(f"assistant: You said: {question}", exact=True).wait_for()
        page.reload()
        page.get_by_text(f"assistant: You said: {question}", exact=True).wait_for()
        assert len(page.get_by_role("paragraph").all()) == 2
        page.get_by_role("textbox").fill("wait")
        page.get_by_role("textbox").press("Enter")
        page.get_by_text("assistant: You said: wait").wait_for()
        page.reload()
        page.get_by_text("assistant: You said: wait").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Try again").wait_for()
        server.process.printed("closed: wait")
        assert page.get_by_role("paragraph").all_inner_texts()[2:] == ["user: wait", "assistant: You said: wait"]
        page.get_by_role("button", name="Try again").click()
        server.process.printed("(?s)asked: wait.*asked: wait")
        page.get_by_role("button", name="Stop").click()


@pytest.mark.slow
@node_tests
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("key", ["", KEY])
def test_a_page_of_another_origin_may_ask_where_it_is_listed(
    key: str, page_port: int, chat_project: Project, api_project: Project
) -> None:
    """In a browser, with a key and without: from the listed origin, every client; from another, none."""
    listed, other = f"http://127.0.0.1:{page_port}", f"http://localhost:{page_port}"
    settings = {"API_KEY": key, "CORS_ORIGINS": listed}
    with (
        serving(chat_project, **settings) as chat_server,
        serving(api_project, **settings) as api_server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=NEEDS["chromium"].path(), args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        ask = "([name, order]) => ask(name, order)"
        chat = {"url": f"http://127.0.0.1:{chat_server.port}", "key": key, "questions": ["to be"]}
        api = {"url": f"http://127.0.0.1:{api_server.port}", "key": key, "question": "to be", "stream": True}
        page.goto(listed)
        for name in CHATS:
            (answer,) = page.evaluate(ask, [name, chat])["answers"]
            assert (answer["status"], answer["text"]) == ("ready", "You said: to be")
        assert page.evaluate(ask, ["openai", api])["finish"] == "stop"
        assert page.evaluate(ask, ["openai", api | {"question": "fail"}])["error"]["code"] == "model_error"
        assert page.evaluate(ask, ["openai", api | {"stream": False}])["text"] == "You said: to be"
        (stopped,) = page.evaluate(ask, ["ai7", chat | {"questions": ["wait"], "stop": True}])["answers"]
        chat_server.process.printed(f"usage stream={stopped['id']} model=echo reason=cancelled")
        page.goto(other)
        for name in CHATS:
            (answer,) = page.evaluate(ask, [name, chat])["answers"]
            assert (answer["status"], answer.get("text")) == ("error", None)
        assert page.evaluate(ask, ["openai", api])["error"]["message"] == "Connection error."
