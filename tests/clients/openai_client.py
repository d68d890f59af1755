"""OpenAI's Python SDK, as `node.mjs openai` is for the other: the same orders, the same answers."""

import json
import sys
from typing import Any

import openai  # type: ignore[import-not-found]


def counts(usage: Any) -> dict[str, int]:
    details = usage.completion_tokens_details
    return {"tokens": usage.total_tokens} | ({"thinking": details.reasoning_tokens} if details else {})


def add(message: Any, seen: dict[str, Any]) -> None:
    """Of a whole message, or of a chunk's delta. For thoughts the SDK has no type: it passes them on."""
    seen["text"] += message.content or ""
    if thoughts := (message.model_extra or {}).get("reasoning_content"):
        seen["thoughts"] = seen.get("thoughts", "") + thoughts
    if message.tool_calls:
        seen["calls"] = len(message.tool_calls)


def ask(order: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"timeout": order.get("timeout", 30_000) / 1000, "max_retries": order.get("retries", 0)}
    options["http_client"] = openai.DefaultHttpxClient(
        verify=False
    )  # nobody here speaks TLS, and its list takes a while
    client = openai.OpenAI(base_url=f"{order['url']}/v1", api_key=order.get("key") or "none", **options)
    seen: dict[str, Any] = {"text": ""}
    try:
        if name := order.get("list"):
            seen["text"] = "".join(model.id for model in client.models.list())
            seen["model"] = client.models.retrieve(name).id
            return seen
        asked = {"model": "any", "messages": [{"role": "user", "content": order["question"]}], **order.get("extra", {})}
        if not order.get("stream"):
            answer = client.chat.completions.create(**asked)
            (choice,) = answer.choices
            add(choice.message, seen)
            seen |= {"finish": choice.finish_reason, "id": answer.id, "model": answer.model}
            return seen | counts(answer.usage)
        with client.chat.completions.create(**asked, stream=True) as chunks:
            for chunk in chunks:
                seen |= {"id": chunk.id, "model": chunk.model}
                if chunk.usage:
                    seen |= counts(chunk.usage)
                for choice in chunk.choices:
                    if choice.delta.content and not seen["text"]:
                        print('"began"', flush=True)
                    add(choice.delta, seen)
                    if choice.finish_reason:
                        seen["finish"] = choice.finish_reason
                if order.get("stop") and seen["text"]:
                    break
    except Exception as error:  # whatever it is, the test looks at it
        fields = {name: getattr(error, name, None) for name in ("code", "param", "message")}
        seen["error"] = {"kind": type(error).__name__, "status": getattr(error, "status_code", None), **fields}
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        seen["error"] |= {"retry": headers.get("x-should-retry"), "retry_after": headers.get("retry-after")}
    return seen


for line in sys.stdin:
    print(json.dumps(ask(json.loads(line))), flush=True)
