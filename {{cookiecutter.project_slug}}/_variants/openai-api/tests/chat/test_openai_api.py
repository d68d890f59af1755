import asyncio
import gc
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from app.chat.providers.base import Asker, Finish, Message, ModelError, Provider
from app.errors import TooMany
from app.settings import Settings
from app.streams.events import Event, Reasoning, Tool
from tests.asgi import exchange
from tests.callers.knowing import HEADERS, KNOWN
from tests.providers import ScriptedProvider
from tests.two_callers import ME, YOU

PATH = "/v1/chat/completions"
HI = {"model": "any", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = HI | {"stream": True}


def chunks(body: str) -> list[Any]:
    """The data of each frame."""
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def ask(client: TestClient, **changes: object) -> Response:
    return client.post(PATH, content=json.dumps(HI | changes), headers={"Content-Type": "application/json"})


def test_a_stream_is_chunks_of_one_completion(client: TestClient) -> None:
    response = ask(client, stream=True)
    *answer, done = chunks(response.text)
    assert done == "[DONE]"
    choices = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]
    choices += [choices[0] | {"delta": {"content": text}} for text in ("Hello", " there")]
    choices += [choices[0] | {"delta": {}, "finish_reason": "stop"}]
    head = {"id": f"chatcmpl-{response.headers['x-stream-id']}", "object": "chat.completion.chunk", "model": "scripted"}
    created = {chunk.pop("created") for chunk in answer}
    assert answer == [head | {"choices": [choice]} for choice in choices]
    assert len(created) == 1
    assert isinstance(created.pop(), int)


@pytest.mark.parametrize(("usage", "counts"), [({"input_tokens": 3, "output_tokens": 2}, (3, 2, 5)), ({}, (0, 0, 0))])
def test_usage_comes_last_where_it_is_asked_for(
    client: TestClient, provider: ScriptedProvider, usage: dict[str, int], counts: tuple[int, ...]
) -> None:
    provider.script = ("a", Finish(usage=usage))
    *others, last, done = chunks(ask(client, stream=True, stream_options={"include_usage": True}).text)
    assert [chunk["usage"] for chunk in others] == [None] * 3
    assert (last["choices"], tuple(last["usage"].values()), done) == ([], counts, "[DONE]")


