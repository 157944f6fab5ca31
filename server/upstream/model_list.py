"""The models that one upstream lists, fetched when somebody asks and kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.upstream.port import OpenAISpeaker, UpstreamError

#: how long a list is good, and how long one that could not be had is not asked for again
GOOD_SECONDS = 60.0
BAD_SECONDS = 5.0


class ModelList:
    """One list; many who ask at once make one call. `now` is in seconds."""

    def __init__(self, speaker: OpenAISpeaker, now: Callable[[], float]) -> None:
        self._speaker = speaker
        self._now = now
        self._good_until = float("-inf")
        self._models: Sequence[Mapping[str, Any]] = ()
        self._fetching = asyncio.Lock()

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the list; the last one known, or none, where it cannot be had."""
        if self._now() >= self._good_until:
            async with self._fetching:
                if self._now() >= self._good_until:
                    await self._fetch()
        return self._models

    async def _fetch(self) -> None:
        try:
            self._models = await self._speaker.models()
        except UpstreamError:
            self._good_until = self._now() + BAD_SECONDS
        else:
            self._good_until = self._now() + GOOD_SECONDS
