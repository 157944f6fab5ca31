"""All MCP servers that the configuration names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

from server.config.tables import McpTable
from server.mcp.connection import McpServer, matches
from server.mcp.port import ServerTool, ToolError

#: Seconds that the start waits for the first lists: who is slower is there later.
_PATIENCE = 5.0


class McpServers:
    """Async context manager; connects to all of them, and is their tools. See Toolbox."""

    def __init__(self, tables: Sequence[McpTable], variables: Mapping[str, str]) -> None:
        """`variables`: those that the tables name."""
        self._servers = {table.name: McpServer(table, variables) for table in tables}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        servers = self._servers.values()
        self._tasks = [
            asyncio.create_task(one.stay(), name=f"mcp {one.table.name}") for one in servers
        ]
        tried = [asyncio.create_task(one.tried.wait()) for one in servers]
        _, slow = await asyncio.wait(tried, timeout=_PATIENCE)
        for task in slow:
            task.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def state(self) -> Mapping[str, int | None]:
        """Return how many tools each server has; None for one that is away."""
        return {name: len(one.tools) if one.is_up else None for name, one in self._servers.items()}

    def servers(self, owner: str) -> Sequence[str]:
        """Return the names of the servers whose tools an owner may use."""
        return [name for name, one in self._servers.items() if matches(owner, one.table.keys)]

    def offered(self, owner: str, model: str) -> Sequence[ServerTool]:
        """Return what a model is offered now, in what an owner asks."""
        return [
            tool
            for name in self.servers(owner)
            if matches(model, self._servers[name].table.models)
            for tool in self._servers[name].tools
        ]

    async def run(self, tool: ServerTool, arguments: Mapping[str, Any], seconds: float) -> str:
        """Run a tool. Raises ToolError."""
        if (server := self._servers.get(tool.server)) is None:
            raise ToolError(f"There is no server {tool.server!r} any more.")
        return await server.call(tool, arguments, seconds)
