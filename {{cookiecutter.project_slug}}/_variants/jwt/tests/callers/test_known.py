import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.callers.known import ALGORITHMS, REFRESH_SECONDS, RETRY_SECONDS, UNKNOWN_SECONDS, KnownCallers
from app.errors import Unavailable
from app.settings import Settings
from tests.callers.provider import AUDIENCE, DISCOVERY, KEYS, Answer, Key, Provider, private_key, reply
from tests.providers import ScriptedProvider

RSA = Key("rsa", "RS256")
EC = Key("ec", "ES256")
SECONDS = 30  # past it, what has not come never will


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider(RSA, EC)
    yield provider
    provider.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(provider: Provider, clock: Clock) -> KnownCallers:
    return knowing(provider, clock)


def knowing(provider: Provider, clock: Clock, auth_jwks_url: str = "") -> KnownCallers:
    return KnownCallers(provider.settings(auth_jwks_url), clock)


async def name(known: KnownCallers, token: str) -> str | None:
    caller = await known.find(token)
    return caller.name if caller else None


async def stalled(provider: Provider) -> None:
    """Waits for a request, which is not answered until `go` is set."""
    assert await asyncio.to_thread(provider.arrived.wait, SECONDS)


@cache
def two_keys(kind: str) -> list[Any]:
    """To make one for RSA takes a tenth of a second, and its algorithms can share it."""
    return [private_key(kind) for _ in range(2)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_subject_of_a_token_is_the_caller(algorithm: str, provider: Provider, known: KnownCallers) -> None:
    key, of_others = (
        Key("this", algorithm, private) for private in two_keys("RS256" if algorithm[:2] in ("RS", "PS") else algorithm)
    )
    provider.keys = [EC, RSA, key]
    assert await name(known, provider.token(key, sub="auth0|5f7c:a@b")) == "auth0|5f7c:a@b"
    assert await name(known, provider.token(key, aud=["https://other.example.com", AUDIENCE])) == "alice"
    assert await name(known, provider.token(of_others)) is None


NOW = int(time.time())
BAD_CLAIMS: list[dict[str, Any]] = [
    {"exp": NOW - 60},
    {"exp": "soon"},
    {"exp": float("inf")},
    {"nbf": NOW + 600},
    {"iat": NOW + 600},
    {"aud": "https://other.example.com"},
    {"aud": [AUDIENCE + "/"]},
    {"aud": {AUDIENCE: 1}},
    {"aud": []},
    {"iss": "https://other.example.com"},
    {"iss": ""},
    {"iss": ["x"]},
    {"sub": ""},
    {"sub": "two words"},
    {"sub": "a\nline"},
    {"sub": "alice\n"},
    {"sub": "Zoë"},
    {"sub": "a" * 256},
    {"sub": 7},
    *({claim: None} for claim in ("exp", "aud", "iss", "sub")),
]


@pytest.mark.parametrize("claims", BAD_CLAIMS, ids=" ".join)  # a time in a name would differ in each process
async def test_a_token_that_says_something_else_is_not_valid(
    claims: dict[str, Any], provider: Provider, known: KnownCallers, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why, and nothing of what was sent."""
    caplog.set_level(logging.INFO, "app")
    token = jwt.api_jws.encode(json.dumps(payload(provider, claims)).encode(), RSA.private, "RS256", {"kid": "rsa"})
    assert await known.find(token) is None
    (record,) = [record for record in caplog.records if record.message == "a token was refused"]
    assert record.__dict__["reason"] in {
        *("ExpiredSignatureError", "ImmatureSignatureError", "InvalidAudienceError", "InvalidIssuerError"),
        *("InvalidSubjectError", "InvalidTokenError", "MissingRequiredClaimError", "DecodeError"),
    }


def payload(provider: Provider, claims: dict[str, Any]) -> dict[str, Any]:
    """Also what `jwt.encode` would refuse."""
    valid = jwt.decode(provider.token(), options={"verify_signature": False})
    return {name: value for name, value in {**valid, **claims}.items() if value is not None}


async def test_clocks_may_differ_by_some_seconds(provider: Provider, known: KnownCallers) -> None:
    now = int(time.time())
    assert await name(known, provider.token(exp=now - 5)) == "alice"
    assert await name(known, provider.token(nbf=now + 5, iat=now + 5)) == "alice"


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_who_knows_only_public_keys_can_make_no_token(
    provider: Provider, known: KnownCallers, clock: Clock
) -> None:
    """Neither without a signature, nor with a public key for a secret that both know. No key is looked for."""
    claims = payload(provider, {})
    pem = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hs256 = jwt.get_algorithm_by_name("HS256")
    tokens = []
    for alg in ("none", "None", "", None, ["RS256"], {"RS256": 1}, 1, "HS256", "RS256"):
        head = f"{part({'alg': alg, 'typ': 'JWT', 'kid': 'rsa'})}.{part(claims)}"
        secrets = (pem, pem.strip(), json.dumps(RSA.shown).encode(), part(RSA.shown).encode(), RSA.shown["n"].encode())
        tokens += [f"{head}.", head, *(f"{head}.{part(hs256.sign(head.encode(), secret))}" for secret in secrets)]
    assert await name(known, provider.token()) == "alice"
    asked = len(provider.asked)
    clock.now += UNKNOWN_SECONDS
    assert [await known.find(token) for token in tokens] == [None] * len(tokens)
    assert len(provider.asked) == asked


async def test_a_key_signs_by_its_own_algorithm_alone(provider: Provider, known: KnownCallers) -> None:
    other = Key("rsa", "PS256", RSA.private)
    assert await name(known, provider.token(other)) is None
    assert await name(known, provider.token(Key("rsa", "ES256"))) is None
    assert await name(known, provider.token(Key("ec", "RS256", RSA.private))) is None
    assert await name(known, provider.token(Key("ec", "ES384"))) is None


@pytest.mark.parametrize(
    "key",
    [
        Key("this", "RS256", RSA.private, use="enc"),
        Key("this", "RS256", RSA.private, alg="RSA-OAEP"),
        Key("this", "RS256", RSA.private, alg="ES256"),
    ],
    ids=["for encryption", "of another algorithm", "of another type"],
)
async def test_a_key_that_is_no_good_is_none(key: Key, provider: Provider, known: KnownCallers) -> None:
    provider.keys.append(key)
    assert await known.find(provider.token(key)) is None
    assert await name(known, provider.token()) == "alice"


async def test_a_key_that_is_too_short_is_none(provider: Provider, known: KnownCallers) -> None:
    """Without a word of Python's about each token of it."""
    provider.keys.append(key := Key("short", "RS256", private_key("RS256", bits=1024)))
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = provider.token(key)
    assert await known.find(token) is None


async def test_a_secret_among_the_keys_is_none(provider: Provider, known: KnownCallers) -> None:
    """A provider that publishes one has told everybody."""
    shown = {"kty": "oct", "kid": "this", "alg": "HS256", "k": part(b"s" * 32)}
    provider.answers[KEYS] = lambda request: reply(request, json.dumps({"keys": [RSA.shown, shown]}).encode())
    assert await known.find(jwt.encode(payload(provider, {}), b"s" * 32, "HS256", {"kid": "this"})) is None
    assert await name(known, provider.token()) == "alice"


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "..", "...", "a.b.c", "é.é.é", "\x00", "a" * 60_000, f"{part(b'[' * 40_000)}.e30.x"),
        *(f"{part(header)}.e30.e30" for header in (7, {"alg": "RS256", "kid": 7}, {"alg": "RS256", "kid": ["rsa"]})),
        f"{part({'alg': 'RS256', 'kid': 'rsa', 'crit': ['x']})}.e30.e30",
        f"{part({'alg': 'RS256', 'kid': 'rsa', 'b64': False, 'crit': ['b64']})}..e30",
        f"{part({'alg': 'RS256', 'kid': 'rsa'})}.{part(b'[' * 40_000)}.e30",
    ],
)
async def test_what_is_no_token_is_not_valid(token: str, known: KnownCallers) -> None:
    assert await known.find(token) is None


