import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import process_time

import pytest
from httpx2 import Request, Response

from app.chat.providers.failure import broken_off, failure

KEY = "sk-hidden"


class StatusError(Exception):
    """As the SDKs raise it."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(f"Error code: {status}")
        self.request = Request("POST", "http://model.example/v1")
        self.response = Response(status, text=text, headers=headers, request=self.request)
        self.status_code = status
        self.body = None


WORDS = [
    (404, "404 page not found", "404 page not found"),
    (403, '{"detail":"Not authenticated"}', '{"detail":"Not authenticated"}'),
    (503, '{"error":"Model is overloaded"}', '{"error":"Model is overloaded"}'),
    (400, '[{"error":{"code":400,"message":"API key not valid"}}]', "API key not valid"),
    (502, "<!DOCTYPE html><style>b {}</style><h1>Bad <b>Gateway</b></h1>", "502: Bad Gateway"),
    (500, "", "an empty body"),
    (401, f"no such\nkey: {KEY}", r"no such key: \*\*\*"),
    (500, "x" * 9999, "x{500}, asked at"),
    (500, "x" * 495 + KEY, r"x{495}\*\*\*, asked at"),
]


@pytest.mark.parametrize(("status", "text", "says"), WORDS)
def test_the_log_has_the_services_words_its_status_and_its_address(status: int, text: str, says: str) -> None:
    line = str(failure(StatusError(status, text), KEY))
    assert line.startswith(f"StatusError: {status}: ")
    assert line.endswith(", asked at model.example:http")
    assert len(line) < 600
    assert "\n" not in line
    assert KEY not in line
    assert re.search(says, line)


@pytest.mark.parametrize("tag", ["<", "<script ", "<style>"])
def test_a_page_whose_tags_do_not_end_takes_no_longer_than_one_whose_do(tag: str) -> None:
    times = []
    for end in ("</script></style>", " "):
        began = process_time()
        failure(StatusError(502, "<html>" + f"{tag}{end}" * 5000), KEY)
        times.append(process_time() - began)
    assert times[1] < 10 * times[0]


KINDS = [
    (429, "slow down", "model_busy", True),
    (529, "overloaded", "model_busy", True),
    (503, "Loading model", "model_busy", True),
    (429, '{"error":{"type":"insufficient_quota"}}', "model_error", False),
    (401, "who?", "model_unauthorized", False),
    (403, "no", "model_unauthorized", False),
    (400, '[{"error":{"message":"API key not valid."}}]', "model_unauthorized", False),
    (404, "The model `m` does not exist", "model_not_found", False),
    (400, '{"message":"Invalid model: m"}', "model_not_found", False),
    (400, "Model Not Exist", "model_not_found", False),
    (400, "m is not a valid model ID", "model_not_found", False),
    (400, '{"error":{"code":"context_length_exceeded"}}', "context_too_long", False),
    (400, "prompt is too long: 200001 tokens > 200000 maximum", "context_too_long", False),
    (400, "This model's maximum context length is 4096 tokens", "context_too_long", False),
    (400, "the request exceeds the available context size", "context_too_long", False),
    (400, "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)", "context_too_long", False),
    (400, "input length and `max_tokens` exceed context limit: 3 + 2 > 4", "context_too_long", False),
    (400, "The input token count (9) exceeds the maximum number of tokens allowed (8)", "context_too_long", False),
    (400, "bad temperature", "model_error", False),
    (500, "it fell over", "model_error", True),
    (408, "too slow", "model_error", True),
]


@pytest.mark.parametrize(("status", "text", "code", "retryable"), KINDS)
def test_what_a_reader_can_do_about_it_has_a_code(status: int, text: str, code: str, retryable: bool) -> None:
    told = failure(StatusError(status, text), KEY)
    assert (told.code, told.retryable) == (code, retryable)
    assert text not in told.message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("20", 20),
        ("0.5", 0.5),
        *((odd, None) for odd in ("-3", "soon", "", "nan", "inf", "Wed, 21 Oct 99999999999 07:28:00 GMT")),
    ],
)
def test_a_busy_service_may_say_when_it_can_be_asked_again(header: str, seconds: float | None) -> None:
    told = failure(StatusError(429, "slow down", **{"Retry-After": header}), KEY)
    assert told.retry_after == seconds
    assert told.message.endswith("in a moment." if seconds is None else f"in {-(-seconds // 1):.0f} s.")


def test_it_may_say_so_by_the_time_of_day() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    told = failure(StatusError(429, "slow down", **{"Retry-After": at}), KEY)
    assert told.retry_after == pytest.approx(300, abs=60)


@pytest.mark.parametrize(
    ("odd", "code", "says"),
    [
        (None, "model_error", "^the answer broke off: it ended without a reason$"),
        ({"error": {"message": f"no {KEY}", "code": 401}}, "model_unauthorized", r"no \*\*\*"),
        ({"error": "Model is overloaded"}, "model_error", "Model is overloaded"),
        ({"object": "error", "message": "bad", "code": 400}, "model_error", "bad"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "model_unauthorized", "login fail"),
        ({"base_resp": {"status_code": 1039, "status_msg": "token limit"}}, "model_busy", "token limit"),
        ({"base_resp": {"status_code": 1000, "status_msg": "unknown"}}, "model_error", "unknown"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "-"}}, "model_busy", "overloaded"),
    ],
)
def test_an_error_under_the_status_200_is_one(odd: object, code: str, says: str) -> None:
    told = broken_off(odd, KEY)
    assert told.code == code
    assert re.search(says, str(told))
