"""The routes of the AI SDK's `useChat`: it asks, comes back to an answer when its page loads again, and stops one.

A chat has at most one answer that runs, by the id that its page gave it. It belongs to its caller. `useChat` knows no
place in a stream: whoever comes back gets the answer from its start, under the same message id. An answer is asked
again with a body that ends in the part that the page has already: a page adds to that, whatever comes, so it gets the
rest. ARCHITECTURE.md has all rules.
"""

import asyncio

from fastapi import APIRouter, Response

from app.chat.answer import Answer
from app.chat.answer_stream import AnswerStream
from app.chat.answers import Answers
from app.chat.dependencies import AnswersDep
from app.chat.ui_message_stream import DOCS, HEADERS, UIMessageEncoder
from app.chat.ui_messages import UIChat
from app.dependencies import CallerDep
from app.streams.docs import Responses
from app.streams.response import EventStream

router = APIRouter(prefix="/api/chat", tags=["chat"])
STREAM = "/{chat_id:path}/stream"  # `ai` 5.0.0 does not escape an id's slashes
NOTHING_THERE: Responses = {204: {"description": "There is no answer to come back to."}}


@router.post("", response_class=EventStream, responses=DOCS)
async def ui_chat(chat: UIChat, answers: AnswersDep, caller: CallerDep) -> AnswerStream:
    """Streams the answer to the last message, the one that runs if it is to the same message of the user.

    An answer of this chat to another message is stopped.
    """
    answer = await _answer(chat, answers, caller)
    shown = chat.messages[-1].text if chat.ends_in(answer.id) else ""
    return AnswerStream(answer, UIMessageEncoder(shown), headers=HEADERS)


async def _answer(chat: UIChat, answers: Answers, caller: str) -> Answer:
    name = _name(caller, chat.id) if chat.id else None
    while (known := answers.named(name)) and known.running:
        if known.fingerprint == chat.fingerprint and known.can_be_joined and not known.stopped:
            return known
        known.stop()
        await asyncio.wait({known.run.closed})  # the page would write both answers into one message
    if known and known.fingerprint == chat.fingerprint and known.whole and chat.ends_in(known.id):
        return known
    return answers.start(chat.for_the_model(), caller, name=name, fingerprint=chat.fingerprint)


@router.get(STREAM, response_class=EventStream, responses=DOCS | NOTHING_THERE)
async def resume_ui_chat(chat_id: str, answers: AnswersDep, caller: CallerDep) -> Response:
    """Streams the chat's last answer again from its start, while it runs and for some time after.

    `useChat` with `resume` asks this when its page loads. 204 says that there is none: a 404 would be shown.
    """
    answer = answers.named(_name(caller, chat_id))
    return AnswerStream(answer, UIMessageEncoder(), headers=HEADERS) if answer else Response(status_code=204)


@router.delete(STREAM, status_code=202)
async def stop_ui_chat(chat_id: str, answers: AnswersDep, caller: CallerDep) -> Response:
    """Stops the chat's answer, if one runs. All who read it keep what was made."""
    if answer := answers.named(_name(caller, chat_id)):
        answer.stop()
    return Response(status_code=202)


def _name(caller: str, chat_id: str) -> tuple[str, str, str]:
    return ("chat", caller, chat_id)
