"""The one line of each conversation, at whichever node its questions wait: rows of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from server.live.port import Place
from server.live.waiting import MOST_TOLD, Line, Waiting
from server.nodes.port import Members
from storage.line import Standing, Standings
from storage.port import UnavailableError

log = structlog.get_logger("trialogue.nodes")

#: Seconds until rows are tried again that could not be written or read.
LOOK = 0.25


@dataclass(slots=True)
class _Ours:
    """A question that waits here."""

    told: Standing
    #: its row was written, or may have been
    sent: bool = False
    written: bool = False
    #: it was called, and stands in line no more unless it joins again
    called: bool = False


class CommonLines:
    """Writes who waits here, and reads who waits elsewhere.

    In what order our own are called is ours to know, and told by us where nobody else waits. A
    statement takes along all that happened while the one before it was on its way.
    """

    def __init__(
        self,
        members: Members,
        ring: Callable[[Place], None],
        changed: Callable[[Place], None],
    ) -> None:
        """`ring` tells other nodes of a line that changed, `changed` is called where one did."""
        self._members = members
        self._ring = ring
        self._changed = changed
        self._ours: dict[str, _Ours] = {}
        self._joining: dict[str, Standing] = {}
        self._leaving: dict[str, Place] = {}
        self._unread: set[Place] = set()
        self._lines: dict[Place, Line] = {}
        self._writing: asyncio.Future[None] | None = None
        self._working: asyncio.Task[None] | None = None

    def line(self, place: Place) -> Line | None:
        """Return a line in which others wait too; None where nobody does at another node."""
        return self._lines.get(place)

    def has(self, waiting_id: str) -> bool:
        """Say whether a question is ours: it waits, was called and is to begin, or just left."""
        return waiting_id in self._ours or waiting_id in self._leaving

    def join(self, place: Place, asks: Waiting, *, urgent: bool) -> None:
        """Stand in line, or again where one stood who was called and may not begin."""
        ours = self._ours.get(asks.id)
        if ours is None:
            told = Standing(place, asks.id, urgent, asks.prompt, asks.wire, asks.since)
            ours = self._ours[asks.id] = _Ours(told)
        ours.called = False
        if not ours.written:
            self._joining[asks.id] = ours.told
            self._work()

    def leave(self, waiting_id: str) -> None:
        """Wait no more."""
        ours = self._ours.pop(waiting_id, None)
        self._joining.pop(waiting_id, None)
        if ours is not None and ours.sent:
            self._leaving[waiting_id] = ours.told.where
            self._work()

    def begun(self, waiting_id: str) -> None:
        """Know that a turn was begun, and its row taken away with that."""
        ours = self._ours.pop(waiting_id, None)
        if ours is not None and ours.sent:
            self._ring(ours.told.where)
            self.read(ours.told.where)

    async def called(self, waiting_id: str) -> str | None:
        """Be the next of our line; return the id where others know that it waits."""
        if self._joining.pop(waiting_id, None) is None and self._writing is not None:
            await asyncio.shield(self._writing)
            self._joining.pop(waiting_id, None)
        if (ours := self._ours.get(waiting_id)) is None:
            return None
        ours.called = True
        return waiting_id if ours.sent else None

    def read(self, place: Place) -> None:
        """Look at a line that may be another now."""
        self._unread.add(place)
        self._work()

    async def read_all(self) -> None:
        """Look at all lines. Raises UnavailableError."""
        found = await self._members.line.read(self._members.node, MOST_TOLD)
        self._hear(found, {*found, *self._lines})

    async def look(self) -> list[tuple[Place, str]]:
        """Let go of who waited at nodes that are gone, or here and does so no more, write anew what
        the database has lost, and return what was withdrawn of ours. Raises UnavailableError.
        """
        for place in await self._members.line.sweep():
            self._ring(place)
            self.read(place)
        kept = {name for name, ours in self._ours.items() if ours.written}
        found = await self._members.line.of(self._members.node)
        for name in set(found) - set(self._ours):  # it would be before all others for ever
            self._leaving[name] = found[name][0]
            self._work()
        withdrawn = []
        for name in kept & {name for name, ours in self._ours.items() if not ours.called}:
            ours = self._ours[name]
            if name not in found:
                ours.written = False
                self.join(ours.told.where, _asks(ours.told), urgent=ours.told.urgent)
            elif found[name][1]:
                withdrawn.append((ours.told.where, name))
        return withdrawn

    async def close(self) -> None:
        """Write what is to be written, if it can be."""
        if self._working is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._working, LOOK)

    def _work(self) -> None:
        if self._working is None:
            self._working = asyncio.create_task(self._worked(), name="lines")

    async def _worked(self) -> None:
        while self._joining or self._leaving or self._unread:
            try:
                await self._write()
                await self._read()
            except UnavailableError:
                await asyncio.sleep(LOOK)
            except Exception:
                log.exception("who waits was not written")
                await asyncio.sleep(LOOK)
        self._working = None

    async def _write(self) -> None:
        joining, self._joining = self._joining, {}
        leaving = dict(self._leaving)
        if not joining and not leaving:
            return
        ours = [self._ours[name] for name in joining]
        for one in ours:
            one.sent = True
        self._writing = asyncio.get_running_loop().create_future()
        try:
            await self._members.line.write(
                self._members.node, list(joining.values()), list(leaving)
            )
            for one in ours:
                one.written = True
            for name in leaving:
                del self._leaving[name]
        except BaseException:
            left = {name: one for name, one in joining.items() if name in self._ours}
            self._joining = left | self._joining
            raise
        finally:
            self._writing.set_result(None)
            self._writing = None
        for place in {*(one.where for one in joining.values()), *leaving.values()}:
            self._ring(place)
            self._unread.add(place)

    async def _read(self) -> None:
        unread, self._unread = self._unread, set()
        if not unread:
            return
        try:
            found = await self._members.line.read(self._members.node, MOST_TOLD, unread)
        except BaseException:
            self._unread |= unread
            raise
        self._hear(found, unread)

    def _hear(self, found: Mapping[Place, Standings], places: set[Place]) -> None:
        for place in places:
            told = found.get(place)
            before = self._lines.pop(place, None)
            if told is None or not told.elsewhere:
                if before is not None:
                    self._changed(place)
                continue
            line = Line(tuple(map(_asks, told.first)), told.count)
            self._lines[place] = before if before is not None and before == line else line
            if before != line:
                self._changed(place)


def _asks(told: Standing) -> Waiting:
    return Waiting(told.id, told.prompt, told.wire, told.since)
