"""A connection to an MCP server: what is taken of it, and what becomes of one that goes away."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from server.config.tables import McpTable
from server.mcp.port import ServerTool, ToolError
from server.mcp.servers import McpServers

ODD = Path(__file__).parent / "odd_server.py"


def table(**more: Any) -> McpTable:
    return McpTable(name="odd", command=(sys.executable, str(ODD)), **more)


def named(box: McpServers, owner: str = "ann", model: str = "m") -> dict[str, ServerTool]:
    return {tool.name: tool for tool in box.offered(owner, model)}


async def test_names_that_models_cannot_call_are_made_ones_that_they_can() -> None:
    async with McpServers([table()], {}) as box:
        tools = named(box)
        assert tools["say it/loud.ly"].called == "odd__say_it_loud_ly"
        assert len(tools["x" * 90].called) == 64
        assert "say_it_loud_ly" not in tools  # another has that name by now
        assert "large" not in tools
        said = await box.run(tools["say it/loud.ly"], {}, 5)
        assert said == "loud\n[image]"


async def test_what_is_offered_is_what_patterns_leave() -> None:
    limits = {"tools": ("say*", "end"), "keys": ("ann", "team-*"), "models": ("gpt-*",)}
    async with McpServers([table(approve=("end",), **limits)], {}) as box:
        assert {*named(box, "team-a", "gpt-5")} == {"say it/loud.ly", "end"}
        assert [tool.approve for tool in named(box, "ann", "gpt-5").values()] == [False, True]
        assert named(box, "ann", "llama") == {}
        assert (named(box, "bob", "gpt-5"), box.servers("bob")) == ({}, [])


async def test_one_that_dies_is_begun_again() -> None:
    async with McpServers([table()], {}) as box:
        tools = named(box)
        with pytest.raises(ToolError):
            await box.run(tools["end"], {}, 5)
        while box.state()["odd"] is not None:
            await asyncio.sleep(0.01)
        assert box.offered("ann", "m") == []
        with pytest.raises(ToolError, match="not there"):
            await box.run(tools["end"], {}, 5)
        while box.state()["odd"] is None:
            await asyncio.sleep(0.01)
        assert await box.run(named(box)["say it/loud.ly"], {}, 5)


async def test_a_list_that_changed_is_read_again() -> None:
    async with McpServers([table()], {}) as box:
        assert "new" not in named(box)
        await box.run(named(box)["change"], {}, 5)
        while "new" not in named(box):
            await asyncio.sleep(0.01)


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    async with McpServers([table(timeout=0.2)], {}) as box:
        with pytest.raises(ToolError, match=r"within 0\.2 seconds"):
            await box.run(named(box)["hang"], {}, 5)
        assert box.state() == {"odd": len(named(box))}


async def test_a_line_that_cannot_be_read_is_passed_over() -> None:
    async with McpServers([table()], {}) as box:
        assert await box.run(named(box)["garble"], {}, 5)


async def test_a_program_that_is_none_is_away() -> None:
    nothing = McpTable(name="none", command=("/does/not/exist",))
    silent = McpTable(name="silent", url="http://127.0.0.1:9/mcp")
    async with McpServers([nothing, silent], {}) as box:
        assert box.state() == {"none": None, "silent": None}
        assert box.servers("ann") == ["none", "silent"]
