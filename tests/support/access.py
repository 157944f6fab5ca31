"""Whom a server of a test lets in, and how a caller shows its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.core.access.auth import Auth, configured, new_key
from server.core.clock import microseconds
from storage.keys import KeyFile

#: everybody on this machine, without a key
OPEN_ACCESS = Auth((), None, microseconds, open_to_all=True, public=False)


def locked(keys: str) -> Auth:
    """Let in whoever shows one of these keys: `owner:key,owner:key`."""
    return Auth(configured(keys), None, microseconds, open_to_all=False, public=False)


def bearing(key: str) -> dict[str, str]:
    """Return the header that shows a key, over HTTP and at a websocket's handshake."""
    return {"authorization": f"Bearer {key}"}


#: how often keys are looked at where a test revokes one, in seconds
EAGER = 0.01
#: the code of every error that says to come again later
CODE = "rate_limit_exceeded"
#: what Ann and Bob show, whom `two_keys` lets in
ANN, BOB = bearing("one"), bearing("two")


def two_keys() -> Auth:
    """Let in Ann and Bob, who are to see nothing of each other."""
    return locked("ann:one,bob:two")


class Revocable:
    """A key that can be revoked, and the doors that it opens."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self._file = KeyFile(folder / "keys")
        self.key, self._kept = new_key("ann", microseconds())
        self._file.add(self._kept)
        self.auth = Auth((), self._file, microseconds, open_to_all=False, public=False, **more)
        self.headers = {"authorization": f"Bearer {self.key}"}

    def revoke(self) -> None:
        self._file.revoke(self._kept.id, microseconds())
