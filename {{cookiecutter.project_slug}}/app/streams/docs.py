"""What `/docs` says of a stream, which OpenAPI sees as one text."""

from typing import Any

from app.streams.events import Encoder, Event, encode

Responses = dict[int | str, dict[str, Any]]  # as FastAPI types a route's `responses`


def stream_docs(description: str, *events: Event, encoder: Encoder = encode) -> Responses:
    """For the `responses` of a route with an EventStream: what its events are, and how a stream of these looks."""
    example = b"".join(encoder(event, number) for number, event in enumerate(events, start=1)).decode()
    return {200: {"description": description, "content": {"text/event-stream": {"example": example}}}}
