"""What models' services send, and what has to become of it: a table, and a service that answers from it.

The shapes are those that each service documents or that its users have reported, as a comment beside each says. The
bytes are made anew: no word of an answer is a service's, and of an error no more than what tells its kind.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-services-0123456789"  # with which the project asks the services
TEXTS = ("Hi, ", "Zoë ", "👋")
TEXT = "".join(TEXTS)
BEGUN = TEXTS[0]
JSON, HTML, PLAIN = "application/json", "text/html; charset=utf-8", "text/plain"
EVENTS = "text/event-stream"


def asking(provider: str, model: str, port: int, key: str = KEY) -> dict[str, str]:
    """The settings with which a project of that provider asks for a model of a service at that port, which speaks
    Anthropic's dialect or, for all others, OpenAI's."""
    service, path = ("ANTHROPIC", "") if provider == "anthropic" else ("OPENAI", "/v1")
    return {
        "MODEL_PROVIDER": provider,
        "MODEL_NAME": f"openai-chat:{model}" if provider == "pydantic-ai" else model,
        f"{service}_API_KEY": key,
        f"{service}_BASE_URL": f"http://127.0.0.1:{port}{path}",
    }


@dataclass(frozen=True)
class Case:
    """One answer of a service. `ends` is how it ends for a reader: `end`, `length`, `refusal`, or an error's code."""

    service: str
    what: str
    body: bytes
    ends: str
    text: str = ""
    log: str = ""  # a pattern, of an error's line
    retryable: bool = False
    retry_after: str | None = None
    thoughts: str = ""
    usage: tuple[int, ...] | None = None  # of the question, of the answer, and of these the thoughts'
    status: int = 200
    kind: str = EVENTS
    headers: dict[str, str] = field(default_factory=dict)
    whole: bool = True  # else the connection is cut behind the body

    def __str__(self) -> str:
        return f"{self.service}: {self.what}"

    @property
    def provider(self) -> str:
        return "anthropic" if "Anthropic" in self.service else "openai"


