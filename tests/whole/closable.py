"""A server that is open until a key is made."""

from __future__ import annotations

from pathlib import Path

from server.core.access.auth import EVERYONE, Auth, new_key
from server.core.clock import microseconds
from storage.keys import KeyFile


class Closable:
    """Doors that are open until a key is made, by another process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys"
        self.auth = Auth(
            (),
            KeyFile(self._path),
            microseconds,
            open_to_all=False,
            until_keyed=True,
            public=False,
        )

    def close(self) -> str:
        """Make a key of those whose all things were, and return it."""
        key, kept = new_key(EVERYONE, microseconds())
        KeyFile(self._path).add(kept)
        return key
