"""Where the API keys are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.config.settings import Settings, SettingsError
from storage.keys import KeyFile

#: what the name of a file of keys ends in
KEYS = ".keys"
#: said where a file of keys is asked for and there can be none
NO_FILE = "with history on PostgreSQL they are in the database, and no file has them"


def key_file(settings: Settings) -> KeyFile:
    """Return the file of keys that lies beside the database.

    Raises SettingsError where that is no file: a file that one of many servers has is none.
    """
    if settings.on_postgres:
        raise SettingsError(f"keys: {NO_FILE}")
    return KeyFile(settings.database_path.with_suffix(KEYS))


@contextmanager
def told(file: KeyFile) -> Iterator[None]:
    """Turn what keeps a file of keys from being read, or written, into one line that names it."""
    try:
        yield
    except OSError as error:
        raise SettingsError(f"keys {file.path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        why = "it is damaged; bring it back from a backup, or move it away"
        raise SettingsError(f"keys {file.path}: {why}") from error
