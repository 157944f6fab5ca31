"""Whose the things are that were stored at upstreams, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storage.model import UpstreamObject
from storage.postgres.database import Database


async def remember(
    db: Database,
    owner: str,
    objects: Sequence[UpstreamObject],
    now: int,
    under: str | None,
) -> None:
    """Keep whose these are; what is somebody's already stays theirs."""
    await db.rows(
        """
        INSERT INTO upstream_objects (upstream, id, owner, kind, parent, created_at)
        SELECT new.upstream, new.id, :owner, new.kind, (
            SELECT key FROM upstream_objects WHERE id = :under AND owner = :owner
            ORDER BY key LIMIT 1
        ), :now::bigint
        FROM unnest(:upstreams::text[], :ids::text[], :kinds::text[])
            WITH ORDINALITY AS new (upstream, id, kind, place)
        ORDER BY new.place ON CONFLICT (id, upstream) DO NOTHING
        """,
        owner=owner,
        under=under,
        now=now,
        upstreams=[one.upstream for one in objects],
        ids=[one.id for one in objects],
        kinds=[one.kind for one in objects],
    )


async def own(db: Database, owner: str, ids: Collection[str]) -> Sequence[UpstreamObject]:
    """Return those of these ids that are an owner's, in the order in which they were kept."""
    found = await db.rows(
        "SELECT id, kind, upstream FROM upstream_objects "
        "WHERE id = ANY (:ids::text[]) AND owner = :owner ORDER BY key",
        ids=list(ids),
        owner=owner,
    )
    return [UpstreamObject(*row) for row in found]


async def has(db: Database, owner: str, kind: str) -> bool:
    found = await db.row(
        "SELECT 1 FROM upstream_objects WHERE owner = :owner AND kind = :kind LIMIT 1",
        owner=owner,
        kind=kind,
    )
    return found is not None


async def forget(db: Database, owner: str, upstream: str, id_: str) -> None:
    await db.rows(
        "DELETE FROM upstream_objects WHERE id = :id AND upstream = :upstream AND owner = :owner",
        id=id_,
        upstream=upstream,
        owner=owner,
    )


async def owners(db: Database) -> Sequence[str]:
    """Return everybody who has something: a step along the index for each, not for each thing."""
    found = await db.rows(
        """
        WITH RECURSIVE each (owner) AS (
            (SELECT owner FROM upstream_objects ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT (
                SELECT o.owner FROM upstream_objects o WHERE o.owner > each.owner
                ORDER BY o.owner LIMIT 1
            ) FROM each WHERE each.owner IS NOT NULL
        )
        SELECT owner FROM each WHERE owner IS NOT NULL
        """
    )
    return [owner for (owner,) in found]
