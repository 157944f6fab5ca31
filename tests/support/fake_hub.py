"""A hub of models on this machine that cuts, lies, redirects and changes its mind as it is told."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

REPO = "somebody/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
COMMIT = "c" * 40


@dataclass
class FakeHub:
    """What it has, and how it behaves."""

    data: bytes
    commit: str = COMMIT
    #: what it says of the file
    sha256: str = ""
    size: int | None = None
    etag: str = '"one"'
    files: tuple[str, ...] = (FILE, "README.md")
    #: what it finds, whatever is looked for
    found: object = field(default_factory=lambda: [{"id": REPO, "downloads": 7}, {"id": "../bad"}])
    #: what it says in the place of the list of files
    siblings: object = None
    #: files of a model in several of them, in the place of the one
    pieces: Mapping[str, bytes] = field(default_factory=dict)
    #: every answer ends after so many bytes of its body
    cut_after: int | None = None
    #: where files are instead
    elsewhere: str | None = None
    #: it has no ranges: every answer is the whole
    ranges: bool = True
    #: it refuses every range
    refuses_ranges: bool = False
    #: requests as they came: path, Range, Authorization
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        self.sha256 = self.sha256 or hashlib.sha256(self.data).hexdigest()

    @property
    def ranges_asked(self) -> list[str | None]:
        """The ranges that were asked of the file, in turn."""
        return [one for path, one, _ in self.asked if "/resolve/" in path or path == "/file"]

    @property
    def tokens(self) -> list[str | None]:
        """What came as authorization, in turn."""
        return [one for _, _, one in self.asked]

    async def _any(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        self.asked.append((request.path, headers.get("Range"), headers.get("Authorization")))
        if request.path == "/api/models":
            return web.json_response(self.found)
        if request.path.startswith(f"/api/models/{REPO}/revision/"):
            return web.json_response(self._described())
        if request.path.startswith(f"/{REPO}/resolve/"):
            data = self._at(request.path.removeprefix(f"/{REPO}/resolve/{self.commit}/"))
            if data is None:
                return web.Response(status=404)
            if self.elsewhere:
                return web.Response(status=302, headers={"Location": self.elsewhere})
            return await self._file(request, data)
        if request.path == "/file":
            return await self._file(request, self.data)
        return web.Response(status=404)

    def _at(self, path: str) -> bytes | None:
        return self.pieces.get(path) if self.pieces else {FILE: self.data}.get(path)

    def _described(self) -> dict[str, object]:
        size = len(self.data) if self.size is None else self.size
        listed = [(name, size, self.sha256) for name in self.files]
        if self.pieces:
            pieces = self.pieces.items()
            listed = [(name, len(of), hashlib.sha256(of).hexdigest()) for name, of in pieces]
        siblings = [
            {"rfilename": name, "size": size, "lfs": {"sha256": sha256, "size": size}}
            for name, size, sha256 in listed
        ]
        return {
            "sha": self.commit,
            "cardData": {"license": "apache-2.0"},
            "siblings": self.siblings or siblings,
        }

    async def _file(self, request: web.Request, data: bytes) -> web.StreamResponse:
        start, status = 0, 200
        headers = {"ETag": self.etag}
        asked = request.headers.get("Range")
        same = request.headers.get("If-Range") in (None, self.etag)
        if asked and self.refuses_ranges:
            return web.Response(status=416)
        if asked and self.ranges and same:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        response = web.StreamResponse(
            status=status, headers={**headers, "Content-Length": str(len(body))}
        )
        await response.prepare(request)
        await response.write(body[: self.cut_after])
        if self.cut_after is not None and self.cut_after < len(body):
            assert request.transport is not None
            request.transport.close()
        return response


@asynccontextmanager
async def fake_hub(data: bytes) -> AsyncIterator[FakeHub]:
    """Serve a hub that has one model."""
    hub = FakeHub(data)
    application = web.Application()
    application.router.add_get("/{path:.*}", hub._any)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hub.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield hub
    finally:
        await runner.cleanup()
