"""What the chat's routes ask for."""

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from app.chat.answers import Answers
from app.chat.providers.base import Provider


class State(TypedDict):
    """What the room opens."""

    provider: Provider
    answers: Answers


async def _provider(request: Request) -> Provider:
    return cast(State, request.state)["provider"]


async def _answers(request: Request) -> Answers:
    return cast(State, request.state)["answers"]


async def checks(request: Request) -> dict[str, str]:
    """For `/ready`: whether the place where answers are kept is `ok`, or why it is not. Never raises."""
    return {"answers": await cast(State, request.state)["answers"].check()}


ProviderDep = Annotated[Provider, Depends(_provider)]
AnswersDep = Annotated[Answers, Depends(_answers)]
"""How a route asks the model. An answer outlives its request: give it nothing that ends with the request, such as what
a dependency with `yield` has opened."""
