"""Turns that other nodes write, as they are followed here: one mirror each, however many follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import structlog

from server.live.port import Place
from server.live.turn import LiveTurn, Progress
from server.nodes.membership import Membership
from server.nodes.port import Members, PeerError, Peers
from storage.model import Failure, Status, Turn
from storage.parts import row_of
from storage.port import NotFoundError, Piece, Store, UnavailableError

log = structlog.get_logger("trialogue.nodes")

#: Seconds between looks at the rows of a turn whose writer cannot be reached.
LOOK = 0.25
#: Seconds in which one that could not be reached is not tried again.
UNREACHED = 5.0


class Mirror(LiveTurn):
    """A turn that another node writes. It is heard for as long as somebody follows it."""

    def __init__(
        self,
        owner: str,
        turn: Turn,
        hear: Callable[[Mirror], Coroutine[Any, Any, None]],
        stop: Callable[[Mirror], None],
    ) -> None:
        super().__init__(owner, turn)
        self.node: str | None = None
        self._hear = hear
        self._stop = stop
        self._hearing: asyncio.Task[None] | None = None
        row, marks = row_of(turn.content)
        self.absorb(0, row, marks)

    def stop(self, status: Status) -> None:
        """Have its writer asked to stop."""
        self._stop(self)

    @contextmanager
    def followed(self) -> Iterator[None]:
        with super().followed():
            if self._hearing is None:
                self._hearing = asyncio.create_task(self._hear(self), name=f"{self.turn.id} mirror")
            try:
                yield
            finally:
                if self.followers == 1:
                    self._hearing.cancel()
                    self._hearing = None

    def heard(self) -> Piece:
        """Return all that was heard."""
        return Piece(self.owner, self.turn.id, 0, *self._answer.piece(0, self.length))


class Mirrors:
    """Hears turns from their writers, by cursor; from the rows, where a writer is out of reach."""

    def __init__(
        self, store: Store, members: Members, membership: Membership, peers: Peers
    ) -> None:
        self._store = store
        self._members = members
        self._membership = membership
        self._peers = peers
        self._mirrors: WeakValueDictionary[tuple[str, str], Mirror] = WeakValueDictionary()
        self._streams: dict[Mirror, asyncio.Task[Failure | None]] = {}
        self._unreached: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()
        #: tells the others that a turn is to be stopped
        self.stopped: Callable[[str, str], None] = lambda _owner, _turn_id: None

    def of(self, owner: str, turn: Turn) -> Mirror:
        """Return the mirror of a running turn, which begins with what is kept of its answer."""
        mirror = self._mirrors.get((owner, turn.id))
        if mirror is None:
            mirror = Mirror(owner, turn, self._hear, self._ask_to_stop)
            self._mirrors[owner, turn.id] = mirror
        else:
            mirror.absorb(0, *row_of(turn.content))
        return mirror

    @property
    def followed(self) -> int:
        """How many turns of other nodes are followed here."""
        return sum(1 for mirror in self._mirrors.values() if mirror.followers)

    def nudge(self, place: Place) -> None:
        """Wake those who follow a turn of this place: there is news beside it."""
        for mirror in list(self._mirrors.values()):
            if (mirror.owner, mirror.turn.conversation_id) == place:
                mirror.nudge()

    async def look(self) -> None:
        """Leave writers that are dead, and keep what was heard of those that may be."""
        for mirror, stream in list(self._streams.items()):
            if mirror.node is None or not self._membership.alive(mirror.node):
                stream.cancel()  # a peer that is paused breaks no stream
            elif self._membership.silent(mirror.node):
                await self._rescue(mirror)

    def look_at(self, owner: str, turn_id: str) -> None:
        """Look at the row of a turn that others have ended, where its writer may not tell of it."""
        mirror = self._mirrors.get((owner, turn_id))
        if mirror is None or mirror.node is None or not self._membership.silent(mirror.node):
            return
        if (stream := self._streams.get(mirror)) is not None:
            stream.cancel()

    async def close(self) -> None:
        """Ask nobody to stop any more."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _hear(self, mirror: Mirror) -> None:
        while True:
            try:
                failure = await self._streamed(mirror)
                if await self._over(mirror, failure):
                    return
            except UnavailableError:
                pass  # nothing is known until the database is back
            except Exception:
                log.exception("a turn elsewhere could not be followed", turn=mirror.turn.id)
            await asyncio.sleep(LOOK)

    async def _streamed(self, mirror: Mirror) -> Failure | None:
        """Follow a turn at its writer, to its end, or until that is lost."""
        mirror.node = await self._members.writer(mirror.owner, mirror.turn.id)
        address = mirror.node and self._membership.where(mirror.node)
        now = asyncio.get_running_loop().time()
        if not address or now < self._unreached.get(address, 0):
            return None
        stream = asyncio.create_task(self._followed(mirror, address))
        self._streams[mirror] = stream
        try:
            await asyncio.wait([stream])
            if stream.cancelled():
                return None
            return stream.result()
        except PeerError:
            self._unreached[address] = now + UNREACHED
            await self._rescue(mirror)
            return None
        finally:
            stream.cancel()
            del self._streams[mirror]

    async def _followed(self, mirror: Mirror, address: str) -> Failure | None:
        pieces = self._peers.follow(address, mirror.owner, mirror.turn.id, mirror.length)
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Failure):
                    return piece
                if isinstance(piece, Progress):
                    mirror.reads(piece.read, piece.total)
                    continue
                mirror.absorb(piece.position, piece.text, piece.marks)
        return None

    async def _rescue(self, mirror: Mirror) -> None:
        """Keep what was told here of an answer whose writer may be lost with the rest of it."""
        if mirror.length:
            await self._members.rescue(mirror.heard())

    async def _over(self, mirror: Mirror, failure: Failure | None) -> bool:
        """Read what is kept of a turn, and tell its end where it has one."""
        try:
            turn = await self._store.turn(mirror.owner, mirror.turn.id)
        except NotFoundError as error:  # it was taken back, or deleted with its conversation
            why = failure or Failure("not_found", str(error))
            turn = replace(mirror.snapshot(), status=Status.FAILED, error=why)
        if turn.status is Status.RUNNING:
            mirror.absorb(0, *row_of(turn.content))
            return False
        mirror.end(turn)
        return True

    def _ask_to_stop(self, mirror: Mirror) -> None:
        task = asyncio.create_task(self._asked(mirror.owner, mirror.turn.id))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _asked(self, owner: str, turn_id: str) -> None:
        """Ask the writer of a turn to stop: by its row, which it reads, and by the bell."""
        while True:
            try:
                await self._members.ask_to_stop(owner, turn_id)
            except UnavailableError:
                await asyncio.sleep(LOOK)
                continue
            self.stopped(owner, turn_id)
            return
