"""An identity provider, as far as this service knows one: it serves its keys over real HTTP, and signs tokens."""

import json
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from app.callers.settings import CallerSettings

# Nothing here speaks TLS, and to read the system's certificates takes each client 0.02 s.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull

AUDIENCE = "https://chat.example.com"
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}

Answer = Callable[[BaseHTTPRequestHandler], None]


def private_key(algorithm: str, bits: int = 2048) -> Any:
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa.generate_private_key(65537, bits)


class Key:
    def __init__(self, kid: str | None, algorithm: str, private: Any = None, **fields: Any) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private = private or private_key(algorithm)
        public = get_default_algorithms()[algorithm].to_jwk(self.private.public_key(), as_dict=True)
        self.shown = {**public, **({"kid": kid} if kid else {}), "alg": algorithm, "use": "sig", **fields}


class Provider:
    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []  # the paths
        self.answers: dict[str, Answer] = {}  # of those that don't answer as they should
        self.arrived = threading.Event()  # a request has come, which may not be answered yet
        self.go = threading.Event()  # requests are answered when it is set
        self.go.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                provider.arrived.set()
                provider.go.wait()
                answer = provider.answers.get(self.path)
                try:
                    if answer:
                        answer(self)
                    else:
                        reply(self, json.dumps(provider.document(self.path)).encode())
                except OSError:
                    pass  # who asked has left

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.issuer = f"{self.url}/tenant"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def document(self, path: str) -> Any:
        if path == f"/tenant{DISCOVERY}":
            return {"issuer": self.issuer, "jwks_uri": self.url + KEYS}
        return {"keys": [key.shown for key in self.keys]}

    def token(self, key: Key | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """One that is valid, but for these claims; those that are None are left out."""
        key = key or self.keys[0]
        now = int(time.time())
        all_claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600, **claims}
        kept = {name: value for name, value in all_claims.items() if value is not None}
        named = {"kid": key.kid} if key.kid else {}
        return jwt.encode(kept, key.private, key.algorithm, {**named, **(headers or {})})

    def settings(self, auth_jwks_url: str = "") -> CallerSettings:
        return CallerSettings(
            _env_file=None, auth_issuer=self.issuer, auth_audience=AUDIENCE, auth_jwks_url=auth_jwks_url
        )

    def close(self) -> None:
        """Nobody listens at its port from then on."""
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def reply(request: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)
