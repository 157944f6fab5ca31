"""Static files for browsers: content type, caching by ETag, gzip that is computed once."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from importlib.resources.abc import Traversable

from fastapi import Request
from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webmanifest": "application/manifest+json",
}
#: A browser keeps it, and asks each time whether it is still that.
ASKING = "no-cache"
#: Its path names its content.
FOR_EVER = "public, max-age=31536000, immutable"


class WebFile:
    """One file, read when somebody wants it."""

    def __init__(self, path: Traversable) -> None:
        self._path = path
        self._media_type = _TYPES[path.name.rpartition(".")[2]]

    async def response(self, request: Request, csp: str, caching: str = ASKING) -> Response:
        """Return the file, packed for who can unpack it; 304 to who has it."""
        packs = "gzip" in request.headers.get("accept-encoding", "")
        # To read and to pack takes a while, the first time.
        content, etag = await asyncio.to_thread(self._made, packs)
        headers = {
            "content-security-policy": csp,
            "cache-control": caching,
            "etag": etag,
            "vary": "accept-encoding",
        }
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        headers |= {"content-encoding": "gzip"} if packs else {}
        return Response(content, media_type=self._media_type, headers=headers)

    def _made(self, packs: bool) -> tuple[bytes, str]:
        return self._packed if packs else self._plain, self._etag

    @cached_property
    def _plain(self) -> bytes:
        return self._path.read_bytes()

    @cached_property
    def _packed(self) -> bytes:
        return gzip.compress(self._plain, mtime=0)

    @cached_property
    def _etag(self) -> str:
        return f'W/"{sha256(self._plain).hexdigest()[:24]}"'


def within(folder: Traversable, path: str = "") -> Iterator[tuple[str, WebFile]]:
    """Yield what browsers may read of a folder, by its path there."""
    for entry in folder.iterdir():
        name = path + entry.name
        if entry.is_dir() and entry.name != "node_modules":
            yield from within(entry, f"{name}/")
        elif name.rpartition(".")[2] in _TYPES:
            yield name, WebFile(entry)
