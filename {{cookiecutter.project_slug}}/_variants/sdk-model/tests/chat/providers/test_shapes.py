import pytest
from httpx2 import Response

from app.chat.providers.base import ModelError
from app.chat.providers.shapes import the_one

KEY = "sk-hidden"


async def test_the_log_does_not_have_the_key_of_a_service_that_succeeds_in_what_is_no_answer() -> None:
    with pytest.raises(ModelError, match=r"no such key: \*\*\*"):
        await anext(the_one(Response(200, html=f"<html>no such key: {KEY}"), KEY))
