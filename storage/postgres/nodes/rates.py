"""Allowances of requests that all nodes share: the generic cell rate algorithm as one statement."""

from __future__ import annotations

from storage.postgres.database import Database

#: A time for each owner, by the database's clock alone; a request that is refused changes nothing.
_COUNT = """
WITH clock AS MATERIALIZED (SELECT extract(epoch FROM clock_timestamp())::float8 AS now),
counted AS (
    INSERT INTO rates AS r (owner, full_at)
    SELECT :owner, now + :each::float8 FROM clock
    ON CONFLICT (owner) DO UPDATE
    SET full_at = GREATEST(r.full_at, excluded.full_at - :each::float8) + :each::float8
    WHERE GREATEST(r.full_at, excluded.full_at - :each::float8) + :each::float8
        <= excluded.full_at - :each::float8 + :span::float8 + :each::float8 * 1e-6
    RETURNING full_at
)
SELECT true, full_at - now FROM counted CROSS JOIN clock
UNION ALL
SELECT false, full_at - now FROM rates CROSS JOIN clock
WHERE owner = :owner AND NOT EXISTS (SELECT FROM counted)
"""


class Rates:
    """Counts requests by owner, in a table that a crash of the database empties."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def count(self, owner: str, each: float, span: float) -> tuple[bool, float]:
        """Count a request of an owner, of whom one each `each` seconds may come for ever, and so
        many at once as fit into `span`.

        Return whether it is one of those, and in how many seconds the allowance is full again.
        """
        found = await self._db.row(_COUNT, owner=owner, each=each, span=span)
        # Nothing is found where the row is another's that was not there when we began to look.
        return (bool(found[0]), float(found[1])) if found else (False, span)
