"""Clients that we have not written connect to a project that speaks their dialect: the AI SDK's chat, OpenAI's SDKs.

How they are run, and what becomes of the pages of one chat, is in `front_ends.py`.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chat_page import chromium
from front_ends import (
    BROKEN_OFF,
    CHATS,
    END,
    KEY,
    PARTS,
    READY,
    SCENES,
    Client,
    bundle,
    busy,
    each_part_is_there_once,
    node_tests,
    one_or_slow,
    play,
    readme_page,
    serving,
    serving_folder,
    whole,
)
from playwright.sync_api import Browser, Page
from rendering import Project, exclusive
from running import Server, posix_only, request

pytestmark = [posix_only, pytest.mark.xdist_group("front-ends")]


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
    chat.printed(f"usage stream={second['id']} model=echo reason=end .*input_tokens=10 ")


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


def test_what_a_model_thinks_and_its_tools_are_parts_of_the_message(chat: Client) -> None:
    """In the order of the answer. The page is not asked to run a tool, nor to send what came of one."""
    (page,), ((_, answer),) = play(chat, "thinks")
    assert (page["status"], answer["parts"], answer["metadata"]) == ("ready", PARTS, END)
    began = ["reasoning done", "text done", "look_up output-available", "reasoning done"]
    failed = [*began, "text done", "index_document output-error"]
    assert page["seen"] == [
        [],
        ["reasoning streaming"],
        ["reasoning done"],
        ["reasoning done", "text streaming"],
        ["reasoning done", "text done"],
        ["reasoning done", "text done", "look_up input-available"],
        ["reasoning done", "text done", "look_up output-available"],
        ["reasoning done", "text done", "look_up output-available", "reasoning streaming"],
        began,
        [*began, "text streaming"],
        [*began, "text done"],
        [*began, "text done", "index_document input-available"],
        failed,
        [*failed, "text streaming"],
        [*failed, "text done"],
    ]


def test_a_chat_keeps_what_a_model_has_thought_and_used_before_it_failed_and_goes_on(chat: Client) -> None:
    """The last question carries all of it, and what the SDK made of a whole answer."""
    questions = ["think and fail", "use a tool and fail", "think", "again"]
    thinking, in_a_tool, whole, after = chat.ask(questions=questions)["answers"]
    for failed in (thinking, in_a_tool):
        assert (failed["status"], failed["error"]) == ("error", "The model could not answer.")
        assert "metadata" not in failed
    assert thinking["parts"] == [{"type": "reasoning", "text": "Let me ", "state": "streaming"}]
    assert in_a_tool["parts"] == BROKEN_OFF
    assert (whole["status"], whole["parts"]) == ("ready", PARTS)
    assert (after["status"], after["text"]) == ("ready", "You said: again")


def test_a_chat_keeps_what_a_model_has_thought_and_used_before_it_was_stopped(chat: Client) -> None:
    pages, ((_, answer),) = play(chat, "isStoppedInATool")
    assert pages == [READY]
    assert answer["parts"] == BROKEN_OFF
    assert "metadata" not in answer


def test_a_reader_who_stops_stops_the_model(chat: Client) -> None:
    (answer,) = chat.ask(questions=["wait for me"], stop=True)["answers"]
    assert (answer["status"], answer["state"]) == ("ready", "streaming")
    assert "metadata" not in answer
    chat.printed(f"usage stream={answer['id']} model=echo reason=cancelled")


def test_a_chat_without_the_key_is_told(chat: Client) -> None:
    (answer,) = chat.ask(questions=["to be"], key="wrong")["answers"]
    assert (answer["status"], "a valid API key is needed" in answer["error"]) == ("error", True)


def test_a_chat_is_told_that_its_caller_has_too_many_answers(chat: Client, chat_project: Project) -> None:
    """In words, and its next question is answered when that is over."""
    with busy(chat_project) as (server, stop_one):
        here = Client(chat.process, server)
        (answer,) = here.ask(questions=["to be"])["answers"]
        assert (answer["status"], "no more than 1 of your answers" in answer["error"]) == ("error", True)
        stop_one()
        here.printed("usage stream=.* reason=cancelled")
        (answer,) = here.ask(questions=["to be"])["answers"]
        assert (answer["status"], answer["text"]) == ("ready", "You said: to be")


@pytest.mark.parametrize("name", one_or_slow(("ai6", "ai7")))
def test_a_hidden_tab_that_has_lost_its_connection_shows_the_answer_once_when_it_is_seen_again(
    name: str, client_process: "Callable[[str], subprocess.Popen[str]]", chat_server: Server
) -> None:
    """5.0.277 would show what it had twice, and 5.0.0 doesn't ask. The README says what a page does instead."""
    pages, ((question, answer),) = play(Client(client_process(name), chat_server), "isSeenAgain")
    assert pages == [READY]
    assert answer == {"id": answer["id"], **whole(question)}
    each_part_is_there_once(Client(client_process(name), chat_server), "is seen again")


