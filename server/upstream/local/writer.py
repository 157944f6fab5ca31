"""Eliza as she writes turns: by her script, and with tools or a format as her chat answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from server.upstream.answering import Answering
from server.upstream.local.eliza.eliza import Eliza
from server.upstream.local.service import ElizaApi
from server.upstream.port import Finish, Prompt
from storage.parts import Part


class ElizaWriter:
    """An upstream that keeps nothing: each answer is made from its prompt alone."""

    name = "eliza"

    def __init__(self, api: ElizaApi, *, delay: float = 0.0) -> None:
        """`delay` is in seconds a word."""
        self._script = Eliza(delay=delay)
        self._chat = Answering(api)

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Part | Finish]:
        """Yield an answer's pieces; see Upstream."""
        writer = self._chat if prompt.options else self._script
        async with aclosing(writer.complete(prompt)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Close nothing, since nothing was opened."""
