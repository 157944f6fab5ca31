"""What owners have used of tokens, by day: plain functions of the SQLite store's connection."""

from __future__ import annotations

import sqlite3

from storage.spending import DAY, MOST


def spend(connection: sqlite3.Connection, owner: str, tokens: int, now: int) -> None:
    """Add tokens to an owner's day; `now` is in microseconds since 1970."""
    if tokens > 0:
        connection.execute(
            "INSERT INTO spending (owner, day, tokens) VALUES (?, ?, ?) "
            "ON CONFLICT (owner, day) DO UPDATE SET tokens = min(tokens + excluded.tokens, ?)",
            (owner, now // DAY, min(tokens, MOST), MOST),
        )


def spent(connection: sqlite3.Connection, owner: str, since: int) -> int:
    """Return what an owner has used since the beginning of the day of `since`."""
    (tokens,) = connection.execute(
        "SELECT total(min(tokens, ?)) FROM spending WHERE owner = ? AND day >= ?",
        (MOST, owner, since // DAY),
    ).fetchone()
    return int(tokens)
