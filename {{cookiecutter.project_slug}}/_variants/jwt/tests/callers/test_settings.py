import pytest

from app.callers.settings import CallerSettings

ISSUER, AUDIENCE, URL = "AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_URL"
BOTH = {ISSUER: "https://idp.example.com/tenant", AUDIENCE: "https://chat.example.com"}
UNSAFE = "must be an https:// address, or an http:// one of localhost"


def read(patch: pytest.MonkeyPatch, environment: dict[str, str]) -> CallerSettings:
    for name, value in environment.items():
        patch.setenv(name, value)
    return CallerSettings.read()


@pytest.mark.parametrize(
    "issuer",
    [
        "https://idp.example.com",
        "https://idp.example.com:8443/realms/chat/",
        "http://localhost:8080/realms/chat",
        "http://127.0.0.1:8080",
        "http://[::1]:8080/",
    ],
)
def test_an_issuer_is_an_address_that_can_be_trusted(issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as it is written, for tokens name it so. A secret that is mounted as a file ends in a line break."""
    settings = read(monkeypatch, BOTH | {ISSUER: f"{issuer}\n", AUDIENCE: " chat\n"})
    assert (settings.auth_issuer, settings.auth_audience, settings.auth_jwks_url) == (issuer, "chat", "")


@pytest.mark.parametrize("name", [ISSUER, URL])
@pytest.mark.parametrize(
    "value",
    [
        "idp.example.com",
        "http://idp.example.com",
        "http://localhost.example.com",
        "http://localhost@idp.example.com",
        "http://localhost:80@idp.example.com",
        "http://127.0.0.1.example.com/keys",
        "HTTP://localhost",
        "https://",
        "https:///keys",
        "https://user@idp.example.com",
        "https://idp.example.com/two words",
        "https://idp.example.com/ke\ny",
        "file:///etc/passwd",
    ],
)
def test_an_address_that_others_could_answer_for_stops_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=rf"(?m)^{name}: {UNSAFE}$"):
        read(monkeypatch, BOTH | {name: value})


@pytest.mark.parametrize("missing", [ISSUER, AUDIENCE])
def test_a_part_of_what_is_needed_stops_the_start(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no audience, a token for any other service of the provider's would do."""
    with pytest.raises(SystemExit, match=r"(?m)^AUTH_ISSUER and AUTH_AUDIENCE: each needs the other"):
        read(monkeypatch, BOTH | {missing: " "})


def test_where_the_keys_are_is_no_use_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"AUTH_JWKS_URL needs both$"):
        read(monkeypatch, {URL: "https://idp.example.com/keys"})
