"""Tests of budgets: what is spent is refused until the next day or month, and nothing is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from server.app.core import core_of
from server.config.quantities import Budget, budget
from server.core.access.token_budget import TokenBudget
from server.core.conversations import Conversations
from server.core.errors import QuotaSpentError
from server.core.turns.plan import Defaults
from server.core.turns.questions import Ask, IfBusy, Regenerate
from storage.model import Status, Usage
from storage.port import NotFoundError, UnavailableError
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import Puppet

NOON = datetime(2026, 12, 31, 12, tzinfo=UTC)


class Calendar:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> int:
        return int(self.moment.timestamp()) * 1_000_000


@pytest.fixture
def clock() -> Calendar:
    return Calendar()


@pytest.fixture
async def core(
    store: SQLiteStore, upstream: Puppet, clock: Calendar
) -> AsyncIterator[Conversations]:
    """A server where every owner has a hundred tokens a day."""
    async with limited(store, upstream, clock) as opened:
        yield opened


@asynccontextmanager
async def limited(
    store: SQLiteStore, upstream: Puppet, clock: Calendar, most: str = "100/day"
) -> AsyncIterator[Conversations]:
    defaults = Defaults("gpt-4o", budget=budget(most))
    async with core_of(store, upstream, defaults, now=clock) as opened:
        yield opened


async def use(
    core: Conversations, upstream: Puppet, tokens: int, conversation_id: str = "c", owner: str = ADA
) -> None:
    """Ask a question that takes so many tokens, to the end."""
    upstream.say("Hi").finish(usage=Usage(tokens - 1, 1))
    turn = await core.ask(owner, conversation_id, Ask("Hello"))
    async for _ in core.follow(owner, turn.id):
        pass


@pytest.mark.parametrize(
    ("text", "read"),
    [("100000/day", Budget(100_000, "day")), (" 2000000 / Month", Budget(2_000_000, "month"))],
)
def test_a_budget_is_read(text: str, read: Budget) -> None:
    assert budget(text) == read


@pytest.mark.parametrize("text", ["", "100", "0/day", "100/hour", "-5/day", "1e6/month"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="100000/day"):
        budget(text)


@pytest.mark.parametrize(
    ("period", "began", "ends"),
    [("day", (2026, 12, 31), (2027, 1, 1)), ("month", (2026, 12, 1), (2027, 1, 1))],
)
def test_periods_are_those_of_the_calendar(
    period: str, began: tuple[int, int, int], ends: tuple[int, int, int]
) -> None:
    limit = Budget(1, period)
    assert limit.began(NOON) == datetime(*began, tzinfo=UTC)
    assert limit.ends(NOON) == datetime(*ends, tzinfo=UTC)


def test_the_shortest_month_ends_where_the_next_begins() -> None:
    assert Budget(1, "month").ends(datetime(2028, 2, 29, tzinfo=UTC)) == datetime(
        2028, 3, 1, tzinfo=UTC
    )


async def test_what_is_spent_is_refused_and_nothing_is_kept(
    core: Conversations, upstream: Puppet
) -> None:
    await use(core, upstream, 99)
    await use(core, upstream, 1)
    with pytest.raises(QuotaSpentError, match=r"budget of 100 tokens a day .* 12h0m0s") as caught:
        await core.ask(ADA, "fresh", Ask("Hello"))
    assert caught.value.retry_after == 12 * 3600
    with pytest.raises(QuotaSpentError):
        await core.regenerate(ADA, "c", Regenerate())
    with pytest.raises(NotFoundError):
        await core.get(ADA, "fresh")
    assert len((await core.messages(ADA, "c")).items) == 4


async def test_it_is_full_again_on_the_next_day(
    core: Conversations, upstream: Puppet, clock: Calendar
) -> None:
    await use(core, upstream, 100)
    clock.moment = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(QuotaSpentError):
        await core.ask(ADA, "c", Ask("Hello"))
    clock.moment = datetime(2027, 1, 1, tzinfo=UTC)
    await use(core, upstream, 1)


async def test_a_month_is_the_sum_of_its_days(
    store: SQLiteStore, upstream: Puppet, clock: Calendar
) -> None:
    async with limited(store, upstream, clock, "100/month") as core:
        for day in (1, 15, 31):
            clock.moment = datetime(2026, 12, day, tzinfo=UTC)
            await use(core, upstream, 34)
        with pytest.raises(QuotaSpentError):
            await core.ask(ADA, "c", Ask("Hello"))


async def test_owners_do_not_meet(core: Conversations, upstream: Puppet) -> None:
    await use(core, upstream, 100)
    await use(core, upstream, 100, owner=BOB)


async def test_asking_the_same_again_costs_nothing(core: Conversations, upstream: Puppet) -> None:
    upstream.say("Hi").finish(usage=Usage(99, 1))
    question = Ask("Hello", idempotency_key="once")
    turn = await core.ask(ADA, "c", question)
    async for _ in core.follow(ADA, turn.id):
        pass
    assert (await core.ask(ADA, "c", question)).id == turn.id


async def test_what_waits_is_refused_when_what_runs_has_spent_all(
    core: Conversations, upstream: Puppet
) -> None:
    first = await core.ask(ADA, "c", Ask("One"))
    second = asyncio.create_task(core.ask(ADA, "c", Ask("Two")))
    await upstream.asked(1)
    upstream.say("Hi").finish(usage=Usage(99, 1))
    with pytest.raises(QuotaSpentError):
        await second
    assert (await core.turn(ADA, first.id)).status is Status.COMPLETED
    assert len((await core.messages(ADA, "c")).items) == 2


async def test_an_answer_is_not_interrupted_by_who_may_not_ask(
    core: Conversations, upstream: Puppet, store: SQLiteStore, clock: Calendar
) -> None:
    running = await core.ask(ADA, "c", Ask("One"))
    await store.spend(ADA, 100, clock())
    with pytest.raises(QuotaSpentError):
        await core.ask(ADA, "c", Ask("Two", if_busy=IfBusy.INTERRUPT))
    assert (await core.turn(ADA, running.id)).status is Status.RUNNING
    upstream.say("Hi").finish()


async def test_a_crash_keeps_what_was_used(
    store: SQLiteStore, upstream: Puppet, clock: Calendar
) -> None:
    """What a crash left running has taken its prompt, and what was kept of its answer."""
    async with limited(store, upstream, clock) as core:
        turn = await core.ask(ADA, "c", Ask("Hello"))
        # Its end is never told: the next start finds it as a crash leaves it.
        async with limited(store, upstream, clock):
            assert await store.spent(ADA, 0) == turn.context.prompt_tokens > 0


class Broken(SQLiteStore):
    """A store that cannot write what was spent."""

    async def spend(self, owner: str, tokens: int, now: int) -> None:
        raise UnavailableError("The disk is full.")


async def test_what_cannot_be_counted_breaks_no_answer(store: SQLiteStore, clock: Calendar) -> None:
    broken = Broken(store.path)
    await TokenBudget(broken, Budget(1, "day"), clock).spend(ADA, 5)
