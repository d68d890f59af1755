from collections.abc import Callable, Iterator

import httpx2
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.websockets import WebSocketDisconnect

from app.chat.providers.base import Provider
from app.settings import Settings
from tests.providers import ScriptedProvider

ORIGIN = "https://chat.example.com"
KEY = {"Authorization": "Bearer k-1"}


@pytest.fixture(scope="module")
def guarded(settings: Settings, build: Callable[[Settings, Provider], FastAPI]) -> FastAPI:
    changes = {"api_key": SecretStr("k-1"), "cors_origins": [ORIGIN], "max_body_bytes": 1000}
    return build(settings.model_copy(update=changes), ScriptedProvider("a"))


@pytest.fixture(scope="module")
def client(guarded: FastAPI) -> Iterator[TestClient]:
    with TestClient(guarded, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer k-2"}, {"Authorization": "Basic k-1"}])
@pytest.mark.parametrize("path", ["/stream?text=x", "/docs", "/openapi.json", "/nowhere"])
def test_without_the_key_everything_is_closed(client: TestClient, path: str, headers: dict[str, str]) -> None:
    response = client.get(path, headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", ["/ws", "/", "/health", "/web/ws"])
def test_a_websocket_is_closed_too_whatever_its_path(client: TestClient, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


@pytest.mark.parametrize("path", ["/", "/web/page.css", "/health", "/ready"])
def test_but_the_page_and_the_health_checks(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/web",
        "/web/",
        "/webs",
        "/web/../stream?text=x",
        "/web/%2e%2e/stream?text=x",
        "/web/..%2fstream?text=x",
        "/web/deep/../../stream?text=x",
        "/web/..\\stream",
        "/web//stream",
        "/web/page.css/..",
        "/web/.env",
        "/web/page.css%0a",
        "//web/page.css",
    ],
)
def test_a_path_that_only_begins_like_the_pages_files_is_closed(client: TestClient, path: str) -> None:
    """What stands between us and the client may have its own idea of what `..` means."""
    response = client.get(httpx2.URL("http://testserver").copy_with(raw_path=path.encode()))
    assert response.status_code == 401


def test_the_open_paths_are_open_behind_a_proxy_that_adds_a_prefix(guarded: FastAPI) -> None:
    with TestClient(guarded, root_path="/api") as client:
        assert client.get("/api/health").status_code == 200
        assert client.get("/api/stream?text=x").status_code == 401


def test_a_key_may_have_any_characters(settings: Settings, build: Callable[[Settings, Provider], FastAPI]) -> None:
    app = build(settings.model_copy(update={"api_key": SecretStr("schl\u00fcssel")}), ScriptedProvider("a"))
    with TestClient(app) as client:
        headers = {b"Authorization": "Bearer schl\u00fcssel".encode()}
        assert client.get("/stream?text=x", headers=headers).status_code == 200


def test_the_key_opens(client: TestClient) -> None:
    assert client.get("/stream?text=x", headers=KEY).status_code == 200


def test_a_body_is_not_looked_at_without_the_key(client: TestClient) -> None:
    assert client.post("/chat/stream", content=b"{").status_code == 401


@pytest.mark.parametrize("path", ["/health", "/chat/stream"])
def test_a_request_with_two_lengths_is_the_last_of_its_connection(client: TestClient, path: str) -> None:
    refused = client.post(path, content=b"{}", headers={**KEY, "Transfer-Encoding": "chunked", "Content-Length": "2"})
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
    response = client.post("/chat/stream", json={"question": "x" * 1000}, headers={**KEY, "Origin": ORIGIN})
    assert response.status_code == 413
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["x-request-id"]


def test_a_large_body_is_413_without_a_declared_length_too(client: TestClient) -> None:
    response = client.post(
        "/chat/stream",
        content=iter([b'{"question": "', b"x" * 2000, b'"}']),
        headers={**KEY, "Content-Type": "application/json"},
    )
    assert response.status_code == 413


def test_a_preflight_needs_no_key_and_allows_what_the_contract_names(client: TestClient) -> None:
    asked = "authorization,content-type,idempotency-key,last-event-id"
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": asked}
    response = client.options("/stream", headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["x-request-id"]


def test_a_page_on_another_origin_may_read_our_headers(client: TestClient) -> None:
    response = client.get("/stream?text=x", headers={**KEY, "Origin": ORIGIN})
    exposed = {name.strip() for name in response.headers["access-control-expose-headers"].split(",")}
    assert exposed == {"Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID", "X-Stream-ID"}


def test_an_origin_that_is_not_named_gets_no_cors_headers(client: TestClient) -> None:
    response = client.get("/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers


@pytest.fixture(scope="module")
def open_to_all(settings: Settings, build: Callable[[Settings, Provider], FastAPI]) -> Iterator[TestClient]:
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
def test_without_a_key_a_server_has_an_address_is_local_or_has_a_name_that_was_given(
    open_to_all: TestClient, host: str
) -> None:
    assert open_to_all.get("/stream?text=x", headers={"Host": host}).status_code == 200
    with open_to_all.websocket_connect("/ws", headers={"Host": host}):
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
@pytest.mark.parametrize("path", ["/", "/stream?text=x", "/docs", "/nowhere"])
def test_without_a_key_another_name_is_refused_as_an_attackers_may_lead_here(
    open_to_all: TestClient, path: str, host: str
) -> None:
    """DNS rebinding: a browser takes the page and the server for one site then, and lets the page read all."""
    refused = open_to_all.get(path, headers={"Host": host})
    assert refused.status_code == 400
    assert refused.json() == {"detail": "ALLOWED_HOSTS must have the host's name, or API_KEY be set"}
    with pytest.raises(WebSocketDisconnect), open_to_all.websocket_connect("/ws", headers={"Host": host}):
        pass


def test_of_two_hosts_both_must_be_known(open_to_all: TestClient) -> None:
    def status(*hosts: str) -> int:
        request = open_to_all.build_request("GET", "/stream?text=x")
        request.headers = httpx2.Headers([("Host", host) for host in hosts])
        return open_to_all.send(request).status_code

    assert [status("localhost", "localhost"), status("localhost", "evil.example")] == [200, 400]


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_checks_may_use_any_name(open_to_all: TestClient, path: str) -> None:
    assert open_to_all.get(path, headers={"Host": "web:8000"}).status_code == 200


def test_with_a_key_any_name_will_do(client: TestClient) -> None:
    assert client.get("/stream?text=x", headers={**KEY, "Host": "evil.example"}).status_code == 200
