"""Which nodes there are, and which are dead: heartbeats in rows, and a lease on our own turns."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from server.nodes.port import Members
from storage.port import UnavailableError

log = structlog.get_logger("trialogue.nodes")

#: Seconds between two beats.
BEAT = 1.0
#: Seconds that a beat stands still of one who is dead; fewer where its port refuses as well.
DEATH, DEATH_REFUSED = 5.0, 2.0
#: Seconds behind a beat in which we may tell what we write. With a beat, it is no more than death:
#: so nobody hears from us what others may have declared lost.
HOLD_BACK = 2.0
#: Seconds without a look at the others, after which we know nothing of how long they are silent.
GAP = 3.0
#: Seconds that the database, or a port, may take to answer.
PATIENCE = 1.5


class BuriedError(Exception):
    """We were declared dead: what we wrote is others' to end."""


@dataclass(slots=True)
class _Seen:
    """A node as we see it: since when, by our own clock, its beat is what it is."""

    address: str
    beat: int
    since: float
    #: its connections by owner, at its last beat
    crowd: Mapping[str, int]


class Membership:
    """Our place among the nodes, and what we see of them. No clock is compared with another's."""

    def __init__(
        self,
        members: Members,
        *,
        refuses: Callable[[str], Awaitable[bool]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = members
        self._refuses = refuses or port_refuses
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._beaten_at = self._read_at = float("-inf")
        #: where others reach us; empty until we listen
        self.address = ""
        #: how many connections each owner has here, where that is bounded
        self.crowd: Mapping[str, int] = {}

    @property
    def node(self) -> str | None:
        """As whom we write."""
        return self._members.node

    @property
    def nodes(self) -> int:
        """How many there are, as far as we see."""
        return len(self._seen)

    def held(self, node: str | None) -> bool:
        """Say whether what was begun under this name is ours to tell now."""
        return node == self._members.node and self._now() - self._beaten_at < HOLD_BACK

    def alive(self, node: str) -> bool:
        return node in self._seen

    def where(self, node: str) -> str | None:
        """Return where a node is reached, if it is known to be."""
        seen = self._seen.get(node)
        return seen.address or None if seen else None

    def elsewhere(self, owner: str) -> int:
        """Return how many connections an owner has at other nodes, as of their last beats."""
        return sum(
            seen.crowd.get(owner, 0) for node, seen in self._seen.items() if node != self.node
        )

    def silent(self, node: str) -> bool:
        """Say whether a node has not beaten for so long that it may be dead."""
        seen = self._seen.get(node)
        return seen is None or self._read_at - seen.since >= DEATH_REFUSED

    async def join(self) -> None:
        """Be a node, under a name that none had before. Raises UnavailableError."""
        at = self._now()
        host = "".join(c for c in socket.gethostname() if c.isalnum() or c in ".-")[:64]
        await self._members.join(f"{host}-{secrets.token_hex(6)}", self.address)
        self._beaten_at = at

    async def beat(self) -> None:
        """Beat, and see how the others do. Raises BuriedError, UnavailableError, TimeoutError."""
        began = self._now()
        async with asyncio.timeout(PATIENCE):
            found = await self._members.beat(self.address, self.crowd)
        if found is None:
            raise BuriedError
        self._beaten_at = began
        gap, self._read_at = began - self._read_at > GAP, began
        answered = self._now()
        for node, member in found.items():
            seen = self._seen.get(node)
            if seen is None or gap or seen.beat != member.beat:
                self._seen[node] = _Seen(member.address, member.beat, answered, member.crowd)
        for node in set(self._seen) - set(found):
            del self._seen[node]

    async def bury_the_dead(self) -> None:
        """Declare dead who is; beside the beats, since ports are asked. Raises UnavailableError."""
        for node, seen in list(self._seen.items()):
            if node != self.node and await self._dead(seen):
                await self._bury(node, seen)

    async def leave(self) -> None:
        """Be none of the nodes any more, if the database lets us; else we are found dead."""
        with suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._members.leave()

    async def _dead(self, seen: _Seen) -> bool:
        still = self._read_at - seen.since
        if still < DEATH_REFUSED or still >= DEATH or not seen.address:
            return still >= DEATH
        # One that was begun anew at once answers at its port, and is another.
        began_anew = any(
            one.address == seen.address and one.since > seen.since for one in self._seen.values()
        )
        return began_anew or await self._refuses(seen.address)

    async def _bury(self, node: str, seen: _Seen) -> None:
        if await self._members.bury(node, seen.beat):
            log.warning("a node is dead: its turns are interrupted", node=node)
            self._seen.pop(node, None)


async def port_refuses(address: str) -> bool:
    """Say whether nobody listens at an address; one that does not answer may."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PATIENCE / 3):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
