"""What a message has besides one text: reasoning, tools, and texts between them."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.chat.answer_settings import AnswerSettings
from app.chat.ui_message_stream import UIMessageEncoder
from app.settings import Settings
from app.streams.events import Done, Error, Event, Reasoning, Status, Token, Tool
from tests.chat.test_ai_sdk import HI, ask, chunks, message, text
from tests.chat.test_ai_sdk_resume import page_of, said, until
from tests.providers import ScriptedProvider

CALLED = Tool("t", "look_up", "called", {"word": "Hi"})
FOUND = Tool("t", "look_up", "done", output=["a greeting"])
FAILED = Tool("u", "ask", "failed", output="Nobody is there.")
ANSWER = (
    Reasoning("Hm"),
    Reasoning("."),
    "One ",
    "moment.",
    CALLED,
    Tool("u", "ask", "called"),
    FOUND,
    FAILED,
    Reasoning("Ah!"),
    "Hi.",
)
OF_TOOLS = {"providerExecuted": True, "dynamic": True}


def encoded(*events: Event, encode: UIMessageEncoder | None = None) -> list[Any]:
    encode = encode or UIMessageEncoder()
    return chunks(b"".join(encode(event, 1) for event in events).decode())


def types(sent: Sequence[Any]) -> list[str]:
    return [chunk["type"] for chunk in sent]


def test_a_message_has_parts_in_the_order_of_the_answer(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = ANSWER
    start, *sent = chunks(client.post("/api/chat", json=HI).text)
    assert sent == [
        {"type": "reasoning-start", "id": "1"},
        {"type": "reasoning-delta", "id": "1", "delta": "Hm"},
        {"type": "reasoning-delta", "id": "1", "delta": "."},
        {"type": "reasoning-end", "id": "1"},
        {"type": "text-start", "id": "2"},
        {"type": "text-delta", "id": "2", "delta": "One "},
        {"type": "text-delta", "id": "2", "delta": "moment."},
        {"type": "text-end", "id": "2"},
        {"type": "tool-input-available", "toolCallId": "t", "toolName": "look_up", "input": {"word": "Hi"}, **OF_TOOLS},
        {"type": "tool-input-available", "toolCallId": "u", "toolName": "ask", "input": None, **OF_TOOLS},
        {"type": "tool-output-available", "toolCallId": "t", "output": ["a greeting"], **OF_TOOLS},
        {"type": "tool-output-error", "toolCallId": "u", "errorText": "Nobody is there.", **OF_TOOLS},
        {"type": "reasoning-start", "id": "3"},
        {"type": "reasoning-delta", "id": "3", "delta": "Ah!"},
        {"type": "reasoning-end", "id": "3"},
        {"type": "text-start", "id": "4"},
        {"type": "text-delta", "id": "4", "delta": "Hi."},
        {"type": "text-end", "id": "4"},
        {"type": "finish", "messageMetadata": {"reason": "end"}},
        "[DONE]",
    ]
    assert chunks(client.get("/api/chat/c-1/stream").text) == [start, *sent]


def test_what_comes_of_a_tool_does_not_cut_a_text() -> None:
    sent = encoded(CALLED, Token("a"), FOUND, Token("b"))
    assert types(sent) == [
        "tool-input-available",
        "text-start",
        "text-delta",
        "tool-output-available",
        "text-delta",
    ]


def test_a_tool_that_is_told_of_at_its_end_only_has_a_part_too() -> None:
    """A chat throws at an output without an input."""
    assert types(encoded(FOUND, FAILED)) == [
        "tool-input-available",
        "tool-output-available",
        "tool-input-available",
        "tool-output-error",
    ]


@pytest.mark.parametrize(
    ("output", "words"), [("No.", "No."), (None, "The tool failed."), ({"code": 7, "ü": []}, '{"code":7,"\\u00fc":[]}')]
)
def test_why_a_tool_has_failed_is_a_text(output: object, words: str) -> None:
    *_, failed = encoded(CALLED, Tool("t", "look_up", "failed", output=output))
    assert failed["errorText"] == words


def test_an_error_leaves_open_what_is_open() -> None:
    """Else a part of an answer would look as if it were whole."""
    sent = encoded(Reasoning("a"), Error("model_error", "It could not.", True, "r-1"), Done("error"))
    assert types(sent) == ["reasoning-start", "reasoning-delta", "error"]


def test_an_event_of_a_kind_that_a_chat_does_not_know_is_left_out() -> None:
    class Own(Event):
        event_type = "own"

    assert UIMessageEncoder()(Own(), 1) == b""


@pytest.mark.parametrize("place", range(len(ANSWER) + 1))
def test_the_rest_of_an_answer_is_what_the_page_does_not_show_and_all_tools(place: int) -> None:
    """A chat puts what comes of a tool into the part that has its id."""
    events = [Token(piece) if isinstance(piece, str) else piece for piece in ANSWER]
    shown, missing = (
        ["".join(each.text for each in some if isinstance(each, kind)) for kind in (Token, Reasoning)]
        for some in (events[:place], events[place:])
    )
    sent = encoded(Status("thinking", "s"), *events, Done(), encode=UIMessageEncoder(*shown))[:-1]
    assert [chunk["toolCallId"] for chunk in sent if chunk["type"].startswith("tool-")] == ["t", "u", "t", "u"]
    for name, rest in zip(("text", "reasoning"), missing, strict=True):
        assert "".join(chunk["delta"] for chunk in sent if chunk["type"] == f"{name}-delta") == rest
        assert types(sent).count(f"{name}-start") == types(sent).count(f"{name}-end")


async def test_a_page_that_asks_with_a_part_of_the_answer_does_not_get_its_thoughts_twice(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    async with page_of(settings, ScriptedProvider(*ANSWER, 60.0), answer_settings()) as page:
        async with page.post() as one:
            await until(one, "Hi.")
        shown = said("One moment.", role="assistant", id=(await page.answer()).id)
        shown["parts"].insert(0, {"type": "reasoning", "text": "Hm.", "state": "done"})
        async with page.post(said("Hi"), shown) as two:
            sent = chunks(await until(two, "Hi."))
    assert [chunk["delta"] for chunk in sent if "delta" in chunk] == ["Ah!", "Hi."]


def tool(state: str, **data: object) -> dict[str, Any]:
    return {"type": "dynamic-tool", "toolName": "look_up", "toolCallId": "t", "state": state, **data}


@pytest.mark.parametrize(
    "between",
    [
        tool("input-streaming"),
        tool("input-available", input={"text": "no"}),
        tool("output-available", input="no", output={"text": "no"}),
        tool("output-error", errorText="no", providerExecuted=True),
        tool("output-denied", approval={"id": "a", "approved": False}),
        {"type": "tool-look_up", "toolCallId": "t", "state": "output-available", "input": 7, "output": [None]},
        {"type": "reasoning", "text": "no", "state": "done"},
        {"type": "step-start"},
    ],
    ids=lambda part: f"{part['type']} {part.get('state', '')}",
)
def test_texts_with_something_between_them_do_not_run_together(
    client: TestClient, provider: ScriptedProvider, between: dict[str, Any]
) -> None:
    """Only they are for the model. Those side by side are one, as of an answer whose rest came later."""
    answer = message(between, text("One mo"), text("ment."), between, text(""), between, text("Hi."), role="assistant")
    assert ask(client, message(text("Hi")), answer, message(text("Ho"))).status_code == 200
    assert [each.content for each in provider.asked[0]] == ["Hi", "One moment.\n\nHi.", "Ho"]


def test_an_answer_without_a_text_is_not_for_the_model(client: TestClient, provider: ScriptedProvider) -> None:
    thought = message({"type": "reasoning", "text": "Hm"}, tool("input-available"), role="assistant")
    ask(client, message(text("Hi")), thought)
    ask(client, message(text("Hi")), thought, message(text("Ho")))
    assert [[each.content for each in messages] for messages in provider.asked] == [["Hi"], ["Hi", "Ho"]]
