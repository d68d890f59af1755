"""What a model thinks comes from its service over a socket, through a served project, to a reader over HTTP."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPResponse
from typing import Any, NamedTuple

import pytest
from model_services import KEY, Case, Served, serving_services
from model_thoughts import CASES
from rendering import Project
from running import Server, posix_only, services, serving, wait_until
from test_model_services import BASE_URL

pytestmark = [posix_only, pytest.mark.xdist_group("thoughts")]
DONE = ("done", {"reason": "end"})


class Event(NamedTuple):
    id: str
    event: str
    data: dict[str, Any]


def events(response: HTTPResponse) -> Iterator[Event]:
    """As they come."""
    assert (response.status, response.headers.get_content_type()) == (200, "text/event-stream")
    read: dict[str, str] = {}
    for line in iter(response.readline, b""):
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "data":
            yield Event(read["id"], read["event"], json.loads(value))
        read[field] = value


@pytest.fixture(scope="module")
def model() -> Iterator[Served]:
    with serving_services(CASES) as model:
        yield model


@pytest.fixture(scope="module")
def served(render: Callable[..., Project], model: Served) -> Iterator[Callable[..., Server]]:
    """`served("openai", SHOW_REASONING="false")`: that project; started when first asked for."""
    started: dict[tuple[str, ...], Server] = {}
    with ExitStack() as stack:

        def served(provider: str, **settings: str) -> Server:
            key = (provider, *settings)
            if key not in started:
                project = render(model_provider=provider)
                project.sync()
                name = provider.upper()
                settings |= {"MODEL_PROVIDER": provider, f"{name}_API_KEY": KEY, "MODEL_MAX_RETRIES": "0"}
                settings |= {f"{name}_BASE_URL": BASE_URL[provider].format(model.server_port)}
                env = stack.enter_context(services(project))
                started[key] = stack.enter_context(serving(project, env, **settings))
            return started[key]

        yield served


def ask(server: Server, case: Case) -> HTTPResponse:
    return server.request("POST", "/chat/stream", json.dumps({"question": str(case)}))


def texts(read: list[Event], event: str) -> str:
    return "".join(each.data["text"] for each in read if each.event == event)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_reader_gets_the_thoughts_and_then_the_answer(case: Case, served: Callable[..., Server]) -> None:
    server = served(case.provider)
    before = len(server.process.text)
    first, *said, done = events(ask(server, case))
    assert (first.event, done[1:]) == ("status", DONE)
    assert [each.event for each in said] == sorted(each.event for each in said)  # `reasoning`, then `token`
    assert (texts(said, "reasoning"), texts(said, "token")) == (case.thoughts, case.text)
    assert all(each.data["text"] for each in said)
    wait_until(lambda: "usage stream=" in server.process.text[before:])
    names = ("input_tokens", "output_tokens", "reasoning_tokens")
    counted = dict(re.findall(r" (\w+_tokens)=(\d+)", server.process.text[before:]))
    assert counted == {name: str(count) for name, count in zip(names, case.usage or (), strict=False)}


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=str)
def test_a_reader_gets_no_thoughts_where_the_settings_say_so(case: Case, served: Callable[..., Server]) -> None:
    first, *said, done = events(ask(served(case.provider, SHOW_REASONING="false"), case))
    assert (first.event, {each.event for each in said}, done[1:]) == ("status", {"token"}, DONE)
    assert texts(said, "token") == case.text


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=str)
def test_a_reader_who_is_lost_amid_a_thought_comes_back_to_the_rest(
    case: Case, served: Callable[..., Server], model: Served
) -> None:
    server = served(case.provider)
    model.goes_on.clear()
    with closing(ask(server, case)) as response:
        stream = events(response)
        status, thought = next(stream), next(stream)
    assert (status.event, thought.event) == ("status", "reasoning")
    again = server.request("GET", f"/chat/stream/{status.data['stream_id']}", headers={"Last-Event-ID": thought.id})
    model.goes_on.set()
    *rest, done = events(again)
    assert int(rest[0].id.partition("-")[0]) == int(thought.id.partition("-")[0]) + 1
    assert (texts([thought, *rest], "reasoning"), texts(rest, "token")) == (case.thoughts, case.text)
    assert done[1:] == DONE
