"""Where the API keys are kept."""

from __future__ import annotations

from server.settings import Settings
from storage.keys import KeyFile


def key_file(settings: Settings) -> KeyFile:
    """Return the file of keys that lies beside the database."""
    return KeyFile(settings.database_path.with_suffix(".keys"))
