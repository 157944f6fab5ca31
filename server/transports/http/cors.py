"""Let web pages of allowed origins read our answers (WHATWG Fetch, 3.3 CORS protocol)."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

#: how long a browser need not ask again, in seconds
_MAX_AGE = "600"


def is_preflight(method: str, headers: Headers) -> bool:
    """Say whether a browser asks what it may send; it shows no key when it does."""
    return (
        method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers
    )


def preflight(headers: Headers) -> Response:
    """Allow what is asked for: its origin was checked, and the request itself will be."""
    allowed: dict[str, str] = {
        "access-control-allow-methods": headers["access-control-request-method"],
        "access-control-max-age": _MAX_AGE,
        "vary": "access-control-request-method, access-control-request-headers",
    }
    if "access-control-request-headers" in headers:
        allowed["access-control-allow-headers"] = headers["access-control-request-headers"]
    if "access-control-request-private-network" in headers:
        allowed["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=allowed)


def show(answer: MutableHeaders, origin: str) -> None:
    """Let a page of this origin read an answer and all its headers. No cookie is ever used."""
    answer["access-control-allow-origin"] = origin
    answer["access-control-expose-headers"] = "*"
    answer.add_vary_header("origin")
