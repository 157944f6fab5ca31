"""Nodes in memory: their table, a bell that only its own process hears, and peers that are lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from server.nodes.live import NodeLiveTurns
from server.nodes.membership import Membership
from server.nodes.mirror import Mirrors
from server.nodes.notes import Notes
from server.nodes.port import PeerError
from storage.model import Failure
from storage.port import Piece, Store, UnavailableError


@dataclass
class Row:
    address: str
    beat: int = 0


class Table:
    """The nodes of one database, in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.away = False


class Members:
    """One node's view of it."""

    def __init__(self, table: Table) -> None:
        self.node: str | None = None
        self._table = table

    async def join(self, node: str, address: str) -> None:
        self._table.rows[node] = Row(address)
        self.node = node

    async def beat(self, address: str) -> Mapping[str, Row] | None:
        if self._table.away:
            raise UnavailableError("away")
        if self.node not in self._table.rows:
            return None
        row = self._table.rows[self.node]
        row.beat, row.address = row.beat + 1, address
        return {name: Row(one.address, one.beat) for name, one in self._table.rows.items()}

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

    def ring(self, *told: Any) -> None:
        self.rung.append(told)

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


def node_of(most_waiting: int) -> NodeLiveTurns:
    """Return the live turns of a node that is alone."""
    members, store = Members(Table()), cast("Store", None)
    membership = Membership(members)
    mirrors = Mirrors(store, members, membership, NoPeers())
    return NodeLiveTurns(most_waiting, members, membership, mirrors, Bell(), Notes(store))
