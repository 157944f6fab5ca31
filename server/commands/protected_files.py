"""Which files are the server's own, so that no copy and no export takes their place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from server.config.keyring import KEYS, key_file
from server.config.settings import Settings, SettingsError
from storage.keys import BESIDE_KEYS
from storage.sqlite.files import BESIDE, beside

_NAMES_OF_KEYS = (KEYS, *(f"{KEYS}{ending}" for ending in BESIDE_KEYS))


def refuse(settings: Settings, file: Path) -> None:
    """Raise SettingsError where a file to be written is the database, or lies beside one.

    Whatever it is called: a link leads there too, and so does another spelling.
    """
    if settings.on_postgres:
        refuse_name(file)
        return
    path = settings.database_path
    if _is(file, path):
        raise SettingsError(f"{file} is the database itself")
    for own in (*_logs(path), *_keys(settings)):
        if _is(file, own):
            raise SettingsError(f"{file} belongs to the database {path}; choose another name")
    refuse_name(file)


def refuse_keys(settings: Settings, file: Path) -> None:
    """Raise SettingsError where the keys of a copy would lie in the place of the server's own."""
    for own in _keys(settings):
        if _is(file, own):
            raise SettingsError(f"{file} has the server's own keys; choose another name")


def refuse_name(file: Path) -> None:
    """Raise SettingsError where a file has the name of what lies beside a database."""
    real = Path(os.path.realpath(file))
    if real.name.endswith(_NAMES_OF_KEYS):
        raise SettingsError(f"{file} has the name of a file of keys; choose another name")
    for ending in BESIDE:
        whole = real.with_name(real.name.removesuffix(ending) or real.name)
        if whole != real and whole.exists():
            raise SettingsError(f"{file} belongs to the database {whole}; choose another name")


def _logs(path: Path) -> Iterator[Path]:
    """Yield what SQLite keeps beside a database, by the name that is given and by its own."""
    for name in (path, Path(os.path.realpath(path))):
        yield from (beside(name, ending) for ending in BESIDE)


def _keys(settings: Settings) -> Iterator[Path]:
    path = key_file(settings).path
    for name in (path, Path(os.path.realpath(path))):
        yield name
        yield from (beside(name, ending) for ending in BESIDE_KEYS)


def _is(one: Path, other: Path) -> bool:
    """Say whether two names are of one file, be it there or not."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False
