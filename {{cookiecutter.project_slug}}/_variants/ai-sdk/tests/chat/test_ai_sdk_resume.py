"""How a page comes back to an answer, stops it, and asks again while it runs."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.chat.answer import Answer
from app.chat.answer_settings import AnswerSettings
from app.chat.known_answer import KnownAnswer
from app.chat.providers.base import Message, Provider
from app.chat.room import chat
from app.main import create_app
from app.settings import Settings
from tests.asgi import Exchange, exchange
from tests.callers.knowing import ANYBODY
from tests.chat.test_ai_sdk import chunks
from tests.providers import ScriptedProvider
from tests.two_callers import ME, YOU

STREAM = "/api/chat/c-1/stream"


def said(text: str, role: str = "user", id: str = "m-1") -> dict[str, Any]:  # noqa: A002
    return {"id": id, "role": role, "parts": [{"type": "text", "text": text}]}


def asked(*messages: dict[str, Any], chat_id: str = "c-1", trigger: str = "submit-message") -> dict[str, Any]:
    return {"id": chat_id, "trigger": trigger, "messages": messages or [said("Hi")]}


def text_of(body: str) -> str:
    return "".join(chunk.get("delta", "") for chunk in chunks(body) if chunk != "[DONE]")


class Page:
    """The application, for the requests of a page while an answer runs."""

    def __init__(self, app: FastAPI, state: dict[str, Any]) -> None:
        self.app = app
        self.state = state

    def post(self, *messages: dict[str, Any], **changes: str) -> Any:
        return exchange(self.app, "/api/chat", body=asked(*messages, **changes), **self.state)

    def get(self) -> Any:
        return exchange(self.app, STREAM, **self.state)

    async def answer(self) -> KnownAnswer:
        answer = await self.state["answers"].named(("chat", "anonymous", "c-1"))
        assert isinstance(answer, KnownAnswer)
        return answer


async def never(known: KnownAnswer) -> bool:
    return False


@asynccontextmanager
async def page_of(settings: Settings, provider: Provider, answer_settings: AnswerSettings) -> AsyncIterator[Page]:
    app = create_app(settings, [chat(provider, answer_settings)], ANYBODY)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        yield Page(app, dict(state))


async def until(stream: Exchange, word: str) -> str:
    text = ""
    while word not in text:
        text += await stream.text()
    return text


def test_a_page_that_loads_again_after_the_end_gets_the_same_answer_from_its_start(client: TestClient) -> None:
    first = client.post("/api/chat", json=asked())
    again = client.get(STREAM)
    assert (again.status_code, again.text) == (200, first.text)
    assert again.headers["x-stream-id"] == first.headers["x-stream-id"]
    assert again.headers["x-vercel-ai-ui-message-stream"] == "v1"


async def test_a_page_that_loads_again_gets_the_answer_from_its_start_and_the_rest(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    provider = ScriptedProvider("a", goes_on := asyncio.Event(), "b")
    async with page_of(settings, provider, answer_settings()) as page:
        async with page.post() as left:
            await until(left, '"a"')
            left.gone.set()
            await left.until_ended()
        async with page.get() as one, page.get() as two:
            begun = [await until(one, '"a"'), await until(two, '"a"')]
            goes_on.set()
            texts = [begun[0] + await one.rest(), begun[1] + await two.rest()]
        assert texts[0] == texts[1]
        assert (chunks(texts[0])[0]["messageId"], text_of(texts[0])) == ((await page.answer()).id, "ab")
    assert texts[0].endswith("data: [DONE]\n\n")
    assert len(provider.asked) == 1


@pytest.mark.parametrize("path", [STREAM, f"/api/chat/{'x' * 300}/stream", "/api/chat//stream"])
def test_where_nothing_is_there_to_come_back_to_the_answer_is_204(client: TestClient, path: str) -> None:
    assert (client.get(path).status_code, client.get(path).content) == (204, b"")
    assert client.delete(path).status_code == 202


@pytest.mark.parametrize("path", ["/api/chat/a/b c/stream", "/api/chat/a%2Fb%20c/stream"])
def test_the_id_of_a_chat_may_be_escaped_or_not(client: TestClient, path: str) -> None:
    client.post("/api/chat", json=asked(chat_id="a/b c"))
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("chat_id", ["x" * 256, "\ud800"])
def test_the_id_of_a_chat_has_a_limit(client: TestClient, chat_id: str) -> None:
    body = json.dumps(asked(chat_id=chat_id))
    response = client.post("/api/chat", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", "id"])


def test_a_chat_without_an_id_has_no_answer_to_come_back_to(client: TestClient, provider: ScriptedProvider) -> None:
    for _ in range(2):
        assert client.post("/api/chat", json=asked(chat_id="")).status_code == 200
    assert len(provider.asked) == 2
    assert client.get("/api/chat//stream").status_code == 204


async def test_a_chat_is_its_callers(settings: Settings, answer_settings: Callable[..., AnswerSettings]) -> None:
    """Another caller may have a chat of the same id, and its answer goes on."""
    async with page_of(settings, ScriptedProvider("a", 60.0), answer_settings()) as page:
        theirs = await page.state["answers"].find_or_start(
            [Message(role="user", content="Hi")], "another", ("chat", "another", "c-1"), "of another", never
        )
        async with page.get() as stream:
            assert stream.status == 204
        async with page.post() as stream:
            await until(stream, '"a"')
        assert (await page.answer()).id != theirs.id
        assert theirs.reason is None


def test_what_another_caller_asks_of_a_chat_is_as_of_an_unknown_one(
    named: TestClient, provider: ScriptedProvider
) -> None:
    mine = named.post("/api/chat", json=asked(), headers=ME)
    for method, status in (("GET", 204), ("DELETE", 202)):
        theirs, unknown = (named.request(method, path, headers=YOU) for path in (STREAM, "/api/chat/c-2/stream"))
        del theirs.headers["x-request-id"], unknown.headers["x-request-id"]
        assert (theirs.status_code, theirs.content, theirs.headers) == (status, b"", unknown.headers)
    by_its_id = f"/chat/stream/{mine.headers['x-stream-id']}"
    assert named.get(by_its_id, headers=YOU).status_code == 404
    yours = named.post("/api/chat", json=asked(), headers=YOU)
    assert (yours.headers["x-stream-id"] != mine.headers["x-stream-id"], len(provider.asked)) == (True, 2)
    assert named.get(STREAM, headers=ME).text == mine.text
    assert named.get(STREAM, headers=YOU).text == yours.text


async def test_an_answer_that_is_stopped_ends_cleanly_for_all_of_its_readers(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    provider = ScriptedProvider("a", 60.0)
    async with page_of(settings, provider, answer_settings()) as page:
        async with page.post() as one, page.get() as two:
            begun = [await until(one, '"a"'), await until(two, '"a"')]
            await (await page.answer()).stop()
            assert [await one.rest(), await two.rest()] == ["", ""]
            assert one.finished
            assert two.finished
        async with page.get() as later:
            assert await later.rest() == begun[0]
            assert later.finished
    assert provider.closed.is_set()


def test_delete_stops_the_answer_and_a_second_one_does_no_harm(client: TestClient, provider: ScriptedProvider) -> None:
    provider.script = ("a", 60.0)
    with client.stream("POST", "/api/chat", json=asked()) as stream:
        frames = stream.iter_text()
        assert '"a"' in next(frame for frame in frames if '"a"' in frame)
        assert [client.delete(STREAM).status_code for _ in range(2)] == [202, 202]
        assert "".join(frames) == ""
    assert text_of(client.get(STREAM).text) == "a"


async def test_an_answer_without_a_reader_is_stopped_after_the_grace_of_the_settings(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    provider = ScriptedProvider("a", 60.0)
    async with page_of(settings, provider, answer_settings(answer_grace_seconds=0.05)) as page:
        async with page.post() as stream:
            await until(stream, '"a"')
        answer = await page.answer()
        assert isinstance(answer, Answer)
        assert answer.running
        await answer.run.closed
    assert answer.reason == "cancelled"


@pytest.mark.parametrize("trigger", ["submit-message", "regenerate-message"])
async def test_the_same_message_joins_the_answer_that_runs(
    settings: Settings, answer_settings: Callable[..., AnswerSettings], trigger: str
) -> None:
    """Whatever the page has of the answer to it: `regenerate()` drops that, and a page that was lost has another id."""
    provider = ScriptedProvider("a", goes_on := asyncio.Event(), "b")
    async with page_of(settings, provider, answer_settings()) as page, page.post() as one:
        await until(one, '"a"')
        async with page.post(said("Hi"), trigger=trigger) as two:
            begun = await until(two, '"a"')
            goes_on.set()
            assert text_of(begun + await two.rest()) == "ab"
            assert chunks(begun)[0]["messageId"] == (await page.answer()).id
        assert text_of(await one.rest()) == "b"
    assert len(provider.asked) == 1


def test_the_same_message_makes_a_new_answer_after_the_end(client: TestClient, provider: ScriptedProvider) -> None:
    ids = {client.post("/api/chat", json=asked(trigger="regenerate-message")).headers["x-stream-id"] for _ in range(2)}
    assert len(ids) == len(provider.asked) == 2


@pytest.mark.parametrize("last", [said("Ho"), said("Hi", id="m-2")], ids=["edited", "new"])
async def test_another_message_stops_the_answer_that_runs_and_is_answered_then(
    settings: Settings, answer_settings: Callable[..., AnswerSettings], last: dict[str, Any]
) -> None:
    provider = ScriptedProvider("a", asyncio.Event(), "b")
    async with page_of(settings, provider, answer_settings()) as page, page.post() as one:
        await until(one, '"a"')
        stopped = await page.answer()
        provider.script = ("c",)
        async with page.post(last) as two:
            assert stopped.reason == "cancelled"
            assert text_of(await two.rest()) == "c"
        assert await one.rest() == ""
        assert one.finished
        assert (await page.answer()) is not stopped


async def test_of_two_that_come_at_once_one_is_answered(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    """Two tabs ask while an answer runs, and both wait for its end: none of their answers is left to run unseen."""
    provider = ScriptedProvider("a", 60.0)
    async with page_of(settings, provider, answer_settings()) as page, page.post() as one:
        await until(one, '"a"')
        async with page.post(said("Ho", id="m-2")) as two, page.post(said("Hu", id="m-3")) as three:
            await until(three, '"a"')
            assert await two.rest() is not None
            assert two.finished
        assert page.state["answers"]._store.running() == [await page.answer()]
        await (await page.answer()).stop()


async def test_a_message_does_not_join_an_answer_that_was_stopped(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    """Also while its model is still closing."""
    provider = ScriptedProvider("a", 60.0)
    async with page_of(settings, provider, answer_settings()) as page, page.post() as one:
        await until(one, '"a"')
        stopped = await page.answer()
        await stopped.stop()
        assert stopped.running
        provider.script = ("b",)
        async with page.post() as two:
            assert text_of(await two.rest()) == "b"


@pytest.mark.parametrize("ended", [False, True])
async def test_a_page_that_asks_with_a_part_of_the_answer_gets_the_rest(
    settings: Settings, answer_settings: Callable[..., AnswerSettings], ended: bool
) -> None:
    provider = ScriptedProvider("a b", goes_on := asyncio.Event(), "c")
    async with page_of(settings, provider, answer_settings()) as page:
        async with page.post() as one:
            await until(one, '"a b"')
            if ended:
                goes_on.set()
                await one.rest()
        answer = await page.answer()
        async with page.post(said("Hi"), said("a ", role="assistant", id=answer.id)) as two:
            goes_on.set()
            first, *rest = chunks(await two.rest())
    assert first == {"type": "start", "messageId": answer.id}
    assert [chunk["delta"] for chunk in rest if "delta" in chunk] == ["b", "c"]
    assert [chunk["type"] for chunk in rest[:2]] == ["text-start", "text-delta"]
    assert len(provider.asked) == 1


@pytest.mark.parametrize("shown", ["", "a"])
async def test_a_part_of_an_answer_that_failed_is_answered_anew(
    settings: Settings, answer_settings: Callable[..., AnswerSettings], shown: str
) -> None:
    provider = ScriptedProvider("a", RuntimeError("on purpose"))
    async with page_of(settings, provider, answer_settings()) as page:
        async with page.post() as one:
            await one.rest()
        provider.script = ("b",)
        async with page.post(said("Hi"), said(shown, role="assistant", id=(await page.answer()).id)) as two:
            assert text_of(await two.rest()) == "b"
    assert [each.content for each in provider.asked[1]] == ["Hi", "a"][: 1 + len(shown)]
