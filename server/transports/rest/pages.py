"""What browsers are shown: the page, its files, and the API's description."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.responses import Response

from server import VERSION
from server.core.errors import Code, InvalidRequestError, Problem
from server.transports.http.responses import JSON
from server.transports.http.upgrade import WEBSOCKET, asks_for_websocket
from server.transports.rest.described import with_others
from server.transports.rest.state import behind
from server.transports.status import http_body
from storage.port import NotFoundError

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: Swagger UI sets styles of its own on elements.
_DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Pages:
    """Serves files that ship with us; nothing comes from anywhere else."""

    def __init__(self) -> None:
        self._web = _load(files("clients") / "web")
        self._swagger = _load(files("fastapi_swagger") / "resources")
        self.router = router = APIRouter(include_in_schema=False)
        get = partial(router.api_route, methods=["GET", "HEAD"])
        get("/")(self.page)
        get(WEBSOCKET)(self.no_websocket)
        get("/docs")(self.docs)
        get("/openapi.json")(self.description)
        get("/web/config.json")(self.config)
        get("/web/{name}")(self.file)

    async def page(self) -> Response:
        return _file("index.html", self._web["index.html"], _CSP)

    async def docs(self) -> Response:
        return _file("docs.html", self._web["docs.html"], _DOCS_CSP)

    async def description(self, request: Request) -> Response:
        """Describe all that this port serves."""
        return JSON(with_others(request.app.openapi(), behind(request).others))

    async def config(self) -> Response:
        """Tell the page what it cannot know: which release it is of."""
        return JSON({"version": VERSION})

    async def no_websocket(self, request: Request) -> Response:
        """Answer what asks for no websocket, or for one where it cannot be had."""
        if asks_for_websocket(request.headers.raw):
            raise InvalidRequestError(
                "A websocket is asked for by GET and HTTP/1.1, without a body, and once all that "
                "was asked for before on this connection has been answered and read."
            )
        told = Problem(
            Code.INVALID_REQUEST,
            "This is a websocket, and nothing asked for one: a reverse proxy in front of this "
            "server has to pass on the headers Connection and Upgrade.",
        )
        offer = {"connection": "upgrade", "upgrade": "websocket"}
        return JSON(http_body(told), status_code=426, headers=offer)

    async def file(self, name: str) -> Response:
        content = self._web.get(name) or self._swagger.get(name)
        if content is None:
            raise NotFoundError("There is no such file.")
        return _file(name, content, _CSP)


def _load(folder: Traversable) -> dict[str, bytes]:
    kinds = tuple(f".{kind}" for kind in _TYPES)
    return {e.name: e.read_bytes() for e in folder.iterdir() if e.name.endswith(kinds)}


def _file(name: str, content: bytes, csp: str) -> Response:
    return Response(
        content,
        media_type=_TYPES[name.rpartition(".")[2]],
        headers={
            "content-security-policy": csp,
            "cache-control": "no-cache",
        },
    )
