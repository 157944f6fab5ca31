"""What a tool is that the server runs itself, and who runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool of one of the configured servers."""

    #: the server's name in the configuration
    server: str
    #: the tool's name there
    name: str
    #: as models are offered it: a function in the shape of chat completions
    function: Mapping[str, Any]
    #: somebody has to approve each call before it is run
    approve: bool = False

    @property
    def called(self) -> str:
        """The name by which models call it."""
        return str(self.function["function"]["name"])


class ToolError(Exception):
    """A call came to nothing; the text is for the model to read, and whoever follows."""


class Toolbox(Protocol):
    """Has the tools, and runs them."""

    def state(self) -> Mapping[str, int | None]:
        """Return how many tools each server has; None for one that is away."""
        ...

    def servers(self, owner: str) -> Sequence[str]:
        """Return the names of the servers whose tools an owner may use, there or not just now."""
        ...

    def offered(self, owner: str, model: str) -> Sequence[ServerTool]:
        """Return what a model is offered now, in what an owner asks."""
        ...

    async def run(self, tool: ServerTool, arguments: Mapping[str, Any], seconds: float) -> str:
        """Run a tool and return what it says, as text that can be kept. Raises ToolError.

        Cancelling the call stops the work, as far as the tool's server lets itself be stopped.
        """
        ...


class NoTools:
    """Where no server is configured."""

    def state(self) -> Mapping[str, int | None]:
        """Return nothing."""
        return {}

    def servers(self, owner: str) -> Sequence[str]:
        """Return none."""
        return ()

    def offered(self, owner: str, model: str) -> Sequence[ServerTool]:
        """Return none."""
        return ()

    async def run(self, tool: ServerTool, arguments: Mapping[str, Any], seconds: float) -> str:
        """Run nothing."""
        raise ToolError(f"There is no tool {tool.called!r} any more.")
