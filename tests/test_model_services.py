"""What models' services send reaches the clients' own SDKs: `model_services.py` and `model_thoughts.py` are the table.

Each case goes from a socket through a served project to OpenAI's SDK, as a stream and in one piece, and to the AI SDK's
chat: what came in, what a reader gets, what the log says.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import ceil
from typing import Any

import pytest
from front_ends import CHATS, Client, node_tests
from front_ends import KEY as API_KEY
from model_services import CASES, KEY, Case, serving_services
from model_thoughts import CASES as THOUGHTS
from rendering import Project
from running import Server, posix_only, services, serving, wait_until

pytestmark = [posix_only, node_tests, pytest.mark.slow, pytest.mark.xdist_group("model-services")]
BASE_URL = {"openai": "http://127.0.0.1:{}/v1", "anthropic": "http://127.0.0.1:{}"}
FINISH = {"end": "stop", "length": "length", "refusal": "content_filter"}
# For each code: what a reader is told, and the status and code of OpenAI's dialect.
TOLD = {
    "model_error": ("The model could not answer.", 502, "model_error"),
    "model_unauthorized": ("The model's service refuses this server's key.", 502, "model_unauthorized"),
    "model_not_found": ("The model's service does not have this model.", 502, "model_not_found"),
    "model_busy": ("The model is busy. Try again in {}.", 429, "rate_limit_exceeded"),
    "context_too_long": ("The conversation is too long for the model.", 400, "context_length_exceeded"),
}


@pytest.fixture(scope="session")
def served(render: Callable[..., Project]) -> Iterator[Callable[[str, str], Server]]:
    """`served("openai", "ai-sdk")`: that project, in front of the services; started when first asked for."""
    started: dict[tuple[str, str], Server] = {}
    with ExitStack() as stack:
        port = stack.enter_context(serving_services([*CASES, *THOUGHTS])).server_port

        def served(provider: str, front_end: str) -> Server:
            if (provider, front_end) not in started:
                project = render(model_provider=provider, front_end=front_end)
                project.sync()
                name = provider.upper()
                settings = {"MODEL_PROVIDER": provider, f"{name}_API_KEY": KEY, "API_KEY": API_KEY}
                settings |= {f"{name}_BASE_URL": BASE_URL[provider].format(port), "MODEL_MAX_RETRIES": "0"}
                env = stack.enter_context(services(project))
                started[provider, front_end] = stack.enter_context(serving(project, env, **settings))
            return started[provider, front_end]

        yield served


@pytest.mark.parametrize("front_end", ["openai", "ai-sdk"])
@pytest.mark.parametrize("case", [*CASES, *THOUGHTS], ids=str)
def test_what_a_service_sends_reaches_a_reader_and_the_log(
    case: Case,
    front_end: str,
    served: Callable[[str, str], Server],
    client_process: "Callable[[str], subprocess.Popen[str]]",
) -> None:
    server = served(case.provider, front_end)
    if front_end == "ai-sdk":
        chat = Client(client_process(list(CHATS)[-1]), server)
        (answer,) = answered(case, server, lambda: chat.ask(questions=[str(case)]))["answers"]
        assert on_screen(answer) == of_a_chat(case)
        return
    sdk = Client(client_process("python"), server)
    counting = {"stream_options": {"include_usage": True}}
    answer = answered(case, server, lambda: sdk.ask(question=str(case), stream=True, extra=counting))
    assert {key: value for key, value in answer.items() if key not in ("id", "model")} == of_a_stream(case)
    answer = answered(case, server, lambda: sdk.ask(question=str(case)))
    assert {key: value for key, value in answer.items() if key not in ("id", "model")} == in_one_piece(case)


def answered(case: Case, server: Server, ask: Callable[[], Any]) -> Any:
    """What the client has got. Meanwhile the log has said how the answer ended, and of a failure, in one line, why."""
    before = len(server.process.text)
    answer = ask()
    wait_until(lambda: "usage stream=" in server.process.text[before:])
    lines = [re.sub(r" caller=\S+$", "", line) for line in server.process.text[before:].splitlines()]
    (usage,) = [line for line in lines if " app.usage " in line]
    failures = [line for line in lines if re.search(r" (WARNING|ERROR) |Traceback", line)]
    assert KEY not in server.process.text
    if case.ends in FINISH:
        names = ("input_tokens", "output_tokens", "reasoning_tokens")
        counts = "".join(f" {name}={count}" for name, count in zip(names, case.usage or (), strict=False))
        assert re.search(
            rf" reason={case.ends} outcome={case.ends}( first_piece_seconds=[\d.]+)?{counts} chars=\d+$", usage
        )
        assert failures == []
    else:
        assert f" reason=error outcome=error error={case.ends}" in usage
        (failure,) = failures
        assert re.search(rf"the model failed: .*(?:{case.log})", failure)
    return answer


def told(case: Case) -> tuple[str, int, str]:
    message, status, code = TOLD[case.ends]
    return message.format(f"{case.retry_after} s" if case.retry_after else "a moment"), status, code


def on_screen(answer: dict[str, Any]) -> dict[str, Any]:
    """Of a chat: where there are thoughts, it tells of each part of its message."""
    shown = {key: value for key, value in answer.items() if key not in ("id", "role", "parts")}
    thoughts = "".join(part["text"] for part in answer.get("parts", []) if part["type"] == "reasoning")
    return shown | ({"thoughts": thoughts} if thoughts else {})


def of_a_chat(case: Case) -> dict[str, Any]:
    text = ({"text": case.text} if case.text else {}) | of_thoughts(case)
    if case.ends in FINISH:
        state = {"state": "done"} if case.text else {}
        return {"status": "ready", "metadata": {"reason": case.ends}, **text, **state}
    return {"status": "error", "error": told(case)[0], **text, **({"state": "streaming"} if case.text else {})}


def of_thoughts(case: Case) -> dict[str, Any]:
    return {"thoughts": case.thoughts} if case.thoughts else {}


def of_a_stream(case: Case) -> dict[str, Any]:
    if case.ends in FINISH:
        given, made, *thinking = case.usage or (0, 0)
        counts = {"tokens": given + made} | ({"thinking": thinking[0]} if thinking else {})
        return {"text": case.text, **of_thoughts(case), "finish": FINISH[case.ends], **counts}
    message, _, code = told(case)
    error = {"kind": "APIError", "status": None, "code": code, "param": None, "message": message}
    return {"text": case.text, **of_thoughts(case), "error": error | {"retry": None, "retry_after": None}}


def in_one_piece(case: Case) -> dict[str, Any]:
    if case.ends in FINISH:
        return of_a_stream(case)
    message, status, code = told(case)
    kind = {502: "InternalServerError", 429: "RateLimitError", 400: "BadRequestError"}[status]
    error = {
        "kind": kind,
        "status": status,
        "code": code,
        "param": None,
        "message": f"Error code: {status} - {message}",
    }
    after = str(ceil(float(case.retry_after))) if case.retry_after else None
    return {"text": "", "error": error | {"retry": str(case.retryable).lower(), "retry_after": after}}
