"""Ways to ask and to listen, for tests of the core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from server.core.conversations import Ask, Conversations
from server.live.turn import Delta, Ended, Started, TurnEvent
from storage.model import Message, Status, Turn
from tests.storage.nouns import ADA
from tests.support.fakes import Puppet


async def gathered(events: AsyncIterator[TurnEvent]) -> list[TurnEvent]:
    return [event async for event in events]


def text_of(events: list[TurnEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def check_shape(events: list[TurnEvent], after: int = 0) -> None:
    """Started, Delta*, Ended; every cursor is the position behind what was read."""
    first, *deltas, last = events
    assert isinstance(first, Started)
    assert first.cursor == after
    assert first.turn.status is Status.RUNNING
    assert isinstance(last, Ended)
    position = after
    for delta in deltas:
        assert isinstance(delta, Delta)
        begins = delta.cursor - position - len(delta.text + delta.delta)
        assert begins in ((0,) if delta.part is None else (0, 1))
        assert delta.cursor > position
        position = delta.cursor


async def ended(conversations: Conversations, turn: Turn, owner: str = ADA) -> Turn:
    """Follow a turn to its end and return it as it ended."""
    events = await gathered(conversations.follow(owner, turn.id))
    check_shape(events)
    last = events[-1]
    assert isinstance(last, Ended)
    assert text_of(events) == last.turn.answer
    assert last.turn == await conversations.turn(owner, turn.id)
    return last.turn


async def asked(
    conversations: Conversations,
    question: str | Ask = "Hello",
    *,
    into: str = "c",
    owner: str = ADA,
) -> Turn:
    """Ask and return the turn as it ended."""
    ask = Ask(question) if isinstance(question, str) else question
    return await ended(conversations, await conversations.ask(owner, into, ask), owner)


async def answered(
    conversations: Conversations, upstream: Puppet, answer: str, question: str = "Hello"
) -> Turn:
    """Ask, answer when the upstream is asked, and return the turn as it ended."""
    before = len(upstream.prompts)
    turn = await conversations.ask(ADA, "c", Ask(question))
    await upstream.asked(before + 1)
    upstream.answer(answer)
    return await ended(conversations, turn)


async def until_text(conversations: Conversations, turn: Turn, text: str) -> None:
    """Follow a running turn until its answer so far is this."""
    read = ""
    async with aclosing(conversations.follow(ADA, turn.id)) as events:
        async for event in events:
            read += event.text if isinstance(event, Delta) else ""
            if read == text:
                return
    raise AssertionError(f"the turn ended with {read!r}")


async def branch(conversations: Conversations, into: str = "c", owner: str = ADA) -> list[Message]:
    """Return the branch of the head, oldest first, whole."""
    found: list[Message] = []
    more, before = True, None
    while more:
        page = await conversations.messages(owner, into, before=before)
        found = [*page.items, *found]
        more, before = page.has_more, found[0].id if found else None
    return found


async def settled() -> None:
    """Let everybody go on who waits for nothing but their turn on the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def asking(
    conversations: Conversations, words: str, into: str = "c", **how: Any
) -> asyncio.Task[Turn]:
    return asyncio.create_task(conversations.ask(ADA, into, Ask(words, **how)))


async def in_line(
    conversations: Conversations, words: str, into: str = "c", **how: Any
) -> asyncio.Task[Turn]:
    """Ask where another turn runs; return when the asker stands in line."""
    task = asking(conversations, words, into, **how)
    await settled()
    assert not task.done()
    return task
