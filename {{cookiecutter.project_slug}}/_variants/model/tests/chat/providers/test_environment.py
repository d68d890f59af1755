import pytest

from app.chat.providers.settings import ProviderSettings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080", r"uv add 'httpx2\[socks\]'"),
        ("HTTPS_PROXY", "gopher://127.0.0.1:70", "HTTPS_PROXY"),
        ("HTTPS_PROXY", "http://user:k-secret/1@proxy:3128", "HTTPS_PROXY"),
        ("SSL_CERT_FILE", "nowhere.pem", "SSL_CERT_FILE"),
    ],
)
def test_a_proxy_that_can_not_be_used_stops_the_start_in_a_line(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = (field for field in ProviderSettings.model_fields if field.endswith("_api_key"))
    monkeypatch.setenv(key.upper(), "k")
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"^Settings .*\n[^\n]*{says}[^\n]*$") as refused:
        ProviderSettings.read()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    ProviderSettings.read()
