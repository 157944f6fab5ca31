"""Eliza as she writes turns: by her script, and with tools or a format as her chat answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from server.upstream.answering import Answering
from server.upstream.local.eliza.eliza import Eliza
from server.upstream.local.service import ElizaApi
from server.upstream.local.tools import by_grammar, means
from server.upstream.port import Piece, Prompt
from storage.model import Role, text_of


class ElizaWriter:
    """An upstream that keeps nothing: each answer is made from its prompt alone."""

    name = "eliza"

    def __init__(self, api: ElizaApi, *, delay: float = 0.0) -> None:
        """`delay` is in seconds a word."""
        self._script = Eliza(delay=delay)
        self._chat = Answering(api)

    async def complete(self, prompt: Prompt) -> AsyncIterator[Piece]:
        """Yield an answer's pieces; see Upstream."""
        prompt = _choosing(prompt)
        writer = self._chat if prompt.options else self._script
        async with aclosing(writer.complete(prompt)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Close nothing, since nothing was opened."""


def _choosing(prompt: Prompt) -> Prompt:
    """Have a tool called that she may call, where the user has just spoken of it."""
    said, choice = prompt.messages[-1], prompt.options.get("tool_choice", "auto")
    tools: list[dict[str, Any]] = prompt.options.get("tools") or []
    if not tools or choice != "auto" or said.role is not Role.USER:
        return prompt
    words = text_of(said.content)
    meant = [
        tool for tool in tools if means(words, _name(tool)) and not by_grammar(tool[tool["type"]])
    ]
    if not meant:
        return prompt
    chosen = {"type": meant[0]["type"], meant[0]["type"]: {"name": _name(meant[0])}}
    return replace(prompt, options={**prompt.options, "tool_choice": chosen})


def _name(tool: dict[str, Any]) -> str:
    return str(tool[tool["type"]]["name"])
