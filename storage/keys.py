"""API keys, as digests in a small file beside the database; a running server re-reads it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from storage.model import ApiKey
from storage.port import NotFoundError

#: what lies beside a file of keys, under its name and one of these: its lock, and what replaces it
BESIDE_KEYS = (_LOCK, _NEW) = (".lock", ".new")


class KeyFile:
    """A list of keys in JSON, replaced whole and atomically; safe among processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: Sequence[ApiKey] = ()

    @property
    def place(self) -> str:
        """Where they are, in words."""
        return str(self.path)

    def keys(self) -> Sequence[ApiKey]:
        """Return every key there is, revoked ones too; reads only when the file has changed."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return self._keys
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._keys = [_key(row) for row in json.loads(self.path.read_bytes())["keys"]]
            self._seen = seen
        return self._keys

    def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        with self._lock():
            self._write([*self.keys(), key])

    def replace(self, keys: Sequence[ApiKey]) -> None:
        """Keep these keys, and no others."""
        with self._lock():
            self._write(keys)

    def revoke(self, key_id: str, now: int) -> ApiKey:
        """Make a key useless from now on. Raises NotFoundError."""
        with self._lock():
            keys = list(self.keys())
            for place, key in enumerate(keys):
                if key.id == key_id:
                    keys[place] = replace(key, revoked_at=key.revoked_at or now)
                    self._write(keys)
                    return keys[place]
        raise NotFoundError(f"There is no key {key_id!r}.")

    def _write(self, keys: Sequence[ApiKey]) -> None:
        text = json.dumps({"version": 1, "keys": [_row(key) for key in keys]}, indent=1)
        fresh = self.path.with_name(f"{self.path.name}{_NEW}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = os.open(f"{self.path}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _row(key: ApiKey) -> dict[str, Any]:
    return {**asdict(key), "digest": key.digest.hex()}


def _key(row: dict[str, Any]) -> ApiKey:
    return ApiKey(**{**row, "digest": bytes.fromhex(row["digest"])})
