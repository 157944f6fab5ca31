"""What happened at one node as the others are told of it: a word and an id; they read the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from server.live.news import Began, Changed, Made, Note, Over
from storage.port import NotFoundError, Store, UnavailableError


class Notes:
    """Writes notes down, and makes notes again of what others wrote."""

    BEGAN, OVER, MADE, CHANGED = "began", "over", "made", "changed"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading: set[asyncio.Task[None]] = set()

    def told(self, what: Note) -> Sequence[Any] | None:
        """Return what others are told of a note; None where it is this node's own."""
        match what:
            case Began(turn):
                return self.BEGAN, turn.id
            case Over(turn):
                return self.OVER, turn.id
            case Made(conversation_id):
                return self.MADE, conversation_id
            case Changed(conversation_id):
                return self.CHANGED, conversation_id
        return None

    def heard(self, word: str, name: str, owner: str, note: Callable[[Note], None]) -> None:
        """Have a note made of what another node wrote."""
        match word:
            case self.BEGAN | self.OVER:
                task = asyncio.create_task(self._turn(word, name, owner, note))
                self._reading.add(task)
                task.add_done_callback(self._reading.discard)
            case self.MADE:
                note(Made(name))
            case self.CHANGED:
                note(Changed(name))

    async def _turn(self, word: str, name: str, owner: str, note: Callable[[Note], None]) -> None:
        with suppress(NotFoundError, UnavailableError):
            turn = await self._store.turn(owner, name)
            note(Began(turn) if word == self.BEGAN else Over(turn))
