"""What is asked on one websocket at `/v1/responses`: one response after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from server.config.limits import WebsocketLimits
from server.core.access.auth import Auth
from server.core.clock import microseconds
from server.core.errors import RateLimitedError
from server.core.observability.request import Request
from server.core.observability.request_log import Requests
from server.core.turns.placement import Utterance
from server.live.turn import TurnEvent, replay
from server.openai_protocol.codec import encode
from server.transports.openai.errors import ClientLeftError, note
from server.transports.openai.request import Caller
from server.transports.openai.responses import socket_frames as frames
from server.transports.openai.responses.creation import Asked, Creation, Standing, spoken
from server.transports.openai.responses.events import AnswerEvents
from server.transports.openai.responses.ids import response_id
from server.transports.openai.responses.request import wanted_of
from server.transports.openai.responses.socket_frames import Frame
from storage.model import Role, Status, Turn


class Writer(Protocol):
    """Writes frames; `push` returns whether there is anybody to read them."""

    async def push(self, text: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections share."""

    creation: Creation
    requests: Requests
    auth: Auth
    limits: WebsocketLimits
    #: bytes that a connection may have waiting in its line, and as many that it may remember
    held: int


class Memory:
    """The last response of a connection that is kept nowhere else."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: tuple[str, Standing] | None = None

    def recall(self, response: str | None) -> Standing | None:
        """Return where a response left off."""
        return self._last[1] if self._last and self._last[0] == response else None

    def keep(self, turn: Turn, standing: Standing) -> None:
        """Remember a response in the place of the last, if it is not too long to be held."""
        size = sum(len(encode([one.content, one.item])) for one in standing.said)
        self._last = (response_id(turn.id), standing) if size <= self._most else None

    def forget(self, response: object) -> None:
        """Forget a response that was gone on from in vain."""
        if self._last and self._last[0] == response:
            self._last = None


class SocketSession:
    """Answers the frames of one connection: a response is written at a time, others wait."""

    def __init__(self, shared: Shared, writer: Writer, caller: Caller, key: str | None) -> None:
        self._shared = shared
        self._writer = writer
        self._caller = caller
        self._key = key
        self._memory = Memory(shared.held)
        self._line: asyncio.Queue[Frame] = asyncio.Queue(shared.limits.responses)
        self._held = 0
        self._working = asyncio.create_task(self._work(), name="responses of a websocket")

    async def take(self, message: str | bytes) -> None:
        """Put a frame in line, or answer it at once. Raises InvalidApiKeyError."""
        await self._shared.auth.owner(self._key)  # it may have been revoked meanwhile
        allowance, lane = await self._shared.auth.count(self._caller.owner), None
        try:
            frame = frames.read(message)
            lane = frame.lane
            if allowance is not None:
                allowance.check()
            if frame.kind == frames.STEER:
                await self._push(frames.not_steered(frame))
            else:
                self._line_up(frame)
        except ClientLeftError:
            return
        except Exception as error:  # noqa: BLE001 - whatever broke, the client is told
            with self._shared.requests.within("openai") as seen, suppress(ClientLeftError):
                await self._refuse(error, lane, seen)

    async def told(self) -> None:
        """Wait until all that was asked is answered, or nobody is there to be told."""
        joining = asyncio.create_task(self._line.join())
        await asyncio.wait([joining, self._working], return_when=asyncio.FIRST_COMPLETED)
        joining.cancel()

    async def leave(self) -> None:
        """Answer nothing more; what is kept goes on being written."""
        self._working.cancel()
        await asyncio.wait([self._working])

    def _line_up(self, frame: Frame) -> None:
        if self._line.full() or (self._held and self._held + frame.size > self._shared.held):
            raise RateLimitedError("Too many responses wait in this connection's line.")
        self._held += frame.size
        self._line.put_nowait(frame)

    async def _work(self) -> None:
        with suppress(ClientLeftError):
            while True:
                frame = await self._line.get()
                try:
                    await self._answer(frame)
                finally:
                    self._held -= frame.size
                    self._line.task_done()

    async def _answer(self, frame: Frame) -> None:
        with self._shared.requests.within("openai") as seen:
            seen.name, seen.owner = frames.CREATE, self._caller.owner
            try:
                await self._create(frame)
                seen.status = 200
            except ClientLeftError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever broke, the client is told
                self._memory.forget(frame.asked.raw("previous_response_id"))
                await self._refuse(error, frame.lane, seen)

    async def _create(self, frame: Frame) -> None:
        wanted = wanted_of(frame.asked)
        recalled = self._memory.recall(wanted.previous)
        asked = await self._shared.creation.asked(self._caller, wanted, recalled=recalled)
        turn, events = await (self._begun(asked) if frame.generate else self._prepared(asked))
        answer = AnswerEvents(turn)
        async with aclosing(events):
            async for told in answer.each(await spoken(events)):
                await self._push(frames.in_lane(told.data, frame.lane))
        if answer.ended is not None:
            self._remember(asked, answer.ended, kept=wanted.in_line and frame.generate)

    async def _begun(self, asked: Asked) -> tuple[Turn, AsyncGenerator[TurnEvent, None]]:
        creation = self._shared.creation
        turn = await creation.begun(self._caller, asked)
        return turn, creation.follow(self._caller, asked, turn)

    async def _prepared(self, asked: Asked) -> tuple[Turn, AsyncGenerator[TurnEvent, None]]:
        """Return a turn that has ended before anybody was asked, and what there is to tell."""
        turn = await self._shared.creation.planned(self._caller, asked)
        turn = replace(turn, status=Status.COMPLETED, ended_at=microseconds())
        return turn, replay(turn)

    def _remember(self, asked: Asked, turn: Turn, *, kept: bool) -> None:
        """Remember a response that can be gone on from on this connection alone."""
        there = asked.standing
        if turn.status is not Status.COMPLETED:
            self._memory.forget(asked.wanted.previous)
        elif not kept:
            answer = (Utterance(Role.ASSISTANT, turn.content),) if turn.content else ()
            self._memory.keep(turn, replace(there, said=(*asked.said, *answer)))
        elif not asked.wanted.store:
            self._memory.keep(turn, Standing(turn.conversation_id, turn.answer_id))

    async def _refuse(self, error: Exception, lane: str | None, seen: Request) -> None:
        seen.owner = self._caller.owner
        note(error, seen.id)
        seen.status, told = frames.error(error, lane)
        await self._push(told)

    async def _push(self, told: bytes) -> None:
        if not await self._writer.push(told):
            raise ClientLeftError
