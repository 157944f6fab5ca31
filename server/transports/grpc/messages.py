"""Nouns and turn events as the messages of trialogue.v1, and what is plain JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from trialogue.v1 import conversation_pb2 as pb

from server.core import rendering
from server.core.prompt.preview import Preview
from server.live.news import ConversationEvent, News, Resync
from server.live.turn import Delta, Ended, Progress, Started, TurnEvent
from server.live.waiting import QueueChanged
from storage.model import (
    ContextUse,
    Conversation,
    Failure,
    Hit,
    Message,
    Page,
    Turn,
    Usage,
    text_of,
)

#: Above this a double no longer holds every whole number.
_LARGEST_WHOLE = 1 << 53


class EventFrames:
    """Writes turn events as bytes; followers that share a delta share its bytes."""

    def __init__(self) -> None:
        self._newest: Delta | None = None
        self._frame = b""

    def frame(self, of: TurnEvent) -> bytes:
        if not isinstance(of, Delta):
            return event(of).SerializeToString()
        if of is not self._newest:
            self._frame = event(of).SerializeToString()
            self._newest = of
        return self._frame


def event(of: TurnEvent) -> pb.TurnEvent:
    match of:
        case Delta():
            return pb.TurnEvent(
                conversation_id=of.conversation_id,
                turn_id=of.turn_id,
                cursor=of.cursor,
                delta=_delta(of),
            )
        case Progress():
            read = pb.TurnProgress(read=of.read, total=of.total)
            return pb.TurnEvent(
                conversation_id=of.conversation_id, turn_id=of.turn_id, progress=read
            )
        case Started():
            told = pb.TurnEvent(cursor=of.cursor, started=pb.TurnStarted(turn=turn(of.turn)))
        case Ended():
            told = pb.TurnEvent(cursor=of.cursor, ended=pb.TurnEnded(turn=turn(of.turn)))
    told.conversation_id, told.turn_id = of.turn.conversation_id, of.turn.id
    return told


def news(of: News) -> pb.WatchAllEvent:
    """Return what who watches all is told."""
    match of:
        case ConversationEvent(fate, there):
            return pb.WatchAllEvent(
                type=f"conversation.{fate}",
                conversation_id=there.id,
                conversation=conversation(there),
            )
        case Started() | Ended():
            return pb.WatchAllEvent(
                type="turn.started" if isinstance(of, Started) else "turn.ended",
                conversation_id=of.turn.conversation_id,
                turn=turn(of.turn),
            )
        case QueueChanged(conversation_id, line):
            waiting = [
                pb.WaitingAsk(id=one.id, prompt=one.prompt, wire=one.wire, since=time(one.since))
                for one in line.waiting
            ]
            return pb.WatchAllEvent(
                type="queue.changed",
                conversation_id=conversation_id,
                waiting=waiting,
                waiting_count=line.count,
            )
        case Resync():
            return pb.WatchAllEvent(type="resync")
        case Delta() | Progress():
            raise AssertionError("who watches all hears of beginnings and ends")


def turn(of: Turn) -> pb.Turn:
    return pb.Turn(
        id=of.id,
        conversation_id=of.conversation_id,
        status=of.status.value,
        model=of.model,
        parent_id=of.parent_id,
        question_id=of.question_id,
        answer_id=of.answer_id,
        answer=of.answer,
        finish_reason=of.finish_reason,
        usage=_usage(of.usage) if of.usage else None,
        context=_context(of.context, of.drift),
        error=_error(of.error) if of.error else None,
        created_at=time(of.created_at),
        ended_at=time(of.ended_at),
        parts=None if of.parts is None else _parts(of.parts),
        wire=of.wire,
    )


def _delta(of: Delta) -> pb.TurnDelta:
    if of.part is None:
        return pb.TurnDelta(text=of.text)
    part = pb.Part(
        index=of.index, type=of.part.kind.value, id=of.part.id or "", name=of.part.name or ""
    )
    return pb.TurnDelta(text=of.text, part=part, delta=of.delta)


def conversation(of: Conversation) -> pb.Conversation:
    return pb.Conversation(
        id=of.id,
        title=of.title,
        system_prompt=of.system_prompt,
        model=of.model,
        metadata=struct(of.metadata),
        created_at=time(of.created_at),
        updated_at=time(of.updated_at),
        message_count=of.message_count,
        head_id=of.head_id,
        truncation=of.truncation,
        last_message_at=time(of.last_message_at),
        pinned=of.pinned,
    )


def conversations(of: Page[Conversation]) -> pb.ListConversationsResponse:
    return pb.ListConversationsResponse(
        conversations=map(conversation, of.items), has_more=of.has_more
    )


def message(of: Message) -> pb.Message:
    parts = None if isinstance(of.content, str) else _parts(of.content)
    return pb.Message(
        id=of.id,
        conversation_id=of.conversation_id,
        parent_id=of.parent_id,
        role=of.role.value,
        content=text_of(of.content),
        parts=parts,
        tokens=of.tokens,
        model=of.model,
        turn_id=of.turn_id,
        created_at=time(of.created_at),
        sibling_ids=of.siblings,
        sibling_index=of.siblings.index(of.id) if of.id in of.siblings else 0,
        stands_for=of.stands_for,
    )


def hits(of: Page[Hit]) -> pb.SearchMessagesResponse:
    return pb.SearchMessagesResponse(hits=map(hit, of.items), has_more=of.has_more)


def hit(of: Hit) -> pb.SearchHit:
    return pb.SearchHit(
        message=message(of.message) if of.message else None,
        conversation_id=of.conversation_id,
        title=of.title,
        snippet=of.snippet,
        score=of.score,
    )


def preview(of: Preview) -> pb.PreviewContextResponse:
    told = rendering.preview(of)
    del told["object"]
    lines = [pb.PreviewedMessage(**line) for line in told.pop("messages")]
    return pb.PreviewContextResponse(messages=lines, **told)


def micros(of: Timestamp) -> int:
    """Return a Timestamp as microseconds since 1970."""
    return of.seconds * 1_000_000 + of.nanos // 1000


def messages(of: Page[Message]) -> pb.ListMessagesResponse:
    return pb.ListMessagesResponse(messages=map(message, of.items), has_more=of.has_more)


def time(micros: int | None) -> Timestamp | None:
    """Return microseconds since 1970 as a Timestamp."""
    if micros is None:
        return None
    seconds, fraction = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=fraction * 1000)


def struct(of: Mapping[str, Any]) -> Struct:
    """Return a JSON object as a Struct."""
    written = Struct()
    written.update(dict(of))
    return written


def plain(of: Struct) -> dict[str, Any]:
    """Return a Struct as a JSON object; whole numbers come back whole."""
    return {name: plain_value(value) for name, value in of.fields.items()}


def plain_list(of: ListValue) -> list[Any]:
    """Return a ListValue as a JSON array."""
    return [plain_value(value) for value in of.values]


def plain_value(value: Value) -> Any:
    """Return a Value as JSON."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            whole = number.is_integer() and abs(number) <= _LARGEST_WHOLE
            return int(number) if whole else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return plain(value.struct_value)
        case "list_value":
            return plain_list(value.list_value)
    return None


def _parts(of: Sequence[Mapping[str, Any]]) -> ListValue:
    written = ListValue()
    written.extend([struct(part) for part in of])
    return written


def _usage(of: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=of.prompt_tokens,
        completion_tokens=of.completion_tokens,
        total_tokens=of.total_tokens,
        cached_tokens=of.cached_tokens,
        reasoning_tokens=of.reasoning_tokens,
    )


def _context(of: ContextUse, drift: int | None) -> pb.Context:
    told = {} if of.window_known is None else {"window_known": of.window_known}
    return pb.Context(
        window=of.window,
        budget=of.budget,
        prompt_tokens=of.prompt_tokens,
        messages_included=of.messages_included,
        messages_trimmed=of.messages_trimmed,
        drift=drift,
        counted=of.counted or "",
        **told,
    )


def _error(of: Failure) -> pb.TurnError:
    return pb.TurnError(code=of.code, message=of.message)
