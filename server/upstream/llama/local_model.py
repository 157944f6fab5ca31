"""A local model as an upstream: loaded when somebody asks, once, and reused."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from server.openai_protocol import codec
from server.upstream.llama.host import REFUSALS, Host, Loaded, why
from server.upstream.llama.process import ChildError
from server.upstream.port import (
    Call,
    Piece,
    Prompt,
    PromptProgress,
    Reply,
    UpstreamFailedError,
)

log = structlog.get_logger("trialogue.local")

#: how often in a row a child that broke is begun anew, and after how many seconds at first
RESTARTS, BACKOFF = 3, 0.5
#: for how many seconds a model whose children break is not tried again
REST = 30.0
#: how often a call is made that breaks its child: one may have been chance, two are the call's
CALLS = 2
#: how long a child whose connection was cut is given to be seen as ended, in seconds
_ENDING = 1.0
#: an answer that nobody bounds takes no more than this share of the window
_ANSWER = 0.25


class LocalModel:
    """An Upstream and an OpenAISpeaker; who asks while the model is loaded waits for it.

    A child that breaks before an answer began is begun anew, and asked once more.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        listed: Mapping[str, Any] | None = None,
        backoff: float = BACKOFF,
    ) -> None:
        self.name = name
        self._backoff = backoff
        self._host = host
        self._listed = listed or {}
        self._created = int(time.time())
        self._loaded: Loaded | None = None
        self._loading: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._breaks = 0
        self._refused: tuple[float, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def complete(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """Yield an answer's pieces, then its Finish; see Upstream. `reload` is as in a call."""
        extra = {**prompt.extra}
        if extra.pop("reload", None) is True:
            await self.reload()
        prompt = replace(prompt, extra=extra)
        for call in range(1, CALLS + 1):
            begun = False
            async with self._used() as loaded:
                most = prompt.max_tokens or max(1, int(loaded.plan.window * _ANSWER))
                asked = replace(prompt, model=self.name, max_tokens=most)
                try:
                    async with aclosing(loaded.child.upstream.complete(asked)) as pieces:  # type: ignore[type-var]
                        async for piece in pieces:
                            begun = begun or not isinstance(piece, PromptProgress)
                            yield piece
                    self._breaks = 0
                    return
                except UpstreamFailedError:
                    if not await _ended(loaded):
                        raise
                    if begun or call == CALLS:
                        raise self._broke(loaded) from None

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Send a call and yield the reply; see OpenAISpeaker. `reload: true` loads anew first."""
        call, anew = _without_reload(call)
        if anew:
            await self.reload()
        for tried in range(1, CALLS + 1):
            async with AsyncExitStack() as stack:
                loaded = await stack.enter_async_context(self._used())
                try:
                    reply = await stack.enter_async_context(loaded.child.speaker.call(call))
                except UpstreamFailedError:
                    if not (isinstance(call.body, bytes) and await _ended(loaded)):
                        raise
                    if tried == CALLS:
                        raise self._broke(loaded) from None
                    continue
                self._breaks = 0
                yield reply
                return

    async def models(self) -> Sequence[Mapping[str, Any]]:
        """Return the model, how it is (`loaded`, `asleep`, `installed`), and its window."""
        loaded = self._loaded
        meta = dict(self._listed)
        status = "installed"
        if loaded is not None and not loaded.child.gone:
            status = "asleep" if await loaded.child.asleep() else "loaded"
            meta |= {name: value for name, value in loaded.child.meta.items() if value is not None}
            meta["n_ctx"] = loaded.plan.window
        return [
            {
                "id": self.name,
                "object": "model",
                "created": self._created,
                "owned_by": "local",
                "status": status,
                "meta": meta,
            }
        ]

    async def close(self) -> None:
        """Stop loading; the host ends the children."""
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._loading, self._reloading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    def state(self) -> Mapping[str, Any]:
        """Say which child there is, for whoever runs the server; `rss` is in bytes."""
        loaded = self._loaded
        if loaded is None or loaded.child.gone:
            return {"model": self.name, "loaded": False}
        return {
            "model": self.name,
            "loaded": True,
            "pid": loaded.child.pid,
            "rss": _resident(loaded.child.pid),
            "window": loaded.plan.window,
            "running": loaded.running,
        }

    def begin(self) -> None:
        """Begin to load it, for whoever asks first."""
        self._begin_loading()

    def begin_anew(self) -> None:
        """Begin to load it anew where it is loaded."""
        if self._loaded is not None:
            self._begin_reloading()

    async def reload(self) -> None:
        """Load it anew; the child that was there ends when its last call does.

        Raises UpstreamFailedError with the reason; then what was there goes on.
        """
        if self._loaded is None:
            await self._ready()
            return
        await asyncio.shield(self._begin_reloading())

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[Loaded]:
        """Be in the child for a while, so that nothing ends it."""
        loaded = await self._ready()
        loaded.running += 1
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield loaded
        finally:
            self._host.leave(loaded)
            self._end_when_unused(loaded)

    async def _ready(self) -> Loaded:
        while (loaded := self._loaded) is None or loaded.retired or loaded.child.gone:
            await asyncio.shield(self._begin_loading())
        return loaded

    def _begin_reloading(self) -> asyncio.Task[None]:
        if self._reloading is None:
            self._reloading = _apart(self._replace())
        return self._reloading

    def _begin_loading(self) -> asyncio.Task[None]:
        if self._loading is None:
            self._loading = _apart(self._load())
        return self._loading

    async def _load(self) -> None:
        """Load it, more than once if need be."""
        try:
            self._check_refused()
            while True:
                try:
                    if self._breaks:
                        await asyncio.sleep(self._backoff * 2 ** (self._breaks - 1))
                    self._take(await self._host.load(self.name))
                    return
                except ChildError as error:
                    self._breaks += 1
                    if not error.again or self._breaks > RESTARTS:
                        self._refused = (_now() + REST, str(error))
                        raise self._not_loaded(str(error)) from None
                except REFUSALS as error:
                    raise self._not_loaded(why(error)) from None
        finally:
            self._loading = None

    async def _replace(self) -> None:
        try:
            fresh = await self._host.load(self.name)
        except REFUSALS as error:
            log.error("local_model_not_reloaded", model=self.name, why=why(error))
            raise UpstreamFailedError(self._cannot(why(error))) from None
        finally:
            self._reloading = None
        self._refused = None
        self._take(fresh)

    def _take(self, fresh: Loaded) -> None:
        """Let a new child answer from now on."""
        old, self._loaded = self._loaded, fresh
        fresh.child.ended.add_done_callback(lambda _: self._gone(fresh))
        if old is not None and not old.child.gone:
            self._host.retire(old)
        self._end_when_unused(fresh)

    def _gone(self, loaded: Loaded) -> None:
        """Note that a child has ended, and begin another where it broke."""
        if self._loaded is not loaded:
            return
        self._loaded = None
        if loaded.broken:
            self._breaks += 1
            if self._breaks > RESTARTS:
                self._refused = (_now() + REST, loaded.child.why)
            else:
                self._begin_loading()

    def _check_refused(self) -> None:
        if self._refused is None:
            return
        until, reason = self._refused
        if _now() < until:
            raise UpstreamFailedError(self._cannot(reason))
        self._refused = None
        self._breaks = 0

    def _not_loaded(self, reason: str) -> UpstreamFailedError:
        log.error("local_model_not_loaded", model=self.name, why=reason)
        return UpstreamFailedError(self._cannot(reason))

    def _cannot(self, reason: str) -> str:
        return f"the local model {self.name!r} cannot be loaded: {reason}"

    def _broke(self, loaded: Loaded) -> UpstreamFailedError:
        return UpstreamFailedError(
            f"the local model {self.name!r} broke while it answered: {loaded.child.why}"
        )

    def _end_when_unused(self, loaded: Loaded) -> None:
        after = self._host.unused_for(loaded)
        if after is None or loaded.running or loaded is not self._loaded:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(after, self._end_unused, loaded)

    def _end_unused(self, loaded: Loaded) -> None:
        if not loaded.running and loaded is self._loaded:
            self._loaded = None
            log.info("local_model_ended", model=self.name, why="nobody asked it for long")
            self._host.retire(loaded)


async def _ended(loaded: Loaded) -> bool:
    """Say whether a child whose connection broke has ended."""
    await asyncio.wait([loaded.child.ended], timeout=_ENDING)
    return loaded.child.gone


def _apart(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Begin what is done for nobody in particular: no request's name is on its log."""
    task = asyncio.create_task(work, context=Context())
    task.add_done_callback(_seen)
    return task


def _seen(task: asyncio.Task[None]) -> None:
    """Take what a task that nobody waits for ended with; it was logged."""
    if not task.cancelled():
        task.exception()


def _without_reload(call: Call) -> tuple[Call, bool]:
    """Return a call without `reload`, and whether that was true in it."""
    if not isinstance(call.body, bytes) or b'"reload"' not in call.body:
        return call, False
    try:
        body, _ = codec.parse(call.body)
    except codec.MalformedError:  # whether it is right is the engine's to say
        return call, False
    anew = body.pop("reload", None)
    return replace(call, body=codec.encode(body)), anew is True


def _resident(pid: int) -> int | None:
    """Return how much memory a process has, in bytes, where the system says."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()


def _now() -> float:
    return asyncio.get_running_loop().time()
