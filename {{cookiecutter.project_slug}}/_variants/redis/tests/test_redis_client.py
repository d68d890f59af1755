import pytest
from redis import ResponseError

from app.chat.answer_settings import AnswerSettings
from app.redis_client import words

REFUSED = "command not allowed when used memory > 'maxmemory'."


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


@pytest.mark.parametrize(
    "said",
    [
        f"Error running script (call to f_4040ae): @user_script:8: @user_script: 8: -{REFUSED}",
        f"{REFUSED} script: 4040ae, on @user_script:8.",
        REFUSED,
    ],
    ids=["Redis 6.2", "Redis 7", "no script"],
)
def test_what_redis_says_is_shown_without_the_name_of_a_script(said: str) -> None:
    assert words(ResponseError(said)) == REFUSED
