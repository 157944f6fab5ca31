"""What was learnt from a turn is kept behind its end, and holds nobody up."""

from __future__ import annotations

import asyncio
from pathlib import Path

from server.app.core import core_of
from server.core.conversations import Ask, IfBusy
from server.core.turns.plan import Defaults
from storage.model import Lesson, Status, Usage
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked
from tests.support.fakes import MODEL, Puppet


class Slow(SQLiteStore):
    """A store that keeps no lesson before it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go_on = asyncio.Event()
        self.waits = 0

    async def learn(self, lesson: Lesson) -> None:
        self.waits += 1
        await self.go_on.wait()
        await super().learn(lesson)


async def test_the_next_question_is_taken_while_a_lesson_is_kept(
    tmp_path: Path, upstream: Puppet
) -> None:
    slow = Slow(tmp_path / "slow.db")
    async with slow, core_of(slow, upstream, Defaults(MODEL)) as conversations:
        try:
            for question in ("Hi", "Again"):
                upstream.say("Half").finish(usage=Usage(9, 1))
                done = await asked(conversations, Ask(question, if_busy=IfBusy.REJECT))
                assert done.status is Status.COMPLETED
                assert slow.waits
        finally:
            slow.go_on.set()
        await conversations.drain(0)
        assert await slow.lessons()
