"""The models that one upstream lists, fetched when somebody asks and kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.upstream.port import OpenAISpeaker, UpstreamError

#: how long a list is good, and how long one that could not be had is not asked for again
GOOD_SECONDS = 60.0
BAD_SECONDS = 5.0
#: how long whoever asks a question waits for the first list
HURRY_SECONDS = 3.0


class ModelList:
    """One list; many who ask at once make one call. `now` is in seconds."""

    def __init__(
        self,
        speaker: OpenAISpeaker,
        now: Callable[[], float],
        good_seconds: float = GOOD_SECONDS,
    ) -> None:
        self._good_seconds = good_seconds
        self._speaker = speaker
        self._now = now
        self._good_until = float("-inf")
        self._models: Sequence[Mapping[str, Any]] = ()
        self._fetching = asyncio.Lock()
        self._refresh: asyncio.Task[Sequence[Mapping[str, Any]]] | None = None

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the list; the last one known, or none, where it cannot be had."""
        if self._now() >= self._good_until:
            async with self._fetching:
                if self._now() >= self._good_until:
                    await self._fetch()
        return self._models

    @property
    def known(self) -> Sequence[Mapping[str, Any]]:
        """The last list that was had, if any was."""
        return self._models

    async def at_once(self) -> Sequence[Mapping[str, Any]]:
        """Return the list for somebody in a hurry: the last one known while a new one is fetched.

        Where none is known yet it is waited for, but not long.
        """
        if self._now() >= self._good_until and self._refresh is None:
            self._refresh = asyncio.create_task(self.models(), name="models")
            self._refresh.add_done_callback(self._refreshed)
        if self._refresh is not None and not self._models:
            await asyncio.wait([self._refresh], timeout=HURRY_SECONDS)
        return self._models

    def _refreshed(self, _: asyncio.Task[Any]) -> None:
        self._refresh = None

    async def close(self) -> None:
        """Stop fetching."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait([self._refresh])

    @property
    def tried(self) -> bool:
        """Whether it was ever fetched, or could not be."""
        return self._good_until > float("-inf")

    def has(self, name: str) -> bool:
        """Say whether the last list that is known has a model."""
        return any(one["id"] == name for one in self._models)

    async def _fetch(self) -> None:
        try:
            self._models = await self._speaker.models()
        except UpstreamError:
            self._good_until = self._now() + BAD_SECONDS
        else:
            self._good_until = self._now() + self._good_seconds