def dumped(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sse(*data: object, before: str = "data: ", behind: str = "\n\n", done: bool = True) -> bytes:
    return "".join(f"{before}{dumped(each)}{behind}" for each in (*data, *(["[DONE]"] if done else []))).encode()


def chunk(delta: object, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def said(*texts: str) -> list[dict[str, Any]]:
    return [chunk({"content": text}) for text in texts]


def without_choices(**more: Any) -> dict[str, Any]:
    return chunk({}) | {"choices": []} | more


def counted(given: int = 9, made: int = 4, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made, **more}


STOP = chunk({}, "stop")
USAGE = without_choices(usage=counted())


def good(what: str, body: bytes, ends: str = "end", text: str = TEXT, **more: Any) -> Case:
    return Case("", what, body, ends, text, **{"usage": (9, 4), **more})


def refused(what: str, status: int, body: object, code: str, log: str, **more: Any) -> Case:
    """The service answers with an error in place of an answer."""
    return Case("", what, dumped(body).encode(), code, log=log, status=status, **{"kind": JSON, **more})


def failed(what: str, body: bytes, code: str, log: str, **more: Any) -> Case:
    """Begins under the status 200."""
    return Case("", what, body, code, log=log, **{"retryable": True, **more})


def busy(what: str, status: int, body: object, log: str, seconds: str | None = None, **more: Any) -> Case:
    more["headers"] = {"Retry-After": seconds} if seconds else {}
    return refused(what, status, body, "model_busy", log, retryable=True, retry_after=seconds, **more)


def of(service: str, *cases: Case) -> list[Case]:
    return [replace(case, service=service) for case in cases]


# OpenAI: the API reference's pages on chat completion chunks, and the guide to error codes. An exhausted quota is a 429
# too, of the type insufficient_quota.
def openai_error(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


OPENAI = of(
    "OpenAI",
    good(
        "an answer, with its usage behind it",
        sse(
            chunk({"role": "assistant", "content": "", "refusal": None}, usage=None, obfuscation="k2"),
            *(chunk({"content": text}, usage=None, obfuscation="k2") for text in TEXTS),
            chunk({}, "stop", usage=None, obfuscation="k2"),
            without_choices(usage=counted(completion_tokens_details={"reasoning_tokens": 0}), obfuscation=""),
        ),
    ),
    good("a limit", sse(*said(*TEXTS), chunk({}, "length"), USAGE), "length"),
    good("nothing but thoughts up to a limit", sse(chunk({}, "length"), USAGE), "length", text=""),
    good(
        "a refusal",
        sse(
            chunk({"role": "assistant", "refusal": ""}),
            chunk({"refusal": "No, "}),
            chunk({"refusal": "I won't."}),
            STOP,
        ),
        "refusal",
        text="No, I won't.",
        usage=None,
    ),
    good("no usage, and no [DONE]", sse(*said(*TEXTS), STOP, done=False), usage=None),
    good("a connection that is cut behind the end", sse(*said(*TEXTS), STOP, done=False), whole=False, usage=None),
    failed(
        "a connection that is cut before the end",
        sse(*said(BEGUN), done=False),
        "model_error",
        r"RemoteProtocolError|APIConnectionError",
        text=BEGUN,
        whole=False,
    ),
    failed(
        "an error amid the answer",
        sse(*said(BEGUN), openai_error("The server had an error", "server_error"), done=False),
        "model_error",
        "APIError: .*The server had an error",
        text=BEGUN,
    ),
    refused(
        "a wrong key",
        401,
        openai_error("Incorrect API key provided: sk-ser***6789", "invalid_request_error", "invalid_api_key"),
        "model_unauthorized",
        "AuthenticationError: 401: .*Incorrect API key provided",
    ),
    refused(
        "an unknown model",
        404,
        openai_error(
            "The model `m` does not exist or you have no access to it", "invalid_request_error", "model_not_found"
        ),
        "model_not_found",
        "NotFoundError: 404: .*`m` does not exist",
    ),
    busy(
        "a rate limit",
        429,
        openai_error("Rate limit reached for m", "requests", "rate_limit_exceeded"),
        "RateLimitError: 429: .*Rate limit reached for m",
        seconds="20",
    ),
    refused(
        "a quota that is used up",
        429,
        openai_error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
        "model_error",
        "RateLimitError: 429: .*exceeded your current quota",
    ),
    refused(
        "a context that is too long",
        400,
        openai_error(
            "This model's maximum context length is 4096 tokens", "invalid_request_error", "context_length_exceeded"
        ),
        "context_too_long",
        "BadRequestError: 400: .*maximum context length is 4096",
    ),
    refused(
        "a gateway before it that fails",
        502,
        "<!DOCTYPE html>\n<html><head><title>502</title><style>h1 {}</style></head>\n<h1>Bad gateway</h1></html>",
        "model_error",
        "InternalServerError: 502: 502 Bad gateway, asked at",
        kind=HTML,
        retryable=True,
    ),
)

# Azure: Microsoft's page on content filtering in Azure OpenAI; mentat issue 429 for the first chunk, langchain issue
# 18977 and openai-python issue 1677 for what comes without a delta where the filter is asynchronous; its error bodies
# by codex issue 1354 and helm pull request 3327.
SAFE = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
FILTERED = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": True, "severity": "medium"}}
PROMPT = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
}
OFFSETS = {"check_offset": 9, "start_offset": 9, "end_offset": 18}


def azure_chunk(delta: object, finish: str | None = None, results: object = SAFE) -> dict[str, Any]:
    made = chunk(delta, finish)
    made["choices"][0] |= {"content_filter_results": results, "logprobs": None}
    return made


AZURE = of(
    "Azure",
    good(
        "an answer among results of its filter",
        sse(
            PROMPT,
            azure_chunk({"role": "assistant", "content": "", "refusal": None}, results={}),
            *(azure_chunk({"content": text}) for text in TEXTS),
            azure_chunk({}, "stop", {}),
            {**PROMPT, "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": OFFSETS}]},
            USAGE,
        ),
    ),
    good(
        "an answer that its filter ends",
        sse(PROMPT, azure_chunk({"content": BEGUN}), azure_chunk({}, "content_filter", FILTERED), USAGE),
        "refusal",
        text=BEGUN,
    ),
    failed(
        "nothing behind the results of its filter",
        sse(PROMPT, azure_chunk({"content": BEGUN})),
        "model_error",
        "the answer broke off: it ended without a reason$",
        text=BEGUN,
    ),
    refused(
        "a question that its filter refuses",
        400,
        {
            "error": {
                "message": "The response was filtered",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": FILTERED},
            }
        },
        "model_error",
        "BadRequestError: 400: .*The response was filtered",
    ),
    refused(
        "a wrong key",
        401,
        {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint"}},
        "model_unauthorized",
        "AuthenticationError: 401: .*invalid subscription key",
    ),
    refused(
        "an unknown deployment",
        404,
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist"}},
        "model_not_found",
        "NotFoundError: 404: .*DeploymentNotFound",
    ),
    busy(
        "a rate limit",
        429,
        {
            "error": {
                "code": "429",
                "message": "Requests have exceeded token rate limit. Please retry after 26 seconds.",
            }
        },
        "RateLimitError: 429: .*token rate limit",
        seconds="26",
    ),
)

# vLLM: its documentation's page on the OpenAI-compatible server (reasoning outputs, continuous_usage_stats); issue 4667
# for the errors that it had before 0.10, and llm-d-inference-sim issue 596 for those since.
VLLM = of(
    "vLLM",
    good(
        "thoughts before the answer, and a usage in each chunk",
        sse(
            chunk({"role": "assistant", "content": ""}, usage=counted(made=0)),
            chunk({"reasoning_content": "Hm", "reasoning": "Hm"}, usage=counted(made=1)),
            *(chunk({"content": text}, usage=counted(made=2)) for text in TEXTS),
            chunk({"content": ""}, "stop", usage=counted()),
            USAGE,
        ),
        thoughts="Hm",
    ),
    failed("an answer that it aborts", sse(*said(BEGUN), chunk({}, "abort")), "model_error", "'abort'", text=BEGUN),
    failed(
        "an error amid the answer",
        sse(*said(BEGUN), {"error": {"message": "EngineCore failed", "type": "InternalServerError", "code": 500}}),
        "model_error",
        "APIError: 500: .*EngineCore failed",
        text=BEGUN,
    ),
    failed(
        "an error amid the answer, as it was",
        sse(*said(BEGUN), {"object": "error", "message": "must be at least 1", "type": "BadRequestError", "code": 400}),
        "model_error",
        "the answer broke off: .*must be at least 1",
        text=BEGUN,
        retryable=False,
    ),
    refused(
        "a context that is too long",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens.",
            "type": "BadRequestError",
        },
        "context_too_long",
        "BadRequestError: 400: .*maximum context length is 4096",
    ),
    refused("a wrong key", 401, {"error": "Unauthorized"}, "model_unauthorized", "401: .*Unauthorized"),
    refused(
        "an unknown model",
        404,
        {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}},
        "model_not_found",
        "NotFoundError: 404: .*`m` does not exist",
    ),
)

