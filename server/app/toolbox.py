"""The tools that the server runs itself, of the MCP servers that the settings name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

from server.config.settings import Settings, SettingsError
from server.mcp.port import NoTools, Toolbox


async def toolbox_of(
    settings: Settings, stack: AsyncExitStack, environ: Mapping[str, str] = os.environ
) -> Toolbox:
    """Connect to the servers; the stack closes the connections. Raises SettingsError."""
    if not settings.mcp:
        return NoTools()
    for table in settings.mcp:
        for name in (table.key_variable, *table.variables):
            if name is not None and not environ.get(name):
                raise SettingsError(f"{name} is not set: [[mcp]] {table.name!r} names it")
    try:
        # Only now: it takes longer to load than all the rest of the server.
        from server.mcp.servers import McpServers
    except ImportError as error:
        raise SettingsError(
            "TRIALOGUE_MCP: the extra for tools is missing: pip install 'trialogue[mcp]'"
        ) from error
    return await stack.enter_async_context(McpServers(settings.mcp, environ))
