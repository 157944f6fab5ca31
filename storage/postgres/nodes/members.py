"""The nodes of one database: which there are, whose turns they write, and who is to stop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storage.parts import marks_json
from storage.port import Piece, UnavailableError
from storage.postgres.database import Database
from storage.postgres.nodes.line import LineTable

_ELSEWHERE = """
SELECT t.id FROM turns t JOIN conversations c ON c.key = t.conversation
WHERE t.status = 'running' AND t.owner = :owner AND c.owner = t.owner
AND t.node IS DISTINCT FROM :node
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as its row says: where it is reached, how often it has beaten, and how many
    connections it has of each owner.
    """

    address: str
    beat: int
    crowd: Mapping[str, int] = field(default_factory=dict)


class Members:
    """The table of nodes, as one of them uses it.

    A node's id is of one process and one life of it: who was declared dead comes back under
    another, so that nothing of before can be taken for its own.
    """

    def __init__(self, db: Database) -> None:
        """`db` is for this alone: a beat must not wait behind a slow statement."""
        self._db = db
        self.line = LineTable(db)
        #: as whom we write turns; None: as nobody, whose turns anybody may end
        self.node: str | None = None

    async def join(self, node: str, address: str) -> None:
        """Be one of the nodes from now on."""
        found = await self._db.rows(
            """
            INSERT INTO nodes (id, address)
            SELECT :node, :address WHERE NOT EXISTS (SELECT FROM moving) RETURNING 1
            """,
            node=node,
            address=address,
        )
        if not found:
            raise UnavailableError("History is being migrated to this database.")
        self.node = node

    async def beat(self, address: str, crowd: Mapping[str, int]) -> Mapping[str, Member] | None:
        """Count our beat up and return all nodes; None where we are none any more."""
        found = await self._db.rows(
            """
            WITH mine AS (
                UPDATE nodes SET beat = beat + 1, address = :address, crowd = :crowd
                WHERE id = :node RETURNING id
            )
            SELECT id, address, beat, crowd FROM nodes WHERE EXISTS (SELECT FROM mine)
            """,
            node=self.node,
            address=address,
            crowd=json.dumps(crowd),
        )
        return {
            node: Member(where, beat, json.loads(told)) for node, where, beat, told in found
        } or None

    async def bury(self, node: str, beat: int) -> bool:
        """Declare a node dead unless it has beaten meanwhile; return whether we did."""
        found = await self._db.rows(
            "DELETE FROM nodes WHERE id = :node AND beat = :beat RETURNING 1", node=node, beat=beat
        )
        return bool(found)

    async def leave(self) -> None:
        """Be none of the nodes any more."""
        node, self.node = self.node, None
        if node is not None:
            await self._db.rows("DELETE FROM nodes WHERE id = :node", node=node)

    async def writer(self, owner: str, turn_id: str) -> str | None:
        """Return which node writes a turn; None where none does."""
        found = await self._db.row(
            """
            SELECT node FROM turns WHERE owner = :owner AND id = :turn AND status = 'running'
            """,
            owner=owner,
            turn=turn_id,
        )
        return None if found is None else found[0]

    async def running_elsewhere(self, owner: str) -> Sequence[str]:
        """Return the turns of an owner that other nodes write, in conversations that are listed."""
        found = await self._db.rows(
            f"{_ELSEWHERE} AND NOT c.unlisted ORDER BY t.key", owner=owner, node=self.node
        )
        return [turn_id for (turn_id,) in found]

    async def running_in(self, owner: str, conversation_id: str) -> Sequence[str]:
        """Return the turns of a conversation that other nodes write."""
        found = await self._db.rows(
            f"{_ELSEWHERE} AND c.id = :conversation ORDER BY t.key",
            owner=owner,
            node=self.node,
            conversation=conversation_id,
        )
        return [turn_id for (turn_id,) in found]

    async def ask_to_stop(self, owner: str, turn_id: str) -> None:
        """Let whoever writes a turn stop; it reads so, should it not hear."""
        await self._db.rows(
            """
            UPDATE turns SET stop = true
            WHERE owner = :owner AND id = :turn AND status = 'running' AND NOT stop
            """,
            owner=owner,
            turn=turn_id,
        )

    async def stops(self) -> Sequence[tuple[str, str]]:
        """Return the turns of ours, with their owners, that we were asked to stop."""
        found = await self._db.rows(
            "SELECT owner, id FROM turns WHERE status = 'running' AND stop AND node = :node",
            node=self.node,
        )
        return [(owner, turn_id) for owner, turn_id in found]

    async def rescue(self, heard: Piece) -> None:
        """Keep all that was heard of a running answer whose writer is lost, if it is the most."""
        await self._db.rows(
            """
            INSERT INTO rescues AS r (turn, text, marks)
            SELECT key, :text, :marks FROM turns
            WHERE owner = :owner AND id = :turn AND status = 'running'
            ON CONFLICT (turn) DO UPDATE SET text = excluded.text, marks = excluded.marks
            WHERE length(excluded.text) > length(r.text)
            """,
            owner=heard.owner,
            turn=heard.turn_id,
            text=heard.text,
            marks=marks_json(heard.marks),
        )

    async def secret(self) -> str:
        """Return what nodes show each other."""
        found = await self._db.row("SELECT secret FROM cluster")
        if found is None:
            raise UnavailableError("The database has no secret for its nodes.")
        return str(found[0])