# Ollama: its documentation's page on OpenAI compatibility; issue 4357 for the empty finish_reason; QAnything issue 555
# for an unknown model. A runner that dies amid an answer is an empty chunk there, and no end.
OLLAMA = of(
    "Ollama",
    good(
        "an empty finish_reason with each piece",
        sse(
            *(chunk({"role": "assistant", "content": text}, "") for text in TEXTS),
            chunk({"content": ""}, "stop"),
            USAGE,
        ),
    ),
    good(
        "thoughts in a field of their own",
        sse(chunk({"role": "assistant", "content": "", "reasoning": "Hm"}), *said(*TEXTS), STOP, USAGE),
        thoughts="Hm",
    ),
    failed(
        "a runner that dies",
        sse(*said(BEGUN), chunk({"role": "assistant", "content": ""}), done=False),
        "model_error",
        "the answer broke off",
        text=BEGUN,
    ),
    refused(
        "an unknown model",
        404,
        openai_error('model "m" not found, try pulling it first', "api_error"),
        "model_not_found",
        "NotFoundError: 404: .*try pulling it first",
    ),
    refused(
        "a base URL without /v1",
        404,
        "404 page not found",
        "model_not_found",
        "NotFoundError: 404: 404 page not found, asked at",
        kind=PLAIN,
    ),
    refused(
        "too little memory",
        500,
        openai_error("model requires more system memory (9 GiB) than is available", "api_error"),
        "model_error",
        "InternalServerError: 500: .*more system memory",
        retryable=True,
    ),
    busy("a queue that is full", 503, openai_error("server busy, please try again", "api_error"), "503: .*server busy"),
)

