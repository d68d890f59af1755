from collections.abc import Awaitable, Callable, Iterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount, Route
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect

from app.callers.caller import Caller, CallerDep
from app.callers.guard import open_to_all
from app.callers.known import KnownCallers
from app.chat.providers.base import Provider
from app.errors import Unavailable
from app.settings import Settings
from tests.callers.knowing import ANYBODY, HEADERS, KNOWN, NAME, OTHER_HEADERS, OTHER_NAME, TOKEN, UNKNOWN_TOKEN
from tests.providers import ScriptedProvider

PRODUCTION = {"environment": "production"}
NOT_KNOWN = [
    {},
    {"Authorization": f"Bearer {UNKNOWN_TOKEN}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": b"Bearer \xff\xe9\xed"},
    {"Authorization": f"Bearer {TOKEN} {TOKEN}"},
    {"X-API-Key": TOKEN},
]


@pytest.fixture(scope="module")
def app(settings: Settings, build: Callable[..., FastAPI]) -> FastAPI:
    app: FastAPI = build(settings.model_copy(update=PRODUCTION), ScriptedProvider("a"), KNOWN)

    @app.get("/me")
    def me(caller: CallerDep) -> str:
        return caller.name

    return app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("headers", NOT_KNOWN)
@pytest.mark.parametrize("path", ["/stream?text=x", "/docs", "/openapi.json", "/nowhere", "/health/", "/health/x"])
def test_all_else_is_closed_to_whom_this_server_does_not_know(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    response = client.get(path, headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.json() == {"detail": KNOWN.needs}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/web/page.css", "/health", "/ready"])
def test_the_page_and_the_health_checks_are_open(client: TestClient, path: str, method: str) -> None:
    assert client.request(method, path).status_code == 200


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_an_open_path_is_closed_to_other_methods(client: TestClient, method: str) -> None:
    assert client.request(method, "/health").status_code == 401
    assert client.request(method, "/health", headers=HEADERS).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/web",
        "/webs",
        "/web/",
        "/web/../me",
        "/web/%2e%2e/me",
        "/web/..%2fme",
        "/web%2f..%2fme",
        "/web/deep/../../me",
        "/web/..\\me",
        "/web//me",
        "/web/page.css/../../me",
        "/web/.env",
        "/web/..%2fpage.py",
        "/health/../me",
        "/health%2f..%2fme",
        "//me",
        "/./me",
        "/me%00",
        "/health;/../me",
    ],
)
def test_no_way_of_writing_a_path_leads_around_the_guard(client: TestClient, path: str) -> None:
    """The guard asks the routes themselves, so what is open is what an open route answers."""
    response = client.get(httpx2.URL("http://testserver").copy_with(raw_path=path.encode()))
    assert response.status_code in (401, 404)


@pytest.mark.parametrize("prefix", ["/api", "/web", "/health"])
def test_the_open_routes_are_open_behind_a_proxy_that_adds_a_prefix(app: FastAPI, prefix: str) -> None:
    with TestClient(app, root_path=prefix) as client:
        assert client.get(f"{prefix}/health").status_code == 200
        assert client.get(f"{prefix}/web/page.css").status_code == 200
        assert client.get(f"{prefix}/me").status_code == 401
        assert client.get(f"{prefix}/me", headers=HEADERS).json() == NAME


def test_a_token_tells_whose_it_is(client: TestClient) -> None:
    assert client.get("/me", headers=HEADERS).json() == NAME
    assert client.get("/me", headers=OTHER_HEADERS).json() == OTHER_NAME
    assert client.get("/me", headers={"Authorization": f"bEARER   {TOKEN} "}).json() == NAME


def test_two_tokens_are_none(client: TestClient) -> None:
    """What stands before this server may have looked at the other one."""
    for second in (HEADERS, OTHER_HEADERS, {"Authorization": ""}):
        request = client.build_request("GET", "/me")
        request.headers = httpx2.Headers([("Host", "testserver"), *HEADERS.items(), *second.items()])
        assert client.send(request).status_code == 401


def test_a_body_is_not_looked_at_without_a_token(client: TestClient) -> None:
    assert client.post("/chat/stream", content=b"{").status_code == 401
    assert client.post("/chat/stream", content=b"{", headers=HEADERS).status_code == 422


@pytest.fixture
def bare(settings: Settings, build: Callable[..., FastAPI]) -> FastAPI:
    """Its routes are those of the tests alone."""
    app: FastAPI = build(settings.model_copy(update=PRODUCTION), ScriptedProvider(), KNOWN)
    app.router.routes.clear()
    return app


def status(app: FastAPI, path: str) -> int:
    with TestClient(app) as client:
        return client.get(path).status_code


@open_to_all
def shown() -> str:
    return "shown"


def hidden() -> str:
    return "hidden"


def test_of_two_routes_that_fit_the_first_decides_as_it_answers(bare: FastAPI) -> None:
    bare.get("/{path:path}")(hidden)
    bare.get("/shown")(shown)
    assert status(bare, "/shown") == 401
    bare.router.routes.clear()
    bare.post("/shown")(hidden)  # fits the path alone
    bare.get("/shown")(shown)
    bare.get("/{path:path}")(hidden)
    assert [status(bare, path) for path in ("/shown", "/other")] == [200, 401]


