"""Tests of the bell that tells watchers of a new turn."""

from __future__ import annotations

import asyncio

import pytest

from server.live.notify import Bell

PLACE, OTHER = ("ada", "c"), ("ada", "other")


async def test_a_ring_is_heard_by_all_who_listen_and_by_nobody_else() -> None:
    bell = Bell()
    heard = [bell.listen(PLACE) for _ in range(3)]
    elsewhere = bell.listen(OTHER)
    bell.ring(PLACE)
    await asyncio.gather(*heard)
    assert not elsewhere.done()


async def test_a_ring_before_listening_is_not_heard() -> None:
    bell = Bell()
    bell.ring(PLACE)
    assert not bell.listen(PLACE).done()


async def test_a_ring_between_listening_and_waiting_is_heard() -> None:
    bell = Bell()
    heard = bell.listen(PLACE)
    bell.ring(PLACE)
    await heard


async def test_one_who_left_is_forgotten_and_disturbs_nobody() -> None:
    bell = Bell()
    leaving, staying = bell.listen(PLACE), bell.listen(PLACE)
    bell.leave(PLACE, leaving)
    bell.leave(PLACE, leaving)
    bell.ring(PLACE)
    await staying
    assert leaving.cancelled()
    bell.leave(PLACE, staying)


async def test_one_whose_task_was_cancelled_disturbs_nobody() -> None:
    bell = Bell()
    cancelled, staying = bell.listen(PLACE), bell.listen(PLACE)
    cancelled.cancel()
    bell.ring(PLACE)
    await staying


@pytest.mark.parametrize("places", [0, 1, 5])
async def test_everybody_can_be_rung_for(places: int) -> None:
    bell = Bell()
    heard = [bell.listen(("ada", str(place))) for place in range(places)]
    bell.ring_all()
    await asyncio.gather(*heard)