# llama.cpp: its server's README; pull request 15780 for a context that is too long, and issue 19774 for one that is
# full amid the answer. Older builds name the field of an error amid a stream `error` instead of `data`: no reader of
# SSE sees it.
LLAMA_CPP = of(
    "llama.cpp",
    good(
        "nulls, thoughts and timings",
        sse(
            chunk({"role": "assistant", "content": None}),
            chunk({"reasoning_content": "Hm"}),
            *said(*TEXTS),
            STOP,
            without_choices(usage=counted(), timings={"prompt_n": 9, "predicted_per_second": 50.5}),
        ),
        thoughts="Hm",
    ),
    failed(
        "a context that gets full",
        sse(
            *said(BEGUN), {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}
        ),
        "context_too_long",
        "APIError: 500: .*Context size has been exceeded",
        text=BEGUN,
        retryable=False,
    ),
    failed(
        "an error in a field of its own",
        sse(*said(BEGUN), done=False) + sse({"code": 500, "message": "It failed"}, before="error: ", done=False),
        "model_error",
        "the answer broke off",
        text=BEGUN,
    ),
    refused(
        "a context that is too long",
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 1407,
                "n_ctx": 256,
            }
        },
        "context_too_long",
        "BadRequestError: 400: .*available context size",
    ),
    busy(
        "a model that is being loaded",
        503,
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        "InternalServerError: 503: .*Loading model",
    ),
    refused(
        "a wrong key",
        401,
        {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}},
        "model_unauthorized",
        "AuthenticationError: 401: .*Invalid API Key",
    ),
)

# LM Studio: its documentation's pages on OpenAI compatibility and authentication; its bug tracker's issue 618 for the
# 200 of an unknown path and 2322 for a context that is too long, opencode issue 11141 for its other words.
LM_STUDIO = of(
    "LM Studio",
    good(
        "lines that end as in Windows, and no space behind the colon",
        sse(
            *(chunk({"role": "assistant", "content": text}) for text in TEXTS),
            STOP,
            USAGE,
            before="data:",
            behind="\r\n\r\n",
        ),
    ),
    failed(
        "an unknown path, under the status 200",
        dumped({"error": "Unexpected endpoint or method. (POST /chat/completions)"}).encode(),
        "model_error",
        r"the answer broke off: .*Unexpected endpoint or method. \(POST",
        kind=JSON,
    ),
    failed(
        "a context that is too long, under the status 200",
        b"event: error\n"
        + sse({"error": {"message": "Trying to keep 9 tokens. However, the context length is 4"}}, done=False),
        "context_too_long",
        "APIError: .*the context length is 4",
        retryable=False,
    ),
    failed(
        "a model that crashes",
        sse(*said(BEGUN), done=False)
        + b"event: error\n"
        + sse({"error": "The model has crashed (Exit code: 6)"}, done=False),
        "model_error",
        "APIError: .*The model has crashed",
        text=BEGUN,
    ),
    refused(
        "a context that is too long",
        400,
        {"error": "Cannot truncate prompt with n_keep (9) >= n_ctx (4)"},
        "context_too_long",
        "BadRequestError: 400: .*Cannot truncate prompt",
    ),
    refused(
        "a wrong key, which it repeats",
        401,
        openai_error(f"Malformed LM Studio API token provided: {KEY}", "invalid_request_error", "invalid_api_key"),
        "model_unauthorized",
        r"AuthenticationError: 401: .*Malformed LM Studio API token provided: \*\*\*",
    ),
)


# Mistral: the API reference's page on chat completions, and its page on reasoning; litellm issue 16272 for the parts
# that are thoughts; for its errors raycast-extensions issue 31107, agent-zero issue 539 and continue issue 6185.
def mistral_error(message: object, kind: str, code: str, status: int) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code, "raw_status_code": status}


def mistral_thought(text: str) -> dict[str, Any]:
    return chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]})


MISTRAL = of(
    "Mistral",
    good(
        "thoughts as parts of a list",
        sse(
            chunk({"role": "assistant", "content": ""}, p="abc"),
            mistral_thought("H"),
            mistral_thought("m"),
            chunk({"content": [{"type": "text", "text": TEXTS[0]}]}),
            *said(*TEXTS[1:]),
            chunk({"content": ""}, "stop", usage=counted()),
        ),
        thoughts="Hm",
    ),
    good("the model's limit", sse(*said(*TEXTS), chunk({"content": ""}, "model_length", usage=counted())), "length"),
    failed(
        "an answer that ends in an error", sse(*said(BEGUN), chunk({}, "error")), "model_error", "'error'", text=BEGUN
    ),
    refused("a wrong key", 401, {"detail": "Unauthorized"}, "model_unauthorized", "401: .*Unauthorized"),
    refused(
        "an unknown model",
        400,
        mistral_error("Invalid model: m", "invalid_model", "1500", 400),
        "model_not_found",
        "BadRequestError: 400: .*Invalid model: m",
    ),
    busy(
        "a rate limit",
        429,
        mistral_error("Rate limit exceeded", "rate_limited", "1300", 429),
        "RateLimitError: 429: .*Rate limit exceeded",
    ),
    refused(
        "a context that is too long",
        400,
        mistral_error(
            "Prompt contains 40012 tokens, too large for model with 32768 maximum context length",
            "invalid_request_prompt",
            "3051",
            400,
        ),
        "context_too_long",
        "BadRequestError: 400: .*too large for model",
    ),
)

