"""Who waits in each conversation, at whichever node: rows, in the order of their calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from storage.line import Standing, Standings, Where
from storage.postgres.database import Database

#: Whose turn is begun next: a node whose first question stands before those of all others that are
#: alive. In what order those of one node are called is its own to know.
NEXT = """NOT EXISTS (
    SELECT FROM waiting w JOIN nodes n ON n.id = w.node
    WHERE w.owner = :owner AND w.conversation = :conversation
    AND w.node <> :node::text AND NOT w.withdrawn AND NOT EXISTS (
        SELECT FROM waiting o
        WHERE o.owner = :owner AND o.conversation = :conversation
        AND o.node = :node::text AND NOT o.withdrawn
        AND (NOT o.urgent, o.key) < (NOT w.urgent, w.key)
    )
)"""
_READ = """
SELECT owner, conversation, id, urgent, prompt, wire, since, count, elsewhere FROM (
    SELECT w.*, row_number() OVER line AS place, count(*) OVER whole AS count,
        bool_or(w.node <> :node::text) OVER whole AS elsewhere
    FROM waiting w JOIN nodes n ON n.id = w.node
    WHERE NOT w.withdrawn AND {which}
    WINDOW whole AS (PARTITION BY w.owner, w.conversation),
        line AS (PARTITION BY w.owner, w.conversation ORDER BY NOT w.urgent, w.key)
) told WHERE place <= :most::bigint ORDER BY owner, conversation, place
"""
_THESE = """(w.owner, w.conversation) IN (
    SELECT * FROM unnest(:owners::text[], :conversations::text[])
)"""


class LineTable:
    """The line of each conversation, as one node writes and reads it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def write(
        self, node: str | None, joined: Sequence[Standing], left: Collection[str]
    ) -> None:
        """Keep who has joined, each behind the one before, and let go of who has left."""
        await self._db.rows(
            """
            WITH gone AS (DELETE FROM waiting WHERE id = ANY(:left::text[]))
            INSERT INTO waiting (id, owner, conversation, node, urgent, prompt, wire, since)
            SELECT id, owner, conversation, :node, urgent, prompt, wire, since
            FROM unnest(:ids::text[], :owners::text[], :conversations::text[], :urgent::boolean[],
                :prompts::text[], :wires::text[], :since::bigint[])
                WITH ORDINALITY AS u (id, owner, conversation, urgent, prompt, wire, since, place)
            ORDER BY place
            ON CONFLICT (id) DO UPDATE SET node = excluded.node
            """,
            node=node,
            left=list(left),
            ids=[one.id for one in joined],
            owners=[one.where[0] for one in joined],
            conversations=[one.where[1] for one in joined],
            urgent=[one.urgent for one in joined],
            prompts=[one.prompt for one in joined],
            wires=[one.wire for one in joined],
            since=[one.since for one in joined],
        )

    async def read(
        self, node: str | None, most: int, places: Collection[Where] | None = None
    ) -> Mapping[Where, Standings]:
        """Return the lines of these places, or of all, as far as anybody waits there."""
        given = {"node": node, "most": most}
        if places is None:
            found = await self._db.rows(_READ.format(which="true"), **given)
        else:
            owners, conversations = map(list, zip(*places, strict=True))
            found = await self._db.rows(
                _READ.format(which=_THESE), owners=owners, conversations=conversations, **given
            )
        lines: dict[Where, Standings] = {}
        for owner, conversation, *told, count, elsewhere in found:
            where = owner, conversation
            before = lines[where].first if where in lines else ()
            lines[where] = Standings((*before, Standing(where, *told)), count, elsewhere)
        return lines

    async def withdraw(self, owner: str, conversation: str, waiting_id: str) -> bool:
        """Take a question back that waits; False where none does of that id, or it has begun."""
        found = await self._db.rows(
            """
            UPDATE waiting SET withdrawn = true
            WHERE id = :waiting AND owner = :owner AND conversation = :conversation
            AND NOT withdrawn AND node IN (SELECT id FROM nodes) RETURNING 1
            """,
            owner=owner,
            conversation=conversation,
            waiting=waiting_id,
        )
        return bool(found)

    async def of(self, node: str | None) -> Mapping[str, tuple[Where, bool]]:
        """Return which questions of a node are kept as waiting, where, and whether withdrawn."""
        found = await self._db.rows(
            "SELECT id, owner, conversation, withdrawn FROM waiting WHERE node = :node", node=node
        )
        return {
            name: ((owner, conversation), withdrawn)
            for name, owner, conversation, withdrawn in found
        }

    async def sweep(self) -> Collection[Where]:
        """Let go of those whose node is none any more; return where they waited."""
        found = await self._db.rows(
            """
            DELETE FROM waiting w WHERE NOT EXISTS (SELECT FROM nodes WHERE id = w.node)
            RETURNING owner, conversation
            """
        )
        return {(owner, conversation) for owner, conversation in found}
