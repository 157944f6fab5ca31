"""Where the API keys are kept."""

from __future__ import annotations

from server.settings import Settings
from storage.keys import KeyFile

#: what the name of a file of keys ends in
KEYS = ".keys"


def key_file(settings: Settings) -> KeyFile:
    """Return the file of keys that lies beside the database."""
    return KeyFile(settings.database_path.with_suffix(KEYS))
