"""What was learnt of models, kept in PostgreSQL by one statement each."""

from __future__ import annotations

from collections.abc import Sequence

from storage.model import Lesson
from storage.port import LESSONS_KEPT
from storage.postgres.database import Database


async def lessons(db: Database) -> Sequence[Lesson]:
    """Return every lesson, the newest last."""
    found = await db.rows(
        "SELECT upstream, model, ratio, window_tokens, window_at FROM lessons ORDER BY place"
    )
    return [Lesson(*row) for row in found]


async def learn(db: Database, lesson: Lesson) -> None:
    """Keep a lesson in the place of an older one on the same model.

    What others are at is left to them: no two of us wait for each other.
    """
    await db.rows(
        """
        WITH kept AS (
            INSERT INTO lessons (upstream, model, place, ratio, window_tokens, window_at)
            VALUES (:upstream, :model, nextval('lesson_places'), :ratio, :window, :window_at)
            ON CONFLICT (upstream, model) DO UPDATE SET place = excluded.place,
                ratio = excluded.ratio, window_tokens = excluded.window_tokens,
                window_at = excluded.window_at
            RETURNING upstream, model
        ), old AS (
            SELECT l.upstream, l.model FROM lessons l, kept
            WHERE (l.upstream, l.model) <> (kept.upstream, kept.model) AND l.place <= (
                SELECT place FROM lessons WHERE (upstream, model) <> (:upstream, :model)
                ORDER BY place DESC LIMIT 1 OFFSET :others::bigint
            ) FOR UPDATE OF l SKIP LOCKED
        )
        DELETE FROM lessons l USING old WHERE l.upstream = old.upstream AND l.model = old.model
        """,
        upstream=lesson.upstream,
        model=lesson.model,
        ratio=lesson.ratio,
        window=lesson.window,
        window_at=lesson.window_at,
        others=LESSONS_KEPT - 1,
    )
