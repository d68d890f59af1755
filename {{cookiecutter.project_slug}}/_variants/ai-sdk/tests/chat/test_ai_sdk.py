"""Of what the SDK's own reader makes of these chunks, `app/chat/ui_message_stream.py` has a table."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from app.chat.providers.base import Finish, Provider
from app.chat.ui_message_stream import UIMessageEncoder
from app.errors import TooMany
from app.settings import Settings
from app.streams.events import Done, Error, KeepAlive, Status, Token
from tests.asgi import exchange
from tests.providers import ScriptedProvider

ERROR = Error("model_error", "It could not.", True, "r-1")


def message(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"id": "m-1", "role": role, "parts": list(parts)}


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


HI = {"id": "c-1", "trigger": "submit-message", "messages": [message(text("Hi"))]}


def chunks(body: str) -> list[Any]:
    """The data of each frame: all that the SDK looks at."""
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def ask(client: TestClient, *messages: dict[str, Any]) -> Response:
    body = json.dumps(HI | {"messages": messages})
    return client.post("/api/chat", content=body, headers={"Content-Type": "application/json"})


def test_an_answer_is_one_part_of_text_between_start_and_finish(client: TestClient) -> None:
    response = client.post("/api/chat", json=HI)
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert chunks(response.text) == [
        {"type": "start", "messageId": response.headers["x-stream-id"]},
        {"type": "text-start", "id": "1"},
        {"type": "text-delta", "id": "1", "delta": "Hello"},
        {"type": "text-delta", "id": "1", "delta": " there"},
        {"type": "text-end", "id": "1"},
        {"type": "finish", "messageMetadata": {"reason": "end"}},
        "[DONE]",
    ]


@pytest.mark.parametrize("reason", ["length", "refusal"])
def test_an_answer_that_the_model_cut_or_refused_is_whole_and_says_why(
    client: TestClient, provider: ScriptedProvider, reason: str
) -> None:
    provider.script = ("a", Finish(reason))  # type: ignore[arg-type]
    finish, done = chunks(client.post("/api/chat", json=HI).text)[-2:]
    assert (finish["messageMetadata"], done) == ({"reason": reason}, "[DONE]")


def test_a_refusal_without_a_word_has_no_part(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = (Finish("refusal"),)
    types = [chunk["type"] for chunk in chunks(client.post("/api/chat", json=HI).text)[:-1]]
    assert types == ["start", "finish"]


def test_an_answer_that_failed_ends_in_the_error_so_that_nothing_says_it_is_whole(
    client: TestClient, provider: ScriptedProvider
) -> None:
    provider.script = ("a", RuntimeError("the secret"))
    response = client.post("/api/chat", json=HI)
    assert chunks(response.text)[2:] == [
        {"type": "text-delta", "id": "1", "delta": "a"},
        {"type": "error", "errorText": "The model could not answer."},
    ]


def test_nothing_follows_what_was_made_of_an_answer_that_was_stopped() -> None:
    """With a `finish` it would pass for the whole, and with an `error` for a failure."""
    encode = UIMessageEncoder()
    frames = [encode(event, 1) for event in (Status("thinking", "s"), Token("a"), Done("cancelled"))]
    assert frames[-1] == b""


@pytest.mark.parametrize(
    ("shown", "rest"),
    [
        ("", ["a", "b\U0001f600", "c"]),
        ("ab", ["\U0001f600", "c"]),
        ("ab\U0001f600", ["c"]),
        ("ab\U0001f600c", []),
    ],
)
def test_what_the_page_shows_already_is_left_out(shown: str, rest: list[str]) -> None:
    encode = UIMessageEncoder(shown)
    tokens = [Token(text) for text in ("a", "b\U0001f600", "c")]
    frames = b"".join(encode(event, 1) for event in (Status("thinking", "s"), *tokens, Done())).decode()
    *sent, _ = chunks(frames)
    assert [chunk["delta"] for chunk in sent if chunk["type"] == "text-delta"] == rest
    types = [chunk["type"] for chunk in sent if chunk["type"] != "text-delta"]
    assert types == (["start", "text-start", "text-end", "finish"] if rest else ["start", "finish"])


@pytest.mark.parametrize("reason", ["error", "timeout", "shutdown"])
def test_nothing_follows_an_error(reason: str) -> None:
    encode = UIMessageEncoder()
    frames = [encode(event, None) for event in (Status("thinking", "s"), Token("a"), ERROR, Done(reason))]
    assert chunks(frames[-2].decode()) == [{"type": "error", "errorText": "It could not."}]
    assert frames[-1] == b""


def test_a_keep_alive_is_a_comment() -> None:
    assert UIMessageEncoder()(KeepAlive(), None) == b": keep-alive\n\n"


def test_a_text_with_every_break_is_one_line() -> None:
    nasty = '\r\n\n data: \u2028\x85\x00"\\'
    assert chunks(UIMessageEncoder()(Token(nasty), 1).decode())[-1]["delta"] == nasty


def test_the_model_gets_the_text_of_each_message(client: TestClient, provider: ScriptedProvider) -> None:
    ask(
        client,
        message(text("one "), text("two")),
        message({"type": "step-start"}, {"type": "reasoning", "text": "hm"}, text("three"), role="assistant"),
        message({"type": "data-note", "data": {"text": 7}}, text("four")),
    )
    assert [(each.role, each.content) for each in provider.asked[0]] == [
        ("user", "one two"),
        ("assistant", "three"),
        ("user", "four"),
    ]


def test_a_message_without_text_is_not_for_the_model(client: TestClient, provider: ScriptedProvider) -> None:
    """After an error before the first word, `useChat` keeps one, and sends it with the next question."""
    ask(client, message(text("one")), message(role="assistant"), message(text("two")))
    assert [each.content for each in provider.asked[0]] == ["one", "two"]


def test_a_file_that_was_refused_does_not_spoil_the_rest_of_the_chat(
    client: TestClient, provider: ScriptedProvider
) -> None:
    """`useChat` sends it with each later message, and no reader can take it out."""
    file = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}
    refused = ask(client, message(text("What is this?"), file))
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "messages"])
    taken = ask(client, message(text("What is this?"), file), message(text("Never mind"), role="user"))
    assert [each.content for each in provider.asked[0]] == ["What is this?", "Never mind"]
    assert chunks(taken.text)[-2]["messageMetadata"] == {"reason": "end", "leftOut": ["file"]}


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], ["messages"]),
        ([message()], ["messages"]),
        ([message(text("Hi")), message(text(""))], ["messages"]),
        ([message(text("Hi"), role="SECRET")], ["messages", 0, "role"]),
        ([message(text("SECRET"), role="system"), message(text("Hi"))], ["messages", 0, "role"]),
        ([message(text("SECRET \ud800"))], ["messages", 0, "parts", 0, "text"]),
        ([message(text("Hi"), {"type": "file", "url": "data:SECRET"})], ["messages"]),
        ([message({"type": "text", "text": {"SECRET": 1}})], ["messages", 0, "parts", 0, "text"]),
        ([{"role": "user", "content": "SECRET"}], ["messages", 0, "parts"]),
    ],
)
def test_a_bad_request_is_a_422_that_names_the_field_and_does_not_echo_it(
    client: TestClient, messages: list[dict[str, Any]], field: list[object]
) -> None:
    response = ask(client, *messages)
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", *field])
    assert "SECRET" not in response.text


async def test_a_shutdown_is_an_error_to_the_reader(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    app = build(settings.model_copy(update={"drain_seconds": 0.01}), ScriptedProvider("a", 60.0))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, "/api/chat", body=HI, **state) as stream:
            while "text-delta" not in await stream.text():
                pass
            state["shutdown"].begin()
            assert chunks(await stream.rest()) == [{"type": "error", "errorText": "The server is restarting."}]


def test_the_docs_show_such_a_stream(client: TestClient) -> None:
    response = client.get("/openapi.json").json()["paths"]["/api/chat"]["post"]["responses"]["200"]
    assert list(response["content"]) == ["text/event-stream"]
    assert chunks(response["content"]["text/event-stream"]["example"])[-1] == "[DONE]"


def test_who_may_begin_no_more_is_told_and_still_gets_what_there_is(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    async def one(caller: str) -> None:
        if provider.asked:
            raise TooMany("wait for 9 s", limit="some", quota=1, per="w=60", seconds=9)

    app = build(settings, provider)
    app.limits.append(one)  # type: ignore[attr-defined]
    with TestClient(app) as client:
        whole = ask(client, message(text("Hi")))
        refused = client.post("/api/chat", json=HI | {"id": "c-2"})
        assert (refused.status_code, refused.json()) == (429, {"detail": "wait for 9 s"})
        assert (refused.headers["Retry-After"], len(provider.asked)) == ("9", 1)
        shown = message(text("Hello"), role="assistant") | {"id": whole.headers["X-Stream-ID"]}
        again = ask(client, message(text("Hi")), shown)
        assert (again.status_code, again.headers["X-Stream-ID"]) == (200, whole.headers["X-Stream-ID"])
