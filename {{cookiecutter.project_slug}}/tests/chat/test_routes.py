import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from app.callers.caller import CallerDep
from app.chat.answer_stream import AnswerStream
from app.chat.dependencies import AnswersDep
from app.chat.providers.base import Asker, Finish, Message, Provider
from app.chat.routes import MAX_QUESTION_CHARS
from app.logs import request_id
from app.settings import Settings
from app.streams.events import Event
from tests.asgi import exchange
from tests.providers import ScriptedProvider
from tests.sse import Received, parse
from tests.two_callers import ME, YOU

JSON = {"Content-Type": "application/json"}


def test_an_answer_streams_as_status_tokens_and_done(client: TestClient) -> None:
    response = client.post("/chat/stream", json={"question": "Hi"})
    stream_id = response.headers["x-stream-id"]
    assert parse(response.text) == [
        Received("status", {"state": "thinking", "stream_id": stream_id}, "1"),
        Received("token", {"text": "Hello"}, "2"),
        Received("token", {"text": " there"}, "3"),
        Received("done", {"reason": "end"}, "4"),
    ]


def test_the_path_of_an_answer_has_the_prefix_of_the_service(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    with TestClient(build(settings, provider), root_path="/api") as client:
        location = client.post("/api/chat/stream", json={"question": "Hi"}).headers["Location"]
        assert location.startswith("/api/chat/stream/")
        assert client.get(location).status_code == 200


def test_every_stream_has_an_id_of_128_bits_of_its_own(client: TestClient) -> None:
    ids = {client.post("/chat/stream", json={"question": "Hi"}).headers["x-stream-id"] for _ in range(3)}
    assert [len(id) for id in ids] == [32, 32, 32]  # noqa: A001


def test_history_goes_along(client: TestClient, provider: ScriptedProvider) -> None:
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    client.post("/chat/stream", json={"question": "three", "history": history})
    assert [(message.role, message.content) for message in provider.asked[0]] == [
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
    ]


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_answer_in_the_history_is_not_for_the_model(
    client: TestClient, provider: ScriptedProvider, blank: str
) -> None:
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": blank}]
    client.post("/chat/stream", json={"question": "two", "history": history})
    assert [message.content for message in provider.asked[0]] == ["one", "two"]


def test_a_failing_model_ends_in_an_error_with_the_request_id(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = ("a", RuntimeError("the secret"))
    response = client.post("/chat/stream", json={"question": "Hi"})
    error = parse(response.text)[-2]
    assert error.data["request_id"] == response.headers["x-request-id"]
    assert [event.name for event in parse(response.text)] == ["status", "token", "error", "done"]
    assert "secret" not in response.text


def test_what_an_answer_took_is_recorded_after_it(
    client: TestClient, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.script = ("a", Finish("length", {"input_tokens": 3, "output_tokens": 1}))
    stream_id = client.post("/chat/stream", json={"question": "Hi"}).headers["x-stream-id"]
    (record,) = (record for record in caplog.records if record.name == "app.usage")
    took = {"stream": stream_id, "model": "scripted", "reason": "length", "input_tokens": 3, "output_tokens": 1}
    assert vars(record).items() >= took.items()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"question": ""}',
        b'{"question": 17}',
        b'{"question": NaN}',
        b'{"question": "SECRET \\ud800"}',
        b'{"question": "SECRET \xff"}',
        b'{"question": ' + b"[" * 100_000,
        b'{"question": ' + b"1" * 5_000 + b"}",
        b'{"question": "Hi", "history": [{"role": "system", "content": "SECRET"}]}',
        b'{"question": "Hi", "history": "SECRET"}',
        b'{"question": "Hi", "history": [{"role": "user", "content": "SECRET \\ud800"}]}',
        json.dumps({"question": "SECRET" * MAX_QUESTION_CHARS}).encode(),
    ],
    ids=lambda body: body[:24].decode(errors="replace"),
)
def test_a_bad_body_is_a_422_that_names_the_field_and_does_not_echo_it(client: TestClient, body: bytes) -> None:
    response = client.post("/chat/stream", content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"
    assert "SECRET" not in response.text
    assert "input" not in response.json()["detail"][0]


def test_the_longest_question_is_accepted(client: TestClient) -> None:
    question = "x" * MAX_QUESTION_CHARS
    assert client.post("/chat/stream", json={"question": question}).status_code == 200


def test_the_smallest_example_streams_the_words_of_its_text(client: TestClient) -> None:
    response = client.get("/stream", params={"text": "one  two\nthree"})
    assert [event.data["text"] for event in parse(response.text) if event.name == "token"] == ["one", "two", "three"]
    assert [event.name for event in parse(response.text)] == ["status", "token", "token", "token", "done"]


def test_the_smallest_example_is_not_replayed_for_a_browser_that_comes_back(client: TestClient) -> None:
    assert client.get("/stream", params={"text": "x"}, headers={"Last-Event-ID": "4"}).status_code == 204


def answered(client: TestClient) -> str:
    """The path of an answer that has ended: `status`, two `token`s and `done`."""
    return client.post("/chat/stream", json={"question": "Hi"}).headers["location"]


def ids(response: httpx2.Response) -> list[str | None]:
    return [event.id for event in parse(response.text)]


def test_an_answer_is_read_again(client: TestClient) -> None:
    first = client.post("/chat/stream", json={"question": "Hi"})
    again = client.get(first.headers["location"])
    assert (again.text, again.headers["x-stream-id"]) == (first.text, first.headers["x-stream-id"])


@pytest.mark.parametrize("how", [{"headers": {"Last-Event-ID": "2"}}, {"params": {"after": "2"}}])
def test_an_answer_is_read_again_from_a_place_on(client: TestClient, how: dict[str, Any]) -> None:
    assert ids(client.get(answered(client), **how)) == ["3", "4"]


def test_the_place_in_a_browsers_header_wins(client: TestClient) -> None:
    """It repeats the address of its first request, with the place that this had."""
    assert ids(client.get(answered(client), params={"after": "1"}, headers={"Last-Event-ID": "3"})) == ["4"]


def test_at_the_end_of_an_answer_there_is_no_more(client: TestClient) -> None:
    response = client.get(answered(client), headers={"Last-Event-ID": "4"})
    assert (response.status_code, response.text) == (204, "")


def test_behind_the_end_of_an_answer_its_end_comes_again(client: TestClient) -> None:
    assert ids(client.get(answered(client), headers={"Last-Event-ID": "5"})) == ["4"]


@pytest.mark.parametrize("place", ["x", "-1", "1.5", "9" * 30, "", "1_0", "+1", "1.0", "\u00b2", "\u0661", "1 0"])
def test_a_place_that_is_no_number_is_refused(client: TestClient, place: str) -> None:
    path = answered(client)
    header = client.get(path, headers={b"Last-Event-ID": place.encode()})
    query = client.get(path, params={"after": place})
    assert (header.status_code, header.json()["detail"][0]["loc"]) == (422, ["header", "last-event-id"])
    assert (query.status_code, query.json()["detail"][0]["loc"]) == (422, ["query", "after"])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_answer_that_is_not_known_is_404(client: TestClient, method: str) -> None:
    response = client.request(method, "/chat/stream/0123456789abcdef")
    assert (response.status_code, response.json()) == (404, {"detail": "no such answer"})


def test_one_that_has_ended_can_be_stopped_again_and_again(client: TestClient) -> None:
    path = answered(client)
    assert [client.delete(path).status_code for _ in range(2)] == [202, 202]
    assert parse(client.get(path).text)[-1].data == {"reason": "end"}


def test_a_request_that_is_sent_again_is_not_paid_for_again(client: TestClient, provider: ScriptedProvider) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = (client.post("/chat/stream", json={"question": "Hi"}, headers=key) for _ in range(2))
    assert (again.text, again.headers["location"]) == (first.text, first.headers["location"])
    assert len(provider.asked) == 1
    other = client.post("/chat/stream", json={"question": "Ho"}, headers=key)
    assert (other.status_code, other.json()) == (409, {"detail": "this Idempotency-Key came with another question"})


def test_an_answer_and_its_key_are_their_caller_s(named: TestClient, provider: ScriptedProvider) -> None:
    mine, yours = (
        named.post("/chat/stream", json={"question": question}, headers=who | {"Idempotency-Key": "k-1"})
        for question, who in (("Hi", ME), ("Ho", YOU))
    )
    assert (mine.status_code, yours.status_code, len(provider.asked)) == (200, 200, 2)
    path = mine.headers["location"]
    assert path != yours.headers["location"]
    for method in ("GET", "DELETE"):
        theirs = named.request(method, path, headers=YOU)
        unknown = named.request(method, f"/chat/stream/{'0' * 32}", headers=YOU)
        del theirs.headers["x-request-id"], unknown.headers["x-request-id"]
        assert (theirs.status_code, theirs.content, theirs.headers) == (404, unknown.content, unknown.headers)
    assert named.get(path, headers=ME).text == mine.text


async def test_an_answer_outlives_its_request_and_what_that_has_opened(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    """A dependency with `yield` has closed when the model comes to its end. The request id goes along."""
    more, closed, seen = asyncio.Event(), asyncio.Event(), []

    async def opens() -> AsyncIterator[None]:
        yield
        closed.set()

    class Model(ScriptedProvider):
        async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
            async for piece in super().stream(messages, asker):
                yield piece
            seen.append((request_id.get(), closed.is_set()))

    provider = Model("a", more, "b")
    app = build(settings, provider)

    @app.post("/ask", dependencies=[Depends(opens)])
    async def ask(answers: AnswersDep, caller: CallerDep) -> AnswerStream:
        return AnswerStream(await answers.ask([Message(role="user", content="?")], caller.name))

    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, "/ask", body={}, headers={"X-Request-ID": "of-the-request"}, **state) as stream:
            while "token" not in await stream.text():
                pass
        await asyncio.wait_for(closed.wait(), 10)
        more.set()
        await asyncio.wait_for(provider.closed.wait(), 10)
        await asyncio.sleep(0)
    assert seen == [("of-the-request", True)]
