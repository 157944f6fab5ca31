"""Files that appear under their names whole and durable, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: what SQLite keeps beside a database, under its name and one of these
BESIDE = ("-wal", "-shm", "-journal")


def beside(path: Path, ending: str) -> Path:
    """Return the file that SQLite keeps beside a database."""
    return path.with_name(path.name + ending)


@contextmanager
def fresh(path: Path) -> Iterator[Path]:
    """Make an empty file of its owner's alone, to become `path`; what is left of it goes."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        if os.geteuid() == 0:  # root works on somebody's files here: they stay theirs
            like = (path if path.exists() else path.parent).stat()
            os.chown(made, like.st_uid, like.st_gid)
        yield made
    finally:
        _remove(made)


def appear(made: Path, path: Path) -> None:
    """Give a file its name, durably. Raises FileExistsError where that is taken."""
    sync(made)
    try:
        path.hardlink_to(made)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system
        if path.exists():
            raise FileExistsError(f"{path} is there") from None
        made.rename(path)
    sync(path.parent)


def replace(made: Path, path: Path) -> None:
    """Put a file in the place of another, durably."""
    sync(made)
    made.replace(path)
    sync(path.parent)


def room(path: Path) -> int:
    """Return how many bytes may still be written to the disk that a file, or a folder, is on."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk.

    Never for a database that this process has open: closing it drops the locks that SQLite holds.
    """
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove(made: Path) -> None:
    for one in (made, *(beside(made, ending) for ending in BESIDE)):
        one.unlink(missing_ok=True)
