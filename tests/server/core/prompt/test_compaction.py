"""Summaries stand for what left the window, are read like messages, and can be undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.app.core import core_of
from server.config.limits import UpstreamLimits
from server.core.conversations import Ask, Conversations, Defaults
from server.core.prompt.compaction import INSTRUCTION, Compaction
from server.core.prompt.compose import SUMMARY_HEADING, CountingSettings
from server.upstream.model_info import Named
from server.upstream.port import Finish, ModelTable, Prompt, UpstreamFailedError
from storage.model import Role, Status, Turn
from storage.sqlite.store import SQLiteStore
from tests.server.core.histories import OWNER
from tests.support.fakes import Puppet

WINDOW = CountingSettings(window=1100, max_tokens=100)
LONG = "These are words that fill a window one line after another, as talk does. " * 6


class Summariser:
    """Answers "Fine." to questions, and to the wish for a summary a short one."""

    name = "summariser"

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        self.prompts.append(prompt)
        wish = prompt.messages[0].content == INSTRUCTION
        yield (
            f"They talked {prompt.messages[-1].content.count('user:')} times." if wish else "Fine."
        )
        yield Finish()

    async def close(self) -> None: ...


@pytest.fixture
async def upstream() -> Summariser:
    return Summariser()


@pytest.fixture
async def core(store: SQLiteStore, upstream: Summariser) -> AsyncIterator[Conversations]:
    async with core_of(store, upstream, Defaults("gpt-4o", None, WINDOW)) as opened:
        yield opened


async def ask(core: Conversations, words: str) -> Turn:
    turn = await core.ask(OWNER, "c", Ask(words))
    async for _ in core.follow(OWNER, turn.id):
        pass
    await _compaction(core).idle()
    return await core.turn(OWNER, turn.id)


def _compaction(core: Conversations) -> Compaction:
    return core._asking._compaction


async def test_nothing_is_summarised_unless_somebody_asks(
    core: Conversations, store: SQLiteStore
) -> None:
    for number in range(20):
        await ask(core, f"{number} {LONG}")
    assert await store.summaries(OWNER, "c", limit=10) == []


async def test_a_summary_stands_for_what_left(
    core: Conversations, store: SQLiteStore, upstream: Summariser
) -> None:
    await core.create(OWNER, id="c")
    await core.update(OWNER, "c", {"truncation": "summarize"})
    for number in range(20):
        turn = await ask(core, f"{number} {LONG}")
        assert turn.context.prompt_tokens <= turn.context.budget
    newest = (await store.summaries(OWNER, "c", limit=1))[0]
    assert newest.stands_for == newest.depth - 1
    assert newest.stands_for > 20
    turn = await ask(core, "And now?")
    heading = [str(m.content) for m in upstream.prompts[-1].messages if m.role is Role.SYSTEM]
    asked = next(p for p in reversed(upstream.prompts) if p.messages[-1].content == "And now?")
    told = asked.messages[0]
    assert told.role is Role.SYSTEM
    assert str(told.content).startswith(SUMMARY_HEADING)
    assert heading


async def test_originals_and_summary_can_be_read(core: Conversations, store: SQLiteStore) -> None:
    await core.create(OWNER, id="c")
    await core.update(OWNER, "c", {"truncation": "summarize"})
    for number in range(12):
        await ask(core, f"{number} {LONG}")
    page = await core.messages(OWNER, "c")
    assert len(page.items) == 24
    assert all(message.stands_for is None for message in page.items)
    assert all(message.siblings == (message.id,) for message in page.items)
    assert (await core.get(OWNER, "c")).message_count == 24
    summary = (await store.summaries(OWNER, "c", limit=1))[0]
    with_summary = await core.messages(OWNER, "c", leaf=summary.id)
    assert with_summary.items[-1].stands_for == len(with_summary.items) - 1


async def test_it_is_undone(core: Conversations, upstream: Summariser) -> None:
    await core.create(OWNER, id="c")
    await core.update(OWNER, "c", {"truncation": "summarize"})
    for number in range(12):
        await ask(core, f"{number} {LONG}")
    await core.update(OWNER, "c", {"truncation": "trim"})
    await ask(core, "And now?")
    assert all(m.role is not Role.SYSTEM for m in upstream.prompts[-1].messages)


async def test_a_preview_tells_of_it(core: Conversations) -> None:
    await core.create(OWNER, id="c")
    await core.update(OWNER, "c", {"truncation": "summarize"})
    for number in range(12):
        await ask(core, f"{number} {LONG}")
    told = await core.preview(OWNER, "c", Ask("And now?"))
    reasons = {line.reason.split(" of ")[0] for line in told.lines}
    assert {"summary", "summarised", "fits", "question"} <= reasons


class Held(Summariser):
    """Writes no summary before `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.at_once, self.most_at_once = 0, 0

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        wish = prompt.messages[0].content == INSTRUCTION
        self.at_once += wish
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if wish:
                await self.go_on.wait()
            async for piece in super().complete(prompt):
                yield piece
        finally:
            self.at_once -= wish


class Far(ModelTable):
    """Knows that an upstream is far away, where many are asked at once."""

    def named(self, model: str) -> Named:
        return Named("far", model)


class Near(ModelTable):
    """Knows that an upstream is near, where one answer stands in another's way."""

    def named(self, model: str) -> Named:
        return Named("near", model, near=True)


@pytest.mark.parametrize(("models", "most"), [(Far(), 2), (Near(), 1)])
async def test_few_are_written_at_once_and_no_ask_waits_for_them(
    store: SQLiteStore, models: ModelTable, most: int
) -> None:
    upstream = Held()
    defaults = Defaults("gpt-4o", None, WINDOW, upstreams=UpstreamLimits(answers=1, summaries=2))
    names = [f"c{number}" for number in range(5)]
    async with core_of(store, upstream, defaults, models=models) as core:
        for name in names:
            await core.create(OWNER, id=name)
            await core.update(OWNER, name, {"truncation": "summarize"})
            for number in range(12):
                turn = await core.ask(OWNER, name, Ask(f"{number} {LONG}"))
                async for _ in core.follow(OWNER, turn.id):
                    pass
        assert upstream.most_at_once == most
        upstream.go_on.set()
        await _compaction(core).idle()
        assert upstream.most_at_once == most
        for name in names if most > 1 else names[-1:]:  # the others gave way to who asked next
            assert await store.summaries(OWNER, name, limit=1)


# Whom it does not stand in the way of


class Gated(Summariser):
    """Answers questions at once; a summary is begun, and ends as the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.left = asyncio.Event(), 0
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        if prompt.messages[0].content == INSTRUCTION:
            self.prompts.append(prompt)
            self.begun.set()
            try:
                yield await asyncio.shield(self.end)
            finally:
                self.left += 1
        else:
            async for piece in super().complete(prompt):
                yield piece
            return
        yield Finish()


@pytest.fixture
async def gated() -> Gated:
    return Gated()


@pytest.fixture
async def slow(store: SQLiteStore, gated: Gated) -> AsyncIterator[Conversations]:
    """A core in which a summary is being written."""
    async with core_of(store, gated, Defaults("gpt-4o", None, WINDOW)) as opened:
        await opened.create(OWNER, id="c")
        await opened.update(OWNER, "c", {"truncation": "summarize"})
        number = 0
        while not gated.begun.is_set():
            await asked(opened, f"{number} {LONG}")
            await asyncio.sleep(0)
            number += 1
        yield opened


async def asked(core: Conversations, words: str, name: str = "c") -> Turn:
    turn = await core.ask(OWNER, name, Ask(words))
    async for _ in core.follow(OWNER, turn.id):
        pass
    return await core.turn(OWNER, turn.id)


async def test_it_gives_way_to_whoever_asks(
    slow: Conversations, gated: Gated, store: SQLiteStore
) -> None:
    wish = next(p for p in gated.prompts if p.messages[0].content == INSTRUCTION)
    assert wish.max_tokens == 100, "no longer than what is reserved for an answer"
    assert (await asked(slow, "Hello", "other")).status is Status.COMPLETED
    await _compaction(slow).idle()
    assert gated.left >= 1
    assert not _compaction(slow)._tasks
    assert await store.summaries(OWNER, "c", limit=1) == []


async def test_it_rests_after_a_failure(slow: Conversations, gated: Gated) -> None:
    gated.end.set_exception(UpstreamFailedError("broke"))
    await _compaction(slow).idle()
    gated.begun.clear()
    await asked(slow, LONG)
    assert not _compaction(slow)._tasks
    assert not gated.begun.is_set()


async def test_no_summary_where_each_would_read_a_message_or_two(store: SQLiteStore) -> None:
    upstream = Summariser()
    small = CountingSettings(window=900, max_tokens=100)
    async with core_of(store, upstream, Defaults("gpt-4o", None, small)) as core:
        await core.create(OWNER, id="c")
        await core.update(OWNER, "c", {"truncation": "summarize"})
        for number in range(12):
            await ask(core, f"{number} {LONG}")
    assert await store.summaries(OWNER, "c", limit=1) == []


async def test_none_after_a_turn_that_failed(store: SQLiteStore) -> None:
    upstream = Puppet()
    async with core_of(store, upstream, Defaults("gpt-4o", None, WINDOW)) as core:
        await core.create(OWNER, id="c")
        await core.update(OWNER, "c", {"truncation": "summarize"})
        upstream.fail(UpstreamFailedError("broke"))
        turn = await asked(core, LONG * 10)
        assert turn.status is Status.FAILED
        assert turn.context.prompt_tokens > 0.75 * turn.context.budget
        assert not _compaction(core)._tasks
