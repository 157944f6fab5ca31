"""The full-text indexes: which tables there are, and how a text gets into them and out again.

What merges an index writes the whole list of its commonest word at once, and holds the writer
meanwhile. So an index of messages, or of titles, is many partitions: each has the texts of so many
keys, from the first in it to the first in the next.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from storage.unspaced import spaced

#: Keys of one partition, but for one that an older release has filled.
KEYS: Final = 1 << 16
#: The kinds of index, and how their tables are made.
_KINDS: Final = {
    "pieces": "tokenize = 'trigram'",
    "words": "tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2'",
}
_PAGE_BYTES: Final = {"pieces": 1000}


def add(connection: sqlite3.Connection, of: str, key: int, text: str) -> None:
    """Make a text findable; `of` is "message" or "title"."""
    put(connection, of, _partition_for(connection, of, key), key, text)


def remove(connection: sqlite3.Connection, of: str, key: int, text: str) -> None:
    """Undo `add`; `text` is the text that was indexed."""
    take_out(connection, of, _partition_for(connection, of, key), key, text)


def put(connection: sqlite3.Connection, of: str, since: int, key: int, text: str) -> None:
    """Do as `add` does in the partition that begins with the key `since`."""
    for kind, indexed in (("pieces", text), ("words", spaced(text))):
        connection.execute(
            f"INSERT INTO {table(of, kind, since)} (rowid, text) VALUES (?, ?)", (key, indexed)
        )


def take_out(connection: sqlite3.Connection, of: str, since: int, key: int, text: str) -> None:
    """Undo `put`."""
    for kind, indexed in (("pieces", text), ("words", spaced(text))):
        name = table(of, kind, since)
        connection.execute(
            f"INSERT INTO {name} ({name}, rowid, text) VALUES ('delete', ?, ?)", (key, indexed)
        )


def table(of: str, kind: str, since: int) -> str:
    """Return a partition's table of a kind: "pieces" or "words"."""
    return f"{of}_{kind}_{since}" if since else f"{of}_{kind}"


def newest_first(connection: sqlite3.Connection, of: str, below: int) -> Sequence[int]:
    """Return the first keys of the partitions that have keys below one."""
    found = connection.execute(
        "SELECT since FROM search_partitions WHERE of = ? AND since < ? ORDER BY since DESC",
        (of, below),
    )
    return [since for (since,) in found]


def begin_partitions(connection: sqlite3.Connection) -> None:
    """Let what an older release has indexed be the first partition, and be added to no more."""
    for of, kept in (("message", "messages"), ("title", "conversations")):
        connection.execute("INSERT INTO search_partitions VALUES (?, 0)", (of,))
        (last,) = connection.execute(f"SELECT COALESCE(max(key), 0) FROM {kept}").fetchone()
        if last >= KEYS:
            _make(connection, of, last + 1)


def _partition_for(connection: sqlite3.Connection, of: str, key: int) -> int:
    newest, own = connection.execute(
        """
        SELECT (SELECT max(since) FROM search_partitions WHERE of = ?1),
            (SELECT max(since) FROM search_partitions WHERE of = ?1 AND since <= ?2)
        """,
        (of, key),
    ).fetchone()
    if key < newest + KEYS:
        return int(own)
    _make(connection, of, key)
    return key


def _make(connection: sqlite3.Connection, of: str, since: int) -> None:
    connection.execute("INSERT INTO search_partitions VALUES (?, ?)", (of, since))
    for kind, how in _KINDS.items():
        name = table(of, kind, since)
        connection.execute(f"CREATE VIRTUAL TABLE {name} USING fts5 (text, content = '', {how})")
        if (size := _PAGE_BYTES.get(kind)) is not None:
            connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('pgsz', {size})")
