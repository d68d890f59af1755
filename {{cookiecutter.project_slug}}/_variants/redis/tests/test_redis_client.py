import pytest

from app.chat.answer_settings import AnswerSettings


@pytest.mark.parametrize(
    "end",
    [
        *("/abc", "/0/1", "/0?foo=1", "?db=x", "?socket_timeout=soon", "?protocol=4", "?retry=3"),
        *("?ssl_cert_reqs=maybe", "?ssl_validate_ocsp_stapled=yes"),
    ],
)
def test_an_address_that_can_not_be_used_stops_the_start(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis{'s' * end.startswith('?ssl')}://127.0.0.1:6379{end}")
    with pytest.raises(SystemExit, match="REDIS_URL: "):
        AnswerSettings.read()


@pytest.mark.parametrize("end", ["", "/", "/0", "/1?health_check_interval=10"])
def test_others_do_not(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:6379{end}")
    AnswerSettings.read()
