"""What models' services send of what a model thinks, and of tools that they use themselves: recorded streams.

The shapes are those of each service's documentation, or of its users' reports, as a comment beside each says. The bytes
are made anew: no word is a service's.
"""

from collections.abc import Sequence
from typing import Any

from model_services import (
    END,
    JSON,
    MESSAGE,
    PING,
    PROCESSING,
    SAID,
    START,
    TEXT,
    TEXTS,
    Case,
    chunk,
    counted,
    delta,
    dumped,
    ended,
    events,
    good,
    mistral_thought,
    of,
    openrouter_chunk,
    said,
    sse,
    without_choices,
)

THOUGHTS = ("They greet.\n", "So ", "I greet, too: 👋")
ALL = "".join(THOUGHTS)
COUNTED: dict[str, Any] = {"completion_tokens_details": {"reasoning_tokens": 3}}
USAGE = without_choices(usage=counted(**COUNTED))


def thinks(what: str, body: bytes, **more: Any) -> Case:
    return good(what, body, **{"thoughts": ALL, "usage": (9, 4, 3), **more})


# DeepSeek: its documentation's pages on chat completions and on thinking mode; continue issue 11787 for the nulls.
def deepseek(content: str | None, thought: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    made = chunk({"content": content, "reasoning_content": thought}, finish, system_fingerprint="fp_1", **more)
    made["choices"][0] |= {"logprobs": None}
    return made


DEEPSEEK = of(
    "DeepSeek",
    thinks(
        "nulls in the other field, and comments while it waits",
        b": keep-alive\n\n"
        + sse(chunk({"role": "assistant", "content": None, "reasoning_content": ""}), done=False)
        + b": keep-alive\n\n"
        + sse(
            *(deepseek(None, text) for text in THOUGHTS),
            *(deepseek(text, None) for text in TEXTS),
            deepseek("", None, "stop", usage=counted(prompt_cache_hit_tokens=0, prompt_cache_miss_tokens=9, **COUNTED)),
        ),
    ),
    thinks(
        "an answer in one piece",
        dumped(
            chunk({}, usage=counted(**COUNTED))
            | {
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": TEXT, "reasoning_content": ALL},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ]
            }
        ).encode(),
        kind=JSON,
    ),
)


# OpenRouter: its documentation's page on reasoning tokens; responses.js pull request 19 and ai-sdk-provider issue 519
# for chunks, laravel/ai pull request 813 for a text in two fields. Its plugins add what they have found as annotations.
def detail(text: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0, **more}


def twice(text: str) -> dict[str, Any]:
    return openrouter_chunk({"reasoning": text, "reasoning_details": [detail(text)]})


def summary(text: str) -> dict[str, Any]:
    return {"type": "reasoning.summary", "summary": text, "format": "openai-responses-v1", "index": 0}


SECRET = {"type": "reasoning.encrypted", "data": "aGk=", "format": "openai-responses-v1", "index": 0}
CITED = {"type": "url_citation", "url_citation": {"url": "https://example.com/", "title": "Hi", "start_index": 0}}
OPENROUTER = of(
    "OpenRouter",
    thinks(
        "comments, the same thought in two fields, its signature, and what a plugin has found",
        PROCESSING * 2
        + sse(*map(twice, THOUGHTS), done=False)
        + PROCESSING
        + sse(
            openrouter_chunk({"reasoning": None, "reasoning_details": [detail(signature="aGk=")]}),
            *(openrouter_chunk({"content": text, "reasoning": None}) for text in TEXTS),
            openrouter_chunk({"annotations": [CITED]}),
            openrouter_chunk({}, "stop"),
            openrouter_chunk({}, usage=counted(cost=0.0001, cost_details={}, **COUNTED)),
        ),
    ),
    thinks(
        "nothing but details: a summary, and what is hidden",
        PROCESSING
        + sse(
            *(openrouter_chunk({"reasoning_details": [summary(text)]}) for text in THOUGHTS),
            openrouter_chunk({"reasoning_details": [SECRET]}),
            *(openrouter_chunk({"content": text}) for text in TEXTS),
            openrouter_chunk({}, "stop"),
            openrouter_chunk({}, usage=counted(cost=0.0001, **COUNTED)),
        ),
    ),
)

# Mistral: its documentation's page on reasoning; litellm issue 16272 for a stream of Magistral, symfony/ai issue 2422
# for one of a model that was asked to think. It counts no thoughts apart.
MISTRAL = of(
    "Mistral",
    thinks(
        "thoughts as parts of a list, and of a reference",
        sse(
            chunk({"role": "assistant", "content": ""}, p="abcdefgh"),
            chunk({"content": ""}, p="ab"),
            *(mistral_thought(text) for text in THOUGHTS),
            chunk({"content": [{"type": "thinking", "thinking": [], "closed": True}]}),
            chunk({"content": [{"type": "text", "text": TEXTS[0]}, {"type": "reference", "reference_ids": [1]}]}),
            *said(*TEXTS[1:]),
            chunk({"content": ""}, "stop", usage=counted()),
        ),
        usage=(9, 4),
    ),
)

# vLLM: its documentation's page on reasoning outputs; strands-agents pull request 2191 and vllm pull request 50624 for
# the name of the field, which was another before 0.19.
VLLM = of(
    "vLLM",
    *(
        thinks(
            f"thoughts as {name}",
            sse(
                chunk({"role": "assistant", "content": ""}, prompt_token_ids=None),
                *(chunk({name: text}, token_ids=None) for text in THOUGHTS),
                chunk({name: None, "content": TEXTS[0]}),
                *said(*TEXTS[1:]),
                chunk({"content": ""}, "stop", stop_reason=None),
                without_choices(usage=counted()),
            ),
            usage=(9, 4),
        )
        for name in ("reasoning", "reasoning_content")
    ),
)

# Ollama: its documentation's page on OpenAI compatibility; 9router pull request 3601 for a stream.
OLLAMA = of(
    "Ollama",
    thinks(
        "thoughts beside an empty text",
        sse(
            *(chunk({"role": "assistant", "content": "", "reasoning": text}, fingerprint="fp") for text in THOUGHTS),
            *(chunk({"role": "assistant", "content": text}) for text in TEXTS),
            chunk({"role": "assistant", "content": ""}, "stop"),
            without_choices(usage=counted()),
        ),
        usage=(9, 4),
    ),
)

# Groq: its documentation's pages on reasoning and on compound systems, which use tools of Groq's.
SEARCH = {"index": 0, "type": "search", "name": "search", "arguments": '{"query": "Hi"}', "output": "Hi there"}
GROQ = of(
    "Groq",
    thinks(
        "thoughts on a channel, and a tool of its own",
        sse(
            chunk({"role": "assistant", "content": None}, x_groq={"id": "r-1"}),
            *(chunk({"channel": "analysis", "reasoning": text}) for text in THOUGHTS),
            chunk({"executed_tools": [{**SEARCH, "output": None}]}),
            chunk({"executed_tools": [SEARCH]}),
            *said(*TEXTS),
            chunk({}, "stop", x_groq={"id": "r-1", "usage": counted()}),
            USAGE,
        ),
    ),
)

# LM Studio, SGLang and others, as long as nobody has told them which tags a model has: zed pull request 58042, Mac-MLX
# pull request 46. MiniMax: vellum-assistant pull request 30884.
LM_STUDIO = of(
    "LM Studio",
    thinks(
        "thoughts between tags, in pieces",
        sse(*said("<", "think", ">\n", *THOUGHTS, "</th", "ink>", *TEXTS), chunk({}, "stop"), without_choices()),
        thoughts=f"\n{ALL}",
        usage=None,
    ),
    thinks(
        "thoughts between tags, in one piece",
        dumped(
            chunk({}, usage=counted())
            | {"choices": [{"message": {"content": f"<think>{ALL}</think>{TEXT}"}, "finish_reason": "stop"}]}
        ).encode(),
        usage=(9, 4),
        kind=JSON,
    ),
)

# Gemini: Google's page on OpenAI compatibility (include_thoughts). Its answer's tokens are without those of its
# thoughts, which are in the total.
GEMINI = of(
    "Gemini",
    thinks(
        "thoughts between tags of its own, which only the total counts",
        sse(
            chunk({"content": f"<thought>{THOUGHTS[0]}", "extra_content": {"google": {"thought": True}}}),
            *said(*THOUGHTS[1:]),
            chunk({"content": f"</thought>{TEXTS[0]}"}),
            *said(*TEXTS[1:-1]),
            chunk({"content": TEXTS[-1]}, "stop", usage=counted() | {"total_tokens": 20}),
        ),
        usage=(9, 11),
    ),
)


# Anthropic: its documentation's pages on thinking, on streaming and on its web search; litellm issue 9058 for a hidden
# thought, langchain-google issue 2005 for one without a text, experiential pull request 690 for the tokens of a search.
def begun(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def stopped(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


THINKING = [delta(type="thinking_delta", thinking=text) for text in THOUGHTS]
SIGNED = delta(type="signature_delta", signature="aGk=")
THOUGHT_OF = {"output_tokens": 4, "output_tokens_details": {"thinking_tokens": 3}}
QUERY = [delta(type="input_json_delta", partial_json=half) for half in ("", '{"query"', ': "Hi"}')]
FOUND = {"type": "web_search_result", "title": "Hi", "url": "https://example.com/", "encrypted_content": "aGk="}
ANTHROPIC = of(
    "Anthropic",
    thinks(
        "a thought, its signature, a hidden one and pings",
        events(
            START,
            begun(0, type="thinking", thinking="", signature=""),
            PING,
            *THINKING,
            SIGNED,
            stopped(0),
            begun(1, type="redacted_thinking", data="aGk="),
            stopped(1),
            begun(2, type="text", text=""),
            *SAID,
            stopped(2),
            ended("end_turn", usage=THOUGHT_OF),
            END,
        ),
    ),
    thinks(
        "a thought that it does not tell",
        events(
            START,
            begun(0, type="thinking", thinking="", signature=""),
            SIGNED,
            stopped(0),
            begun(1, type="text", text=""),
            *SAID,
            stopped(1),
            ended("end_turn", usage=THOUGHT_OF),
            END,
        ),
        thoughts="",
    ),
    thinks(
        "a search of its own between two thoughts",
        events(
            START,
            begun(0, type="thinking", thinking="", signature=""),
            *THINKING[:2],
            SIGNED,
            stopped(0),
            begun(1, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
            *QUERY,
            stopped(1),
            begun(2, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[FOUND]),
            stopped(2),
            begun(3, type="thinking", thinking="", signature=""),
            *THINKING[2:],
            SIGNED,
            stopped(3),
            begun(4, type="text", text="", citations=[]),
            delta(type="citations_delta", citation={"type": "web_search_result_location", "cited_text": "Hi"}),
            *SAID,
            stopped(4),
            ended("end_turn", usage=THOUGHT_OF | {"input_tokens": 99, "server_tool_use": {"web_search_requests": 1}}),
            END,
        ),
        usage=(99, 4, 3),
    ),
    thinks(
        "a thought from a proxy that does not stream",
        dumped(
            MESSAGE
            | {"content": [{"type": "thinking", "thinking": ALL, "signature": "aGk="}, {"type": "text", "text": TEXT}]}
            | {"stop_reason": "end_turn", "usage": THOUGHT_OF | {"input_tokens": 9}}
        ).encode(),
        kind=JSON,
    ),
)

# DeepSeek speaks Anthropic's API too: its documentation's page on that; hermes-agent pull request 21048 for its
# signatures. It counts no thoughts apart.
DEEPSEEK_AS_ANTHROPIC = of(
    "DeepSeek as Anthropic",
    thinks(
        "a thought that is signed with the id",
        events(
            START,
            begun(0, type="thinking", thinking="", signature=""),
            *THINKING,
            delta(type="signature_delta", signature="91cfbb94-554b-4136-8e21-fa02280d56ed"),
            stopped(0),
            begun(1, type="text", text=""),
            *SAID,
            stopped(1),
            ended("end_turn", usage={"input_tokens": 9, "output_tokens": 4, "service_tier": "standard"}),
            END,
        ),
        usage=(9, 4),
    ),
)

CASES: Sequence[Case] = [
    *(*DEEPSEEK, *OPENROUTER, *MISTRAL, *VLLM, *OLLAMA, *GROQ, *LM_STUDIO, *GEMINI, *ANTHROPIC),
    *DEEPSEEK_AS_ANTHROPIC,
]
