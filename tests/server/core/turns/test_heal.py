"""A prompt that is too long is asked again with less; what upstreams tell is learnt from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import structlog

from server.app.core import core_of
from server.core.conversations import Ask, Conversations
from server.core.prompt.compose import CountingSettings
from server.core.turns.heal import TRIES
from server.core.turns.plan import Defaults
from server.upstream.port import Finish, Prompt, UpstreamOverflowError
from storage.model import Status, Turn, Usage
from storage.port import NotFoundError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked
from tests.storage.nouns import ADA
from tests.support.fakes import Parrot, Puppet

#: nobody knows how it counts
DEFAULTS = Defaults("a-model", counting=CountingSettings(max_tokens=100))
LONG = "a long question of many words, " * 60


async def told(
    core: Conversations, puppet: Puppet, read: Callable[[int], int | None], *questions: str
) -> Sequence[Turn]:
    """Ask questions; the upstream says that it read so many tokens of so many that were sent."""
    turns = []
    for question in questions:
        turn = await core.ask(ADA, "c", Ask(question))
        count = read(turn.context.prompt_tokens)
        puppet.say("Yes.").finish(usage=None if count is None else Usage(count, 2))
        turns.append(await asked_of(core, turn))
    return turns


async def asked_of(core: Conversations, turn: Turn) -> Turn:
    async for _ in core.follow(ADA, turn.id):
        pass
    return await core.turn(ADA, turn.id)


class Refuser(Parrot):
    """Refuses every prompt, while it is told to, for lengths that cannot be."""

    refusal: UpstreamOverflowError | None = None

    async def complete(self, prompt: Prompt) -> AsyncIterator[str | Finish]:
        if self.refusal is not None:
            self.prompts.append(prompt)
            raise self.refusal
        async for piece in super().complete(prompt):
            yield piece


@pytest.mark.parametrize("tokens", [None, 0, 1, 10**9])
@pytest.mark.parametrize("window", [None, 1, 100, 10**9])
async def test_it_is_asked_again_three_times_at_most(
    store: SQLiteStore, tokens: int | None, window: int | None
) -> None:
    """The last time with the question alone, whatever lengths a refusal tells."""
    refuser = Refuser()
    async with core_of(store, refuser, DEFAULTS) as core:
        for _ in range(9):
            await asked(core, "What?")
        before = await core.get(ADA, "c")
        refuser.refusal = UpstreamOverflowError("long", 400, tokens=tokens, window=window)
        turn = await asked_of(core, await core.ask(ADA, "c", Ask("And now?")))
        assert turn.status is Status.FAILED
        assert turn.error is not None
        assert turn.error.code == "context_length_exceeded"
        with pytest.raises(NotFoundError):
            await store.turn(ADA, turn.id)
        after = await core.get(ADA, "c")
        assert (after.head_id, after.message_count) == (before.head_id, before.message_count)
        lengths = [len(prompt.messages) for prompt in refuser.prompts[9:]]
        assert lengths == sorted(set(lengths), reverse=True)
        assert 2 <= len(lengths) <= TRIES + 1
        assert lengths[-1] == 1
        refuser.refusal = None
        assert (await asked(core, "Hi")).status is Status.COMPLETED


async def test_what_was_learnt_outlives_a_restart(store: SQLiteStore, upstream: Puppet) -> None:
    async with core_of(store, upstream, DEFAULTS) as core:
        first, second = await told(core, upstream, lambda sent: 3 * sent, "Hello", "Again")
        assert (first.context.counted, second.context.counted) == ("guessed", "learnt")
        assert first.context.window_known is False
        await core.drain(0)
    async with core_of(store, upstream, DEFAULTS) as core:
        (third,) = await told(core, upstream, lambda sent: None, "And again")
    assert third.context.counted == "learnt"
    assert third.context.prompt_tokens > 2 * second.context.prompt_tokens


async def test_a_prompt_that_was_cut_is_warned_of_and_its_window_learnt(
    store: SQLiteStore, upstream: Puppet
) -> None:
    with structlog.testing.capture_logs() as logged:
        async with core_of(store, upstream, DEFAULTS) as core:
            turns = await told(core, upstream, lambda sent: min(sent, 1000), *[LONG] * 9)
    assert {turn.status for turn in turns} == {Status.COMPLETED}
    assert any("cut the prompt" in one["event"] for one in logged)
    assert LONG not in str(logged)
    assert turns[-1].context.window == 1000
    assert turns[-1].context.prompt_tokens <= 900


async def test_who_speaks_another_language_now_was_not_cut(
    store: SQLiteStore, upstream: Puppet
) -> None:
    """One whose tokens are few where those before were many."""
    async with core_of(store, upstream, DEFAULTS) as core:
        await told(core, upstream, lambda sent: 3 * sent if sent < 1000 else sent, *[LONG] * 2)
        turns = await told(core, upstream, lambda sent: sent // 3, *[LONG] * 4)
    assert {turn.context.window for turn in turns} == {turns[0].context.window}
    assert not any(turn.context.messages_trimmed for turn in turns)


async def test_what_was_cached_was_not_cut(store: SQLiteStore, upstream: Puppet) -> None:
    """Some tell what they read anew, and what they had beside it."""
    async with core_of(store, upstream, DEFAULTS) as core:
        for _ in range(6):
            turn = await core.ask(ADA, "c", Ask(LONG))
            sent = turn.context.prompt_tokens
            upstream.say("Yes.").finish(usage=Usage(300, 2, max(0, sent - 300)))
            ended = await asked_of(core, turn)
    assert ended.context.window > 100_000


@pytest.mark.parametrize("read", [1, 256, 300])
async def test_a_lie_of_what_was_read_ends_no_conversation(
    store: SQLiteStore, upstream: Puppet, read: int
) -> None:
    """A window that was learnt leaves history out, and refuses no question."""
    async with core_of(store, upstream, DEFAULTS) as core:
        turns = await told(core, upstream, lambda sent: read, *[LONG] * 12)
    assert {turn.status for turn in turns} == {Status.COMPLETED}


@pytest.mark.parametrize("read", [0, 1 << 40, 1 << 20])
async def test_nor_does_another(store: SQLiteStore, upstream: Puppet, read: int) -> None:
    async with core_of(store, upstream, DEFAULTS) as core:
        turns = await told(core, upstream, lambda sent: read, *[LONG] * 6)
    assert {turn.status for turn in turns} == {Status.COMPLETED}
