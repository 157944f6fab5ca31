"""What was learnt of models: plain functions of the SQLite store's connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from storage.model import Lesson
from storage.port import LESSONS_KEPT


def lessons(connection: sqlite3.Connection) -> Sequence[Lesson]:
    """Return every lesson, the newest last."""
    found = connection.execute(
        "SELECT upstream, model, ratio, window, window_at FROM lessons ORDER BY rowid"
    )
    return [Lesson(*row) for row in found]


def learn(connection: sqlite3.Connection, lesson: Lesson) -> None:
    """Keep a lesson in the place of an older one on the same model."""
    connection.execute(
        "DELETE FROM lessons WHERE upstream = ? AND model = ?", (lesson.upstream, lesson.model)
    )
    connection.execute(
        "INSERT INTO lessons (upstream, model, ratio, window, window_at) VALUES (?, ?, ?, ?, ?)",
        (lesson.upstream, lesson.model, lesson.ratio, lesson.window, lesson.window_at),
    )
    connection.execute(
        """
        DELETE FROM lessons WHERE rowid <= (
            SELECT rowid FROM lessons ORDER BY rowid DESC LIMIT 1 OFFSET ?
        )
        """,
        (LESSONS_KEPT,),
    )
