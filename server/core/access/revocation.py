"""Ends long-lived streams and connections when their API key is revoked or expires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol, Self, TypeVar

import structlog

from server.core.access.auth import Auth
from server.core.errors import InvalidApiKeyError, RefusedError

Event = TypeVar("Event")
Result = TypeVar("Result")

#: Seconds that one whose key has expired may stay; whose key was revoked goes sooner.
EXPIRED_WITHIN = 5.0

log = structlog.get_logger("trialogue.guests")


class Revocable(Protocol):
    """Who stays, with which key, and what to do when that is refused; done once, or more often."""

    @property
    def key(self) -> str | None: ...

    def revoke(self, why: InvalidApiKeyError) -> None: ...


StayingT = TypeVar("StayingT", bound=Revocable)


class KeyWatch:
    """Async context manager: looks every `every` seconds at the keys of those who stay."""

    def __init__(self, auth: Auth, every: float) -> None:
        self._auth = auth
        self._every = every
        self._staying: set[Revocable] = set()

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_for_ever(), name="keys of those who stay")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.wait([self._looking])

    @contextmanager
    def staying(self, one: StayingT) -> Iterator[StayingT]:
        """Have somebody told where their key is refused while they are in this context."""
        self._staying.add(one)
        try:
            yield one
        finally:
            self._staying.discard(one)

    def reading(self, key: str | None) -> AbstractContextManager[GuardedReader]:
        """Let somebody read, in one task, for as long as their key is good."""
        return self.staying(GuardedReader(key))

    async def _look_for_ever(self) -> None:
        now = asyncio.get_running_loop().time
        seen: object = None
        looked_at = now()
        while True:
            await asyncio.sleep(self._every)
            try:
                known = self._auth.known
                if known is seen and now() - looked_at < EXPIRED_WITHIN:
                    continue
                seen, looked_at = known, now()
                await self._look()
            except Exception as error:  # noqa: BLE001 - a file of keys that cannot be read
                log.error("keys cannot be read", error=type(error).__name__)

    async def _look(self) -> None:
        for key in {one.key for one in self._staying}:
            try:
                await self._auth.owner(key)
            except InvalidApiKeyError as refused:
                for one in [one for one in self._staying if one.key == key]:
                    one.revoke(refused)


class GuardedReader:
    """Who waits for one thing after the other, in one task, and not when the key is refused."""

    def __init__(self, key: str | None) -> None:
        self.key = key
        self._refused: RefusedError | None = None
        self._waiting: asyncio.Task[object] | None = None

    def revoke(self, why: RefusedError) -> None:
        """Have `each` and `of` raise this, whatever they wait for."""
        if self._refused is None:
            self._refused = why
            if self._waiting is not None:
                self._waiting.cancel()

    async def each(self, events: AsyncIterator[Event]) -> AsyncGenerator[Event, None]:
        """Yield what comes. Raises what the reader is turned out with, at once."""
        while True:
            try:
                event = await self.of(partial(anext, events))
            except StopAsyncIteration:
                return
            yield event

    async def of(self, answer: Callable[[], Awaitable[Result]]) -> Result:
        """Return what is waited for. Raises what the reader is turned out with, and cancels it."""
        if self._refused is not None:
            raise self._refused
        self._waiting = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        try:
            return await answer()
        except asyncio.CancelledError:
            if self._refused is None or task.uncancel():
                raise
            raise self._refused from None
        finally:
            self._waiting = None
