"""Which adapter keeps history, by the scheme of its URL, and what keeps it from being opened."""

from __future__ import annotations

import sqlite3
from contextlib import AsyncExitStack
from importlib.util import find_spec

from server.config.database import shown
from server.config.settings import Settings, SettingsError
from storage.port import Store, UnavailableError
from storage.sqlite.migrations import SchemaTooNewError
from storage.sqlite.store import SQLiteStore


async def open_store(settings: Settings, stack: AsyncExitStack) -> Store:
    """Open the store that the settings name; the stack closes it.

    Raises SettingsError, one line, and DatabaseInUseError where a server has a file open.
    """
    if settings.on_postgres:
        return await _postgres(settings, stack)
    path = settings.database_path
    try:
        return await stack.enter_async_context(SQLiteStore(path))
    except (OSError, sqlite3.Error, SchemaTooNewError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"TRIALOGUE_DATABASE: {path} cannot be opened: {reason}") from error


async def _postgres(settings: Settings, stack: AsyncExitStack) -> Store:
    need_driver()
    # Only now: who keeps history in a file loads nothing of it, and need not have it.
    from storage.postgres import migrations
    from storage.postgres.store import PostgresStore

    try:
        return await stack.enter_async_context(PostgresStore(settings.database))
    except (UnavailableError, migrations.SchemaTooNewError, migrations.UnfitError) as error:
        where, reason = shown(settings.database), str(error).rstrip(".")
        raise SettingsError(f"TRIALOGUE_DATABASE: {where} cannot be opened: {reason}") from None


def need_driver() -> None:
    """Raise SettingsError where the driver of PostgreSQL is not installed."""
    if find_spec("asyncpg") is None:
        from storage.postgres.address import INSTALL

        raise SettingsError(f"TRIALOGUE_DATABASE: PostgreSQL needs the extra 'postgres': {INSTALL}")
