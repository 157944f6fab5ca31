"""Large events pass one after the other; small ones do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from server.core.conversations import Ask, Conversations
from server.live.pacing import LARGE, Pacer
from server.live.turn import Delta
from tests.server.core.following import ended
from tests.storage.nouns import ADA
from tests.support.fakes import Puppet

MANY = 20


def delta(length: int) -> Delta:
    return Delta("c", "turn", length, "x" * length)


async def make_room(follow: Callable[[], Awaitable[None]]) -> None:
    """Have many follow at once, and see that the loop passes between each two of them."""
    heard = list[str]()

    async def beat() -> None:
        while True:
            heard.append("beat")
            await asyncio.sleep(0)

    async def follower() -> None:
        await follow()
        heard.append("large")

    followers = [asyncio.create_task(follower()) for _ in range(MANY)]
    beating = asyncio.create_task(beat())
    await asyncio.gather(*followers)
    beating.cancel()
    assert heard.count("large") == MANY
    assert ("large", "large") not in set(pairwise(heard))


async def test_between_two_large_ones_everybody_has_a_pass() -> None:
    pacer = Pacer()
    await make_room(lambda: pacer.wait(delta(LARGE)))


async def test_a_small_one_waits_for_nobody() -> None:
    pacer = Pacer()
    waiting = asyncio.create_task(pacer.wait(delta(LARGE)))
    await asyncio.sleep(0)
    with pytest.raises(StopIteration):  # it ends without a wait
        pacer.wait(delta(LARGE - 1)).send(None)
    await waiting


async def test_one_who_leaves_keeps_nobody_waiting() -> None:
    pacer = Pacer()
    first, second, third = (asyncio.create_task(pacer.wait(delta(LARGE))) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await third


@pytest.mark.parametrize("live", [True, False])
async def test_followers_who_catch_up_leave_room_for_others(
    conversations: Conversations, upstream: Puppet, live: bool
) -> None:
    turn = await conversations.ask(ADA, "c", Ask("Tell me everything"))
    upstream.say("x" * LARGE)
    if not live:
        upstream.finish()
        await ended(conversations, turn)

    async def follow() -> None:
        async for event in conversations.follow(ADA, turn.id):
            if isinstance(event, Delta):
                return

    await make_room(follow)
