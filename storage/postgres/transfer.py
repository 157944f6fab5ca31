"""Whole conversations out of and into PostgreSQL, an import in steps that are each a statement."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import asyncpg

from storage import rows
from storage.model import Conversation, Message, Status, Turn
from storage.port import AlreadyExistsError, NotFoundError
from storage.portions import check_distinct, steps
from storage.postgres import conversations, messages
from storage.postgres.conversations import NAMED, NOBODY, STEP_ROWS
from storage.postgres.database import Database
from storage.undoing import made_or_undone

Item = TypeVar("Item", Message, Turn)
#: What one statement of an import writes in characters.
STEP_CHARACTERS = 1 << 20
LOOKED_UP_AT_ONCE = 10_000

#: Turns of an import that name their messages; one whose messages are not there is refused.
_BEGUN = """
begun AS (
    INSERT INTO turns (conversation, owner, id, status, model, question, answer, finish_reason,
        prompt_tokens, completion_tokens, context_window, context_budget, context_prompt_tokens,
        context_included, context_trimmed, error_code, error_message, error_status, created_at,
        ended_at, drift, context_counted, context_window_known, cached_tokens, reasoning_tokens,
        options, wire)
    SELECT there.key, :owner, t.id, t.status, t.model,
        CASE WHEN t.answer_id IS NULL OR a.key IS NOT NULL THEN q.key END, a.key,
        t.finish_reason, t.prompt_tokens, t.completion_tokens, t.window_, t.budget, t.sent,
        t.included, t.trimmed, t.error_code, t.error_message, t.error_status, t.created_at,
        t.ended_at, t.drift, t.how_counted, t.window_known, t.cached_tokens, t.reasoning_tokens,
        t.options, t.wire
    FROM there CROSS JOIN unnest(
        :turn_names::text[], :statuses::text[], :turn_models::text[], :questions::text[],
        :answers::text[], :finish_reasons::text[], :prompted::bigint[], :completed::bigint[],
        :windows::bigint[], :budgets::bigint[], :sent::bigint[], :included::bigint[],
        :trimmed::bigint[], :error_codes::text[], :error_messages::text[],
        :error_statuses::integer[], :begun_at::bigint[], :ended_at::bigint[], :drifts::bigint[],
        :how_counted::text[], :windows_known::boolean[], :cached::bigint[], :reasoned::bigint[],
        :options::text[], :wires::text[]
    ) WITH ORDINALITY AS t (
        id, status, model, question_id, answer_id, finish_reason, prompt_tokens,
        completion_tokens, window_, budget, sent, included, trimmed, error_code, error_message,
        error_status, created_at, ended_at, drift, how_counted, window_known, cached_tokens,
        reasoning_tokens, options, wire, place
    )
    LEFT JOIN LATERAL (
        SELECT key FROM kept WHERE id = t.question_id UNION ALL
        SELECT m.key FROM messages m WHERE m.owner = :owner AND m.id = t.question_id
            AND m.conversation = there.key
    ) q ON true
    LEFT JOIN LATERAL (
        SELECT key FROM kept WHERE id = t.answer_id UNION ALL
        SELECT m.key FROM messages m WHERE m.owner = :owner AND m.id = t.answer_id
            AND m.conversation = there.key
    ) a ON true
    ORDER BY t.place RETURNING key, id
), recorded AS (
    INSERT INTO responses (turn, record)
    SELECT begun.key, r.record FROM begun
    JOIN unnest(:turn_names::text[], :records::text[]) AS r (id, record) ON r.id = begun.id
    WHERE r.record IS NOT NULL
)
SELECT count(*) FROM there"""
#: A new conversation with all that is in it: by one statement, where it is not much.
_WHOLE = f"""
WITH ready AS (SELECT 1), {messages.NUMBERED}, there AS (
    INSERT INTO conversations (owner, id, title, words, system_prompt, model, metadata,
        truncation, pinned, created_at, updated_at, active_at, unlisted, head, message_count,
        running)
    SELECT :owner, :conversation, :title, :title_words::text::tsvector, :system_prompt, :model,
        :metadata, :truncation, :pinned::boolean, :made_at::bigint, :updated_at::bigint,
        COALESCE(:newest::bigint, :made_at::bigint), :unlisted::boolean,
        (SELECT key FROM numbered WHERE id = :head), :counted::bigint, :runs::boolean
    ON CONFLICT (owner, id) DO NOTHING RETURNING key
), {messages.KEPT}, {_BEGUN}
"""
#: Some of what is in one that is there, hidden (`importing`) or not.
_STEP = f"""
WITH held AS MATERIALIZED (
    SELECT key FROM conversations WHERE key = :key
    AND owner = CASE WHEN :importing::boolean THEN {NOBODY} ELSE :owner END FOR NO KEY UPDATE
), ready AS MATERIALIZED (SELECT count(*) FROM held), {messages.NUMBERED}, there AS (
    UPDATE conversations c SET message_count = c.message_count + :counted::bigint,
        active_at = CASE c.message_count WHEN 0 THEN COALESCE(:newest::bigint, c.active_at)
            ELSE GREATEST(COALESCE(c.active_at, c.updated_at), :newest::bigint) END,
        running = c.running OR :runs::boolean, head = COALESCE(c.head, (
            SELECT key FROM numbered WHERE id = :head
        ), (
            SELECT key FROM messages m WHERE m.owner = :owner AND m.id = :head
            AND m.conversation = c.key
        )), importing = CASE WHEN :importing::boolean THEN now() END
    FROM held WHERE c.key = held.key RETURNING c.key
), {messages.KEPT}, {_BEGUN}
"""


async def every_message(
    db: Database, owner: str, conversation_id: str, after: str | None, limit: int
) -> Sequence[Message]:
    behind = ""
    if after is not None:
        await messages.message(db, owner, conversation_id, after)
        behind = "AND m.key > (SELECT key FROM messages WHERE owner = :owner AND id = :after)"
    found = await db.rows(
        f"{rows.MESSAGE} WHERE m.conversation = {NAMED} {behind} ORDER BY m.key LIMIT :limit",
        owner=owner,
        conversation=conversation_id,
        after=after,
        limit=limit,
    )
    if not found:
        await conversations.conversation_key(db, owner, conversation_id)
    return [rows.message(row) for row in found]


class Imports:
    """Puts whole conversations; one after another of an id.

    What is not whole yet belongs to nobody. Where the process dies in between, whoever starts next
    purges it, or meets its ids, once no step of it was taken for a while.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lines: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def put(
        self,
        owner: str,
        conversation: Conversation,
        said: Sequence[Message],
        begun: Sequence[Turn],
    ) -> bool:
        """Keep what is not there yet of a conversation (see port.py)."""
        check_distinct(said)
        check_distinct(begun)
        line = self._lines.setdefault((owner, conversation.id), asyncio.Lock())
        async with line:
            try:
                return await self._put(owner, conversation, said, begun)
            except AlreadyExistsError:
                await conversations.purge_all(self._db)  # ids of what is hidden are taken
                return await self._put(owner, conversation, said, begun)

    async def _put(
        self,
        owner: str,
        conversation: Conversation,
        said: Sequence[Message],
        begun: Sequence[Turn],
    ) -> bool:
        key = await conversations.find(self._db, owner, conversation.id)
        new = await self._absent("messages", owner, key, said)
        ran = await self._absent("turns", owner, key, begun)
        if key is None:
            small = len(steps(new, ran, STEP_ROWS, STEP_CHARACTERS)) == 1
            put = self._put_whole if small else self._put_hidden
            if await put(owner, conversation, new, ran):
                return True
            return await self._put(owner, conversation, said, begun)
        leads = await self._wants_head(owner, key, conversation.head_id, new)
        if not new and not ran and not leads:
            return False
        await self._add(owner, key, conversation.head_id, new, ran, importing=False)
        return True

    async def _put_whole(
        self,
        owner: str,
        conversation: Conversation,
        said: Sequence[Message],
        begun: Sequence[Turn],
    ) -> bool:
        """Keep a new conversation at once; False where one of its id was made meanwhile."""
        _check_new_head(conversation, said)
        found = await self._refusable(
            _WHOLE,
            conversation=conversation.id,
            head=conversation.head_id,
            **conversations.given(conversation, conversation.title),
            **await _values(owner, said, begun),
        )
        return bool(found)

    async def _put_hidden(
        self,
        owner: str,
        conversation: Conversation,
        said: Sequence[Message],
        begun: Sequence[Turn],
    ) -> bool:
        """Keep a new conversation in steps that nobody sees until the last has shown them all."""
        _check_new_head(conversation, said)
        key = await made_or_undone(
            self._hidden(conversation),
            lambda key: self._db.later(conversations.purge(self._db, key, own_import=True)),
        )
        try:
            await self._add(owner, key, conversation.head_id, said, begun, importing=True)
            shown = await self._show(owner, key, conversation.id)
        except BaseException:
            purged = conversations.purge(self._db, key, own_import=True)
            # It goes on when nobody waits for it; where it cannot, what is left is abandoned.
            await asyncio.gather(self._db.finish(purged), return_exceptions=True)
            raise
        if not shown:
            await conversations.purge(self._db, key, own_import=True)
        return shown

    async def _hidden(self, conversation: Conversation) -> int:
        found = await self._db.row(
            f"""
            INSERT INTO conversations (owner, id, title, words, system_prompt, model, metadata,
                truncation, pinned, created_at, updated_at, active_at, unlisted, importing)
            VALUES ({NOBODY}, :id, :title, :title_words::text::tsvector, :system_prompt, :model,
                :metadata, :truncation, :pinned, :made_at, :updated_at, :made_at, :unlisted, now())
            RETURNING key
            """,
            id=secrets.token_hex(16),
            **conversations.given(conversation, conversation.title),
        )
        if found is None:
            raise AssertionError("an insertion returned no key")
        return int(found[0])

    async def _show(self, owner: str, key: int, conversation_id: str) -> bool:
        """Give a hidden conversation to its owner; False where one of its id was made meanwhile."""
        try:
            shown = await self._db.row(
                "UPDATE conversations SET owner = :owner, id = :id, importing = NULL "
                f"WHERE key = :key AND owner = {NOBODY} RETURNING key",
                owner=owner,
                id=conversation_id,
                key=key,
            )
        except asyncpg.UniqueViolationError:
            return False
        if shown is None:
            raise _gone()
        return True

    async def _add(
        self,
        owner: str,
        key: int,
        head_id: str | None,
        said: Sequence[Message],
        begun: Sequence[Turn],
        *,
        importing: bool,
    ) -> None:
        """Add to a conversation, each step whole for who reads it meanwhile; the last leads."""
        all_steps = steps(said, begun, STEP_ROWS, STEP_CHARACTERS)
        for place, (part, ran) in enumerate(all_steps, start=1):
            found = await self._refusable(
                _STEP,
                key=key,
                importing=importing,
                head=head_id if place == len(all_steps) else None,
                **await _values(owner, part, ran),
            )
            if not found:
                raise _gone()

    async def _refusable(self, sql: str, **values: Any) -> int:
        try:
            found = await self._db.row(sql, **values)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "turns_one_running":
                raise NotFoundError("A turn of it cannot be kept: another is running.") from error
            raise AlreadyExistsError(
                "An id of it stands in another conversation already."
            ) from error
        except (asyncpg.CheckViolationError, asyncpg.NotNullViolationError) as error:
            raise NotFoundError("A message of it stands under none of it.") from error
        return int(found[0]) if found else 0

    async def _absent(
        self, table: str, owner: str, key: int | None, items: Sequence[Item]
    ) -> Sequence[Item]:
        """Return those that are not there yet. Raises AlreadyExistsError for another's id."""
        there: set[str] = set()
        for start in range(0, len(items), LOOKED_UP_AT_ONCE):
            found = await self._db.rows(
                f"SELECT id, conversation FROM {table} "
                "WHERE owner = :owner AND id = ANY (:ids::text[])",
                owner=owner,
                ids=[one.id for one in items[start : start + LOOKED_UP_AT_ONCE]],
            )
            for id_, of in found:
                if of != key:
                    raise AlreadyExistsError(f"{id_!r} stands in another conversation already.")
                there.add(id_)
        return [one for one in items if one.id not in there]

    async def _wants_head(
        self, owner: str, key: int, head_id: str | None, said: Sequence[Message]
    ) -> bool:
        """Say whether a conversation gets this head, having none. Raises NotFoundError for one that
        is none of its messages.
        """
        if head_id is None:
            return False
        found = await self._db.row(
            """
            SELECT EXISTS (
                SELECT FROM messages WHERE owner = :owner AND id = :head AND conversation = c.key
            ) FROM conversations c WHERE c.key = :key AND c.head IS NULL
            """,
            key=key,
            owner=owner,
            head=head_id,
        )
        if found == (False,) and all(one.id != head_id for one in said):
            raise messages.no_message(head_id)
        return found is not None


