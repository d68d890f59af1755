import socket
import time
from collections.abc import Iterator

import pytest
from pydantic import RedisDsn

from app.jobs import presence, signs
from app.jobs.presence import Presence, live_workers
from app.jobs.store import Store


@pytest.fixture
def this(store: Store) -> Iterator[Presence]:
    this = Presence(store.settings)
    yield this
    this.end()


async def test_who_shows_itself_is_alive_on_its_host_until_it_ends(store: Store, this: Presence) -> None:
    assert await live_workers(store, store.settings) == 0
    this.show()
    assert await live_workers(store, store.settings) == 1
    assert signs.live_workers(store.settings, socket.gethostname()) == 1
    assert signs.live_workers(store.settings, "elsewhere") == 0
    this.end()
    assert await live_workers(store, store.settings) == 0


async def test_who_has_ended_is_not_shown_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be about to show it."""
    monkeypatch.setattr(presence, "SHOW_SECONDS", 0.0)
    this = Presence(store.settings)
    this.show()
    this.end()
    this.show()
    assert await live_workers(store, store.settings) == 0


async def test_who_is_silent_for_long_is_not_alive(
    store: Store, this: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    this.show()
    monkeypatch.setattr(presence, "SILENT_SECONDS", 0.0)
    assert await live_workers(store, store.settings) == 0


async def test_a_sign_of_life_from_the_future_is_none(store: Store) -> None:
    """The clock of Redis was an hour ahead, and the worker is dead."""
    future = {f"{socket.gethostname()}.1": time.time() + 3600}
    await store.client.zadd(f"{store.settings.queue_name}:workers", future)
    assert await live_workers(store, store.settings) == 0
    assert signs.live_workers(store.settings, socket.gethostname()) == 0


async def test_it_writes_no_more_often_than_it_must(store: Store, this: Presence) -> None:
    this.show()
    await store.client.delete(f"{store.settings.queue_name}:workers")
    this.show()
    assert await live_workers(store, store.settings) == 0


async def test_who_was_killed_is_forgotten(store: Store, this: Presence) -> None:
    await store.client.zadd(f"{store.settings.queue_name}:workers", {"gone.1": time.time() - 10 * signs.SILENT_SECONDS})
    this.show()
    assert await store.client.zcard(f"{store.settings.queue_name}:workers") == 1


async def test_a_redis_that_is_away_does_not_disturb_a_worker(store: Store) -> None:
    lonely = Presence(store.settings.model_copy(update={"redis_url": RedisDsn("redis://127.0.0.1:1/0")}))
    lonely.show()
    lonely.end()
