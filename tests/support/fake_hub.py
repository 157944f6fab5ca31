"""A hub of models on this machine that cuts, lies, redirects and changes its mind as it is told."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
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
            if request.path != f"/{REPO}/resolve/{self.commit}/{FILE}":
                return web.Response(status=404)
            if self.elsewhere:
                return web.Response(status=302, headers={"Location": self.elsewhere})
            return await self._file(request)
        if request.path == "/file":
            return await self._file(request)
        return web.Response(status=404)

    def _described(self) -> dict[str, object]:
        size = len(self.data) if self.size is None else self.size
        lfs = {"sha256": self.sha256, "size": size}
        return {
            "sha": self.commit,
            "cardData": {"license": "apache-2.0"},
            "siblings": self.siblings
            or [{"rfilename": name, "size": size, "lfs": lfs} for name in self.files],
        }

    async def _file(self, request: web.Request) -> web.StreamResponse:
        start, status = 0, 200
        headers = {"ETag": self.etag}
        asked = request.headers.get("Range")
        same = request.headers.get("If-Range") in (None, self.etag)
        if asked and self.refuses_ranges:
            return web.Response(status=416)
        if asked and self.ranges and same:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        body = self.data[start:]
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
