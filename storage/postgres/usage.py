"""What owners have used of tokens, by day, on PostgreSQL."""

from __future__ import annotations

from random import randrange

from storage.postgres.database import Database
from storage.postgres.turns import SLOTS
from storage.spending import DAY, MOST


async def spend(db: Database, owner: str, tokens: int, now: int) -> None:
    """Add tokens to an owner's day; `now` is in microseconds since 1970."""
    if tokens > 0:
        await db.rows(
            """
            INSERT INTO spending AS s (owner, day, slot, tokens)
            VALUES (:owner, :day, :slot, :tokens)
            ON CONFLICT (owner, day, slot)
            DO UPDATE SET tokens = LEAST(s.tokens + excluded.tokens, :most::bigint)
            """,
            owner=owner,
            day=now // DAY,
            slot=randrange(SLOTS),  # noqa: S311 - no secret: any row will do
            tokens=min(tokens, MOST),
            most=MOST,
        )


async def spent(db: Database, owner: str, since: int) -> int:
    """Return what an owner has used since the beginning of the day of `since`."""
    found = await db.row(
        "SELECT COALESCE(sum(tokens), 0) FROM spending WHERE owner = :owner AND day >= :day",
        owner=owner,
        day=since // DAY,
    )
    return int(found[0]) if found else 0