def test_an_answer_in_one_piece_is_a_completion(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = ("Hello", " there", Finish(usage={"input_tokens": 3, "output_tokens": 2}))
    response = ask(client)
    answer = response.json()
    assert isinstance(answer.pop("created"), int)
    message = {"role": "assistant", "content": "Hello there", "refusal": None}
    assert answer == {
        "id": f"chatcmpl-{response.headers['x-stream-id']}",
        "object": "chat.completion",
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


THINKS = (
    Reasoning("Let me "),
    Reasoning("look."),
    Tool("1", "look_up", "called", {"term": "SECRET"}),
    "Found",
    Tool("1", "look_up", "done", output=["SECRET"]),
    Tool("2", "index_document", "called"),
    Tool("2", "index_document", "failed", output="SECRET"),
    Reasoning("So."),
    " it.",
    Finish(usage={"input_tokens": 3, "output_tokens": 9, "reasoning_tokens": 7}),
)
THOUGHTS = (
    "Let me look.\n[look_up: called]\n\n[look_up: done]\n\n[index_document: called]\n\n[index_document: failed]\nSo."
)
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 9,
    "total_tokens": 12,
    "completion_tokens_details": {"reasoning_tokens": 7},
}


def test_thoughts_are_reasoning_content_with_a_line_for_each_tool(
    client: TestClient, provider: ScriptedProvider
) -> None:
    """Each delta has one field, for there are clients that read only one. No tool is the client's to call, and what it
    was called with and gave is not shown."""
    provider.script = THINKS
    body = ask(client, stream=True, stream_options={"include_usage": True}).text
    begin, *deltas, last = [choice for chunk in chunks(body)[:-1] for choice in chunk["choices"]]
    assert (begin["delta"], last["delta"]) == ({"role": "assistant", "content": ""}, {})
    assert [*deltas[0]["delta"]] == ["reasoning_content"]
    assert "".join(each["delta"].get("content", "") for each in deltas) == "Found it."
    assert "".join(each["delta"].get("reasoning_content", "") for each in deltas) == THOUGHTS
    assert sum(len(each["delta"]) for each in deltas) == len(deltas)
    assert {each["finish_reason"] for each in deltas} == {None}
    assert last["finish_reason"] == "stop"
    assert chunks(body)[-2]["usage"] == USAGE
    assert "SECRET" not in body


def test_thoughts_are_beside_the_text_of_an_answer_in_one_piece(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = THINKS
    answer = ask(client).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Found it.",
        "refusal": None,
        "reasoning_content": THOUGHTS,
    }
    assert answer["usage"] == USAGE


def test_thoughts_that_are_not_shown_leave_nothing_but_their_count(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    """What the tools do is no thought."""
    app = build(settings.model_copy(update={"show_reasoning": False}), ScriptedProvider(*THINKS))
    with TestClient(app) as client:
        answer, streamed = ask(client).json(), chunks(ask(client, stream=True).text)[:-1]
    message = answer["choices"][0]["message"]
    assert message["content"] == "Found it."
    deltas = [choice["delta"] for chunk in streamed for choice in chunk["choices"]]
    for shown in message["reasoning_content"], "".join(delta.get("reasoning_content", "") for delta in deltas):
        assert shown == THOUGHTS.removeprefix("Let me look.").removesuffix("So.")
    assert answer["usage"] == USAGE


def test_a_stream_that_fails_amid_thoughts_ends_in_the_error(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = (Reasoning("hm"), ModelError("on purpose"))
    *_, thought, error = chunks(ask(client, stream=True).text)
    assert thought["choices"][0]["delta"] == {"reasoning_content": "hm"}
    assert error["error"]["code"] == "model_error"
    assert ask(client).status_code == 502


@pytest.mark.parametrize(("reason", "named"), [("end", "stop"), ("length", "length"), ("refusal", "content_filter")])
def test_how_it_finished_has_their_names(
    client: TestClient, provider: ScriptedProvider, reason: str, named: str
) -> None:
    provider.script = ("a", Finish(reason))  # type: ignore[arg-type]
    assert ask(client).json()["choices"][0]["finish_reason"] == named
    assert chunks(ask(client, stream=True).text)[-2]["choices"][0]["finish_reason"] == named


def test_a_text_with_every_break_is_one_line(client: TestClient, provider: ScriptedProvider) -> None:
    nasty = '\r\n\n data: \u2028\x85\x00"\\""'
    provider.script = (nasty,)
    assert chunks(ask(client, stream=True).text)[1]["choices"][0]["delta"]["content"] == nasty


def test_a_stream_that_fails_ends_in_the_error_so_that_nothing_says_it_is_whole(
    client: TestClient, provider: ScriptedProvider
) -> None:
    provider.script = ("a", RuntimeError("the secret"))
    *_, token, error = chunks(ask(client, stream=True).text)
    assert token["choices"][0]["delta"] == {"content": "a"}
    message = "The model could not answer."
    assert error == {"error": {"message": message, "type": "server_error", "param": None, "code": "model_error"}}


async def test_a_stream_that_somebody_stops_ends_in_an_error(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    app = build(settings, ScriptedProvider("a", 60.0))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, PATH, body=STREAM, **state) as stream:
            while '"a"' not in (frames := await stream.text()):
                pass
            stream_id = chunks(frames)[0]["id"].removeprefix("chatcmpl-")
            await (await state["answers"].get(stream_id, "anonymous")).stop()
            (error,) = chunks(await stream.rest())
    assert (error["error"]["message"], error["error"]["code"]) == ("The answer was stopped.", "cancelled")


@pytest.mark.parametrize(
    ("fault", "status", "code", "again"),
    [
        (ModelError("the secret"), 502, "model_error", "true"),
        (ModelError("the secret", retryable=False), 502, "model_error", "false"),
        (ModelError("the secret", False, "model_unauthorized", "-"), 502, "model_unauthorized", "false"),
        (ModelError("the secret", False, "model_not_found", "-"), 502, "model_not_found", "false"),
        (60.0, 504, "model_timeout", "true"),
    ],
)
def test_a_failure_before_an_answer_in_one_piece_is_an_http_error(
    settings: Settings,
    build: Callable[[Settings, Provider], FastAPI],
    caplog: pytest.LogCaptureFixture,
    fault: object,
    status: int,
    code: str,
    again: str,
) -> None:
    app = build(settings.model_copy(update={"model_timeout_seconds": 0.02}), ScriptedProvider("a", fault))
    with TestClient(app) as client:
        response = ask(client)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (status, code, "server_error")
    assert response.headers["x-should-retry"] == again
    assert "secret" not in response.text
    (record,) = (record for record in caplog.records if record.name == "app.usage")
    assert vars(record)["stream"] == response.headers["x-stream-id"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_completion_is_its_caller_s(
    named: TestClient, provider: ScriptedProvider, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that came with it is no name of it either: OpenAI's clients can't come back."""
    caplog.set_level("INFO", "app.usage")
    key = {"Idempotency-Key": "k-1"}
    mine, yours = (named.post(PATH, json=HI | {"stream": stream}, headers=who | key) for who in (ME, YOU))
    assert (mine.headers["x-stream-id"] != yours.headers["x-stream-id"], len(provider.asked)) == (True, 2)
    path = f"/chat/stream/{mine.headers['x-stream-id']}"
    assert named.get(path, headers=ME).status_code == 200
    assert [named.request(method, path, headers=YOU).status_code for method in ("GET", "DELETE")] == [404, 404]
    usage = [vars(record) for record in caplog.records if record.name == "app.usage"]
    assert [(line["caller"], line["stream"]) for line in usage] == [
        ("me", mine.headers["x-stream-id"]),
        ("you", yours.headers["x-stream-id"]),
    ]


IMAGE = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:SECRET"}}]


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code", "retry_after"),
    [
        (ModelError("-", True, "model_busy", "-", 1.5), 429, "rate_limit_error", "rate_limit_exceeded", "2"),
        (ModelError("-", True, "model_busy", "-"), 429, "rate_limit_error", "rate_limit_exceeded", None),
        (
            ModelError("-", False, "context_too_long", "-"),
            400,
            "invalid_request_error",
            "context_length_exceeded",
            None,
        ),
    ],
)
def test_what_a_client_can_do_something_about_has_openais_code(
    client: TestClient,
    provider: ScriptedProvider,
    fault: ModelError,
    status: int,
    kind: str,
    code: str,
    retry_after: str | None,
) -> None:
    provider.script = (fault,)
    response = ask(client)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (status, kind, code)
    assert response.headers.get("retry-after") == retry_after
    assert chunks(ask(client, stream=True).text)[-1] == response.json()


def test_the_model_gets_all_messages_as_text(client: TestClient, provider: ScriptedProvider) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In English."},
        {"role": "user", "content": parts, "name": "Ann"},
        {"role": "assistant", "content": "", "refusal": None},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
        {"role": "tool", "content": "found", "tool_call_id": "c"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "three"}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm"},
        {
            "role": "assistant",
            "content": "and",
            "reasoning_content": "hm",
            "reasoning": "hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
            "thinking": "hm",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm"}],
            "tool_calls": [{"id": "c", "type": "function"}],
        },
        {"role": "user", "content": IMAGE},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "four"},
    ]
    ignored = {"temperature": 0.1, "tools": [{"type": "function"}], "tool_choice": "auto", "n": 1}
    assert ask(client, messages=messages, **ignored, response_format={"type": "text"}).is_success
    assert [(each.role, each.content) for each in provider.asked[0]] == [
        ("system", "Be brief."),
        ("system", "In English."),
        ("user", "one two"),
        ("assistant", "three"),
        ("assistant", "and"),
        ("user", "Hi"),
        ("user", "four"),
    ]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "SECRET"}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}, {"role": "system", "content": "SECRET"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "SECRET"}, {"role": "developer", "content": "Go on."}]}, "messages"),
        ({"messages": [{"role": "critic", "content": "SECRET"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "SECRET"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": "SECRET"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "SECRET \ud800"}]}, "messages[0].content"),
        ({"n": 2}, "n"),
        ({"tool_choice": {"type": "function", "function": {"name": "SECRET"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"function_call": {"name": "SECRET"}}, "function_call"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stream_options": {"include_usage": "SECRET"}}, "stream_options.include_usage"),
    ],
)
def test_what_can_not_be_had_is_a_400_that_names_it_and_does_not_echo_it(
    client: TestClient, changes: dict[str, object], param: str
) -> None:
    response = ask(client, **changes)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["message"].startswith(f"{param}: ")
    assert "Value error" not in error["message"]
    assert "SECRET" not in response.text


def test_there_is_one_model_whatever_its_name(client: TestClient, provider: ScriptedProvider) -> None:
    provider.model = "maker/model:7b"
    listed = client.get("/v1/models").json()
    model = {"id": "maker/model:7b", "object": "model", "created": 0, "owned_by": "my-chat"}
    assert listed == {"object": "list", "data": [model | {"owned_by": listed["data"][0]["owned_by"]}]}
    assert client.get("/v1/models/maker/model:7b").json() == listed["data"][0]
    assert client.get("/v1/models/other").status_code == 404


@pytest.fixture
def guarded(settings: Settings, build: Callable[..., FastAPI]) -> FastAPI:
    changes = {"cors_origins": ["https://chat.example.com"], "max_body_bytes": 1000}
    return build(settings.model_copy(update=changes), ScriptedProvider("a"), KNOWN)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("stream", [True, False])
def test_who_may_begin_no_more_is_told_as_the_sdks_read_it(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI], stream: bool
) -> None:
    """They wait for as long, and ask again."""

    async def refuse(caller: str) -> None:
        raise TooMany("wait for 9 s", limit="some", quota=1, per="w=60", seconds=9)

    app = build(settings, provider)
    app.limits.append(refuse)  # type: ignore[attr-defined]
    with TestClient(app) as client:
        refused = ask(client, stream=stream)
    error = {"message": "wait for 9 s", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    assert (refused.status_code, refused.json(), provider.asked) == (429, {"error": error}, [])
    assert (refused.headers["Retry-After"], refused.headers["RateLimit"]) == ("9", '"some";r=0;t=9')


@pytest.mark.parametrize(
    ("request_of", "status", "code"),
    [
        ({"method": "GET", "url": "/v1/models"}, 401, "invalid_api_key"),
        ({"method": "POST", "url": PATH, "content": b"x" * 1001, "headers": HEADERS}, 413, None),
        ({"method": "POST", "url": PATH, "content": b"{", "headers": HEADERS}, 400, None),
        ({"method": "POST", "url": PATH, "content": b"{", "headers": HEADERS | JSON}, 400, None),
        ({"method": "GET", "url": "/v1/nowhere", "headers": HEADERS}, 404, None),
        ({"method": "GET", "url": PATH, "headers": HEADERS}, 405, None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_every_error_has_their_shape(
    guarded: FastAPI, request_of: dict[str, Any], status: int, code: str | None, prefix: str
) -> None:
    """Also behind a proxy that adds a prefix; with the headers that the error has elsewhere."""
    with TestClient(guarded, root_path=prefix) as client:
        origin = {"Origin": "https://chat.example.com", **request_of.get("headers", {})}
        response = client.request(**request_of | {"url": prefix + request_of["url"], "headers": origin})
    error = response.json()["error"]
    assert response.status_code == status
    assert error == {"message": error["message"], "type": "invalid_request_error", "param": None, "code": code}
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["access-control-allow-origin"] == "https://chat.example.com"
    assert response.headers["x-request-id"]
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_a_failure_of_ours_has_it_too(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    app = build(settings, ScriptedProvider("a"))

    @app.get("/v1/broken")
    def broken() -> None:
        raise RuntimeError("the secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/v1/broken")
    expected = {"message": "internal error", "type": "server_error", "param": None, "code": None}
    assert (response.status_code, response.json()) == (500, {"error": expected})


def test_errors_elsewhere_keep_their_own_shape(client: TestClient) -> None:
    assert client.get("/nowhere").json() == {"detail": "Not Found"}


async def test_a_server_whose_drain_time_is_over_refuses_in_their_shape(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    app = build(settings, ScriptedProvider("a"))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        state["shutdown"].expired = True
        async with exchange(app, PATH, body=STREAM, **state) as answer:
            assert answer.status == 503
            assert json.loads(await answer.text())["error"]["type"] == "server_error"


async def test_a_reader_who_leaves_closes_the_model(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    provider = ScriptedProvider("a", 60.0)
    app = build(settings, provider)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, PATH, body=STREAM, **state) as stream:
            while '"a"' not in await stream.text():
                pass
            stream.gone.set()
            await stream.until_ended()
            assert provider.closed.is_set()
    (record,) = (record for record in caplog.records if record.name == "app.usage")
    assert vars(record)["reason"] == "cancelled"


@pytest.mark.parametrize("streams", [True, False])
def test_a_request_does_not_keep_its_body_while_it_is_answered(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI], streams: bool
) -> None:
    kept = []

    class Looks(ScriptedProvider):
        async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
            for _ in range(100):  # until the route has ended
                await asyncio.sleep(0)
            gc.collect()
            lists = [each for each in gc.get_objects() if type(each) is list and len(each) == 1]
            kept.append([each for (each,) in lists if type(each) is str and each == "of this test"])
            yield "a"

    body = json.dumps(HI | {"stream": streams, "ignored": ["of this test"]})
    with TestClient(build(settings, Looks())) as client:
        assert client.post(PATH, content=body, headers=JSON).status_code == 200
    assert kept == [[]]


async def test_a_shutdown_is_an_error_to_the_reader(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    app = build(settings.model_copy(update={"drain_seconds": 0.01}), ScriptedProvider("a", 60.0))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, PATH, body=STREAM, **state) as stream:
            while '"a"' not in await stream.text():
                pass
            state["shutdown"].begin()
            (last,) = chunks(await stream.rest())
            assert last["error"]["code"] == "server_shutdown"


def test_the_docs_show_both_forms_and_the_shape_of_errors(client: TestClient) -> None:
    responses = client.get("/openapi.json").json()["paths"][PATH]["post"]["responses"]
    content = responses["200"]["content"]
    message = content["application/json"]["example"]["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello there", "A greeting.\n[greet: called]\n")
    assert chunks(content["text/event-stream"]["example"])[-1] == "[DONE]"
    assert responses.keys() == {"200", "4XX"}
    assert responses["4XX"]["content"].keys() == {"application/json"}
