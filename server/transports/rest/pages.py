"""What browsers are shown: the page, its files, and the API's description."""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from server import VERSION
from server.core.errors import Code, InvalidRequestError, Problem
from server.transports.http.responses import JSON
from server.transports.http.upgrade import WEBSOCKET, asks_for_websocket
from server.transports.rest.described import with_others
from server.transports.rest.state import behind
from server.transports.rest.web_files import ASKING, FOR_EVER, within
from server.transports.rest.web_libraries import Libraries
from server.transports.status import http_body
from storage.port import NotFoundError

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
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
        get(WEBSOCKET)(self.no_websocket)
        get("/docs")(self.docs)
        get("/openapi.json")(self.description)
        get("/web/config.json")(self.config)
        get("/web/{name:path}")(self.file)

    async def page(self, request: Request) -> Response:
        return await self._files["index.html"].response(request, _CSP)

    async def docs(self, request: Request) -> Response:
        return await self._files["docs/docs.html"].response(request, _DOCS_CSP)

    async def description(self, request: Request) -> Response:
        """Describe all that this port serves."""
        described = with_others(request.app.openapi(), behind(request).others)
        if root_path := request.state.root_path:
            described = {**described, "servers": [{"url": root_path}]}
        return JSON(described)

    async def config(self, request: Request) -> Response:
        """Tell the page what it cannot know: its release, our ports, and where the libraries are.

        The port tells it whether it came straight from us, or by a proxy that has its own.
        """
        path = self._libraries.path
        told = {
            "grpc_port": behind(request).grpc_port,
            "version": VERSION,
            "port": request.scope["server"][1],
            "libraries": path and f"web/{path}",
        }
        return JSON(told, headers={"cache-control": ASKING})

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

    async def file(self, request: Request, name: str) -> Response:
        library = self._libraries.path
        of_library = library is not None and name.startswith(library)
        found = self._libraries.files if of_library else self._files
        file = found.get(name.removeprefix(library or ""))
        if file is None:
            raise NotFoundError("There is no such file.")
        caching = FOR_EVER if of_library else ASKING
        return await file.response(request, _CSP, caching)
