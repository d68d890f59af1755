import asyncio

import pytest

from app.client_limits import Unfinished, limit_clients
from tests.test_connections import Lifespan, Transport, unknown


async def test_a_connection_that_waits_too_long_for_its_request_is_cut_and_others_are_not() -> None:
    unfinished, slow, quick = Unfinished(0.01, most=10), Transport(), Transport()
    for transport in (quick, slow):
        unfinished.add(transport)  # type: ignore[arg-type]
    unfinished.discard(quick)  # type: ignore[arg-type]
    await asyncio.wait_for(slow.aborted.wait(), 5)
    assert not quick.aborted.is_set()


async def test_where_too_many_wait_it_is_the_first_that_is_cut() -> None:
    """So whoever comes, as a health check, is heard."""
    unfinished, transports = Unfinished(60, most=2), [Transport() for _ in range(4)]
    for transport in transports:
        unfinished.add(transport)  # type: ignore[arg-type]
        unfinished.add(transport)  # type: ignore[arg-type]
    assert [transport.aborted.is_set() for transport in transports] == [True, True, False, False]


@pytest.mark.parametrize("parser", ["auto", "h11"])
def test_requests_are_limited_unless_another_parser_was_chosen(parser: str, caplog: pytest.LogCaptureFixture) -> None:
    lifespan, chosen = Lifespan(http=parser, http_protocol_class=None), Lifespan(http="httptools")
    limit_clients(lifespan.receive, 30, 30)
    assert lifespan.config.http_protocol_class is not None
    assert not caplog.text
    limit_clients(chosen.receive, 30, 30)
    assert caplog.text.count("--http httptools: clients have no time limits") == 1
    limit_clients(unknown, 30, 30)
