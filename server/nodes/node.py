"""One node of several: beats, buries who is dead, ends what they left, hears what others ring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

import structlog

from server.live.background import Background
from server.nodes.live import NodeLiveTurns
from server.nodes.membership import BEAT, BuriedError, Membership
from server.nodes.mirror import Mirrors
from server.nodes.port import Bell, Members
from storage.port import UnavailableError

log = structlog.get_logger("trialogue.nodes")


class Node:
    """Async context manager: one of the nodes while it is entered, before any turn runs."""

    def __init__(
        self,
        members: Members,
        membership: Membership,
        bell: Bell,
        mirrors: Mirrors,
        live: NodeLiveTurns,
        refresh: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._members = members
        self.membership = membership
        self._bell = bell
        self._mirrors = mirrors
        self.live = live
        #: reads the keys anew
        self._refresh = refresh
        self._recover: Callable[[], Awaitable[None]] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._background = Background()
        live.keys_changed = lambda: self._background.begin(refresh())

    async def __aenter__(self) -> Self:
        await self.membership.join()
        await self.membership.beat()
        await self.live.lines.read_all()
        for work in (
            self._for_ever(self._beat),
            self._for_ever(self._look),
            self._bell.hear(self.live.hear_others, self.live.have_missed),
        ):
            self._tasks.append(asyncio.create_task(work, name="node"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._background.stop()
        await self._mirrors.close()
        await self.live.lines.close()
        await self.membership.leave()

    @property
    def mirrored(self) -> int:
        """How many turns of other nodes are followed here."""
        return self._mirrors.followed

    def serve(self, recover: Callable[[], Awaitable[None]], address: str) -> None:
        """Be reached at an address; `recover` ends the turns of nodes that are gone."""
        self._recover = recover
        self.membership.address = address

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await work()
            except (UnavailableError, TimeoutError):
                continue  # who keeps ends says that the database is away
            except Exception:
                log.exception("the nodes were not looked at")

    async def _beat(self) -> None:
        """Beat; where others took us for dead, let go of all we wrote and begin anew."""
        told = self.membership.held(self.membership.node)
        try:
            await self.membership.beat()
        except BuriedError:
            log.error("this node was taken for dead: its turns are interrupted")
            self.live.give_up()
            await self.membership.join()
        if not told:
            self.live.may_tell_again()

    async def _look(self) -> None:
        """Look for what we may not have heard, and for who is dead."""
        with suppress(TimeoutError, UnavailableError):  # what is looked for needs no bell
            await self._bell.test()
        if not self._bell.hears:
            self.live.notify_all()
        await self._refresh()
        await self.live.look_at_lines()
        for owner, turn_id in await self._members.stops():
            self.live.stop(owner, turn_id)
        await self._mirrors.look()
        await self.membership.bury_the_dead()
        if self._recover is not None:
            await self._recover()
