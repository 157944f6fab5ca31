"""Tests of the bell that tells watchers of a new turn."""

from __future__ import annotations

import asyncio

import pytest

from server.live.notify import Notifier

PLACE, OTHER = ("ada", "c"), ("ada", "other")


async def test_a_ring_is_heard_by_all_who_listen_and_by_nobody_else() -> None:
    notifier = Notifier()
    heard = [notifier.listen(PLACE) for _ in range(3)]
    elsewhere = notifier.listen(OTHER)
    notifier.notify(PLACE)
    await asyncio.gather(*heard)
    assert not elsewhere.done()


async def test_a_ring_before_listening_is_not_heard() -> None:
    notifier = Notifier()
    notifier.notify(PLACE)
    assert not notifier.listen(PLACE).done()


async def test_a_ring_between_listening_and_waiting_is_heard() -> None:
    notifier = Notifier()
    heard = notifier.listen(PLACE)
    notifier.notify(PLACE)
    await heard


async def test_one_who_left_is_forgotten_and_disturbs_nobody() -> None:
    notifier = Notifier()
    leaving, staying = notifier.listen(PLACE), notifier.listen(PLACE)
    notifier.leave(PLACE, leaving)
    notifier.leave(PLACE, leaving)
    notifier.notify(PLACE)
    await staying
    assert leaving.cancelled()
    notifier.leave(PLACE, staying)


async def test_one_whose_task_was_cancelled_disturbs_nobody() -> None:
    notifier = Notifier()
    cancelled, staying = notifier.listen(PLACE), notifier.listen(PLACE)
    cancelled.cancel()
    notifier.notify(PLACE)
    await staying


@pytest.mark.parametrize("turn_queue", [0, 1, 5])
async def test_everybody_can_be_rung_for(turn_queue: int) -> None:
    notifier = Notifier()
    heard = [notifier.listen(("ada", str(place))) for place in range(turn_queue)]
    notifier.ring_all()
    await asyncio.gather(*heard)
