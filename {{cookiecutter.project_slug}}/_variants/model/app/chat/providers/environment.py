"""Checks what the SDK's HTTP client will read from the environment, so that a wrong value stops the start."""

import httpx2


def check_environment() -> None:
    """Raises ValueError if a proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) or certificates (SSL_CERT_FILE)
    can't be used."""
    try:
        httpx2.Client().close()
    except ImportError as error:
        raise ValueError("ALL_PROXY, HTTPS_PROXY: a SOCKS proxy needs a package: uv add 'httpx2[socks]'") from error
    except Exception as error:
        # Not its text: a proxy's address may hold a password.
        kind = type(error).__name__
        raise ValueError(f"HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE: can't be used ({kind})") from None
