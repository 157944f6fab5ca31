"""Nodes in memory: their table, a bell that only its own process hears, and peers that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from server.nodes.live import NodeLiveTurns
from server.nodes.membership import Membership
from server.nodes.mirror import Mirrors
from server.nodes.notes import Notes
from server.nodes.port import PeerError
from storage.line import Standing, Standings, Where
from storage.model import Failure
from storage.port import Piece, Store, UnavailableError


@dataclass
class Row:
    address: str
    beat: int = 0
    crowd: Mapping[str, int] = field(default_factory=dict)


class Table:
    """The nodes of one database, and who waits at them, in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        #: in order, with the node where each waits
        self.waiting: dict[str, tuple[str | None, Standing]] = {}
        self.withdrawn: set[str] = set()
        self.away = False


class FakeLine:
    """Who waits, as one of the nodes writes and reads it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def write(
        self, node: str | None, joined: Sequence[Standing], left: Collection[str]
    ) -> None:
        self._here()
        for name in left:
            self._table.waiting.pop(name, None)
        self._table.waiting |= {one.id: (node, one) for one in joined}

    async def read(
        self, node: str | None, most: int, places: Collection[Where] | None = None
    ) -> Mapping[Where, Standings]:
        self._here()
        lines: dict[Where, list[tuple[str | None, Standing]]] = {}
        for at, one in self._table.waiting.values():
            if (places is None or one.where in places) and one.id not in self._table.withdrawn:
                lines.setdefault(one.where, []).append((at, one))
        return {
            where: Standings(
                sorted((one for _, one in line), key=lambda one: not one.urgent)[:most],
                len(line),
                any(at != node for at, _ in line),
            )
            for where, line in lines.items()
        }

    async def withdraw(self, owner: str, conversation: str, waiting_id: str) -> bool:
        _, one = self._table.waiting.get(waiting_id, (None, None))
        if one is None or one.where != (owner, conversation):
            return False
        self._table.withdrawn.add(waiting_id)
        return True

    async def of(self, node: str | None) -> Mapping[str, tuple[Where, bool]]:
        return {
            name: (one.where, name in self._table.withdrawn)
            for name, (at, one) in self._table.waiting.items()
            if at == node
        }

    async def sweep(self) -> Collection[Where]:
        gone = {
            n: one for n, (at, one) in self._table.waiting.items() if at not in self._table.rows
        }
        for name in gone:
            del self._table.waiting[name]
        return {one.where for one in gone.values()}

    def _here(self) -> None:
        if self._table.away:
            raise UnavailableError("away")


class Members:
    """One node's view of it."""

    def __init__(self, table: Table) -> None:
        self.node: str | None = None
        self.line = FakeLine(table)
        self._table = table

    async def join(self, node: str, address: str) -> None:
        self._table.rows[node] = Row(address)
        self.node = node

    async def beat(self, address: str, crowd: Mapping[str, int]) -> Mapping[str, Row] | None:
        if self._table.away:
            raise UnavailableError("away")
        if self.node not in self._table.rows:
            return None
        row = self._table.rows[self.node]
        row.beat, row.address, row.crowd = row.beat + 1, address, dict(crowd)
        return {name: replace(one) for name, one in self._table.rows.items()}

    async def bury(self, node: str, beat: int) -> bool:
        if self._table.rows[node].beat != beat:
            return False
        del self._table.rows[node]
        return True

    async def leave(self) -> None:
        del self._table.rows[str(self.node)]

    async def writer(self, owner: str, turn_id: str) -> str | None:
        raise NotImplementedError

    async def running_elsewhere(self, owner: str) -> list[str]:
        raise NotImplementedError

    async def running_in(self, owner: str, conversation_id: str) -> list[str]:
        raise NotImplementedError

    async def ask_to_stop(self, owner: str, turn_id: str) -> None:
        raise NotImplementedError

    async def stops(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    async def rescue(self, heard: object) -> None:
        raise NotImplementedError


class Bell:
    """Keeps what was rung."""

    hears = True

    def __init__(self) -> None:
        self.rung: list[Sequence[Any]] = []
        self.hearers: list[Callable[[Sequence[Any]], None]] = []

    def ring(self, *told: Any) -> None:
        self.rung.append(told)
        for heard in self.hearers:  # its own too, which changes nothing
            asyncio.get_running_loop().call_soon(heard, told)

    async def test(self) -> None:
        pass

    async def hear(
        self, heard: Callable[[Sequence[Any]], None], missed: Callable[[], None]
    ) -> None:
        raise NotImplementedError


class NoPeers:
    """Everybody is out of reach."""

    async def follow(
        self, address: str, owner: str, turn_id: str, after: int
    ) -> AsyncGenerator[Piece | Failure, None]:
        raise PeerError(f"{address} {owner} {turn_id} {after}")
        yield


def node_of(
    most_waiting: int, table: Table | None = None, bell: Bell | None = None, name: str = "node"
) -> NodeLiveTurns:
    """Return the live turns of a node, of those that have one table and one bell."""
    table, store = table or Table(), cast("Store", None)
    table.rows[name] = Row("")
    members = Members(table)
    members.node = name
    membership = Membership(members)
    mirrors = Mirrors(store, members, membership, NoPeers())
    bell = bell or Bell()
    node = NodeLiveTurns(most_waiting, members, membership, mirrors, bell, Notes(store))
    bell.hearers.append(node.hear_others)
    return node
