"""Ends that cannot be kept as they are told: there is one all the same, with the whole text."""

from __future__ import annotations

from typing import Any

import pytest

from server.app.core import core_of
from server.core.conversations import Ask, Conversations, IfBusy
from server.core.observability.traces import NoTraces
from server.core.turns.plan import Defaults
from server.upstream.port import Prompt, UpstreamFailedError, UpstreamOverflowError
from storage.model import Failure, Status, Turn, Usage
from storage.parts import Kind, Part
from storage.port import NotFoundError, UnavailableError
from storage.sqlite.store import SQLiteStore
from tests.server.core.following import asked, branch, ended, gathered, until_text
from tests.storage.nouns import ADA
from tests.support.fakes import MODEL, Parrot, Puppet

BROKE = Failure("internal", "Something went wrong on our side.")
HUGE = Usage(1 << 63, 1)

#: What no adapter should say, and each was wedged by once, or could be.
UNFIT: list[dict[str, Any]] = [
    {"reason": "\ud83d"},
    {"reason": ["stop"]},
    {"usage": HUGE},
    {"usage": Usage(1, 1 << 63)},
    {"usage": Usage((1 << 63) - 1, (1 << 63) - 1)},
    {"usage": Usage(1, 1, cached_tokens=1 << 63)},
]
#: Heads of parts that no wire could carry.
UNSOUND = [
    Part(Kind.TOOL_CALL, "\ud83d", "f"),
    Part(Kind.TOOL_CALL, "call", "\ud83d"),
    Part(Kind.TOOL_CALL, "call", "f\0"),
]


@pytest.mark.parametrize("said", UNFIT, ids=range(len(UNFIT)))
@pytest.mark.parametrize("next_one", IfBusy)
async def test_an_end_that_cannot_be_kept_is_kept_as_a_failure(
    conversations: Conversations, upstream: Puppet, said: dict[str, Any], next_one: IfBusy
) -> None:
    upstream.say("Half ", "an answer").finish(**said)
    done = await asked(conversations, "Hi")
    assert done.status in (Status.COMPLETED, Status.FAILED)
    assert done.answer == "Half an answer"
    assert done.error == (None if done.status is Status.COMPLETED else BROKE)
    assert (await branch(conversations))[-1].content == "Half an answer"
    upstream.answer("Better")
    again = await asked(conversations, Ask("Again", if_busy=next_one))
    assert (again.answer, again.parent_id) == ("Better", done.answer_id)
    assert conversations.running == 0


@pytest.mark.parametrize("part", UNSOUND, ids=range(len(UNSOUND)))
async def test_what_came_before_a_part_that_cannot_be_kept_is(
    conversations: Conversations, upstream: Puppet, part: Part
) -> None:
    upstream.say("Half", part, "{}").finish()
    done = await asked(conversations, "Hi")
    assert (done.status, done.answer, done.parts) == (Status.FAILED, "Half", None)
    assert done.error is not None
    assert done.error.code == "upstream_failed"


