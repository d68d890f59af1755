import asyncio

import pytest

from app.chat.answer_turns import AT_ONCE, Turns
from app.redis_client import StoreAway


async def test_few_of_a_caller_ask_at_once_and_another_need_not_wait_for_them() -> None:
    turns, ends, asking = Turns(), asyncio.Event(), 0

    async def ask() -> None:
        nonlocal asking
        async with turns.of("me", 600):
            asking += 1
            await ends.wait()
            asking -= 1

    tasks = [asyncio.create_task(ask()) for _ in range(50)]
    async with turns.of("you", 600):
        await asyncio.sleep(0)
        assert asking == AT_ONCE
    ends.set()
    await asyncio.gather(*tasks)


async def test_who_waited_for_a_turn_while_redis_did_not_answer_waits_no_longer() -> None:
    turns, asked = Turns(), 0

    async def ask_what_stands_still() -> None:
        nonlocal asked
        async with turns.of("me", 0.05):
            asked += 1
            await asyncio.Event().wait()

    outcomes = await asyncio.gather(*(ask_what_stands_still() for _ in range(50)), return_exceptions=True)
    assert ({type(each) for each in outcomes}, asked) == ({StoreAway}, AT_ONCE)
    with pytest.raises(StoreAway):
        await ask_what_stands_still()
    assert asked == AT_ONCE + 1  # who has come since asks anew
