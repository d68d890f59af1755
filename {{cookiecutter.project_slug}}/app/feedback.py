"""What readers think of an answer. The audit record is best effort: it is written after the response."""

import logging
from typing import Annotated, Literal
from uuid import uuid4

from fastapi import APIRouter, BackgroundTasks, Header
from pydantic import BaseModel, Field

from app.callers.caller import CallerDep
from app.dependencies import BackgroundDep

router = APIRouter(tags=["feedback"])
audit = logging.getLogger("app.audit")


class Feedback(BaseModel):
    stream_id: str = Field(min_length=1, max_length=64)
    rating: Literal[-1, 1]
    comment: str = Field("", max_length=2000)


class Accepted(BaseModel):
    event_id: str


@router.post("/feedback", status_code=202)
async def give_feedback(
    feedback: Feedback,
    tasks: BackgroundTasks,
    background: BackgroundDep,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Accepted:
    """Feedback with the same `Idempotency-Key` is recorded once, as long as this process remembers the key."""
    event_id = idempotency_key or uuid4().hex
    once = f"feedback:{caller.name!r}:{event_id!r}" if idempotency_key else None  # quoted: a name may be any text
    tasks.add_task(background.run, record, feedback, event_id, caller.name, once=once)
    return Accepted(event_id=event_id)


async def record(feedback: Feedback, event_id: str, caller: str) -> None:
    audit.info("feedback", extra={"event_id": event_id, "caller": caller, **feedback.model_dump()})