async def test_a_token_need_not_name_its_key_where_one_fits(provider: Provider, known: KnownCallers) -> None:
    unnamed = Key(None, "RS256", RSA.private)
    assert await name(known, provider.token(unnamed)) == "alice"
    provider.keys = [unnamed]
    other = knowing(provider, Clock())
    assert await name(other, provider.token(unnamed)) == "alice"
    assert await other.find(provider.token(RSA)) is None
    provider.keys = [RSA, Key("second", "RS256")]
    assert await knowing(provider, Clock()).find(provider.token(unnamed)) is None


async def test_the_settings_may_say_where_the_keys_are(provider: Provider, clock: Clock) -> None:
    known = knowing(provider, clock, f"{provider.url}/elsewhere?p=1")
    assert await name(known, provider.token()) == "alice"
    assert provider.asked == ["/elsewhere?p=1"]
    assert await name(knowing(provider, clock), provider.token()) == "alice"
    assert provider.asked[1:] == [f"/tenant{DISCOVERY}", KEYS]


async def test_an_issuer_may_end_in_a_slash(provider: Provider, clock: Clock) -> None:
    provider.issuer += "/"
    assert await name(knowing(provider, clock), provider.token()) == "alice"
    assert provider.asked == [f"/tenant{DISCOVERY}", KEYS]


