"""The transactions of things stored at upstreams: plain functions of the store's connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from storage.model import UpstreamObject

_MINE = "SELECT key FROM upstream_objects WHERE id = ? AND owner = ? ORDER BY key LIMIT 1"


def remember(
    connection: sqlite3.Connection,
    owner: str,
    objects: Sequence[UpstreamObject],
    now: int,
    under: str | None,
) -> None:
    """Keep whose these are; what is somebody's already stays theirs."""
    parent = None if under is None else connection.execute(_MINE, (under, owner)).fetchone()
    connection.executemany(
        "INSERT INTO upstream_objects (upstream, id, owner, kind, parent, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id, upstream) DO NOTHING",
        [(one.upstream, one.id, owner, one.kind, parent and parent[0], now) for one in objects],
    )


def own(
    connection: sqlite3.Connection, owner: str, ids: Collection[str]
) -> Sequence[UpstreamObject]:
    """Return those of these ids that are an owner's, in the order in which they were kept."""
    found = connection.execute(
        "SELECT id, kind, upstream FROM upstream_objects "
        "WHERE id IN (SELECT value FROM json_each(?)) AND owner = ? ORDER BY key",
        (json.dumps(list(ids)), owner),
    )
    return [UpstreamObject(*row) for row in found]


def has(connection: sqlite3.Connection, owner: str, kind: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM upstream_objects WHERE owner = ? AND kind = ? LIMIT 1", (owner, kind)
    )
    return found.fetchone() is not None


def forget(connection: sqlite3.Connection, owner: str, upstream: str, id_: str) -> None:
    connection.execute(
        "DELETE FROM upstream_objects WHERE id = ? AND upstream = ? AND owner = ?",
        (id_, upstream, owner),
    )


def owners(connection: sqlite3.Connection) -> Sequence[str]:
    """Return everybody who has something: a step along the index for each, not for each thing."""
    found = connection.execute(
        """
        WITH RECURSIVE each (owner) AS (
            SELECT min(owner) FROM upstream_objects
            UNION ALL
            SELECT (SELECT min(owner) FROM upstream_objects o WHERE o.owner > each.owner)
            FROM each WHERE each.owner IS NOT NULL
        )
        SELECT owner FROM each WHERE owner IS NOT NULL
        """
    )
    return [owner for (owner,) in found]
