"""Whether the files of an open database are still the ones under its name."""

from __future__ import annotations

from pathlib import Path

from storage.port import UnavailableError
from storage.sqlite.files import beside


class Presence:
    """Remembers which files an open database has, and sees when they are moved or replaced.

    It asks for names alone: opening the database once more and closing it would drop the locks
    that SQLite holds.
    """

    def __init__(self, path: Path) -> None:
        real = path.resolve()
        names = (path, beside(real, "-wal"), beside(real, "-shm"))
        self._seen = {name: _identity(name) for name in names}

    @property
    def gone(self) -> bool:
        return any(_identity(name) != seen for name, seen in self._seen.items())

    def check(self) -> None:
        """Raise UnavailableError where a write would go to a file that nobody will find."""
        if self.gone:
            raise UnavailableError(
                "The database cannot be used now: its file was moved, deleted or replaced."
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