# DeepSeek: its API documentation's pages on chat completions (insufficient_system_resource), on rate limits (keep-alive
# comments, and a request that is closed without an answer) and on error codes; continue issues 11820 and 11787.
ALIVE = b": keep-alive\n\n"
DEEPSEEK = of(
    "DeepSeek",
    good(
        "comments, and thoughts before the answer",
        ALIVE * 2
        + sse(chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"}), done=False)
        + ALIVE
        + sse(
            *(chunk({"content": text, "reasoning_content": None}) for text in TEXTS),
            chunk({"content": "", "reasoning_content": None}, "stop", usage=counted()),
        ),
        thoughts="Hm",
    ),
    failed(
        "an answer that has not got the resources",
        sse(*said(BEGUN), chunk({"content": ""}, "insufficient_system_resource")),
        "model_error",
        "'insufficient_system_resource'",
        text=BEGUN,
    ),
    failed("nothing but comments", ALIVE * 3, "model_error", "the answer broke off"),
    refused(
        "a wrong key",
        401,
        openai_error(
            "Authentication Fails, Your api key: ****6789 is invalid", "authentication_error", "invalid_request_error"
        ),
        "model_unauthorized",
        "AuthenticationError: 401: .*Authentication Fails",
    ),
    refused(
        "an unknown model",
        400,
        openai_error("Model Not Exist", "invalid_request_error", "invalid_request_error"),
        "model_not_found",
        "BadRequestError: 400: .*Model Not Exist",
    ),
    refused(
        "an account without money",
        402,
        openai_error("Insufficient Balance", "unknown_error", "invalid_request_error"),
        "model_error",
        "APIStatusError: 402: .*Insufficient Balance",
    ),
    busy(
        "too many others",
        503,
        openai_error("Service is too busy", "service_unavailable_error"),
        "InternalServerError: 503: .*too busy",
    ),
)

# OpenRouter: its documentation's pages on streaming (comments) and on errors (amid a stream; under the status 200);
# openai-go issue 227, OmniRoute pull request 8210. Its web pages answer where the base URL lacks /api.
PROCESSING = b": OPENROUTER PROCESSING\n\n"


def openrouter_error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": {"provider_name": "P"}}, "user_id": "u"}


def openrouter_chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    made = chunk({"role": "assistant", "content": "", **delta}, finish, provider="P", **more)
    made["choices"][0] |= {"native_finish_reason": finish, "logprobs": None}
    return made


OPENROUTER = of(
    "OpenRouter",
    good(
        "comments, thoughts, and a usage beside an empty piece",
        PROCESSING * 2
        + sse(
            openrouter_chunk({"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]}),
            *(openrouter_chunk({"content": text}) for text in TEXTS),
            openrouter_chunk({}, "stop"),
            openrouter_chunk({}, usage=counted(cost=0.0001)),
        ),
        thoughts="Hm",
    ),
    failed(
        "a provider that goes away amid the answer",
        PROCESSING
        + sse(
            openrouter_chunk({"content": BEGUN}),
            openrouter_chunk({}, "error", **openrouter_error(502, "Provider disconnected")),
            done=False,
        ),
        "model_error",
        "APIError: 502: .*Provider disconnected",
        text=BEGUN,
    ),
    failed(
        "a rate limit under the status 200",
        PROCESSING + sse({"choices": [], **openrouter_error(429, "Worker limit reached")}, done=False),
        "model_busy",
        "APIError: 429: .*Worker limit reached",
    ),
    failed(
        "a web page under the status 200",
        b"<!DOCTYPE html><html><head><title>A page</title><script>a()</script></head><body>of theirs</body></html>",
        "model_error",
        "the service answers what is no JSON: A page of theirs$",
        kind=HTML,
    ),
    failed(
        "an error in one piece under the status 200",
        dumped({"choices": [], **openrouter_error(502, "Upstream failed")}).encode(),
        "model_error",
        "the answer broke off: .*Upstream failed",
        kind=JSON,
    ),
    refused(
        "a wrong key",
        401,
        openrouter_error(401, "No auth credentials found"),
        "model_unauthorized",
        "AuthenticationError: 401: .*No auth credentials found",
    ),
    refused(
        "an unknown model",
        400,
        openrouter_error(400, "m is not a valid model ID"),
        "model_not_found",
        "BadRequestError: 400: .*m is not a valid model ID",
    ),
    refused(
        "an account without money",
        402,
        openrouter_error(402, "Insufficient credits"),
        "model_error",
        "APIStatusError: 402: .*Insufficient credits",
    ),
    busy("no provider", 503, openrouter_error(503, "None is available"), "503: .*None is available", seconds="7"),
    refused(
        "a context that is too long",
        400,
        openrouter_error(400, "This endpoint's maximum context length is 8192 tokens"),
        "context_too_long",
        "BadRequestError: 400: .*maximum context length",
    ),
)


# Gemini's OpenAI endpoint: Google's page on OpenAI compatibility; dayu-agent issue 45 for its chunks, envoyproxy
# ai-gateway pull request 2107 for an end that comes with the last text; gemini-cli issue 6454 for errors that are lists
# of one.
def gemini_error(code: int, message: str, status: str, **more: Any) -> list[Any]:
    return [{"error": {"code": code, "message": message, "status": status, **more}}]


GEMINI = of(
    "Gemini",
    good(
        "an end with the last text, and a usage in each chunk",
        sse(
            *(chunk({"role": "assistant", "content": text}, usage=counted(made=1)) for text in TEXTS[:-1]),
            chunk(
                {"content": TEXTS[-1], "extra_content": {"google": {"thought_signature": "aGk"}}},
                "stop",
                usage=counted(),
            ),
        ),
    ),
    good("a limit, and no delta", sse(*said(*TEXTS), chunk(None, "length", usage=counted())), "length"),
    good(
        "an answer that is blocked",
        sse(*said(BEGUN), chunk({}, "content_filter: PROHIBITED_CONTENT", usage=counted())),
        "refusal",
        text=BEGUN,
    ),
    failed(
        "an answer that is no answer",
        sse(chunk({"role": "assistant"}, "function_call_filter: MALFORMED_FUNCTION_CALL")),
        "model_error",
        "'function_call_filter: MALFORMED_FUNCTION_CALL'",
    ),
    failed(
        "an error amid the answer",
        sse(*said(BEGUN), *gemini_error(500, "An internal error has occurred", "INTERNAL"), done=False),
        "model_error",
        "APIError: 500: .*An internal error",
        text=BEGUN,
    ),
    refused(
        "a wrong key",
        400,
        gemini_error(400, "API key not valid.", "INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]),
        "model_unauthorized",
        "BadRequestError: 400: .*API key not valid",
    ),
    refused(
        "an unknown model",
        404,
        gemini_error(404, "models/m is not found for this version", "NOT_FOUND"),
        "model_not_found",
        "NotFoundError: 404: .*models/m is not found",
    ),
    busy(
        "a rate limit",
        429,
        gemini_error(429, "Resource has been exhausted (check quota).", "RESOURCE_EXHAUSTED"),
        "RateLimitError: 429: .*Resource has been exhausted",
    ),
    busy(
        "too many others",
        503,
        gemini_error(503, "The model is overloaded.", "UNAVAILABLE"),
        "InternalServerError: 503: .*overloaded",
    ),
    refused(
        "a context that is too long",
        400,
        gemini_error(
            400, "The input token count (9) exceeds the maximum number of tokens allowed (4)", "INVALID_ARGUMENT"
        ),
        "context_too_long",
        "BadRequestError: 400: .*input token count",
    ),
)


# MiniMax: its documentation's pages on chat completions and on error codes; MiniMax-M2.5 issue 2 for the empty role,
# OpenBitFun pull request 792 for the last frame, obsidian-aloud-tts pull request 114 for errors under 200, ironclaw
# issue 1742 for a 401.
def base_resp(number: int, message: str) -> dict[str, Any]:
    return {"id": "", "choices": None, "base_resp": {"status_code": number, "status_msg": message}}


NO_USAGE = {"total_tokens": 0, "total_characters": 0}
REPEATED = {
    "index": 0,
    "finish_reason": "stop",
    "message": {"role": "assistant", "content": TEXT, "reasoning_content": "Hm"},
}
MINIMAX = of(
    "MiniMax",
    good(
        "an answer that comes again, whole, in its last frame",
        sse(
            chunk({"role": "", "reasoning_content": "Hm"}, usage=NO_USAGE, input_sensitive=False),
            *(chunk({"role": "assistant", "content": text}, usage=NO_USAGE, input_sensitive=False) for text in TEXTS),
            chunk({}, object="chat.completion", usage=counted(), base_resp={"status_code": 0, "status_msg": ""})
            | {"choices": [REPEATED]},
            done=False,
        ),
        thoughts="Hm",
    ),
    failed(
        "a wrong key, under the status 200",
        dumped(base_resp(1004, "login fail")).encode(),
        "model_unauthorized",
        "the answer broke off: .*login fail",
        kind=JSON,
        retryable=False,
    ),
    failed(
        "a rate limit, under the status 200",
        dumped(base_resp(1002, "rate limit")).encode(),
        "model_busy",
        "the answer broke off: .*rate limit",
        kind=JSON,
    ),
    failed(
        "an account without money, under the status 200",
        dumped(base_resp(1008, "insufficient balance")).encode(),
        "model_error",
        "the answer broke off: .*insufficient balance",
        kind=JSON,
        retryable=False,
    ),
    failed(
        "a limit of tokens amid the answer",
        sse(*said(BEGUN), base_resp(1039, "token limit"), done=False),
        "model_busy",
        "the answer broke off: .*token limit",
        text=BEGUN,
    ),
    failed(
        "a context that is too long, under the status 200",
        dumped(base_resp(2013, "invalid params, context window exceeds limit")).encode(),
        "context_too_long",
        "the answer broke off: .*context window exceeds limit",
        kind=JSON,
        retryable=False,
    ),
    refused(
        "a wrong key",
        401,
        {"type": "error", "error": {"type": "authorized_error", "message": "login fail (1004)", "http_code": "401"}},
        "model_unauthorized",
        "AuthenticationError: 401: .*login fail",
    ),
)

# Groq: the API reference's page on chat completions.
GROQ = of(
    "Groq",
    good(
        "a usage of its own beside the end",
        sse(
            chunk({"role": "assistant", "content": ""}, x_groq={"id": "r-1"}),
            *said(*TEXTS),
            chunk({}, "stop", x_groq={"id": "r-1", "usage": counted()}),
            USAGE,
        ),
    ),
    failed(
        "an error amid the answer",
        sse(*said(BEGUN), {"error": {"message": "It failed", "type": "invalid_request_error", "status_code": 400}}),
        "model_error",
        "APIError: 400: .*It failed",
        text=BEGUN,
        retryable=False,
    ),
)


# Anthropic: its documentation's pages on streaming messages, on stop reasons and on errors; gptel pull request 1512 for
# an error amid the stream, openclaw pull request 37607 for proxies that leave out the names of events, vllm pull
# request 37510 for OpenAI's last word behind Anthropic's.
def events(*data: dict[str, Any]) -> bytes:
    return "".join(f"event: {each['type']}\ndata: {dumped(each)}\n\n" for each in data).encode()


def delta(**fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": fields}


def ended(reason: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 4},
        **more,
    }


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"details": None, "type": kind, "message": message}, "request_id": "req_1"}


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
}
START = {"type": "message_start", "message": MESSAGE | {"usage": {"input_tokens": 9, "output_tokens": 1}}}
PING = {"type": "ping"}
SAID = [delta(type="text_delta", text=text) for text in TEXTS]
END = {"type": "message_stop"}
ANTHROPIC = of(
    "Anthropic",
    good(
        "thoughts, signatures and pings",
        events(
            START,
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            PING,
            delta(type="thinking_delta", thinking="Hm"),
            delta(type="signature_delta", signature="aGk="),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
            *SAID,
            delta(type="citations_delta", citation={"type": "char_location", "cited_text": "Hm"}),
            {"type": "content_block_stop", "index": 1},
            ended("end_turn", context_management={"applied_edits": []}),
            END,
        ),
        thoughts="Hm",
    ),
    good("a limit", events(START, *SAID, ended("max_tokens"), END), "length"),
    good("the model's limit", events(START, *SAID, ended("model_context_window_exceeded"), END), "length"),
    good("a refusal", events(START, SAID[0], ended("refusal"), END), "refusal", text=BEGUN),
    good("a connection that is cut behind the end", events(START, *SAID, ended("end_turn")), whole=False),
    good(
        "a proxy that does not stream",
        dumped(
            MESSAGE
            | {"content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn"}
            | {"usage": {"input_tokens": 9, "output_tokens": 4}}
        ).encode(),
        kind=JSON,
    ),
    good(
        "a proxy that leaves out the names of events",
        sse(START, PING, *SAID, ended("end_turn"), END, before="data:", behind="\r\n\r\n", done=False),
    ),
    good("a gateway that ends as OpenAI does", events(START, *SAID, ended("end_turn"), END) + sse()),
    failed(
        "a turn that it would go on with",
        events(START, SAID[0], ended("pause_turn"), END),
        "model_error",
        "'pause_turn'",
        text=BEGUN,
    ),
    failed(
        "too many others amid the answer",
        events(START, SAID[0], anthropic_error("overloaded_error", "Overloaded")),
        "model_busy",
        "the answer broke off: .*Overloaded",
        text=BEGUN,
    ),
    failed(
        "an error amid the answer",
        events(START, SAID[0], anthropic_error("api_error", "Internal server error")),
        "model_error",
        "the answer broke off: .*Internal server error",
        text=BEGUN,
    ),
    failed(
        "a connection that is cut before the end",
        events(START, SAID[0]),
        "model_error",
        "RemoteProtocolError|APIConnectionError",
        text=BEGUN,
        whole=False,
    ),
    refused(
        "a wrong key",
        401,
        anthropic_error("authentication_error", "invalid x-api-key"),
        "model_unauthorized",
        "AuthenticationError: 401: .*invalid x-api-key",
    ),
    refused(
        "an unknown model",
        404,
        anthropic_error("not_found_error", "model: m"),
        "model_not_found",
        "NotFoundError: 404: .*model: m",
    ),
    busy("a rate limit", 429, anthropic_error("rate_limit_error", "Slow"), "RateLimitError: 429: .*Slow", seconds="30"),
    busy("too many others", 529, anthropic_error("overloaded_error", "Overloaded"), "529: .*Overloaded"),
    refused(
        "a context that is too long",
        400,
        anthropic_error("invalid_request_error", "prompt is too long: 9 tokens > 4 maximum"),
        "context_too_long",
        "BadRequestError: 400: .*prompt is too long",
    ),
    refused(
        "a context that is too long for an answer of that limit",
        400,
        anthropic_error("invalid_request_error", "input length and `max_tokens` exceed context limit: 3 + 2 > 4"),
        "context_too_long",
        "BadRequestError: 400: .*exceed context limit",
    ),
    refused(
        "an account without money",
        400,
        anthropic_error("invalid_request_error", "Your credit balance is too low"),
        "model_error",
        "BadRequestError: 400: .*credit balance is too low",
    ),
)

CASES: Sequence[Case] = [
    *(*OPENAI, *AZURE, *VLLM, *OLLAMA, *LLAMA_CPP, *LM_STUDIO, *MISTRAL, *DEEPSEEK, *OPENROUTER, *GEMINI, *MINIMAX),
    *(*GROQ, *ANTHROPIC),
]


class Services(BaseHTTPRequestHandler):
    """All of them. The question names the case; its answer comes in two halves, cut wherever its middle is."""

    protocol_version = "HTTP/1.1"
    server: "Served"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a server that is killed
            super().handle()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        case = self.server.cases[asked["messages"][-1]["content"]]
        self.send_response(case.status)
        for name, value in {"Content-Type": case.kind, "Transfer-Encoding": "chunked", **case.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        middle = len(case.body) // 2
        for half in (case.body[:middle], case.body[middle:]):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
            self.server.goes_on.wait()
        if case.whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Served(ThreadingHTTPServer):
    def __init__(self, cases: Iterable[Case]) -> None:
        super().__init__(("127.0.0.1", 0), Services)
        self.cases = {str(case): case for case in cases}
        self.goes_on = threading.Event()  # with the second half of an answer
        self.goes_on.set()


@contextmanager
def serving_services(cases: Iterable[Case]) -> Iterator[Served]:
    with Served(cases) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
