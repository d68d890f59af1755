"""Who the callers are: the `sub` of access tokens, which an identity provider has signed (RFC 7519)."""

import asyncio
import logging
import re
import time
from collections.abc import Callable

import httpx2
import jwt
from jwt.types import Options

from app.callers.caller import Caller
from app.callers.settings import CallerSettings, safe
from app.errors import Unavailable

log = logging.getLogger(__name__)

# With a shared secret, as of HS256, whoever can check a token can make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
MUST: Options = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}
NAME = re.compile("[!-~]{1,255}")  # OpenID Connect Core, section 2: ASCII, and no longer
LEEWAY_SECONDS = 10  # so far may the provider's clock be from this one
REFRESH_SECONDS = 300  # then the keys are fetched anew: one may have been withdrawn
UNKNOWN_SECONDS = 60  # between two fetches for a key that is not there: anybody can name one
RETRY_SECONDS = 5  # between two fetches while there are no keys at all


class KnownCallers:
    SETTING = "AUTH_ISSUER"
    needs = "a valid access token is needed"
    fetch_seconds = 5.0  # at most, for all of a fetch

    def __init__(self, settings: CallerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.required = bool(settings.auth_issuer)
        self._settings = settings
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._failure = "its keys are not here yet"
        self._fetch: asyncio.Task[None] | None = None
        self._began = 0.0

    async def find(self, token: str) -> Caller | None:
        issuer, audience = self._settings.auth_issuer, self._settings.auth_audience
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("alg"), header.get("kid"))
            claims = jwt.decode(token, key, options=MUST, audience=audience, issuer=issuer, leeway=LEEWAY_SECONDS)
            if not NAME.fullmatch(claims["sub"]):
                raise jwt.InvalidTokenError
        except jwt.PyJWTError as error:
            log.info("a token was refused", extra={"reason": type(error).__name__})
            return None
        return Caller(claims["sub"])

    async def check(self) -> dict[str, str]:
        """Asks for the keys too, so that they are here before the first caller."""
        await self._look(REFRESH_SECONDS, 0 if self._keys else 1)
        return {"identity_provider": f"degraded: {self._failure}" if self._failure else "ok"}

    async def _key(self, algorithm: object, kid: str | None) -> jwt.PyJWK:
        """Waits for the provider only if the key is not known."""
        if algorithm not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError
        if key := self._known(algorithm, kid):
            await self._look(REFRESH_SECONDS, 0)
            return key
        await self._look(UNKNOWN_SECONDS, None)
        if key := self._known(algorithm, kid):
            return key
        if self._failure:
            raise Unavailable("the identity provider can't be asked whether this token is valid")
        raise jwt.InvalidKeyError

    def _known(self, algorithm: object, kid: str | None) -> jwt.PyJWK | None:
        """A token need not name its key where only one fits."""
        fit = [key for key in self._keys if key.algorithm_name == algorithm and kid in (None, key.key_id)]
        return fit[0] if len(fit) == 1 else None

    async def _look(self, pause: float, wait: float | None) -> None:
        """Fetches the keys, unless that began less than `pause` seconds ago. Waits for it, `wait` seconds at most."""
        if self._failure:
            pause = UNKNOWN_SECONDS if self._keys else RETRY_SECONDS
        if self._fetch is None or (self._fetch.done() and self._clock() - self._began >= pause):
            self._began = self._clock()
            self._fetch = asyncio.create_task(self._get_keys())
        if not self._fetch.done():
            await asyncio.wait({self._fetch}, timeout=wait)

    async def _get_keys(self) -> None:
        """Those that are here stay until others have come, however long the provider is away."""
        try:
            # In a thread, for it reads the certificates of the system.
            async with asyncio.timeout(self.fetch_seconds), await asyncio.to_thread(httpx2.AsyncClient) as client:
                answer = await client.get(self._settings.auth_jwks_url or await self._discovered(client))
            found = jwt.PyJWKSet.from_dict(answer.raise_for_status().json())
            keys = [key for key in found.keys if key.algorithm_name in ALGORITHMS and key.public_key_use != "enc"]
            if not keys:
                raise ValueError("none of them is for signatures")
            self._keys, self._failure = keys, ""
        except Exception as error:  # whatever it sends, and in whatever way
            self._failure = f"its keys can't be fetched: {error!r:.300}"
            log.warning("identity provider: %s", self._failure)

    async def _discovered(self, client: httpx2.AsyncClient) -> str:
        """Where the keys are, by OpenID Connect Discovery, section 4."""
        url = self._settings.auth_issuer.rstrip("/") + "/.well-known/openid-configuration"
        found = (await client.get(url)).raise_for_status().json()
        if found["issuer"] != self._settings.auth_issuer:
            raise ValueError("it is another issuer than AUTH_ISSUER")
        return safe(found["jwks_uri"])
