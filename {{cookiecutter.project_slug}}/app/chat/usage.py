"""Tells what each answer took, once, when it ends. It is best effort: a crash loses it.

A service that bills by tokens counts those of a stopped answer too, but doesn't say how many they are.
"""

from app.chat.answer import Answer


async def record_usage(answer: Answer) -> None:
    generation = answer.generation
    fields: dict[str, object] = {
        "caller": answer.asked.caller,
        "stream": answer.id,
        "model": generation.model,
        "reason": answer.reason,
        "outcome": answer.outcome,
    }
    if answer.error_code:
        fields["error"] = answer.error_code
    if (first := generation.told.seconds_to_first_piece) is not None:
        fields["first_piece_seconds"] = round(first, 3)
    generation.told.end({**fields, **generation.usage}, generation.text)