async def test_an_unknown_key_is_looked_for_at_most_once_a_minute(
    provider: Provider, known: KnownCallers, clock: Clock
) -> None:
    """Whoever names keys by chance can't have the provider asked all the time."""
    new = Key("new", "ES256")
    assert await name(known, provider.token()) == "alice"
    for _ in range(3):
        before = provider.asked.count(KEYS)
        for number in range(20):
            assert await known.find(provider.token(Key(f"{number}", "ES256", new.private))) is None
        assert provider.asked.count(KEYS) == before
        clock.now += UNKNOWN_SECONDS
        tokens = [provider.token(Key(f"{number}", "ES256", new.private)) for number in range(20)]
        assert await asyncio.gather(*map(known.find, tokens)) == [None] * 20
        assert provider.asked.count(KEYS) == before + 1
    provider.keys.append(new)
    clock.now += UNKNOWN_SECONDS
    assert await name(known, provider.token(new)) == "alice"


async def test_keys_change_and_one_that_was_withdrawn_is_refused(
    provider: Provider, known: KnownCallers, clock: Clock
) -> None:
    """Without a token that names the new one, too: the keys are fetched anew now and then, while all go on."""
    old, new = provider.token(RSA), Key("new", "RS256")
    assert await name(known, old) == "alice"
    provider.keys = [new]
    clock.now += REFRESH_SECONDS - 1
    assert await name(known, old) == "alice"
    for _ in range(2):  # by then a fetch that had begun before would have come
        assert await knowing(provider, clock).find(old) is None
    assert provider.asked.count(KEYS) == 3
    assert await name(known, provider.token(new)) == "alice"
    assert await known.find(old) is None
    provider.keys = [EC]
    clock.now += REFRESH_SECONDS
    async with asyncio.timeout(SECONDS):
        while await name(known, provider.token(new)):
            await asyncio.sleep(0)
    assert await name(known, provider.token(EC)) == "alice"


async def test_the_check_brings_the_keys_before_the_first_caller_comes(provider: Provider, known: KnownCallers) -> None:
    assert await known.check() == {"identity_provider": "ok"}
    provider.close()
    assert await name(known, provider.token()) == "alice"


async def test_those_who_come_at_once_share_one_fetch(provider: Provider, known: KnownCallers, clock: Clock) -> None:
    """Also if the one for whom it began has left, and if it takes long."""
    provider.go.clear()
    first, *others = [asyncio.create_task(name(known, provider.token())) for _ in range(20)]
    await stalled(provider)
    first.cancel()
    clock.now += UNKNOWN_SECONDS
    others += [asyncio.create_task(name(known, provider.token())) for _ in range(20)]
    await asyncio.sleep(0)
    provider.go.set()
    assert await asyncio.gather(*others) == ["alice"] * 39
    assert provider.asked == [f"/tenant{DISCOVERY}", KEYS]


