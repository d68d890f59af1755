from collections.abc import Callable, Iterator

import httpx2
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app.callers.known import KnownCallers
from app.chat.providers.base import Provider
from app.settings import Settings
from tests.callers.knowing import HEADERS, KNOWN
from tests.providers import ScriptedProvider

ORIGIN = "https://chat.example.com"


@pytest.fixture(scope="module")
def guarded(settings: Settings, build: Callable[..., FastAPI]) -> FastAPI:
    changes = {"cors_origins": [ORIGIN], "max_body_bytes": 1000}
    return build(settings.model_copy(update=changes), ScriptedProvider("a"), KNOWN)


@pytest.fixture(scope="module")
def client(guarded: FastAPI) -> Iterator[TestClient]:
    with TestClient(guarded, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/health", "/chat/stream"])
def test_a_request_with_two_lengths_is_the_last_of_its_connection(client: TestClient, path: str) -> None:
    refused = client.post(
        path, content=b"{}", headers={**HEADERS, "Transfer-Encoding": "chunked", "Content-Length": "2"}
    )
    assert (refused.status_code, refused.headers["Connection"]) == (400, "close")
    assert refused.json() == {"detail": "Content-Length and Transfer-Encoding exclude each other"}


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/stream?text=x"])
def test_every_response_has_a_request_id(client: TestClient, path: str) -> None:
    assert len(client.get(path).headers["x-request-id"]) == 32


def test_a_callers_request_id_is_kept(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "trace-7"}).headers["x-request-id"] == "trace-7"


def test_a_request_id_that_would_forge_a_log_line_is_replaced(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "a b] forged"}).headers["x-request-id"] != "a b] forged"


def test_a_large_body_is_413_with_the_request_id_and_the_cors_headers(client: TestClient) -> None:
    response = client.post("/chat/stream", json={"question": "x" * 1000}, headers={**HEADERS, "Origin": ORIGIN})
    assert response.status_code == 413
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["x-request-id"]


def test_a_large_body_is_413_without_a_declared_length_too(client: TestClient) -> None:
    response = client.post(
        "/chat/stream",
        content=iter([b'{"question": "', b"x" * 2000, b'"}']),
        headers={**HEADERS, "Content-Type": "application/json"},
    )
    assert response.status_code == 413


def test_a_preflight_needs_no_token_and_allows_what_the_contract_names(client: TestClient) -> None:
    asked = "authorization,content-type,idempotency-key,last-event-id,traceparent,tracestate"
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": asked}
    response = client.options("/stream", headers=headers)
    assert (response.status_code, response.headers["access-control-allow-headers"]) == (200, asked)
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["x-request-id"]


def test_a_page_on_another_origin_may_read_our_headers(client: TestClient) -> None:
    response = client.get("/stream?text=x", headers={**HEADERS, "Origin": ORIGIN})
    exposed = {name.strip() for name in response.headers["access-control-expose-headers"].split(",")}
    assert exposed == {"Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID", "X-Stream-ID"}


def test_an_origin_that_is_not_named_gets_no_cors_headers(client: TestClient) -> None:
    response = client.get("/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers


@pytest.fixture(scope="module")
def unguarded(settings: Settings, build: Callable[[Settings, Provider], FastAPI]) -> Iterator[TestClient]:
    app = build(settings.model_copy(update={"allowed_hosts": ["chat.example.com"]}), ScriptedProvider("a"))

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8000",
        "LOCALHOST.:8000",
        "chat.localhost",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]:8000",
        "[::1]",
        "192.168.1.7:8000",
        "chat.example.com",
        "Chat.Example.com.:443",
    ],
)
def test_where_nobody_says_who_they_are_a_server_has_an_address_is_local_or_has_a_name_that_was_given(
    unguarded: TestClient, host: str
) -> None:
    assert unguarded.get("/stream?text=x", headers={"Host": host}).status_code == 200
    with unguarded.websocket_connect("/ws", headers={"Host": host}):
        pass


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.chat.example.com",
        "chat.example.com..",
        "[::1].evil.example",
        "localhost:evil",
        "",
        ".",
        "localhost\x00",
    ],
)
@pytest.mark.parametrize("path", ["/stream?text=x", "/docs", "/nowhere", "/health/"])
def test_where_nobody_says_who_they_are_another_name_is_refused_as_an_attackers_may_lead_here(
    unguarded: TestClient, path: str, host: str
) -> None:
    """DNS rebinding: a browser takes the page and the server for one site then, and lets the page read all."""
    refused = unguarded.get(path, headers={"Host": host})
    assert refused.status_code == 400
    assert refused.json() == {"detail": f"ALLOWED_HOSTS must have the host's name, or {KnownCallers.SETTING} be set"}
    with pytest.raises(WebSocketDisconnect), unguarded.websocket_connect("/ws", headers={"Host": host}):
        pass


def test_of_two_hosts_both_must_be_known(unguarded: TestClient) -> None:
    def status(*hosts: str) -> int:
        request = unguarded.build_request("GET", "/stream?text=x")
        request.headers = httpx2.Headers([("Host", host) for host in hosts])
        return unguarded.send(request).status_code

    assert [status("localhost", "localhost"), status("localhost", "evil.example")] == [200, 400]


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/web/page.css"])
def test_what_is_open_to_all_may_be_asked_by_any_name(unguarded: TestClient, path: str) -> None:
    assert unguarded.get(path, headers={"Host": "web:8000"}).status_code == 200


def test_where_callers_say_who_they_are_any_name_will_do(client: TestClient) -> None:
    assert client.get("/stream?text=x", headers={**HEADERS, "Host": "evil.example"}).status_code == 200