@pytest.mark.parametrize("way", ["loads again", "regenerates", "sends"])
def test_a_page_that_is_lost_anywhere_in_an_answer_shows_each_part_of_it_once(chat: Client, way: str) -> None:
    each_part_is_there_once(chat, way)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_what_becomes_of_the_pages_of_a_chat(chat: Client, scene: Callable[[Client], None]) -> None:
    scene(chat)


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


TOOLS = "\n[look_up: called]\n\n[look_up: done]\n", "\n[index_document: called]\n\n[index_document: failed]\n"
THOUGHTS = f"Let me look it up.{TOOLS[0]}That is the question.{TOOLS[1]}"


@pytest.mark.parametrize("stream", [True, False])
def test_an_sdk_passes_on_what_the_model_thinks_and_which_tools_it_uses(sdk: Client, stream: bool) -> None:
    """No tool is the client's to call."""
    answer = sdk.ask(question="think", stream=stream, extra=USAGE if stream else {})
    assert answer == {
        "text": "You said: think",
        "thoughts": THOUGHTS,
        "finish": "stop",
        "id": answer["id"],
        "model": "echo",
        "tokens": 4,
        "thinking": 3,
    }


@pytest.mark.parametrize("stream", [True, False])
def test_an_sdk_is_not_told_what_the_model_thinks_where_that_is_not_shown(
    sdk: Client, api_project: Project, stream: bool
) -> None:
    """But it is told of the tools."""
    with serving(api_project, SHOW_REASONING="false") as server:
        answer = Client(sdk.process, server).ask(question="think", stream=stream)
    assert (answer["text"], answer["thoughts"], answer["finish"]) == ("You said: think", "".join(TOOLS), "stop")


def test_a_stream_that_fails_amid_thoughts_raises_in_an_sdk(sdk: Client) -> None:
    answer = sdk.ask(question="think and fail", stream=True)
    assert (answer["text"], answer["thoughts"], answer.get("finish")) == ("", "Let me ", None)
    assert (answer["error"]["kind"], answer["error"]["code"]) == ("APIError", "model_error")


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
        ({"question": "think and fail"}, "InternalServerError", 502, "model_error", None),
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


@pytest.mark.parametrize("stream", [True, False])
def test_an_sdk_waits_as_long_as_a_limit_says_and_is_answered(sdk: Client, api_project: Project, stream: bool) -> None:
    """By itself it would ask again after half a second."""
    with busy(api_project) as (server, stop_one):
        here = Client(sdk.process, server)
        error = here.ask(question="to be", stream=stream)["error"]
        assert [error[field] for field in ("kind", "status", "code")] == ["RateLimitError", 429, "rate_limit_exceeded"]
        assert "no more than 1 of your answers" in error["message"]
        here.send(question="to be", stream=stream, retries=2)
        here.printed(r"(?s)(refused limit=answers.*){2}")
        began = time.monotonic()
        stop_one()
        assert here.answer()["text"] == "You said: to be"
        assert time.monotonic() - began > 1.5


def test_an_sdk_that_stops_reading_stops_the_model(sdk: Client) -> None:
    answer = sdk.ask(question="wait for me", stream=True, stop=True)
    assert "error" not in answer
    stream = answer["id"].removeprefix("chatcmpl-")
    sdk.printed(f"usage stream={stream} model=echo reason=cancelled")


