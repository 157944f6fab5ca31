"""The session of one peer: its own conversation, and the streams that it asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import orjson

from server.config.limits import WebsocketLimits
from server.core.access.auth import Auth
from server.core.conversations import Conversations
from server.core.errors import (
    InvalidApiKeyError,
    InvalidRequestError,
    RateLimitedError,
    problem_of,
)
from server.core.observability.request import Request
from server.core.turns.questions import Ask, OnDisconnect
from server.live.background import Background, stopped
from server.live.news import News
from server.live.turn import Ended
from server.transports.websocket import easybackend
from server.transports.websocket import replies as answers
from server.transports.websocket.auth import Client, UnauthorizedError, whose
from server.transports.websocket.calls import CallFrame
from server.transports.websocket.connection import GuardedConnection
from server.transports.websocket.easybackend import EasyBackend
from server.transports.websocket.errors import report
from server.transports.websocket.frames import (
    AskFrame,
    AuthenticateFrame,
    CancelFrame,
    EasyAsk,
    FollowFrame,
    Frame,
    FrameError,
    PingFrame,
    PromptFrame,
    RegenerateFrame,
    UnwatchFrame,
    WatchFrame,
    parse,
)
from server.transports.websocket.replies import RequestId
from storage.model import Turn

T = TypeVar("T")
Telling = Callable[[], Awaitable[None]]

#: What a request that went well ends with.
OK = "ok"
_NAMES: dict[type[Frame], str] = {
    PromptFrame: "prompt",
    EasyAsk: "easybackend",
    AskFrame: "ask",
    RegenerateFrame: "regenerate",
    FollowFrame: "follow",
    WatchFrame: "watch",
    CancelFrame: "cancel",
}
#: What does not count against the rate limit.
_FREE = (FollowFrame, WatchFrame, CancelFrame)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all peers of a listener share."""

    conversations: Conversations
    auth: Auth
    limits: WebsocketLimits
    encoder: answers.Encoder = field(default_factory=answers.Encoder)
    background: Background = field(default_factory=Background)


