"""What a node needs of the others: their table in the database, a bell for all, their ports."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from server.live.turn import Progress
from storage.line import Standing, Standings, Where
from storage.model import Failure
from storage.port import Piece


class PeerError(Exception):
    """Another node could not be reached, or was lost."""


class Member(Protocol):
    """A node as its row says."""

    @property
    def address(self) -> str: ...

    @property
    def beat(self) -> int: ...

    @property
    def crowd(self) -> Mapping[str, int]: ...


class LineRows(Protocol):
    """Who waits in each conversation, at whichever node. Any method may raise UnavailableError."""

    async def write(
        self, node: str | None, joined: Sequence[Standing], left: Collection[str]
    ) -> None:
        """Keep who has joined, each behind the one before, and let go of who has left."""
        ...

    async def read(
        self, node: str | None, most: int, places: Collection[Where] | None = None
    ) -> Mapping[Where, Standings]:
        """Return the lines of these places, or of all, as far as anybody waits there."""
        ...

    async def withdraw(self, owner: str, conversation: str, waiting_id: str) -> bool:
        """Take a question back that waits; False where none does of that id, or it has begun."""
        ...

    async def of(self, node: str | None) -> Mapping[str, tuple[Where, bool]]:
        """Return which questions of a node are kept as waiting, where, and whether withdrawn."""
        ...

    async def sweep(self) -> Collection[Where]:
        """Let go of those whose node is none any more; return where they waited."""
        ...


class Members(Protocol):
    """The table of nodes. Any method may raise UnavailableError."""

    node: str | None

    @property
    def line(self) -> LineRows: ...

    async def join(self, node: str, address: str) -> None: ...

    async def beat(self, address: str, crowd: Mapping[str, int]) -> Mapping[str, Member] | None:
        """Count our beat up, tell how many connections each owner has here, and return all nodes;
        None where we are none any more.
        """
        ...

    async def bury(self, node: str, beat: int) -> bool:
        """Declare a node dead unless it has beaten meanwhile; return whether we did."""
        ...

    async def leave(self) -> None: ...

    async def writer(self, owner: str, turn_id: str) -> str | None:
        """Return which node writes a turn; None where none does."""
        ...

    async def running_elsewhere(self, owner: str) -> Sequence[str]:
        """Return the turns of an owner that other nodes write, in conversations that are listed."""
        ...

    async def running_in(self, owner: str, conversation_id: str) -> Sequence[str]:
        """Return the turns of a conversation that other nodes write."""
        ...

    async def ask_to_stop(self, owner: str, turn_id: str) -> None: ...

    async def stops(self) -> Sequence[tuple[str, str]]:
        """Return the turns of ours that we were asked to stop."""
        ...

    async def rescue(self, heard: Piece) -> None:
        """Keep all that was heard of a running answer whose writer is lost, if it is the most."""
        ...


class Bell(Protocol):
    """Rings for all nodes; what is rung may be lost."""

    @property
    def hears(self) -> bool:
        """Whether what others ring is heard now."""
        ...

    def ring(self, *told: Any) -> None: ...

    async def test(self) -> None: ...

    async def hear(
        self, heard: Callable[[Sequence[Any]], None], missed: Callable[[], None]
    ) -> None:
        """Call `heard` with what others ring, until cancelled; `missed` when all is heard again,
        and something may not have been.
        """
        ...


class Peers(Protocol):
    """The other nodes, each at its address."""

    def follow(
        self, address: str, owner: str, turn_id: str, after: int
    ) -> AsyncGenerator[Piece | Progress | Failure, None]:
        """Yield the row of an answer as it grows, to its end; last the failure, if it is one.

        Before the first of it how far its prompt is read, where that is known.

        A turn that is not live there has nothing. Raises PeerError.
        """
        ...
