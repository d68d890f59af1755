"""The agent: what it is told, and its tools. Yours to change.

A tool is an async function. The model reads its docstring, and the names and types of its parameters, to know when to
call it and how. What it returns goes to the model, and is shown to whoever reads the answer.

To say what went wrong, raise ToolFailed: its text goes where a result would. Of any other exception the log has the
traceback, and the model hears no more than that the tool has failed. In either case the answer goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent, RunContext

from app.chat.keys import Keys
from app.jobs.queue import JobQueue
from app.jobs.tasks import Document
from app.jobs.tasks import index_document as index_document_task

INSTRUCTIONS = "Use a tool only if what you are asked calls for it. Then say what came of it."


@dataclass(frozen=True)
class Deps:
    """What the tools of one answer have at hand. `caller` is the name of who asks."""

    jobs: JobQueue
    caller: str
    keys: Keys


def deps_of(shared: Mapping[type, Any], caller: str, keys: Keys) -> Deps:
    """`shared` is what the rooms of the service have opened, by its type."""
    return Deps(jobs=shared[JobQueue], caller=caller, keys=keys)


# Its instructions go along with each run, in one text with SYSTEM_PROMPT: many open models refuse a second one.
agent = Agent(deps_type=Deps)


@agent.tool
async def index_document(context: RunContext[Deps], document: Document) -> dict[str, str]:
    """Counts the words of a document. It takes a while, so a job does it: tell the user its id."""
    deps = context.deps
    job = await deps.jobs.enqueue(index_document_task, document, caller=deps.caller, key=deps.keys.current)
    return {"job": job.id, "status": job.status}


@agent.tool
async def look_up_job(context: RunContext[Deps], job: str) -> dict[str, Any]:
    """Says how far a job is, and what it has found if it has succeeded.

    Args:
        job: its id
    """
    deps = context.deps
    found = await deps.jobs.get(job, caller=deps.caller)
    return {"status": found.status, "result": await deps.jobs.result(found)}
