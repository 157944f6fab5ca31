"""An MCP server over standard input and output, or over HTTP where a port is named."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("weather")


@server.tool()
def temperature(city: str) -> str:
    """Return the temperature in a city."""
    if city == "Nowhere":
        raise ValueError(city)
    return f"18 C in {city}"


@server.tool()
async def wait(folder: str) -> str:
    """Write down that it began, and that it was stopped; end never."""
    began = Path(folder) / "began"
    began.touch()
    try:
        await asyncio.Event().wait()
    finally:
        began.rename(began.with_name("stopped"))
    return ""


@server.tool()
def much(letters: int) -> str:
    """Return so many letters."""
    return "word " * (letters // 5)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
