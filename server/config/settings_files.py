"""The files that settings stand in: that they are files, and text in UTF-8."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: what is said of a name that no file can be found by
ROUND = "is a symbolic link that leads in a circle; remove it, or let it lead to a file"
_SAVE = "save it anew with the encoding UTF-8"


class SettingsError(Exception):
    """A setting that cannot be: one line that names it and says what it may be."""


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """Turn what a value cannot be into one line that names the setting."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"{setting} {error}") from None


def leads_round(path: Path) -> bool:
    """Say whether symbolic links lead from a path, or from a folder of it, in a circle."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def text_of(file: Path) -> str:
    """Return what stands in a file, without the mark that some editors begin one with.

    Where there is no file that is nothing. Raises SettingsError, which names the file, and OSError.
    """
    if leads_round(file):
        raise SettingsError(f"{file} {ROUND}")
    if not file.is_file():
        return ""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{file}: line {line} is not UTF-8; {_SAVE}") from None
    if "\0" in text:  # as every other byte of UTF-16 is
        raise SettingsError(f"{file}: it is not UTF-8, or no text; {_SAVE}")
    return text