async def test_its_conversation_can_be_deleted(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.say("Half").finish(usage=HUGE)
    await asked(conversations, "Hi")
    await conversations.delete(ADA, "c")
    with pytest.raises(NotFoundError):
        await conversations.get(ADA, "c")


async def test_what_an_upstream_complains_of_is_told_in_whole_letters(
    conversations: Conversations, upstream: Puppet
) -> None:
    upstream.say("Half").fail(UpstreamFailedError("It br\ud83d\0oke."))
    done = await asked(conversations, "Hi")
    assert done.error == Failure("upstream_failed", "It br\ufffdoke.")
    assert done.answer == "Half"


class Away(SQLiteStore):
    """A store that keeps no end until it is told to."""

    gone = True

    async def end(self, *words: Any) -> Turn:
        self._check()
        return await super().end(*words)

    async def withdraw(self, *words: Any, **more: Any) -> None:
        self._check()
        await super().withdraw(*words, **more)

    def _check(self) -> None:
        if self.gone:
            raise UnavailableError("The database cannot be used now.")


async def test_it_is_kept_when_a_database_that_was_away_too_long_is_back(
    store: SQLiteStore, upstream: Puppet
) -> None:
    await store.close()
    away = Away(store.path)
    async with away:
        async with core_of(away, upstream, Defaults(MODEL), patience=0) as conversations:
            upstream.say("Half").finish(usage=HUGE)
            turn = await conversations.ask(ADA, "c", Ask("Hi"))
            await gathered(conversations.follow(ADA, turn.id))
            away.gone = False
            await conversations.drain(0)
        done = await away.turn(ADA, turn.id)
        assert (done.status, done.answer) == (Status.FAILED, "Half")


async def test_a_turn_is_taken_back_when_such_a_database_is_back(
    store: SQLiteStore, upstream: Puppet
) -> None:
    await store.close()
    away = Away(store.path)
    async with away, core_of(away, upstream, Defaults(MODEL), patience=0) as conversations:
        upstream.fail(UpstreamOverflowError("It is too long.", 400))
        turn = await conversations.ask(ADA, "c", Ask("Hi"))
        await gathered(conversations.follow(ADA, turn.id))
        away.gone = False
        await conversations.drain(0)
        with pytest.raises(NotFoundError):
            await away.conversation(ADA, "c")


async def test_a_withdrawal_of_which_nobody_heard_is_one(
    store: SQLiteStore, upstream: Puppet
) -> None:
    class Deaf(SQLiteStore):
        tries = 0

        async def withdraw(self, *words: Any, **more: Any) -> None:
            await super().withdraw(*words, **more)
            self.tries += 1
            raise UnavailableError("The database does not answer.")

    await store.close()
    async with (
        Deaf(store.path) as deaf,
        core_of(deaf, upstream, Defaults(MODEL)) as conversations,
    ):
        upstream.fail(UpstreamOverflowError("It is too long.", 400))
        done = await asked(conversations, "Hi")
        assert done.error is not None
        assert done.error.code == "context_length_exceeded"
        assert isinstance(deaf, Deaf)
        assert deaf.tries == 1
        with pytest.raises(NotFoundError):
            await conversations.get(ADA, "c")


class Loud(NoTraces):
    """Traces that break, at the beginning of a turn or at its end."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self._when = when

    def turn(self, *words: Any) -> Any:
        if self._when == "beginning":
            raise ValueError("a bug")
        return self

    def end(self, *words: Any) -> None:
        raise ValueError("a bug")


@pytest.mark.parametrize("when", ["beginning", "end"])
async def test_what_watches_turns_cannot_hold_one(store: SQLiteStore, when: str) -> None:
    async with core_of(store, Parrot(), Defaults(MODEL), traces=Loud(when)) as conversations:
        for _ in range(2):
            done = await asked(conversations, "Hi")
            assert done.status is (Status.FAILED if when == "beginning" else Status.COMPLETED)
        assert conversations.running == 0


async def test_usage_that_cannot_be_counted_holds_nobody(
    conversations: Conversations, upstream: Puppet
) -> None:
    for _ in range(2):
        upstream.say("Half").finish(usage=Usage(-1, -1))
        assert (await asked(conversations, "Hi")).answer == "Half"
    assert conversations.running == 0


async def test_an_upstream_that_breaks_when_it_is_called(store: SQLiteStore) -> None:
    class Bad(Parrot):
        def complete(self, prompt: Prompt) -> Any:
            raise ValueError("a bug")

    async with core_of(store, Bad(), Defaults(MODEL)) as conversations:
        for _ in range(2):
            done = await asked(conversations, "Hi")
            assert (done.status, done.error) == (Status.FAILED, BROKE)


async def test_one_checkpoint_that_breaks_is_not_the_last(
    store: SQLiteStore, upstream: Puppet
) -> None:
    class Odd(SQLiteStore):
        tries = 0

        async def checkpoint(self, *words: Any) -> None:
            self.tries += 1
            if self.tries == 1:
                raise ValueError("a bug")
            await super().checkpoint(*words)

    await store.close()
    async with (
        Odd(store.path) as odd,
        core_of(odd, upstream, Defaults(MODEL), checkpoint_seconds=0.01) as conversations,
    ):
        turn = await conversations.ask(ADA, "c", Ask("Hi"))
        upstream.say("Half")
        await until_text(conversations, turn, "Half")
        while not [one for _, one in await odd.running() if one.answer == "Half"]:
            assert conversations.running == 1
        upstream.finish()
        assert (await ended(conversations, turn)).answer == "Half"