def _check_new_head(conversation: Conversation, said: Sequence[Message]) -> None:
    head_id = conversation.head_id
    if head_id is not None and all(one.id != head_id for one in said):
        raise messages.no_message(head_id)


def _gone() -> NotFoundError:
    return NotFoundError("The conversation was deleted meanwhile.", "conversation_id")


async def _values(owner: str, said: Sequence[Message], begun: Sequence[Turn]) -> Mapping[str, Any]:
    usages = [one.usage for one in begun]
    errors = [one.error for one in begun]
    counted = [one.created_at for one in said if one.stands_for is None]
    return {
        **await messages.given(said),
        "owner": owner,
        "counted": len(counted),
        "newest": max(counted, default=None),
        "runs": any(one.status is Status.RUNNING for one in begun),
        "turn_names": [one.id for one in begun],
        "records": [rows.object_column(one.record) for one in begun],
        "statuses": [one.status for one in begun],
        "turn_models": [one.model for one in begun],
        "questions": [one.question_id for one in begun],
        "answers": [one.answer_id for one in begun],
        "finish_reasons": [one.finish_reason for one in begun],
        "prompted": [usage and usage.prompt_tokens for usage in usages],
        "completed": [usage and usage.completion_tokens for usage in usages],
        "windows": [one.context.window for one in begun],
        "budgets": [one.context.budget for one in begun],
        "sent": [one.context.prompt_tokens for one in begun],
        "included": [one.context.messages_included for one in begun],
        "trimmed": [one.context.messages_trimmed for one in begun],
        "error_codes": [error and error.code for error in errors],
        "error_messages": [error and error.message for error in errors],
        "error_statuses": [error and error.status for error in errors],
        "begun_at": [one.created_at for one in begun],
        "ended_at": [one.ended_at for one in begun],
        "drifts": [one.drift for one in begun],
        "how_counted": [one.context.counted for one in begun],
        "windows_known": [one.context.window_known for one in begun],
        "cached": [usage and usage.cached_tokens for usage in usages],
        "reasoned": [usage and usage.reasoning_tokens for usage in usages],
        "options": [rows.options_column(one) for one in begun],
        "wires": [one.wire for one in begun],
    }
