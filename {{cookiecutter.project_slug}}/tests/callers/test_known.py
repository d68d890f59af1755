import secrets

import pytest

from app.callers.known import KnownCallers
from app.callers.settings import CallerSettings, digest_of_key

HASHED = digest_of_key("k-2")


def known(api_keys: str = "", api_key: str = "") -> KnownCallers:
    return KnownCallers(CallerSettings(_env_file=None, api_keys=api_keys, api_key=api_key))


async def names(callers: KnownCallers, *tokens: str) -> list[str | None]:
    found = [await callers.find(token) for token in tokens]
    return [caller.name if caller else None for caller in found]


async def test_a_key_is_known_as_it_is_or_by_its_digest() -> None:
    callers = known(f"alice:k-1, bob:{HASHED}", api_key="k-3")
    assert await names(callers, "k-1", "k-2", "k-3", "k-4") == ["alice", "bob", "default", None]
    assert await names(callers, "", "k-", "alice:k-1", HASHED, HASHED.removeprefix("sha256:")) == [None] * 5


async def test_a_single_key_may_be_its_digest_too() -> None:
    assert await names(known(api_key=HASHED), "k-2", HASHED) == ["default", None]
    in_capitals = HASHED.upper()
    assert await names(known(api_key=in_capitals), "k-2", HASHED) == ["default", None]


async def test_a_name_may_stand_twice_while_its_key_is_changed() -> None:
    assert await names(known("alice:k-1,alice:k-2"), "k-1", "k-2") == ["alice", "alice"]


async def test_a_token_of_any_characters_is_compared() -> None:
    """As a header brings them: each byte a character."""
    assert await names(known("alice:k-1"), "k-1\xe9", "\xff", "k-1\x00") == [None] * 3


@pytest.mark.parametrize("token", ["k-0", "k-4", "unknown"])
async def test_each_key_is_compared_in_constant_time_whichever_it_is(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []
    whole = secrets.compare_digest

    def compare(first: str, second: str) -> bool:
        compared.append((first, second))
        return whole(first, second)

    monkeypatch.setattr(secrets, "compare_digest", compare)
    await known(",".join(f"n{n}:k-{n}" for n in range(5))).find(token)
    assert compared == [(digest_of_key(f"k-{n}"), digest_of_key(token)) for n in range(5)]


async def test_without_keys_nobody_must_say_who_they_are() -> None:
    assert [known().required, known("alice:k").required, known(api_key="k").required] == [False, True, True]
    assert await names(known(), "", "k") == [None, None]
    assert await known().check() == {}
