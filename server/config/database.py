"""Where history is kept, as the setting says: a file of SQLite's, or a database of PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from server.config.settings_files import ROUND, SettingsError, leads_round
from storage.postgres.address import SCHEMES, address

_FILE = "sqlite:///"


def checked(url: str) -> str:
    """Return a URL that can be one. Raises ValueError, which does not repeat it."""
    if on_postgres(url):
        address(url)
        return url
    if "://" not in url and url.strip() and not url.startswith((":", "sqlite:")):
        url = f"{_FILE}{url}"  # a bare path
    if not url.startswith(_FILE) or url == _FILE:
        raise ValueError(
            "must be PATH, or sqlite:///PATH (four slashes for an absolute one), "
            "or postgresql://USER@HOST/DATABASE"
        )
    path = file_of(url)
    if leads_round(path):
        raise ValueError(f"{path} {ROUND}")
    return url


def on_postgres(url: str) -> bool:
    """Say whether history is kept in a database of PostgreSQL."""
    return url.partition("://")[0] in SCHEMES


def file_of(url: str) -> Path:
    """Return SQLite's file. Raises SettingsError where history is not kept in one."""
    if on_postgres(url):
        raise SettingsError(f"TRIALOGUE_DATABASE: {shown(url)} is no file")
    return Path(url.removeprefix(_FILE))


def shown(url: str) -> str:
    """Return a URL without its password."""
    return address(url).shown if on_postgres(url) else url