async def test_a_provider_that_stalls_delays_nobody_whose_key_is_known(
    provider: Provider, known: KnownCallers, clock: Clock
) -> None:
    """It answers nothing until all of this is over."""
    token, unknown = provider.token(), provider.token(Key("unknown", "ES256"))
    assert await name(known, token) == "alice"
    assert await known.check() == {"identity_provider": "ok"}
    provider.go.clear()
    provider.arrived.clear()
    clock.now += REFRESH_SECONDS
    assert await name(known, token) == "alice"
    await stalled(provider)
    waits = asyncio.create_task(known.find(unknown))
    for _ in range(20):
        assert await name(known, token) == "alice"
        assert await known.check() == {"identity_provider": "ok"}
    assert not waits.done()
    provider.go.set()
    assert await waits is None


async def test_a_provider_that_is_away_refuses_nobody_whose_key_is_known(
    provider: Provider, known: KnownCallers, clock: Clock
) -> None:
    """For however long. Of others, nobody can say whether they are callers."""
    token, unknown = provider.token(), provider.token(Key("unknown", "ES256"))
    assert await name(known, token) == "alice"
    provider.answers[KEYS] = lambda request: reply(request, b"", 503)
    clock.now += REFRESH_SECONDS
    for _ in range(2):
        for _ in range(5):
            with pytest.raises(Unavailable):
                await known.find(unknown)
            clock.now += RETRY_SECONDS
        clock.now += UNKNOWN_SECONDS
    assert provider.asked.count(KEYS) == 3
    provider.close()
    for _ in range(3):
        clock.now += 24 * 3600
        assert await name(known, token) == "alice"
        with pytest.raises(Unavailable):
            await known.find(unknown)
        assert "degraded: its keys can't be fetched: ConnectError" in (await known.check())["identity_provider"]
    assert await known.find("a.b.c") is None


async def test_without_any_keys_nobody_is_refused_for_good(
    provider: Provider, known: KnownCallers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """They are asked for again after some seconds. The log says each time that they are not there."""
    caplog.set_level(logging.INFO, "app")
    provider.answers[KEYS] = lambda request: reply(request, b"", 503)
    for _ in range(3):
        for _ in range(5):
            with pytest.raises(Unavailable):
                await known.find(provider.token())
        clock.now += RETRY_SECONDS
    assert provider.asked.count(KEYS) == 3
    assert (await known.check())["identity_provider"].startswith("degraded: its keys can't be fetched: HTTPStatusError")
    provider.answers.clear()
    clock.now += RETRY_SECONDS
    assert await name(known, provider.token()) == "alice"
    assert await known.check() == {"identity_provider": "ok"}
    levels = [(record.levelname, "HTTPStatusError" in record.message) for record in caplog.records]
    assert levels == [("WARNING", True)] * 4


def sends(body: bytes, status: int = 200, **headers: str) -> Answer:
    return lambda request: reply(request, body, status, **headers)


def cut(request: BaseHTTPRequestHandler) -> None:
    reply(request, b'{"keys"', Content_Length="10000")


def of_tenant(status: int = 200, **changes: object) -> Answer:
    """What is discovered is changed."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        url = f"http://{request.headers['Host']}"
        found = {"issuer": f"{url}/tenant", "jwks_uri": url + KEYS, **changes}
        reply(request, json.dumps(found).encode(), status)

    return answer


def elsewhere(request: BaseHTTPRequestHandler) -> None:
    """It would have the keys, but by no address that is this machine's for sure."""
    of_tenant(jwks_uri=f"http://{request.headers['Host'].replace('127.0.0.1', '0.0.0.0')}{KEYS}")(request)


GOOD = json.dumps({"keys": [RSA.shown]}).encode()
BAD_KEYS: dict[str, Answer] = {
    "no JSON": sends(b"<html>"),
    "no UTF-8": sends(b'{"keys": "\xff"}'),
    "nothing": sends(b""),
    "deep": sends(b"[" * 100_000),
    "a list": sends(b"[]"),
    "no keys": sends(b'{"keys": []}'),
    "no list of keys": sends(b'{"keys": {"a": 1}}'),
    "keys that are none": sends(b'{"keys": [1, null, {}, {"kty": "RSA", "n": "", "e": ""}, {"kty": []}]}'),
    "a secret alone": sends(json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": part(b"s" * 32)}]}).encode()),
    "a redirect": sends(GOOD, 302, Location="/elsewhere"),
    "an error": sends(GOOD, 500),
    "a part": cut,
}
BAD_DISCOVERY: dict[str, Answer] = {
    "another issuer": of_tenant(issuer="https://other.example.com"),
    "no issuer": of_tenant(issuer=None),
    "no address": of_tenant(jwks_uri=None),
    "an empty address": of_tenant(jwks_uri=""),
    "no TLS": elsewhere,
    "a file": of_tenant(jwks_uri="file:///etc/passwd"),
    "a redirect": sends(b"", 301, Location=f"/tenant{DISCOVERY}/"),
    "an error": of_tenant(500),
    "no JSON": sends(b"<html>"),
    "a list": sends(b"[]"),
}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        *(pytest.param(KEYS, answer, id=f"keys: {what}") for what, answer in BAD_KEYS.items()),
        *(pytest.param(f"/tenant{DISCOVERY}", answer, id=what) for what, answer in BAD_DISCOVERY.items()),
    ],
)
async def test_a_provider_that_sends_something_else_is_as_one_that_is_away(
    path: str, answer: Answer, provider: Provider, known: KnownCallers, clock: Clock
) -> None:
    """Before there are keys, and when there are some."""
    provider.answers[path] = answer
    with pytest.raises(Unavailable):
        await known.find(provider.token())
    provider.answers.clear()
    clock.now += RETRY_SECONDS
    assert await name(known, provider.token()) == "alice"
    provider.answers[path] = answer
    clock.now += REFRESH_SECONDS
    with pytest.raises(Unavailable):
        await known.find(provider.token(Key("unknown", "ES256")))
    assert await name(known, provider.token()) == "alice"
    assert (await known.check())["identity_provider"].startswith("degraded: ")
    assert "/elsewhere" not in provider.asked


