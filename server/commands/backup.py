"""The commands backup and restore: a copy of the database and of the keys beside it."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from server.commands import protected_files
from server.config.database import shown
from server.config.keyring import KEYS, key_file
from server.config.settings import Settings, SettingsError
from storage.sqlite.backup import Copied, begin_in_place, copy, put_in_place
from storage.sqlite.files import appear, beside, fresh, replace
from storage.sqlite.migrations import SchemaTooNewError
from storage.sqlite.opening import DatabaseInUseError, Lock


def backup(settings: Settings, file: Path, *, force: bool) -> int:
    """Copy the database of a server that runs, or of none, and the keys; print what was done."""
    if settings.on_postgres:
        raise _by_its_own(settings, f"pg_dump --format=custom --file={file}")
    path, file = _real(settings.database_path), _real(file)
    keys, keys_copy = key_file(settings).path, _keys_of(file)
    if not path.is_file():
        raise SettingsError(f"TRIALOGUE_DATABASE: there is no database {path}")
    protected_files.refuse(settings, file)
    protected_files.refuse_keys(settings, keys_copy)
    _refuse_taken(file, force=force)
    place = replace if force else appear
    with _told(file), fresh(file) as made:
        copied = copy(path, made, _CopyProgress("copied"))
        if keys.exists():
            _place_bytes(keys, keys_copy, place)
        else:
            keys_copy.unlink(missing_ok=True)
        place(made, file)
    print(f"{file}: {_holds(copied)}, checked")
    if keys_copy.exists():
        print(f"{keys_copy}: the API keys, as digests; keep it with the copy")
    return 0


def restore(settings: Settings, file: Path) -> int:
    """Put a checked copy in the place of the database, which moves aside; print what was done."""
    if settings.on_postgres:
        raise _by_its_own(settings, f"pg_restore --clean --if-exists {file} --dbname")
    path, file = _real(settings.database_path), _real(file)
    if not file.is_file():
        raise SettingsError(f"{file}: there is no such file")
    protected_files.refuse_name(path)
    if path.exists() and path.samefile(file):
        raise SettingsError(f"{file} is the database itself")
    aside = path.with_name(f"{path.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    with _told(file), ExitStack() as stack:
        there = path.exists()
        if there:
            stack.enter_context(Lock(path))
        made = stack.enter_context(fresh(path))
        copied = copy(file, made, _CopyProgress("restored"), still=True)
        (put_in_place if there else begin_in_place)(made, path, aside)
    print(f"{path}: {_holds(copied)}, as in {file}")
    for moved in sorted(path.parent.glob(f"{aside.name}*")):
        print(f"{moved}: what was there before; nothing of it was deleted")
    print(_restored_keys(settings, _keys_of(file)))
    return 0


def _restored_keys(settings: Settings, kept: Path) -> str:
    """Bring the keys back where there are none; say what became of them."""
    keys = key_file(settings).path.absolute()
    if keys.exists():
        return f"{keys}: left as it is, so that no revoked key opens a door again"
    if not kept.exists():
        return f"{keys}: there is none; 'trialogue keys create NAME' makes one"
    with _told(kept):
        _place_bytes(kept, keys, appear)
    return f"{keys}: the API keys, as in {kept}"


def _by_its_own(settings: Settings, command: str) -> SettingsError:
    """Return what a database is copied by that has programs of its own for that."""
    return SettingsError(
        f"TRIALOGUE_DATABASE: PostgreSQL is copied by its own programs: "
        f"{command} {shown(settings.database)}"
    )


def _keys_of(file: Path) -> Path:
    return beside(file, KEYS)


def _place_bytes(source: Path, target: Path, place: Callable[[Path, Path], None]) -> None:
    with fresh(target) as made:
        made.write_bytes(source.read_bytes())
        place(made, target)


def _real(path: Path) -> Path:
    """Return where a path leads; one that leads round in a circle stays as it is."""
    return Path(os.path.realpath(path))


def _refuse_taken(file: Path, *, force: bool) -> None:
    for taken in (beside(file, "-wal"), beside(file, "-journal")):
        if taken.exists():
            raise SettingsError(f"{taken} is there: {file} is in use; choose another name")
    for taken in (file, _keys_of(file)):
        if (taken.exists() or taken.is_symlink()) and not (force and taken.is_file()):
            raise SettingsError(f"{taken} is there already; --force replaces it")


def _holds(copied: Copied) -> str:
    return (
        f"{copied.conversations:,} conversations, {copied.messages:,} messages, "
        f"{copied.bytes / 1e6:,.1f} MB"
    )


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Turn what cannot be done into one line."""
    try:
        yield
    except DatabaseInUseError:
        raise SettingsError(
            "TRIALOGUE_DATABASE: a server has it open; stop it, restore, and start it again"
        ) from None
    except FileExistsError as error:
        raise SettingsError(f"{error.filename2 or error}: it appeared meanwhile") from error
    except SchemaTooNewError as error:
        raise SettingsError(f"{file}: {error}") from error
    except sqlite3.Error as error:
        raise SettingsError(f"{file}: {error}") from error
    except OSError as error:
        raise SettingsError(f"{error.filename or file}: {error.strerror}") from error


class _CopyProgress:
    """Says on a terminal how far a copy is."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, done: int, pages: int) -> None:
        if sys.stderr.isatty():
            percent = 100 * done // max(pages, 1)
            end = "; checking\n" if done == pages else ""
            print(f"\r{percent:3} % {self._what}", end=end, file=sys.stderr, flush=True)
