"""The jobs themselves: yours to change. Each is an async function that takes a payload, a Pydantic model, and returns a
result.

A job may run more than once: after a failure, or when its process dies. `context.key` is the same on each attempt. Give
it to outside services as their idempotency key, and write it beside what you store, in one transaction.

Work that does not await belongs in a thread (`asyncio.to_thread`). While it blocks the event loop, the job's lease is
not renewed, and after JOB_LEASE_SECONDS (15) the attempt counts as lost.

A job that is cancelled or out of time is stopped where it awaits, and has 5 seconds to clean up. A thread that it has
started is not stopped: it may still run beside the next attempt.

A job opens what it needs itself, such as a connection to a database: it gets nothing that the routes have.

Tasks may have modules of their own. Import them here, for what runs the jobs imports this module alone.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator

from pydantic import BaseModel, Field

from app.jobs.definition import JobContext, task

CHUNK_CHARS = 1000
OVERLAP_CHARS = 100  # so that a phrase at the end of one chunk is found in the next one as well
TOP_TERMS = 10
TERM_CHARS = 64


class Document(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)


class Term(BaseModel):
    term: str
    count: int


class Summary(BaseModel):
    title: str
    chunks: int
    words: int
    top_terms: list[Term]


@task()
async def index_document(context: JobContext, document: Document) -> Summary:
    """Counts the terms of each chunk. Your own index takes the place of this."""
    text = document.text
    index: list[Counter[str]] = []
    totals: Counter[str] = Counter()
    chunks = list(split(text))
    for number, (start, end) in enumerate(chunks, 1):
        # In a thread, one chunk at a time, so that the event loop serves others meanwhile.
        index.append(await asyncio.to_thread(count_terms, text[max(0, start - OVERLAP_CHARS) : end]))
        totals.update(await asyncio.to_thread(count_terms, text[start:end]))
        context.progress(number / len(chunks), f"chunk {number} of {len(chunks)}")
    return Summary(
        title=document.title,
        chunks=len(index),
        words=totals.total(),
        top_terms=[Term(term=term, count=count) for term, count in totals.most_common(TOP_TERMS)],
    )


def split(text: str) -> Iterator[tuple[int, int]]:
    """Where each chunk begins and ends, without its overlap. A chunk ends at its last space, if it has one."""
    start = 0
    while start < len(text):
        end = start + CHUNK_CHARS
        if end < len(text) and (space := text.rfind(" ", start, end)) > start:
            end = space
        yield start, min(end, len(text))
        start = end


def count_terms(text: str) -> Counter[str]:
    return Counter(term[:TERM_CHARS] for term in re.findall(r"\w+", text.lower()))
