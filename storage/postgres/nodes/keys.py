"""API keys, as digests in a table of the database; every node reads it anew each second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from storage.model import ApiKey
from storage.port import NotFoundError, UnavailableError
from storage.postgres.database import Database
from storage.postgres.nodes.bell import notify

_COLUMNS = "id, owner, digest, created_at, expires_at, revoked_at"
#: What is told where one was made or revoked.
KEYS = "keys"
#: The key that the first start makes: of many that begin at once, one.
FIRST = "key_first"


class KeyTable:
    """What a KeyFile is to one server; `keys` is as of the last `refresh`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._keys: Sequence[ApiKey] = ()

    def keys(self) -> Sequence[ApiKey]:
        """Return every key there is, revoked ones too: the same list for as long as they are."""
        return self._keys

    async def refresh(self) -> None:
        """Read them anew."""
        found = await self._db.rows(f"SELECT {_COLUMNS} FROM api_keys ORDER BY place")
        if (keys := [ApiKey(*row) for row in found]) != self._keys:
            self._keys = keys

    async def add(self, key: ApiKey) -> bool:
        """Keep a new key; False where that id is there already."""
        found = await self._db.rows(
            f"""
            INSERT INTO api_keys ({_COLUMNS})
            VALUES (:id, :owner, :digest, :created_at, :expires_at, :revoked_at)
            ON CONFLICT DO NOTHING RETURNING 1
            """,
            **_values(key),
        )
        await self._changed()
        return bool(found)

    async def revoke(self, key_id: str, now: int) -> ApiKey:
        """Make a key useless from now on. Raises NotFoundError."""
        found = await self._db.row(
            f"""
            UPDATE api_keys SET revoked_at = COALESCE(revoked_at, :now) WHERE id = :id
            RETURNING {_COLUMNS}
            """,
            id=key_id,
            now=now,
        )
        if found is None:
            raise NotFoundError(f"There is no key {key_id!r}.")
        await self._changed()
        return ApiKey(*found)

    async def _changed(self) -> None:
        """Read them anew, and let all nodes do so who hear it; the others do in a second."""
        await self.refresh()
        with suppress(UnavailableError):
            await notify(self._db, "", [[KEYS]])


def _values(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "owner": key.owner,
        "digest": key.digest,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