def test_a_route_is_open_in_a_router_in_a_router_and_as_others_are_written(bare: FastAPI) -> None:
    inner, outer = APIRouter(), APIRouter()
    inner.get("/shown")(shown)
    inner.get("/hidden")(hidden)
    outer.include_router(inner, prefix="/inner")
    outer.mount("/mounted", open_to_all(FastAPI(routes=[Route("/shown", lambda request: PlainTextResponse("shown"))])))
    outer.mount("/closed", FastAPI(routes=[Route("/shown", shown)]))
    bare.include_router(outer, prefix="/outer")
    bare.routes.append(Mount("/plain", routes=[Route("/shown", shown)]))
    paths = ["/outer/inner/shown", "/outer/mounted/shown", "/outer/inner/hidden", "/outer/closed/shown", "/inner/shown"]
    assert [status(bare, path) for path in [*paths, "/plain/shown"]] == [200, 200, 401, 401, 401, 401]


class ByHeader(APIRoute):
    """A route that fits by more than path and method."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if (b"x-version", b"2") in scope["headers"] else (Match.NONE, {})


def test_a_route_with_its_own_way_to_fit_opens_no_other(bare: FastAPI) -> None:
    """The router passes it over, and another answers: one of the same router, or behind that."""
    inside, before, after = APIRouter(), APIRouter(route_class=ByHeader), APIRouter()
    inside.add_api_route("/one", shown, route_class_override=ByHeader)
    inside.add_api_route("/one", hidden)
    before.get("/two")(shown)
    after.get("/two")(hidden)
    after.get("/three")(shown)
    for router in (inside, before, after):
        bare.include_router(router)
    assert [status(bare, path) for path in ("/one", "/two", "/three")] == [401, 401, 200]


def test_a_route_that_can_not_say_whether_it_fits_is_closed(bare: FastAPI) -> None:
    """Python takes no number of so many digits. Outside of FastAPI's own middleware, nobody would answer."""
    bare.get("/{number:int}")(shown)
    assert [status(bare, path) for path in ("/1", "/" + "1" * 5000)] == [200, 401]


def test_no_websocket_is_open(bare: FastAPI) -> None:
    @open_to_all
    async def accepts(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    mounted = FastAPI()
    for app in (bare, mounted):
        app.websocket("/ws")(accepts)
    bare.mount("/mounted", open_to_all(mounted))
    with TestClient(bare) as client:
        for path in ("/ws", "/mounted/ws", "/nowhere"):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
                pass
        for path in ("/ws", "/mounted/ws"):
            with client.websocket_connect(path, headers=HEADERS):
                pass


def test_who_asks_an_open_route_is_anonymous_with_a_token_too(bare: FastAPI) -> None:
    @bare.get("/name")
    @open_to_all
    def name(caller: CallerDep) -> str:
        return caller.name

    with TestClient(bare) as client:
        assert client.get("/name", headers=HEADERS).json() == "anonymous"


class Yours:
    """As the README shows it: what knows callers by something else than the settings."""

    required = True
    needs = "say the word"

    def __init__(self, find: Callable[[str], Awaitable[Caller | None]]) -> None:
        self.find = find

    async def check(self) -> dict[str, str]:
        return {"users": "degraded: on purpose"}


def test_callers_may_be_known_by_what_is_yours(
    settings: Settings, build: Callable[..., FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    async def find(token: str) -> Caller | None:
        if token == "away":
            raise Unavailable("the table of users is away")
        if token == "broken":
            raise RuntimeError("a table, on purpose")
        return Caller("carol") if token == "word" else None

    app = build(settings.model_copy(update=PRODUCTION), ScriptedProvider(), Yours(find))

    @app.get("/me")
    def me(caller: CallerDep) -> str:
        return caller.name

    with TestClient(app) as client:
        assert client.get("/me", headers={"Authorization": "Bearer word"}).json() == "carol"
        refused = client.get("/me", headers={"Authorization": "Bearer words"})
        assert (refused.status_code, refused.json()) == (401, {"detail": "say the word"})
        away = client.get("/me", headers={"Authorization": "Bearer away"})
        assert (away.status_code, away.json()) == (503, {"detail": "the table of users is away"})
        assert away.headers["retry-after"] == "2"
        broken = client.get("/me", headers={"Authorization": "Bearer broken"})
        assert (broken.status_code, broken.json()) == (500, {"detail": "internal error"})
        assert broken.headers["x-request-id"]
        assert "RuntimeError: a table, on purpose" in caplog.text
        assert client.get("/health").status_code == 200
        assert client.get("/ready").json()["checks"]["users"] == "degraded: on purpose"


def test_production_is_refused_where_nobody_must_say_who_they_are(
    settings: Settings, build: Callable[..., FastAPI]
) -> None:
    with pytest.raises(SystemExit, match=rf"^{KnownCallers.SETTING}: must be set when ENVIRONMENT is production$"):
        build(settings.model_copy(update=PRODUCTION), ScriptedProvider(), ANYBODY)


def test_the_docs_have_a_field_for_the_token_and_say_what_needs_none(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI], client: TestClient
) -> None:
    schema = client.get("/openapi.json", headers=HEADERS).json()
    assert schema["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert schema["security"] == [{"token": []}]
    need_none = {path for path, of_path in schema["paths"].items() if of_path.get("get", {}).get("security") == []}
    assert need_none == {"/health", "/ready"}
    with TestClient(build(settings, ScriptedProvider())) as anybodys:
        schema = anybodys.get("/openapi.json").json()
    assert ("security" in schema, "securitySchemes" in schema["components"]) == (False, False)
