"""The commands export, import and search: on the database, or through the server that has it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import aiohttp

from server.app.core import core_of
from server.app.stores import open_store
from server.app.upstreams import model_of
from server.commands import protected_files
from server.config.addresses import without_secrets
from server.config.settings import Settings, SettingsError
from server.core import rendering
from server.core.conversations import Conversations, Defaults
from server.core.prompt.compose import CountingSettings
from server.core.validation import LARGEST_PAGE
from server.transports import lists
from server.upstream.local.eliza.eliza import Eliza
from storage.model import Query
from storage.sqlite.opening import DatabaseInUseError

BLOCK = 256 << 10


@dataclass(frozen=True, slots=True)
class Where:
    """Whose conversations: an owner in the database itself, a key for a running server."""

    settings: Settings
    owner: str
    url: str | None
    key: str | None

    @property
    def server(self) -> str:
        return (self.url or f"http://localhost:{self.settings.http_port}").rstrip("/")

    @property
    def shown(self) -> str:
        """Where the server is, for an error."""
        return without_secrets(self.server)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


async def export(where: Where, kind: str, conversation_id: str | None, file: Path | None) -> int:
    """Write conversations to a file, or to standard output, a piece at a time."""
    if file is not None:
        protected_files.refuse(where.settings, file)
    told = _Progress("exported")
    async with (
        _opened(where) as core,
        aclosing(_exported(where, core, kind, conversation_id, told)) as pieces,
    ):
        first = await anext(pieces, b"")  # a refusal leaves the file as it was
        with _writing(file) as out:
            out.write(first)
            async for piece in pieces:
                out.write(piece)
    told.done()
    return 0


async def import_(where: Where, file: Path) -> int:
    """Keep the conversations of a file and tell what became of each; safe to stop and run again."""
    told = _Progress("read")
    async with _opened(where) as core:
        if core is not None:
            with file.open("rb") as source:
                report = (await core.import_(where.owner, _blocks(source), told)).rendered()
        else:
            with file.open("rb") as source:
                headers = {"content-type": "application/json"}
                async with _request(
                    where, "POST", "/conversations/import", data=_blocks(source), headers=headers
                ) as answer:
                    report = await answer.json()
    told.done()
    print(json.dumps(report, ensure_ascii=False, indent=1))
    return 1 if report["failed"] else 0


async def search(where: Where, query: Query, limit: int) -> int:
    """Print what was found, one line a hit, at most so many; 1 where nothing was."""
    found = False
    async with _opened(where) as core, aclosing(_hits(where, core, query, limit)) as hits:
        async for hit in hits:
            found = True
            role = hit["message"]["role"] if hit["message"] else "title"
            print(f"{hit['conversation_id']}  {role:9}  {hit['snippet']}")
    return 0 if found else 1


async def _hits(
    where: Where, core: Conversations | None, query: Query, limit: int
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield hits as JSON, page after page."""
    after, more, left = None, True, limit
    while more:
        page = await _page_of_hits(where, core, query, min(left, LARGEST_PAGE), after)
        for hit in page["data"]:
            yield hit
        left -= len(page["data"])
        after, more = page["last_id"], page["has_more"] and left > 0


async def _page_of_hits(
    where: Where, core: Conversations | None, query: Query, limit: int, after: str | None
) -> dict[str, Any]:
    if core is not None:
        return lists.hits(await core.search(where.owner, query, limit=limit, after=after))
    given = {
        "q": query.words,
        "limit": str(limit),
        "after": after,
        "role": query.role,
        "conversation_id": query.conversation_id,
        "created_after": rendering.time(query.since),
        "created_before": rendering.time(query.until),
    }
    params = {name: value for name, value in given.items() if value is not None}
    async with _request(where, "GET", "/search", params=params) as answer:
        page: dict[str, Any] = await answer.json()
    return page


async def _exported(
    where: Where,
    core: Conversations | None,
    kind: str,
    conversation_id: str | None,
    told: _Progress,
) -> AsyncGenerator[bytes, None]:
    if core is not None:
        async with aclosing(core.export(where.owner, kind, conversation_id, told)) as pieces:
            async for piece in pieces:
                yield piece
        return
    path = f"/conversations/{quote(conversation_id)}/export" if conversation_id else "/export"
    async with _request(where, "GET", path, params={"format": kind}) as answer:
        async for piece in answer.content.iter_chunked(BLOCK):
            yield piece


@contextmanager
def _writing(file: Path | None) -> Iterator[IO[bytes]]:
    if file is None:
        yield sys.stdout.buffer
        return
    try:
        with open(file, "wb", opener=_owners) as out:
            yield out
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error


def _owners(path: str, flags: int) -> int:
    """Open a file that is its owner's alone where it is made; one that is there stays as it is."""
    return os.open(path, flags, 0o600)


@asynccontextmanager
async def _opened(where: Where) -> AsyncIterator[Conversations | None]:
    """Open the database; None where a server has it open, or one was named: that one is asked."""
    if where.url is not None:
        yield None
        return
    counting = CountingSettings(encoding=where.settings.encoding)
    async with AsyncExitStack() as stack:
        try:
            store = await open_store(where.settings, stack)
        except DatabaseInUseError:
            core = None
        else:
            defaults = Defaults(model_of(where.settings), None, counting)
            core = core_of(store, Eliza(), defaults)
            if where.settings.on_postgres:
                # Not begun: it would end the turns that a server is writing there.
                stack.push_async_callback(core.drain, 0)
            else:
                await stack.enter_async_context(core)
        yield core


@asynccontextmanager
async def _request(
    where: Where, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask the server; what it refuses is said as it says it."""
    patience = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(timeout=patience) as session:
        try:
            async with session.request(
                method, where.server + path, headers={**where.headers, **(headers or {})}, **more
            ) as answer:
                if answer.status >= 400:
                    raise SettingsError(f"{where.shown}: {await _refusal(answer)}")
                yield answer
        except aiohttp.ClientConnectionError as error:
            raise SettingsError(
                f"{where.shown} cannot be reached: {error}; --url says where the server is"
            ) from error
        except aiohttp.ClientError as error:
            raise SettingsError(f"{where.shown} broke off: {error}") from error


async def _refusal(answer: aiohttp.ClientResponse) -> str:
    """Return what a server says that it refuses; what stands between may say it in its own way."""
    try:
        return str(json.loads(await answer.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status} {answer.reason}"


async def _blocks(source: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(source.read, BLOCK):
        yield block


class _Progress:
    """Says on a terminal how many conversations have gone by."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = False

    def __call__(self, count: int) -> None:
        if sys.stderr.isatty() and (count < 10 or count % 50 == 0):
            self._shown = True
            print(f"\r{count:,} conversations {self._what}", end="", file=sys.stderr, flush=True)

    def done(self) -> None:
        if self._shown:
            print(file=sys.stderr)
