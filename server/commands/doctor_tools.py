"""What the doctor says of the servers whose tools are run for models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from server.app.toolbox import toolbox_of
from server.config.settings import Settings, SettingsError


async def mcp_servers(settings: Settings) -> AsyncIterator[tuple[bool, str]]:
    """Yield for each whether it is there, and how many tools it has."""
    async with AsyncExitStack() as stack:
        try:
            box = await toolbox_of(settings, stack)
        except SettingsError as error:
            yield False, str(error)
            return
        where = {table.name: table.url or " ".join(table.command or ()) for table in settings.mcp}
        for name, tools in box.state().items():
            if tools is None:
                yield False, f"MCP server {name}: is not there; look at {where[name]}"
            else:
                yield True, f"MCP server {name}: has {tools} tools"
