"""Stored completions of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from storage.model import Completion, CompletionQuery, Page
from storage.port import NotFoundError
from storage.postgres.database import Database, Row

_COLUMNS = """
    SELECT c.id, c.model, c.created_at, c.answer, c.messages, (
        SELECT COALESCE(array_agg(ARRAY[name, value] ORDER BY name), '{}')
        FROM completion_metadata WHERE completion = c.key
    ) FROM completions c
"""
_TAGGED = """
    INSERT INTO completion_metadata (completion, owner, name, value)
    SELECT one.key, :owner, m.name, m.value
    FROM one CROSS JOIN unnest(:names::text[], :texts::text[]) AS m (name, value)
"""


async def keep(db: Database, owner: str, new: Completion) -> None:
    await db.rows(
        f"""
        WITH one AS (
            INSERT INTO completions (owner, id, model, created_at, answer, messages)
            VALUES (:owner, :id, :model, :created_at, :answer, :messages) RETURNING key
        ) {_TAGGED}
        """,
        owner=owner,
        id=new.id,
        model=new.model,
        created_at=new.created_at,
        answer=json.dumps(new.answer),
        messages=json.dumps(list(new.messages)),
        **_pairs(new.metadata),
    )


async def find(db: Database, owner: str, completion_id: str) -> Completion:
    found = await db.row(
        f"{_COLUMNS} WHERE c.owner = :owner AND c.id = :id", owner=owner, id=completion_id
    )
    if found is None:
        raise _none(completion_id)
    return _read(found)


async def page(
    db: Database, owner: str, wanted: CompletionQuery, limit: int, after: str | None
) -> Page[Completion]:
    if after is not None:
        await find(db, owner, after)
    joins, given = "", {"owner": owner, "model": wanted.model, "after": after}
    for number, (name, value) in enumerate(wanted.metadata.items()):
        joins += (
            f" JOIN completion_metadata m{number} ON m{number}.completion = c.key AND "
            f"m{number}.owner = :owner AND m{number}.name = :name{number} "
            f"AND left(m{number}.value, 200) = left(:value{number}, 200) "
            f"AND m{number}.value = :value{number}"
        )
        given |= {f"name{number}": name, f"value{number}": value}
    of_model = "" if wanted.model is None else "AND c.model = :model"
    order, than = ("ASC", ">") if wanted.oldest_first else ("DESC", "<")
    behind = "(SELECT key FROM completions WHERE owner = :owner AND id = :after)"
    further = "" if after is None else f"AND c.key {than} {behind}"
    found = await db.rows(
        f"{_COLUMNS}{joins} WHERE c.owner = :owner {of_model} {further} "
        f"ORDER BY c.key {order} LIMIT :limit",
        **given,
        limit=limit + 1,
    )
    return Page(tuple(_read(row) for row in found[:limit]), len(found) > limit)


async def tag(
    db: Database, owner: str, completion_id: str, metadata: Mapping[str, str]
) -> Completion:
    """Put metadata in the place of what there was."""
    await db.rows(
        f"""
        WITH one AS MATERIALIZED (
            SELECT key FROM completions WHERE owner = :owner AND id = :id FOR UPDATE
        ), gone AS (
            DELETE FROM completion_metadata USING one
            WHERE completion = one.key AND name <> ALL (:names::text[])
        )
        {_TAGGED} ON CONFLICT (completion, name) DO UPDATE SET value = excluded.value
        """,
        owner=owner,
        id=completion_id,
        **_pairs(metadata),
    )
    return await find(db, owner, completion_id)


async def delete(db: Database, owner: str, completion_id: str) -> None:
    gone = await db.row(
        "DELETE FROM completions WHERE owner = :owner AND id = :id RETURNING key",
        owner=owner,
        id=completion_id,
    )
    if gone is None:
        raise _none(completion_id)


def _none(completion_id: str) -> NotFoundError:
    return NotFoundError(f"There is no completion {completion_id!r}.", "completion_id")


def _pairs(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    return {"names": list(metadata), "texts": list(metadata.values())}


def _read(row: Row) -> Completion:
    id_, model, created_at, answer, messages, metadata = row
    return Completion(
        id=id_,
        model=model,
        created_at=created_at,
        answer=json.loads(answer),
        messages=json.loads(messages),
        metadata=dict(metadata),
    )
