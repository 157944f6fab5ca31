"""The tools that the server runs itself, of the MCP servers that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from server.config.kinds import sendable
from server.config.named_variables import named_variable
from server.config.settings import TOML_FILE, Settings, SettingsError
from server.config.settings_files import naming
from server.config.tables import McpTable
from server.mcp.port import NoTools, Toolbox


async def toolbox_of(settings: Settings, stack: AsyncExitStack) -> Toolbox:
    """Connect to the servers; the stack closes the connections. Raises SettingsError."""
    if not settings.mcp:
        return NoTools()
    variables = {name: value for table in settings.mcp for name, value in _named(table).items()}
    try:
        # Only now: it takes longer to load than all the rest of the server.
        from server.mcp.servers import McpServers
    except ImportError as error:
        raise SettingsError(
            "TRIALOGUE_MCP: the extra for tools is missing: pip install 'trialogue[mcp]'"
        ) from error
    return await stack.enter_async_context(McpServers(settings.mcp, variables))


def _named(table: McpTable) -> Mapping[str, str]:
    """Return the variables that a table names. Raises SettingsError."""
    found = {}
    for name in filter(None, (table.key_variable, *table.variables)):
        with naming(f"{TOML_FILE}: [[mcp]] {table.name!r}: {name}"):
            if not (value := named_variable(name)):
                raise ValueError("is not set")
            found[name] = sendable(value) if name == table.key_variable else value
    return found
