"""Those who listen to a turn, and what all of them must have heard."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.wires import Event, Events, RefusedError, Wire


class Listener:
    """Somebody who listens to a stream of events to its end, or leaves before."""

    def __init__(self, events: Events) -> None:
        self.heard: list[Event] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._listen(events))

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.heard)

    @property
    def cursor(self) -> int:
        return self.heard[-1].cursor

    @property
    def turn_id(self) -> str:
        return self.heard[0].turn_id

    async def until(self, text: str) -> None:
        """Wait until this was heard."""
        await self._until(lambda: text in self.text)

    async def started(self) -> None:
        await self._until(lambda: bool(self.heard))

    async def ends(self, turns: int = 1) -> list[Event]:
        """Wait for the ends of so many turns, and return all that was heard."""
        await self._until(lambda: [one.kind for one in self.heard].count("turn.ended") >= turns)
        return self.heard

    async def leave(self) -> None:
        """Stop listening, also to a server that is gone."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _until(self, true: Any) -> None:
        async with self._news:
            waiting = asyncio.ensure_future(self._news.wait_for(true))
            await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        await waiting

    async def _listen(self, events: Events) -> None:
        async with aclosing(events):
            async for one in events:
                async with self._news:
                    self.heard.append(one)
                    self._news.notify_all()


def checked(heard: list[Event], *, after: int = 0) -> Event:
    """Check one turn's events, and return their end."""
    started, *deltas, ended = heard
    assert (started.kind, started.cursor) == ("turn.started", after)
    assert started.turn is not None
    assert ended.turn is not None
    assert (started.turn["status"], started.turn["answer"]) == ("running", "")
    position = after
    for delta in deltas:
        begins = delta.cursor - position - len(delta.text + delta.delta)
        assert (delta.kind, begins) in (("turn.delta", 0), ("turn.delta", int(bool(delta.part))))
        assert delta.cursor > position
        position = delta.cursor
    assert ended.kind == "turn.ended"
    if ended.turn["parts"] is None:
        assert ended.cursor == len(ended.turn["answer"])
        assert "".join(delta.text for delta in deltas) == ended.turn["answer"][after:]
    elif not after:
        assert ended.cursor == position
        assert "".join(delta.text for delta in deltas) == ended.turn["answer"]
    assert len({(one.turn_id, one.conversation_id) for one in heard}) == 1
    assert started.turn["id"] == ended.turn["id"] == started.turn_id
    return ended


#: Eliza's answer to this has some sixty words, and to any other only some few.
LONG = "I remember " + "one long and winding road and " * 12


async def refused(call: Any) -> str:
    """Return the code that a wire refuses a call with."""
    with pytest.raises(RefusedError) as caught:
        await call
    return caught.value.code


async def heard(wire: Wire, conversation_id: str, prompt: str = "Hello") -> Event:
    """Ask, and return the end of the turn."""
    return checked([event async for event in wire.ask(conversation_id, prompt)])


def settled(database: Path) -> None:
    """Check a database that was closed in good order."""
    assert not Path(f"{database}-wal").exists()
    assert not Path(f"{database}-shm").exists()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        running = "SELECT count(*) FROM turns WHERE status = 'running'"
        assert connection.execute(running).fetchone() == (0,)
