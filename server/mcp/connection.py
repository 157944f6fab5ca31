"""One MCP server: connected while we run, its tools those that it listed last."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TextIO

import httpx2
import orjson
import structlog
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CallToolResult,
    EmbeddedResource,
    TextContent,
    TextResourceContents,
    Tool,
    ToolListChangedNotification,
)

from server.config.tables import McpTable
from server.mcp.port import ServerTool, ToolError
from server.openai_protocol.surrogates import fit

log = structlog.get_logger("trialogue.mcp")

#: Seconds between two looks whether a server is there still, and what it has.
_LOOK_EVERY: Final = 60.0
#: Seconds before a server that went away is tried again: at first, and at most.
_PAUSES: Final = 1.0, 60.0
#: What is taken of a server: its tools, and bytes of what models are told of each.
_MOST_TOOLS, _MOST_BYTES = 128, 64 << 10
#: What of a name cannot be called by models, and how long the whole may be.
_UNCALLABLE, _LONGEST = re.compile(r"[^a-zA-Z0-9_-]"), 64
#: Characters of a refusal that are told.
_TOLD: Final = 1_000


class McpServer:
    """Owns the connection to a server, which one task keeps up."""

    def __init__(self, table: McpTable, variables: Mapping[str, str]) -> None:
        self.table = table
        self.tools: tuple[ServerTool, ...] = ()
        #: it has listed its tools, or could not be reached the first time
        self.tried = asyncio.Event()
        self._variables = variables
        self._client: Client | None = None
        self._look = asyncio.Event()

    @property
    def is_up(self) -> bool:
        return self._client is not None

    async def stay(self) -> None:
        """Keep the connection up until cancelled."""
        pause, longest = _PAUSES
        while True:
            try:
                async with self._connection() as client:
                    pause, _ = _PAUSES
                    await self._watch(client)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                # What it says may quote what was asked of it: the kind is all that is logged.
                log.warning("MCP server is away", server=self.table.name, error=_kind(error))
            finally:
                self._client, self.tools = None, ()
                self.tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def call(self, tool: ServerTool, arguments: Mapping[str, Any], seconds: float) -> str:
        """Call a tool and return its words. Raises ToolError."""
        if (client := self._client) is None:
            raise ToolError(f"The server {self.table.name!r} is not there just now.")
        seconds = min(seconds, self.table.timeout)
        try:
            async with asyncio.timeout(seconds):
                result = await client.call_tool(tool.name, dict(arguments))
        except TimeoutError:
            raise ToolError(f"The tool did not answer within {seconds:g} seconds.") from None
        except MCPError as error:
            raise ToolError(self._told(error.message)) from None
        except Exception as error:  # noqa: BLE001 - the turn goes on
            log.warning("tool broke", server=self.table.name, tool=tool.name, error=_kind(error))
            self._look.set()
            raise ToolError("The tool could not be run.") from None
        if result.is_error:
            raise ToolError(self._told(_text_of(result)))
        return fit(_text_of(result))

    def _told(self, text: str) -> str:
        """Return what a server complains of, without the key that it was shown."""
        key = self._key()
        return fit((text.replace(key, "[key]") if key else text)[:_TOLD]) or "The tool failed."

    def _key(self) -> str:
        return self._variables.get(self.table.key_variable or "", "")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Client]:
        if self.table.url is None:
            program, *words = self.table.command or ()
            own = {name: self._variables[name] for name in self.table.variables}
            process = StdioServerParameters(command=program, args=words, env=own)
            with _nowhere() as silent:
                transport = stdio_client(process, silent)
                async with Client(transport, message_handler=self._hear) as client:
                    yield client
            return
        headers = {"authorization": f"Bearer {key}"} if (key := self._key()) else {}
        waits = httpx2.Timeout(30, read=None)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=waits) as http,
            Client(
                streamable_http_client(self.table.url, http_client=http),
                message_handler=self._hear,
            ) as client,
        ):
            yield client

    async def _hear(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._look.set()

    async def _watch(self, client: Client) -> None:
        """Read the list of tools, again when it changes and every so often."""
        while True:
            async with asyncio.timeout(self.table.timeout):
                listed = await _listed(client)
            tools = tuple(self._offered(listed))
            if tools != self.tools or self._client is None:
                log.info("MCP server", server=self.table.name, tools=len(tools))
            self.tools, self._client = tools, client
            self.tried.set()
            self._look.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._look.wait()

    def _offered(self, listed: Iterable[Tool]) -> Iterable[ServerTool]:
        called: set[str] = set()
        for tool in listed:
            if not matches(tool.name, self.table.tools):
                continue
            name = _UNCALLABLE.sub("_", f"{self.table.name}__{tool.name}")[:_LONGEST]
            about = {"description": fit(tool.description or ""), "parameters": tool.input_schema}
            function = {"type": "function", "function": {"name": name, **about}}
            if name in called or not _is_small(function):
                log.warning("tool is left out", server=self.table.name, tool=name)
                continue
            called.add(name)
            approve = matches(tool.name, self.table.approve)
            yield ServerTool(self.table.name, tool.name, function, approve)


def _nowhere() -> TextIO:
    """Return where a program's complaints go: they may quote what it was asked."""
    return Path(os.devnull).open("w")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Say whether a name is one of these, or like one of these patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


async def _listed(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    while len(tools) < _MOST_TOOLS:
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or not page.tools:
            break
    return tools[:_MOST_TOOLS]


def _is_small(function: Mapping[str, Any]) -> bool:
    try:
        return len(orjson.dumps(function)) <= _MOST_BYTES
    except TypeError:  # half a surrogate, or deeper than can be sent
        return False


def _text_of(result: CallToolResult) -> str:
    """Return what a result says: its texts, what else it has by its kind."""
    said = []
    for block in result.content:
        match block:
            case TextContent(text=text):
                said.append(text)
            case EmbeddedResource(resource=TextResourceContents(text=text)):
                said.append(text)
            case _:
                said.append(f"[{block.type}]")
    if not said and result.structured_content is not None:
        return orjson.dumps(result.structured_content).decode()
    return "\n".join(said)


def _kind(error: BaseException) -> str:
    """Return the kind of an error; of a group, that of the first in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
