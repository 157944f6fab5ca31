"""Our own export: everything as it was; a turn that was being written is interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from server.core import validation
from server.core.archive.fields import RecordFields
from server.core.archive.json_splitter import JsonSlice
from server.core.archive.new_ids import derived
from server.core.archive.records import At, Found
from server.core.errors import InvalidRequestError
from server.core.ids import NEW
from server.core.turns.tools import checked_options
from storage.model import ContextUse, Conversation, Failure, Message, Role, Status, Turn, Usage

FORMAT = "trialogue"
VERSION = 1
TRUNCATIONS = ("trim", "summarize")
_WORDS = {"format": f'"{FORMAT}"'.encode(), "version": str(VERSION).encode()}


def claims(cut: JsonSlice) -> bool:
    """Say whether a file with this in it is ours."""
    if cut.key == "conversations":
        return cut.listed and cut.raw.startswith(b"{")
    return cut.key == "format" and cut.raw == _WORDS["format"]


async def items(cuts: AsyncIterator[JsonSlice]) -> AsyncIterator[JsonSlice]:
    """Yield the conversations of a file. Raises InvalidRequestError for a later version's."""
    async for cut in cuts:
        if cut.listed:
            yield cut
        elif cut.key in _WORDS and cut.raw != _WORDS[cut.key]:
            raise InvalidRequestError(f"Only version {VERSION} of our export is understood.")


def interpret(value: Any, at: At) -> Found:
    """Read a conversation. Raises InvalidRequestError that names the field that is wrong."""
    fields = RecordFields(value)
    conversation = _conversation(fields)
    messages = [_message(one, conversation.id) for one in fields.parts("messages")]
    turns = [_turn(one, conversation.id) for one in fields.parts("turns")]
    _check_links(conversation, messages, turns)
    if any(turn.status is Status.RUNNING for turn in turns):
        conversation, messages, turns = _interrupted(conversation, messages, turns)
        _check_links(conversation, messages, turns)
    return Found(at.index, conversation, messages, turns)


def _conversation(fields: RecordFields) -> Conversation:
    if fields.id("id") == NEW:
        raise fields.refuse("id", "another id: this one asks for a fresh one")
    truncation = fields.maybe(fields.text, "truncation") or TRUNCATIONS[0]
    if truncation not in TRUNCATIONS:
        raise fields.refuse("truncation", f"one of {', '.join(TRUNCATIONS)}")
    return Conversation(
        id=fields.id("id"),
        title=fields.short("title", validation.LONGEST_TITLE),
        system_prompt=fields.maybe(fields.text, "system_prompt"),
        model=fields.maybe(fields.short, "model"),
        metadata=validation.metadata(fields.maybe(fields.object, "metadata") or {}),
        created_at=fields.time("created_at"),
        updated_at=fields.time("updated_at"),
        message_count=fields.maybe(fields.whole, "message_count") or 0,
        head_id=fields.maybe(fields.id, "head_id"),
        truncation=truncation,
        pinned=fields.maybe(fields.flag, "pinned") or False,
    )


def _message(fields: RecordFields, conversation_id: str) -> Message:
    """Read a message; one that names no encoding is counted anew."""
    encoding = fields.maybe(fields.short, "encoding") or ""
    return Message(
        id=fields.id("id"),
        conversation_id=conversation_id,
        parent_id=fields.maybe(fields.id, "parent_id"),
        role=fields.one_of(Role, "role"),
        content=fields.content("content"),
        tokens=fields.whole("tokens") if encoding else 0,
        encoding=encoding,
        model=fields.maybe(fields.short, "model"),
        turn_id=fields.maybe(fields.id, "turn_id"),
        created_at=fields.time("created_at"),
        stands_for=fields.maybe(fields.whole, "stands_for"),
        item=fields.maybe(fields.object, "item"),
    )