@pytest.mark.parametrize("kind", ["silence", "a drop now and then"])
async def test_a_fetch_takes_no_longer_than_it_may(kind: str, provider: Provider, known: KnownCallers) -> None:
    """However the provider drags it out: each drop is well within what one read may take."""
    known.fetch_seconds = 0.3
    over = asyncio.Event()

    def drips(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not over.is_set():
            request.wfile.write(b" ")
            time.sleep(0.01)

    provider.answers[KEYS] = drips
    if kind == "silence":
        provider.go.clear()
    with pytest.raises(Unavailable):
        await known.find(provider.token())
    assert (await known.check())["identity_provider"].endswith(": TimeoutError()")
    over.set()


def test_a_server_may_start_again_in_the_same_process(
    provider: Provider, known: KnownCallers, settings: Settings, build: Callable[..., FastAPI]
) -> None:
    """As in tests: each has an event loop of its own, and the keys have come in the first."""
    app = build(settings, ScriptedProvider(), known)
    unknown = {"Authorization": f"Bearer {provider.token(Key('unknown', 'ES256'))}"}
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/ready").json()["status"] == "ok"
            assert client.get("/stream?text=x", headers=unknown).status_code == 401


def test_a_provider_that_stalls_delays_no_health_check(
    provider: Provider, known: KnownCallers, settings: Settings, build: Callable[..., FastAPI]
) -> None:
    """`/ready` says within a second or so that the keys are missing, and with `strict` it is a 503."""
    provider.go.clear()
    with TestClient(build(settings, ScriptedProvider(), known)) as client:
        assert client.get("/health").status_code == 200
        assert provider.asked == []
        with ThreadPoolExecutor() as pool:
            ready, strict = pool.map(client.get, ["/ready", "/ready?strict=1"])
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["checks"]["identity_provider"] == "degraded: its keys are not here yet"
        assert strict.status_code == 503
        assert provider.asked == [f"/tenant{DISCOVERY}"]


def test_who_can_not_be_looked_up_is_told_to_come_again(
    provider: Provider, known: KnownCallers, settings: Settings, build: Callable[..., FastAPI]
) -> None:
    token = {"Authorization": f"Bearer {provider.token()}"}
    provider.close()
    with TestClient(build(settings, ScriptedProvider(), known)) as client:
        away = client.post("/chat/stream", json={"question": "Hi"}, headers=token)
        assert (away.status_code, away.headers["retry-after"]) == (503, "2")
        assert away.json() == {"detail": "the identity provider can't be asked whether this token is valid"}
        assert client.get("/stream?text=x", headers={"Authorization": "Bearer a.b.c"}).status_code == 401
