"""An answer to one of its readers."""

from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from app.chat.known_answer import KnownAnswer
from app.streams.events import Encoder, encode
from app.streams.response import EventStream


class AnswerStream(EventStream):
    """An EventStream of an answer's log. While it lasts, the answer has a reader."""

    def __init__(
        self,
        answer: KnownAnswer,
        encoder: Encoder = encode,
        *,
        after: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(answer.log, encoder, after=after, headers={"X-Stream-ID": answer.id, **(headers or {})})
        self.answer = answer
        answer.expect_reader()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.answer.reading():
            await super().__call__(scope, receive, send)
