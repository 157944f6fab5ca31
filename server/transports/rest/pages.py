"""What browsers are shown: the page, its files, and the API's description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.responses import Response

from server import VERSION
from server.transports.http.responses import JSON
from server.transports.rest.state import behind
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
    "connect-src 'self' {websocket}; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: The name in a Host header, or an IPv4 address.
_HOST = re.compile(r"[A-Za-z0-9.-]+")
#: Swagger UI sets styles of its own on elements.
_DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Pages:
    """Serves files that ship with us; nothing comes from anywhere else."""

    def __init__(self) -> None:
        self._web = dict(_load(files("clients") / "web"))
        self._swagger = dict(_load(files("fastapi_swagger") / "resources"))
        self.router = router = APIRouter(include_in_schema=False)
        get = partial(router.api_route, methods=["GET", "HEAD"])
        get("/")(self.page)
        get("/docs")(self.docs)
        get("/web/config.json")(self.config)
        get("/web/{name:path}")(self.file)

    async def page(self, request: Request) -> Response:
        host = _HOST.match(request.headers.get("host", ""))
        # A policy has no way to write an IPv6 address.
        where = f"{host[0] if host else '*'}:{behind(request).websocket_port}"
        csp = _CSP.format(websocket=f"ws://{where} wss://{where}")
        return _file("index.html", self._web["index.html"], csp)

    async def docs(self) -> Response:
        return _file("docs.html", self._web["docs/docs.html"], _DOCS_CSP)

    async def config(self, request: Request) -> Response:
        """Tell the page what it cannot know: where the websocket is."""
        return JSON({"websocket_port": behind(request).websocket_port, "version": VERSION})

    async def file(self, name: str) -> Response:
        content = self._web.get(name) or self._swagger.get(name)
        if content is None:
            raise NotFoundError("There is no such file.")
        return _file(name, content, _CSP.format(websocket=""))


def _load(folder: Traversable, within: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield what browsers may read of a folder, by its path there."""
    for entry in folder.iterdir():
        name = within + entry.name
        if entry.is_dir():
            yield from _load(entry, f"{name}/")
        elif name.rpartition(".")[2] in _TYPES:
            yield name, entry.read_bytes()


def _file(name: str, content: bytes, csp: str) -> Response:
    return Response(
        content,
        media_type=_TYPES[name.rpartition(".")[2]],
        headers={
            "content-security-policy": csp,
            "cache-control": "no-cache",
        },
    )
