"""The routes of the AI SDK's `useChat`: it asks, comes back to an answer when its page loads again, and stops one.

A chat has at most one answer that runs, by the id that its page gave it. It belongs to its caller. `useChat` knows no
place in a stream: whoever comes back gets the answer from its start, under the same message id. A page may ask again
with a part of the answer as its last message. It appends whatever comes, so it gets only the rest. ARCHITECTURE.md has
all rules.
"""

import asyncio
from contextlib import suppress

from fastapi import APIRouter, Response

from app import telemetry
from app.callers.caller import CallerDep
from app.chat.answer_stream import AnswerStream
from app.chat.answers import Answers
from app.chat.dependencies import AnswersDep
from app.chat.known_answer import KnownAnswer, Name
from app.chat.ui_message_stream import DOCS, HEADERS, UIMessageEncoder
from app.chat.ui_messages import UIChat, UIMessage
from app.dependencies import OneStreamAgain
from app.streams.docs import Responses
from app.streams.response import EventStream, StreamRoute

router = APIRouter(prefix="/api/chat", tags=["chat"], route_class=StreamRoute)
STREAM = "/{chat_id:path}/stream"  # `ai` 5.0.0 does not escape an id's slashes
ENDS_SECONDS = 20.0  # a model has 5 s to close, and one that is out of reach is given up after some more
NOTHING_THERE: Responses = {204: {"description": "There is no answer to come back to."}}


@router.post("", response_class=EventStream, responses=DOCS, dependencies=[OneStreamAgain])
async def ui_chat(chat: UIChat, answers: AnswersDep, caller: CallerDep) -> AnswerStream:
    """Streams the answer to the last message. If one to that message runs already, streams that.

    An answer of this chat to another message is stopped.
    """
    answer = await _answer(chat, answers, caller.name)
    shown = chat.messages[-1] if chat.ends_in(answer.id) else UIMessage(role="assistant", parts=[])
    encoder = UIMessageEncoder(shown.all_of("text"), shown.all_of("reasoning"), chat.leaves_out)
    return AnswerStream(answer, encoder, headers=HEADERS)


async def _answer(chat: UIChat, answers: Answers, caller: str) -> KnownAnswer:
    if not chat.id:
        return await answers.start(chat.for_the_model(), caller)

    async def joins(known: KnownAnswer) -> bool:
        same = known.asked.fingerprint == chat.fingerprint
        if not known.running:
            return same and known.whole and chat.ends_in(known.id)
        if same and known.can_be_joined and not known.stopped:
            return True
        await known.stop()
        with suppress(TimeoutError):  # the page would write both answers into one message
            async with asyncio.timeout(ENDS_SECONDS):
                await known.ended()
        return False

    return await answers.find_or_start(chat.for_the_model(), caller, _name(caller, chat.id), chat.fingerprint, joins)


@router.get(STREAM, response_class=EventStream, responses=DOCS | NOTHING_THERE, dependencies=[OneStreamAgain])
async def resume_ui_chat(chat_id: str, answers: AnswersDep, caller: CallerDep) -> Response:
    """Streams the chat's last answer again from its start, while it runs and for some time after.

    `useChat` with `resume` asks this when its page loads. 204 says that there is none: a 404 would be shown.
    """
    if (answer := await answers.named(_name(caller.name, chat_id))) is None:
        return Response(status_code=204)
    telemetry.reader_came_back()
    return AnswerStream(answer, UIMessageEncoder(), headers=HEADERS)


@router.delete(STREAM, status_code=202)
async def stop_ui_chat(chat_id: str, answers: AnswersDep, caller: CallerDep) -> Response:
    """Stops the chat's answer, if one runs. All who read it keep what was made."""
    if answer := await answers.named(_name(caller.name, chat_id)):
        await answer.stop()
    return Response(status_code=202)


def _name(caller: str, chat_id: str) -> Name:
    return ("chat", caller, chat_id)
