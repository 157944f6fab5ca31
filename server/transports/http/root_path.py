"""The root path: what a reverse proxy serves us under, whether it takes that off or not."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Scope

from server.transports.http.upgrade import Upgrades


class RootPath:
    """A prefix of the paths that are asked for; one without it is as good, and one of ours.

    Only the setting is ever taken off. What a header says was taken off by the proxy: a path that
    it names in a request could lead past what the proxy lets nobody ask for.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._raw = path.encode()

    def take_off(self, scope: Scope) -> None:
        """Leave our own path in a request: `path`, and `raw_path`, which decides."""
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if self.path and (raw == self._raw or raw.startswith(self._raw + b"/")):
            scope["raw_path"] = raw.removeprefix(self._raw)
            scope["path"] = scope["path"].removeprefix(self.path)

    @property
    def page(self) -> Response:
        """Lead to the page, whose own addresses begin where it is: so with a slash at the end."""
        return Response(status_code=308, headers={"location": f"{self.path.rpartition('/')[2]}/"})

    def before(self, upgrades: Upgrades) -> Upgrades:
        """Return what connections are handed to, by paths with the prefix, too."""
        return {**upgrades, **{self.path + path: one for path, one in upgrades.items()}}
