"""EasyBackend's dialect on a websocket: bare text, and one answer ends before the next begins."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from server.core.conversations import Conversations
from server.core.errors import InvalidRequestError
from server.core.ids import NEW
from server.core.turns.questions import EASYBACKEND, Ask
from server.live.turn import Delta, Ended, Progress, Started, TurnEvent
from server.transports.websocket.connection import GuardedConnection
from server.transports.websocket.errors import report
from server.transports.websocket.frames import EasyAsk
from storage.model import Status, Turn
from storage.port import NotFoundError

END = "<|end|>"
ERROR = b"<|err|>"


class EasyBackend:
    """Asks and answers on one connection."""

    def __init__(self, conversations: Conversations, connection: GuardedConnection) -> None:
        self._conversations = conversations
        self._connection = connection
        # Bare text has no address: one answer ends before the next.
        self._answer = asyncio.Lock()
        # They are asked in the order in which they came, though one has to be looked up first.
        self._asks = asyncio.Lock()

    async def ask(self, owner: str, asked: EasyAsk) -> tuple[Turn, bool]:
        """Ask what a frame says; return the turn, and whether a parent was named."""
        async with self._asks:
            if asked.perhaps is not None and await self._is_there(owner, asked.perhaps):
                asked = asked.perhaps
        parent = None if asked.parent in ("", NEW) else asked.parent
        question = Ask(asked.prompt, parent_id=parent, wire=EASYBACKEND)
        turn = await self._conversations.ask(owner, asked.conversation_id, question)
        return turn, asked.parent is not None

    async def follow(self, owner: str, begun: asyncio.Task[tuple[Turn, bool]]) -> None:
        """Tell an answer as bare text, and with its end the ids where a parent was named."""
        async with self._answer:
            try:
                turn, named = await asyncio.shield(begun)
                async with aclosing(self._conversations.follow(owner, turn.id)) as events:
                    async for event in events:
                        if (text := _text_of(event, named=named)) is not None:
                            await self._connection.push(text)
            except Exception as error:  # noqa: BLE001 - whatever broke, the peer is told
                report(error)
                await self._connection.push(ERROR)

    async def _is_there(self, owner: str, asked: EasyAsk) -> bool:
        """Say whether what may be a parent is a message of that conversation."""
        there = asked.conversation_id
        try:
            await self._conversations.messages(owner, there, leaf=asked.parent, limit=1)
        except (NotFoundError, InvalidRequestError):
            return False
        return True


def _text_of(event: TurnEvent, *, named: bool) -> bytes | None:
    """Return an event in EasyBackend's dialect, which has no word for a beginning."""
    match event:
        case Started() | Progress() | Delta(text=""):
            return None
        case Delta():
            return event.text.encode()
        case Ended(Turn(status=Status.FAILED | Status.INTERRUPTED)):
            return ERROR
        case Ended(turn):
            ids = f"${turn.conversation_id}${turn.answer_id or ''}" if named else ""
            return f"{END}{ids}".encode()
