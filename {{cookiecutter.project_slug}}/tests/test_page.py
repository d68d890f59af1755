import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.chat.providers.base import Provider
from app.page import WEB
from app.settings import Settings
from tests.callers.knowing import KNOWN
from tests.providers import ScriptedProvider

FILES = {f"web/{path.name}": path.read_text("utf-8") for path in sorted(WEB.iterdir())}
PAGE = FILES.pop("web/index.html")
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


class Reader(HTMLParser):
    """Finds what the page loads, and what a strict Content-Security-Policy would leave out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.inline: list[str] = []
        self._tag = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.loaded |= {str(value) for name, value in attributes if name in ("src", "href", "action", "data")}
        self.inline += [name for name, _ in attributes if name == "style" or name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style"):
            self.inline.append(data)


def imported() -> set[str]:
    """What the scripts import, each from beside itself."""
    scripts = "\n".join(text for name, text in FILES.items() if name.endswith(".js"))
    return {f"web/{name}" for name in re.findall(r'^import (?:.* from )?"\./(.*)";', scripts, re.MULTILINE)}


@pytest.fixture(scope="module")
def guarded(settings: Settings, build: Callable[..., FastAPI]) -> FastAPI:
    return build(settings, ScriptedProvider(), KNOWN)


@pytest.fixture(scope="module")
def client(settings: Settings, build: Callable[[Settings, Provider], FastAPI]) -> Iterator[TestClient]:
    with TestClient(build(settings, ScriptedProvider())) as client:
        yield client


@pytest.mark.parametrize("path", ["", *FILES])
def test_the_page_and_its_files_are_served_to_whoever_asks_under_a_strict_policy(
    guarded: FastAPI, settings: Settings, path: str
) -> None:
    """Without a key: a browser asks for them before there is one."""
    with TestClient(guarded) as client:
        response = client.get(f"/{path}")
    assert response.status_code == 200
    page = PAGE.replace('seconds="10"', 'seconds="5"').replace(">Chat</", f">{settings.app_name}</")
    assert response.text == (FILES[path] if path else page)
    assert response.headers["content-type"] == (TYPES[path.rpartition(".")[2]] if path else "text/html; charset=utf-8")
    policy = dict(rule.split(maxsplit=1) for rule in response.headers["content-security-policy"].split("; "))
    assert set(policy.values()) == {"'none'", "'self'", "'script'"}
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


def test_the_service_has_its_name_in_the_page(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    named = settings.model_copy(update={"app_name": "Tea <b>& more"})
    with TestClient(build(named, ScriptedProvider())) as client:
        page = client.get("/").text
    assert "<title>Tea &lt;b&gt;&amp; more</title>" in page
    assert "<h1>Tea &lt;b&gt;&amp; more</h1>" in page


def test_the_page_loads_each_file_that_lies_beside_it_and_nothing_else() -> None:
    assert Reader(PAGE).loaded | imported() == FILES.keys()


def test_nothing_in_the_page_is_inline() -> None:
    assert Reader(PAGE).inline == []
    assert Reader('<p style="" onclick=""><script>1</script><style>2</style>').inline == ["style", "onclick", "1", "2"]


def test_the_scripts_and_the_style_sheet_load_nothing_from_elsewhere() -> None:
    elsewhere = re.compile(r"url\(|@import|//(?!www\.w3\.org/2000/svg)\w")  # an icon names its format by an address
    assert [name for name, text in FILES.items() if elsewhere.search(text)] == []


@pytest.mark.parametrize("path", ["", *FILES])
def test_a_browser_that_has_a_file_is_told_that_it_has_not_changed(client: TestClient, path: str) -> None:
    first = client.get(f"/{path}")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/{path}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert client.get(f"/{path}", headers={"If-None-Match": '"another"'}).status_code == 200


def test_the_page_knows_how_often_a_keep_alive_comes(settings: Settings, client: TestClient) -> None:
    """A browser that has it with another length is not told that it has not changed."""
    assert settings.heartbeat_seconds == 5
    page = client.get("/")
    assert '<html lang="en" data-heartbeat-seconds="5">' in page.text
    of_another = {"If-None-Match": client.get("/web/index.html").headers["etag"]}
    assert client.get("/", headers=of_another).status_code == 200


@pytest.mark.parametrize("path", ["nowhere.js", "", "%2e%2e/page.py", "..%2fpage.py", "%00", "x" * 300])
def test_what_is_not_there_is_a_404_like_any_other(client: TestClient, path: str) -> None:
    response = client.get(f"/web/{path}")
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


def test_the_page_is_found_behind_a_proxy_that_adds_a_prefix(guarded: FastAPI) -> None:
    """All its addresses are relative to where it is."""
    with TestClient(guarded, root_path="/chat") as client:
        assert [client.get(f"/chat/{path}").status_code for path in ["", *FILES]] == [200] * (1 + len(FILES))
    assert [path for path in Reader(PAGE).loaded if path.startswith("/")] == []


def test_the_page_is_not_among_the_documented_routes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert [path for path in paths if path == "/" or path.startswith("/web")] == []
