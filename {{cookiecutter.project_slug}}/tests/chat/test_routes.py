import json

import pytest
from fastapi.testclient import TestClient

from app.chat.providers.base import Finish
from app.chat.routes import MAX_QUESTION_CHARS
from tests.providers import ScriptedProvider
from tests.sse import Received, parse

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
