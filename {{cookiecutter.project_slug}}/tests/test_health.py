import asyncio
from typing import cast

from fastapi import Request
from fastapi.testclient import TestClient

from app.application import App


def test_health_says_that_the_process_lives(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_ready_is_503_while_draining_and_health_is_not(client: TestClient) -> None:
    assert client.get("/ready").status_code == 200
    assert client.portal is not None
    client.portal.call(client.app_state["shutdown"].begin)
    response = client.get("/ready")
    assert (response.status_code, response.json()["status"]) == (503, "draining")
    assert client.get("/health").status_code == 200


def test_ready_shows_what_a_room_needs_and_is_503_only_where_that_is_asked_for(client: TestClient) -> None:
    async def check(request: Request) -> dict[str, str]:
        return {"store": "degraded: away"}

    cast(App, client.app).checks.append(check)
    response = client.get("/ready")
    assert (response.status_code, response.json()) == (
        200,
        {"status": "degraded", "checks": {"answers": "ok", "store": "degraded: away"}},
    )
    assert client.get("/ready", params={"strict": 1}).status_code == 503


def test_what_rooms_need_is_looked_at_side_by_side(client: TestClient) -> None:
    """Services that stall at once take a probe no longer than one of them."""
    both = asyncio.Barrier(2)

    async def check(request: Request) -> dict[str, str]:
        async with asyncio.timeout(30):
            await both.wait()
        return {}

    cast(App, client.app).checks.extend([check, check])
    assert client.get("/ready").status_code == 200


def test_monitors_may_ask_for_the_head_alone(client: TestClient) -> None:
    for path in ("/health", "/ready"):
        response = client.head(path)
        assert (response.status_code, response.content) == (200, b"")
