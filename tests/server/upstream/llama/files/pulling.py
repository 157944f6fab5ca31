"""Short words for tests that pull models."""

from __future__ import annotations

from contextlib import AsyncExitStack

from server.upstream.llama.files.hub import Hub
from server.upstream.llama.files.library import Entry, Library
from server.upstream.llama.files.pull import Asked, Puller
from server.upstream.llama.files.web import Web
from tests.support.fake_hub import REPO, FakeHub


async def pull(
    hub: FakeHub, library: Library, source: str = REPO, token: str | None = None, **asked: object
) -> tuple[Entry, bool]:
    """Pull as the command does, and wait for nothing between tries."""
    async with AsyncExitStack() as stack:
        web = Web(token, hub.address)
        stack.push_async_callback(web.close)
        puller = Puller(library, Hub(web, hub.address), web, lambda *_: None, backoff=0)
        return await puller.pull(Asked(source, **asked))  # type: ignore[arg-type]


def left(library: Library) -> list[str]:
    """Return the files of the folder, those of locks left out."""
    return sorted(one.name for one in library.folder.iterdir() if one.suffix != ".lock")