def test_an_sdk_that_waits_no_longer_stops_the_model(sdk: Client) -> None:
    """Also where there is no stream, whose handler the server itself would let run on."""
    question = f"wait for {sdk.process.pid}"
    error = sdk.ask(question=question, timeout=1000)["error"]
    assert "timed out" in error["message"]
    sdk.printed(f"(?s)closed: {question} caller=.*usage stream=[^ ]+ model=echo reason=cancelled")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window that knows nothing of those before it."""
    with browser.new_page() as page:
        yield page


@pytest.fixture
def page_port(packages: Path) -> Iterator[int]:
    """Where a page is served that has all clients in one script."""
    folder = packages / "page"
    with exclusive(folder.with_suffix(".lock")):
        bundle(packages, folder, "browser.mjs")
    with serving_folder(folder) as port:
        yield port


@pytest.mark.slow
@node_tests
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("name", list(CHATS))
def test_the_page_of_the_readme_comes_back_to_its_answer_and_stops_it(
    name: str, packages: Path, chat_project: Project, page: Page
) -> None:
    """With React and each version's `useChat`, in a browser."""
    folder = packages / f"readme-{name}"
    folder.mkdir()
    question = "as many words as it takes to load a page again before the answer to them has come to its own end"
    with (
        serving_folder(folder) as page_port,
        serving(chat_project, CORS_ORIGINS=f"http://127.0.0.1:{page_port}") as server,
    ):
        readme_page(chat_project, packages, folder, name, server.port)
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
        page.get_by_role("textbox").fill("think")
        page.get_by_role("textbox").press("Enter")
        page.get_by_text("index_document output-error think").wait_for()
        *_, answer = page.get_by_role("paragraph").all_inner_texts()
        thought, used = "Let me look it up.", "look_up output-available"
        assert answer == f"assistant: {thought}You{used}That is the question. said:index_document output-error think"
        page.get_by_role("textbox").fill("again")
        page.get_by_role("textbox").press("Enter")
        page.get_by_text("assistant: You said: again", exact=True).wait_for()


@pytest.mark.slow
@node_tests
@pytest.mark.needs("chromium")
def test_the_page_of_the_readme_says_in_words_why_it_was_refused(
    packages: Path, chat_project: Project, page: Page
) -> None:
    message = '{"question": "wait"}'
    for key, words in (
        (KEY, "no more than 1 of your answers may run at once: wait until one has ended, or stop one"),
        ("another", "a valid API key is needed"),
    ):
        # Each at an address of its own: of a script that was made anew within a second, a browser keeps the first.
        folder = packages / f"readme-refused-{key}"
        folder.mkdir()
        with serving_folder(folder) as page_port:
            settings = {"CORS_ORIGINS": f"http://127.0.0.1:{page_port}", "MAX_ANSWERS_PER_CALLER": "1"}
            with serving(chat_project, API_KEY=key, **settings) as server:
                readme_page(chat_project, packages, folder, list(CHATS)[-1], server.port)
                page.goto(f"http://127.0.0.1:{page_port}")
                with closing(request(server.port, "POST", "/chat/stream", message, {"Authorization": f"Bearer {key}"})):
                    page.get_by_role("textbox").fill("to be")
                    page.get_by_role("textbox").press("Enter")
                    page.get_by_text(words).wait_for()
                    assert "detail" not in page.locator("form").inner_text()


@pytest.mark.slow
@node_tests
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("key", ["", KEY])
def test_a_page_of_another_origin_may_ask_where_it_is_listed(
    key: str, page_port: int, chat_project: Project, api_project: Project, page: Page
) -> None:
    """In a browser, with a key and without: from the listed origin, every client; from another, none."""
    listed, other = f"http://127.0.0.1:{page_port}", f"http://localhost:{page_port}"
    settings = {"API_KEY": key, "CORS_ORIGINS": listed}
    with serving(chat_project, **settings) as chat_server, serving(api_project, **settings) as api_server:
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
