"""Calls that are answered as they are: their places, what they use, and when all have ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.config.limits import TurnLimits
from server.config.quantities import budget
from server.core.access.capacity import Capacity
from server.core.access.concurrency import Room
from server.core.access.token_budget import TokenBudget
from server.core.clock import microseconds
from server.core.errors import CrowdedError, QuotaSpentError
from server.core.passthrough import Passthrough
from server.upstream.bodies import EVENTS, JSON, one, whole
from server.upstream.pool import PoolMember, UpstreamPool
from server.upstream.port import Call, Reply, UpstreamFailedError
from storage.sqlite.store import SQLiteStore
from tests.storage.nouns import ADA, BOB
from tests.support.fakes import Puppet

USED = b'{"usage": {"total_tokens": 9}}'
CHAT = {"model": "m", "messages": [], "stream": True}


class Speaker:
    """Answers every call with the same body."""

    name = "speaker"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.kind, self.body, self.status = JSON, USED, 200
        self.broken = False

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        self.calls.append(call)
        if self.broken:
            raise UpstreamFailedError("no connection")
        yield Reply(self.status, {"content-type": self.kind}, one(self.body))

    async def models(self) -> Sequence[Mapping[str, Any]]:
        return ()

    async def close(self) -> None: ...


@pytest.fixture
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture
def passthrough(store: SQLiteStore, speaker: Speaker) -> Passthrough:
    """Calls of a server that has four places, and where each owner has ten tokens a day."""
    return made(store, speaker, "10/day")


def made(store: SQLiteStore, speaker: Speaker, most: str | None) -> Passthrough:
    tokens = TokenBudget(store, budget(most) if most else None, microseconds)
    capacity = Capacity(tokens, Room(4, "turns and calls", lambda: True), TurnLimits())
    return Passthrough(UpstreamPool([PoolMember("a", Puppet(), speaker)]), capacity)


def asked(method: str = "POST", path: str = "/embeddings", **given: Any) -> Call:
    return Call(method, path, **{"owner": ADA, "model": "m", **given})


async def answer(passthrough: Passthrough, call: Call) -> bytes:
    async with passthrough.call(call) as reply:
        return await whole(reply.body, 999)


class TestTokens:
    async def test_what_an_answer_tells_is_counted_for_its_owner(
        self, passthrough: Passthrough, store: SQLiteStore
    ) -> None:
        assert await answer(passthrough, asked()) == USED
        assert (await store.spent(ADA, 0), await store.spent(BOB, 0)) == (9, 0)

    async def test_what_is_only_looked_at_costs_nothing(
        self, passthrough: Passthrough, store: SQLiteStore
    ) -> None:
        assert await answer(passthrough, asked("GET", "/responses/resp_1")) == USED
        assert await store.spent(ADA, 0) == 0

    async def test_what_is_nobody_s_is_not_counted(
        self, passthrough: Passthrough, store: SQLiteStore, speaker: Speaker
    ) -> None:
        call = asked(path="/chat/completions", owner=None, body=json.dumps(CHAT).encode())
        assert await answer(passthrough, call) == USED
        assert speaker.calls == [call]
        assert await store.spent(ADA, 0) == 0

    async def test_an_owner_who_has_none_left_is_refused_before_anybody_is_asked(
        self, passthrough: Passthrough, store: SQLiteStore, speaker: Speaker
    ) -> None:
        await store.spend(ADA, 10, microseconds())
        with pytest.raises(QuotaSpentError):
            await answer(passthrough, asked())
        assert speaker.calls == []
        await answer(passthrough, asked("GET"))
        await answer(passthrough, asked(owner=BOB))
        assert (passthrough.running, len(speaker.calls)) == (0, 2)

    async def test_a_stream_is_asked_to_tell_what_its_caller_does_not_see(
        self, passthrough: Passthrough, store: SQLiteStore, speaker: Speaker
    ) -> None:
        speaker.kind, speaker.body = EVENTS, b'data: {"choices": [], "usage": {"total_tokens": 9}}'
        body, headers = json.dumps(CHAT).encode(), {"accept": EVENTS}
        call = asked(path="/chat/completions", body=body, headers=headers)
        assert await answer(passthrough, call) == b""
        sent = speaker.calls[0].body
        assert isinstance(sent, bytes)
        assert json.loads(sent)["stream_options"] == {"include_usage": True}
        assert await store.spent(ADA, 0) == 9

    async def test_without_a_budget_a_call_is_sent_as_it_is(
        self, store: SQLiteStore, speaker: Speaker
    ) -> None:
        call = asked(path="/chat/completions", body=b"{}", headers={"accept": EVENTS})
        assert await answer(made(store, speaker, None), call) == USED
        assert speaker.calls == [call]


class TestPlaces:
    async def test_one_more_than_are_free_for_an_owner_is_refused(
        self, passthrough: Passthrough, speaker: Speaker
    ) -> None:
        async with passthrough.call(asked("GET")), passthrough.call(asked("GET")):
            with pytest.raises(CrowdedError):
                await answer(passthrough, asked("GET"))
            await answer(passthrough, asked("GET", owner=BOB))
            await answer(passthrough, asked("GET", owner=None))
        assert len(speaker.calls) == 4
        await answer(passthrough, asked("GET"))

    async def test_a_call_that_breaks_or_is_left_gives_its_place_back(
        self, passthrough: Passthrough, speaker: Speaker
    ) -> None:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                async with passthrough.call(asked("GET")):
                    raise ZeroDivisionError
        speaker.broken = True
        for _ in range(5):
            with pytest.raises(UpstreamFailedError):
                await answer(passthrough, asked("GET"))
        assert passthrough.running == 0


class TestIdleness:
    async def test_where_nothing_is_answered_nobody_waits(self, passthrough: Passthrough) -> None:
        waiting = passthrough.idle(99)
        with pytest.raises(StopIteration):
            waiting.send(None)

    async def test_the_last_call_ends_the_wait(self, passthrough: Passthrough) -> None:
        async with passthrough.call(asked("GET", owner=None)):
            async with passthrough.call(asked("GET")):
                waiting = asyncio.create_task(passthrough.idle(99))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (passthrough.running, waiting.done()) == (1, False)
        await waiting

    async def test_no_grace_ends_it_for_all_who_wait(self, passthrough: Passthrough) -> None:
        async with passthrough.call(asked("GET")):
            waiting = asyncio.create_task(passthrough.idle(99))
            await asyncio.sleep(0)
            await passthrough.idle(0)
            await waiting
            assert passthrough.running == 1
