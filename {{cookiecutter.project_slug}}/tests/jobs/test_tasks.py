import pytest

from app.jobs.definition import JobContext
from app.jobs.tasks import (
    CHUNK_CHARS,
    TERM_CHARS,
    TOP_TERMS,
    Document,
    Summary,
    Term,
    index_document,
    split,
)


async def indexed(text: str) -> tuple[JobContext, Summary]:
    context = JobContext("j", 1)
    return context, await index_document(context, Document(title="t", text=text))


async def test_a_document_is_summed_up() -> None:
    context, summary = await indexed("To be, or not to be. " * 100)
    assert summary.chunks == 3
    assert summary.words == 600
    assert summary.top_terms == [
        Term(term="to", count=200),
        Term(term="be", count=200),
        Term(term="or", count=100),
        Term(term="not", count=100),
    ]
    assert context.latest.fraction == 1.0
    assert context.latest.message == "chunk 3 of 3"


@pytest.mark.parametrize(
    "text", ["x", "word " * 5000, "x" * 5000, " " * 5000, "\u6f22\u5b57" * 3000, "a " + "b" * CHUNK_CHARS + " c"]
)
def test_chunks_cover_the_text_without_a_gap_and_none_is_too_long(text: str) -> None:
    chunks = list(split(text))
    assert "".join(text[start:end] for start, end in chunks) == text
    assert all(0 < end - start <= CHUNK_CHARS for start, end in chunks)


def test_no_word_is_cut_where_there_is_a_space() -> None:
    text = "chunk " * 1000
    assert {word for start, end in split(text) for word in text[start:end].split()} == {"chunk"}


async def test_the_result_is_bounded_whatever_the_text() -> None:
    _, summary = await indexed(" ".join(f"{number}" + "x" * 200 for number in range(500)))
    assert len(summary.top_terms) == TOP_TERMS
    assert max(len(term.term) for term in summary.top_terms) == TERM_CHARS
