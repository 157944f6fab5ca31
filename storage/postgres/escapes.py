"""Text as PostgreSQL can keep it: a NUL, which it refuses, is escaped, and the escape too."""

from __future__ import annotations

from typing import Any

#: Stands before a digit in kept text: 0 for a NUL, 1 for itself. No text that people write has it.
ESCAPE = "\x1a"


def kept(value: Any) -> Any:
    """Return a value, or each of a list, as it is kept; what is put together stays so."""
    if type(value) is list:
        return [kept(one) for one in value]
    if not isinstance(value, str):
        return value
    if ESCAPE in value:
        value = value.replace(ESCAPE, f"{ESCAPE}1")
    return value.replace("\x00", f"{ESCAPE}0") if "\x00" in value else str(value)


def plain(value: Any) -> Any:
    """Return a value as it was before it was kept."""
    if type(value) is not str or ESCAPE not in value:
        return value
    return value.replace(f"{ESCAPE}0", "\x00").replace(f"{ESCAPE}1", ESCAPE)