class Session:
    """Does what the frames of one connection say; each stream is a task of its own."""

    def __init__(
        self, shared: Shared, connection: GuardedConnection, guest: Client, conversation_id: str
    ) -> None:
        self._shared = shared
        self._connection = connection
        self._guest = guest
        self._conversation_id = conversation_id
        self._untouched = True
        self.streams: set[asyncio.Task[None]] = set()
        #: by conversation; None: of all
        self._watches: dict[str | None, asyncio.Task[None]] = {}
        #: turns to be cancelled with the connection that are begun and not yet followed
        self._beginning: set[asyncio.Task[Turn]] = set()
        self._easybackend = EasyBackend(shared.conversations, connection)
        # One call sees what the one before it did, and one answer at a time waits to be read.
        self._call_turn = asyncio.Lock()

    @property
    def key(self) -> str | None:
        return self._guest.key

    def revoke(self, why: InvalidApiKeyError) -> None:
        """Close the connection, whose key is no longer good."""
        self._shared.background.begin(UnauthorizedError(why).close(self._connection))

    async def take(self, message: str | bytes) -> None:
        """Do what a frame says; a stream is begun, and not waited for. Raises UnauthorizedError."""
        first, self._untouched = self._untouched, False
        await whose(self._shared.auth, self.key)  # it may have been revoked meanwhile
        try:
            request_id, frame = parse(message)
        except FrameError as error:
            await self._turn_down(error, error.request_id)
            return
        match frame:
            case PingFrame():
                await self._connection.push(answers.frame("pong", request_id))
            case UnwatchFrame(conversation_id):
                self._unwatch(conversation_id)
            case AuthenticateFrame(key) if first:
                owner = await whose(self._shared.auth, key, request_id)
                self._guest = replace(self._guest, owner=owner, key=key)
                await self._connection.push(answers.frame("authenticated", request_id))
            case AuthenticateFrame():
                late = InvalidRequestError("authenticate must be the first frame.", "type")
                await self._turn_down(late, request_id)
            case _ if (refused := await self._too_much(frame)) is not None:
                await self._turn_down(refused, request_id, frame)
            case _:
                # The request is this frame's alone, and of all tasks that are begun for it.
                copy_context().run(self._begin, frame, request_id)

    async def leave(self) -> None:
        """End the streams; turns go on, save those that were to end with the connection."""
        await stopped(self.streams)
        for begun in self._beginning:
            self._shared.background.begin(self._cancel(begun))

    async def _turn_down(
        self, error: Exception, request_id: RequestId | None, frame: Frame | None = None
    ) -> None:
        """Refuse a frame for which nothing is begun."""
        with self._shared.conversations.requests.within("websocket", _said(request_id)) as seen:
            seen.owner = self._guest.owner
            seen.name = None if frame is None else _name(frame)
            await self._refuse(error, request_id, easily=isinstance(frame, EasyAsk))

    async def _too_much(self, frame: Frame) -> RateLimitedError | None:
        """Count a frame, and return why it is one too many where it is."""
        if len(self.streams) >= self._most_streams(frame):
            return RateLimitedError(f"{len(self.streams)} streams run on this connection.")
        if isinstance(frame, _FREE):
            return None
        allowance = await self._shared.auth.count(self._guest.owner)
        return None if allowance is None else allowance.refusal

    def _most_streams(self, beside: Frame) -> int:
        """Return how many streams a frame may be beside; there is room to cancel each of them."""
        most = self._shared.limits.streams
        return 2 * most if isinstance(beside, CancelFrame) else most

    def _begin(self, frame: Frame, request_id: RequestId | None) -> None:
        seen = self._shared.conversations.requests.begin("websocket", _said(request_id))
        seen.name, seen.owner = _name(frame), self._guest.owner
        task = asyncio.create_task(self._stream(self._telling(frame, request_id), request_id, seen))
        self.streams.add(task)
        task.add_done_callback(self.streams.discard)
        task.add_done_callback(lambda _: self._shared.conversations.requests.end(seen))
        if isinstance(frame, WatchFrame):
            self._unwatch(frame.conversation_id)
            self._watches[frame.conversation_id] = task
            task.add_done_callback(partial(self._forget_watch, frame.conversation_id))

    def _telling(self, frame: Frame, request_id: RequestId | None) -> Telling:
        """Begin what a frame asks for, and return what tells of it."""
        calls, owner = self._shared.conversations, self._guest.owner
        match frame:
            case PromptFrame(text):
                asking = calls.ask(owner, self._conversation_id, Ask(text))
                return self._answering(asking, frame, request_id)
            case AskFrame(conversation_id, question):
                asking = calls.ask(owner, self._or_own(conversation_id), question)
                return self._answering(asking, frame, request_id)
            case RegenerateFrame(conversation_id, again):
                asking = calls.regenerate(owner, self._or_own(conversation_id), again)
                return self._answering(asking, frame, request_id)
            case EasyAsk():
                begun = self._shared.background.begin(self._easybackend.ask(owner, frame))
                return partial(self._easybackend.follow, owner, begun)
            case FollowFrame(turn_id, after, progress):
                following = calls.follow(owner, turn_id, after=after, progress=progress)
                return partial(self._tell, following, request_id)
            case WatchFrame(None):
                return partial(self._tell, calls.watch_all(owner), request_id)
            case WatchFrame(str(conversation_id), position, progress):
                watching = calls.watch(owner, conversation_id, after=position, progress=progress)
                return partial(self._tell, watching, request_id)
            case CancelFrame(turn_id):
                cancelling = self._shared.background.begin(calls.cancel(owner, turn_id))
                return partial(self._tell_end, cancelling, request_id)
            case CallFrame():
                return partial(
                    asyncio.shield, self._shared.background.begin(self._call(frame, request_id))
                )
        raise AssertionError(f"no stream begins with {frame!r}")

    def _or_own(self, conversation_id: str | None) -> str:
        return self._conversation_id if conversation_id is None else conversation_id

    def _unwatch(self, conversation_id: str | None) -> None:
        if (watch := self._watches.pop(conversation_id, None)) is not None:
            watch.cancel()

    def _forget_watch(self, conversation_id: str | None, ended: asyncio.Task[None]) -> None:
        if self._watches.get(conversation_id) is ended:
            del self._watches[conversation_id]

    async def _stream(self, telling: Telling, request_id: RequestId | None, seen: Request) -> None:
        try:
            await telling()
            seen.status = seen.status or OK
        except Exception as error:  # noqa: BLE001 - whatever broke, the peer is told
            await self._refuse(error, request_id)

    def _answering(
        self,
        asking: Coroutine[Any, Any, Turn],
        asked: PromptFrame | AskFrame | RegenerateFrame,
        request_id: RequestId | None,
    ) -> Telling:
        """Begin a turn, though the peer should leave at once, and return what tells of it."""
        begun = self._shared.background.begin(asking)
        if asked.on_disconnect is OnDisconnect.CANCEL:
            self._beginning.add(begun)
        return partial(self._follow, begun, asked, request_id)

    async def _follow(
        self,
        begun: asyncio.Task[Turn],
        asked: PromptFrame | AskFrame | RegenerateFrame,
        request_id: RequestId | None,
    ) -> None:
        # Where this is cancelled, `leave` finds the turn among those that are not yet followed.
        try:
            turn = await asyncio.shield(begun)
        except Exception:
            self._beginning.discard(begun)
            raise
        self._beginning.discard(begun)
        events = self._shared.conversations.follow(
            self._guest.owner, turn.id, on_leave=asked.on_disconnect, progress=asked.progress
        )
        await self._tell(events, request_id)

    async def _tell(self, events: AsyncGenerator[News, None], request_id: RequestId | None) -> None:
        async with aclosing(events):
            async for event in events:
                if not await self._connection.push(self._shared.encoder.encode(event, request_id)):
                    return

    async def _tell_end(self, ending: asyncio.Task[Turn], request_id: RequestId | None) -> None:
        turn = await asyncio.shield(ending)
        ended = Ended(turn, len(turn.answer))
        await self._connection.push(self._shared.encoder.encode(ended, request_id))

    async def _call(self, frame: CallFrame, request_id: RequestId | None) -> None:
        async with self._call_turn:
            told = await frame.answer(
                self._shared.conversations, self._guest.owner, self._conversation_id
            )
            await self._connection.push(answers.addressed(orjson.dumps(told), request_id))

    async def _cancel(self, begun: asyncio.Task[Turn]) -> None:
        turn = await begun
        await self._shared.conversations.cancel(self._guest.owner, turn.id)

    async def _refuse(
        self, error: Exception, request_id: RequestId | None, *, easily: bool = False
    ) -> None:
        report(error)
        told = easybackend.ERROR if easily else answers.refusal(problem_of(error), request_id)
        await self._connection.push(told)


def _said(request_id: RequestId | None) -> str | None:
    """Return a request_id as the log has it."""
    return None if request_id is None else str(request_id)


def _name(frame: Frame) -> str:
    """Return what a frame is called in the log: its type, or its dialect."""
    if isinstance(frame, CallFrame):
        return frame.kind
    return _NAMES[type(frame)]