def _turn(fields: RecordFields, conversation_id: str) -> Turn:
    context = fields.part("context")
    return Turn(
        id=fields.id("id"),
        conversation_id=conversation_id,
        status=fields.one_of(Status, "status"),
        model=fields.short("model"),
        parent_id=fields.maybe(fields.id, "parent_id"),
        question_id=fields.id("question_id"),
        answer_id=fields.maybe(fields.id, "answer_id"),
        answer="",
        context=ContextUse(
            context.whole("window"),
            context.whole("budget"),
            context.whole("prompt_tokens"),
            context.whole("messages_included"),
            context.whole("messages_trimmed"),
            context.maybe(context.short, "counted"),
            context.maybe(context.flag, "window_known"),
        ),
        created_at=fields.time("created_at"),
        finish_reason=fields.maybe(fields.short, "finish_reason"),
        usage=_usage(fields.maybe(fields.part, "usage")),
        error=_error(fields.maybe(fields.part, "error")),
        ended_at=fields.maybe(fields.time, "ended_at"),
        drift=context.maybe(context.signed, "drift"),
        wire=fields.maybe(fields.short, "wire"),
        record=fields.maybe(fields.object, "record"),
        options=_options(fields),
    ).saying(fields.maybe(fields.content, "parts") or fields.text("answer"))


def _options(fields: RecordFields) -> Mapping[str, Any]:
    try:
        return checked_options(fields.maybe(fields.object, "options") or {})
    except InvalidRequestError as error:
        raise fields.refuse("options", "what an ask may offer") from error


def _usage(fields: RecordFields | None) -> Usage | None:
    if fields is None:
        return None
    return Usage(
        fields.whole("prompt_tokens"),
        fields.whole("completion_tokens"),
        _detail(fields, "prompt_tokens_details", "cached_tokens"),
        _detail(fields, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(fields: RecordFields, of: str, name: str) -> int | None:
    details = fields.maybe(fields.part, of)
    return None if details is None else details.maybe(details.whole, name)


def _error(fields: RecordFields | None) -> Failure | None:
    if fields is None:
        return None
    status = fields.maybe(fields.whole, "status")
    return Failure(fields.short("code"), fields.text("message"), status)


def _check_links(
    conversation: Conversation, messages: Sequence[Message], turns: Sequence[Turn]
) -> None:
    """Refuse an id that stands twice, and one that names nothing of this conversation."""
    seen: set[str | None] = {None}
    for place, message in enumerate(messages):
        _check(message.id not in seen, f"messages[{place}].id", "an id of its own")
        _check(message.parent_id in seen, f"messages[{place}].parent_id", "a message before it")
        seen.add(message.id)
    _check(conversation.head_id in seen, "head_id", "a message of the conversation")
    begun: set[str] = set()
    for place, turn in enumerate(turns):
        _check(turn.id not in begun, f"turns[{place}].id", "an id of its own")
        for name, id_ in (("question_id", turn.question_id), ("answer_id", turn.answer_id)):
            _check(id_ in seen, f"turns[{place}].{name}", "a message of the conversation")
        begun.add(turn.id)


def _check(holds: bool, name: str, must: str) -> None:
    if not holds:
        raise InvalidRequestError(f"{name} must be {must}.", name)


def _interrupted(
    conversation: Conversation, messages: Sequence[Message], turns: Sequence[Turn]
) -> tuple[Conversation, list[Message], list[Turn]]:
    """End the turns that were being written when the file was, with what there is of an answer."""
    kept, ended, head = list(messages), [], conversation.head_id
    answers = {message.turn_id: message for message in messages if message.role is Role.ASSISTANT}
    for turn in turns:
        if turn.status is Status.RUNNING:
            at = max(turn.created_at, conversation.updated_at)
            answer = answers.get(turn.id)
            if answer is None and turn.content:
                answer = _answer(turn, at)
                kept.append(answer)
            answer_id = answer.id if answer else None
            head = answer_id or head if head == turn.question_id else head
            turn = replace(turn, status=Status.INTERRUPTED, answer_id=answer_id, ended_at=at)
        ended.append(turn)
    return replace(conversation, head_id=head), kept, ended


def _answer(turn: Turn, at: int) -> Message:
    return Message(
        id=derived("msg", turn.id),
        conversation_id=turn.conversation_id,
        parent_id=turn.question_id,
        role=Role.ASSISTANT,
        content=turn.content,
        tokens=0,
        encoding="",
        model=turn.model,
        turn_id=turn.id,
        created_at=at,
    )
