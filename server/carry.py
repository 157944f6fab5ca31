"""The commands export, import and search: on the database, or through the server that has it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import aiohttp

from server.core import nouns
from server.core.conversations import Conversations, Defaults
from server.core.prompts import Settings as CountingSettings
from server.members import model_of
from server.settings import Settings, SettingsError
from server.upstream.eliza import Eliza
from storage.model import Query
from storage.sqlite import DatabaseInUseError, SQLiteStore

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
    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


async def export(where: Where, kind: str, conversation_id: str | None, out: IO[bytes]) -> int:
    """Write conversations to a file, a piece at a time."""
    told = _Progress("exported")
    async with _opened(where) as core:
        if core is not None:
            async with aclosing(core.export(where.owner, kind, conversation_id, told)) as pieces:
                async for piece in pieces:
                    out.write(piece)
        else:
            path = f"/conversations/{conversation_id}/export" if conversation_id else "/export"
            async with _request(where, "GET", path, params={"format": kind}) as answer:
                async for piece in answer.content.iter_chunked(BLOCK):
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


async def search(where: Where, words: str, limit: int) -> int:
    """Print what was found, one line a hit; 1 where nothing was."""
    async with _opened(where) as core:
        if core is not None:
            page = await core.search(where.owner, Query(words), limit=limit)
            hits = [nouns.hit(hit) for hit in page.items]
        else:
            params = {"q": words, "limit": str(limit)}
            async with _request(where, "GET", "/search", params=params) as answer:
                hits = (await answer.json())["data"]
    for hit in hits:
        role = hit["message"]["role"] if hit["message"] else "title"
        print(f"{hit['conversation_id']}  {role:9}  {hit['snippet']}")
    return 0 if hits else 1


@asynccontextmanager
async def _opened(where: Where) -> AsyncIterator[Conversations | None]:
    """Open the database; None where a server has it open, or one was named: that one is asked."""
    if where.url is not None:
        yield None
        return
    counting = CountingSettings(encoding=where.settings.encoding)
    store = SQLiteStore(where.settings.database_path)
    try:
        await store.__aenter__()
    except DatabaseInUseError:
        yield None
        return
    except OSError as error:
        path = where.settings.database_path
        raise SettingsError(f"TRIALOGUE_DATABASE: {path}: {error.strerror}") from error
    try:
        async with Conversations(
            store, Eliza(), Defaults(model_of(where.settings), None, counting)
        ) as core:
            yield core
    finally:
        await store.close()


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
                    told = await answer.json(content_type=None)
                    raise SettingsError(f"{where.server}: {told['error']['message']}")
                yield answer
        except aiohttp.ClientConnectionError as error:
            raise SettingsError(
                f"{where.server} cannot be reached: {error}; --url says where the server is"
            ) from error


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
