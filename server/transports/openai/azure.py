"""The paths of OpenAI's API on Azure, `/openai/…`, and what each is under `/v1`."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from server.transports.openai.paths import PREFIX, streams_past

AZURE = "/openai"
#: what `/v1` has routes for, too
_DEPLOYED = re.compile(r"/deployments/.+/(chat/completions|completions|embeddings)/?")
#: any other call, whose body names the model
_NAMING = re.compile(r"/deployments/[^/]+(/.+)")


def under_v1(path: str) -> str:
    """Return the path that an Azure client means: of a deployment, of `/openai/v1`, or bare."""
    rest = re.sub("/+", "/", path.removeprefix(AZURE))
    if rest == PREFIX or rest.startswith(f"{PREFIX}/"):
        return rest
    called = _NAMING.fullmatch(rest)
    if called is not None and not _DEPLOYED.fullmatch(rest):
        return PREFIX + called[1]
    return PREFIX + rest


def azure_streams_past(path: str) -> bool:
    """Say whether a path's body goes by without being held; see `streams_past`."""
    return streams_past(under_v1(path))


class AzurePaths:
    """An ASGI application that hands requests on under the paths that they have in `/v1`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = (scope.get("raw_path") or b"").decode("latin-1")
        if not raw.startswith(AZURE):  # its letters are written as percent signs and numbers
            raw = quote(scope["path"])
        scope["raw_path"] = under_v1(raw).encode("latin-1")
        scope["path"] = under_v1(scope["path"])
        await self._app(scope, receive, send)
