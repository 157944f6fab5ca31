"""What browsers are shown: the page, its files, and the API's description."""

from __future__ import annotations

import re
from functools import partial
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from server import VERSION
from server.transports.http.responses import JSON
from server.transports.rest.state import behind
from server.transports.rest.web_files import ASKING, FOR_EVER, within
from server.transports.rest.web_libraries import Libraries
from storage.port import NotFoundError

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
        web = files("clients") / "web"
        swagger = files("fastapi_swagger") / "resources"
        self._files = {**dict(within(swagger)), **dict(within(web))}
        self._libraries = Libraries(web)
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
        return await self._files["index.html"].response(request, csp)

    async def docs(self, request: Request) -> Response:
        return await self._files["docs/docs.html"].response(request, _DOCS_CSP)

    async def config(self, request: Request) -> Response:
        """Tell the page what it cannot know: where the other wires and the libraries are."""
        path = self._libraries.path
        told = {
            "websocket_port": behind(request).websocket_port,
            "grpc_port": behind(request).grpc_port,
            "version": VERSION,
            "libraries": path and f"/web/{path}",
        }
        return JSON(told, headers={"cache-control": ASKING})

    async def file(self, request: Request, name: str) -> Response:
        library = self._libraries.path
        of_library = library is not None and name.startswith(library)
        found = self._libraries.files if of_library else self._files
        file = found.get(name.removeprefix(library or ""))
        if file is None:
            raise NotFoundError("There is no such file.")
        caching = FOR_EVER if of_library else ASKING
        return await file.response(request, _CSP.format(websocket=""), caching)
