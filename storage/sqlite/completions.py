"""The transactions of stored completions: plain functions of the SQLite store's connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from storage.model import Completion, CompletionQuery, Page
from storage.port import NotFoundError

_COLUMNS = "SELECT c.key, c.id, c.model, c.created_at, c.answer, c.messages FROM completions c"


def keep(connection: sqlite3.Connection, owner: str, new: Completion) -> None:
    (key,) = connection.execute(
        "INSERT INTO completions (owner, id, model, created_at, answer, messages) "
        "VALUES (?, ?, ?, ?, ?, ?) RETURNING key",
        (
            *(owner, new.id, new.model, new.created_at),
            *(json.dumps(new.answer), json.dumps(list(new.messages))),
        ),
    ).fetchone()
    _tag(connection, owner, key, new.metadata)


def find(connection: sqlite3.Connection, owner: str, completion_id: str) -> Completion:
    key = _key(connection, owner, completion_id)
    return _read(connection, connection.execute(f"{_COLUMNS} WHERE c.key = ?", (key,)).fetchone())


def page(
    connection: sqlite3.Connection,
    owner: str,
    wanted: CompletionQuery,
    limit: int,
    after: str | None,
) -> Page[Completion]:
    behind = None if after is None else _key(connection, owner, after)
    joins, given = "", {"owner": owner, "model": wanted.model, "behind": behind, "limit": limit + 1}
    for number, (name, value) in enumerate(wanted.metadata.items()):
        joins += (
            f" JOIN completion_metadata m{number} ON m{number}.completion = c.key AND "
            f"m{number}.owner = :owner AND m{number}.name = :name{number} "
            f"AND m{number}.value = :value{number}"
        )
        given |= {f"name{number}": name, f"value{number}": value}
    of_model = "" if wanted.model is None else "AND c.model = :model"
    order, than = ("ASC", ">") if wanted.oldest_first else ("DESC", "<")
    further = "" if behind is None else f"AND c.key {than} :behind"
    found = connection.execute(
        f"{_COLUMNS}{joins} WHERE c.owner = :owner {of_model} {further} "
        f"ORDER BY c.key {order} LIMIT :limit",
        given,
    ).fetchall()
    read = tuple(_read(connection, row) for row in found[:limit])
    return Page(read, len(found) > limit)


def tag(
    connection: sqlite3.Connection, owner: str, completion_id: str, metadata: Mapping[str, str]
) -> Completion:
    """Put metadata in the place of what there was."""
    key = _key(connection, owner, completion_id)
    connection.execute("DELETE FROM completion_metadata WHERE completion = ?", (key,))
    _tag(connection, owner, key, metadata)
    return find(connection, owner, completion_id)


def delete(connection: sqlite3.Connection, owner: str, completion_id: str) -> None:
    key = _key(connection, owner, completion_id)
    connection.execute("DELETE FROM completions WHERE key = ?", (key,))


def _key(connection: sqlite3.Connection, owner: str, completion_id: str) -> int:
    row = connection.execute(
        "SELECT key FROM completions WHERE owner = ? AND id = ?", (owner, completion_id)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no completion {completion_id!r}.", "completion_id")
    return int(row[0])


def _tag(connection: sqlite3.Connection, owner: str, key: int, metadata: Mapping[str, str]) -> None:
    connection.executemany(
        "INSERT INTO completion_metadata (completion, owner, name, value) VALUES (?, ?, ?, ?)",
        [(key, owner, name, value) for name, value in metadata.items()],
    )


def _read(connection: sqlite3.Connection, row: tuple[int, str, str, int, str, str]) -> Completion:
    key, id_, model, created_at, answer, messages = row
    metadata = connection.execute(
        "SELECT name, value FROM completion_metadata WHERE completion = ? ORDER BY name", (key,)
    )
    return Completion(
        id=id_,
        model=model,
        created_at=created_at,
        answer=json.loads(answer),
        messages=json.loads(messages),
        metadata=dict(metadata.fetchall()),
    )
