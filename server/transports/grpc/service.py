"""ConversationService of trialogue.v1: each method is one call on the core."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from enum import StrEnum
from typing import Any, TypeVar, cast

from google.protobuf.timestamp_pb2 import Timestamp
from trialogue.v1 import conversation_pb2 as pb

from server.core.conversations import Conversations
from server.core.errors import InvalidRequestError
from server.core.turns.parameters import KNOWN, beside
from server.core.turns.questions import Ask, IfBusy, Mode, OnDisconnect, Regenerate
from server.core.turns.tools import ToolResult, checked_options
from server.live.news import News
from server.live.turn import TurnEvent
from server.transports.grpc import messages
from server.transports.grpc.handlers import Caller, Handler, Handlers
from storage.model import Content, Order, Query, Role

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"].full_name

#: What a Timestamp may hold, in seconds since 1970.
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800

Word = TypeVar("Word", bound=StrEnum)
Events = AsyncGenerator[TurnEvent, None]


class ConversationService:
    """Renders the core's answers; keeps nothing."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    def methods(self, calls: Handlers) -> Mapping[str, Handler]:
        frame = messages.EventFrames().frame
        return {
            "Ask": calls.stream(pb.AskRequest, self.ask, frame),
            "FollowTurn": calls.stream(pb.FollowTurnRequest, self.follow, frame, free=True),
            "WatchConversation": calls.stream(
                pb.WatchConversationRequest, self.watch, frame, greet=True, free=True
            ),
            "WatchAll": calls.stream(
                pb.WatchAllRequest,
                self.watch_all,
                lambda event: messages.news(event).SerializeToString(),
                greet=True,
                free=True,
            ),
            "WithdrawAsk": calls.unary(pb.WithdrawAskRequest, self.withdraw),
            "Regenerate": calls.stream(pb.RegenerateRequest, self.regenerate, frame),
            "GetTurn": calls.unary(pb.GetTurnRequest, self.turn),
            "CancelTurn": calls.unary(pb.CancelTurnRequest, self.cancel, free=True),
            "CreateConversation": calls.unary(pb.CreateConversationRequest, self.create),
            "GetConversation": calls.unary(pb.GetConversationRequest, self.get),
            "ListConversations": calls.unary(pb.ListConversationsRequest, self.page),
            "UpdateConversation": calls.unary(pb.UpdateConversationRequest, self.update),
            "DeleteConversation": calls.unary(pb.DeleteConversationRequest, self.delete),
            "ListMessages": calls.unary(pb.ListMessagesRequest, self.messages),
            "SearchMessages": calls.unary(pb.SearchMessagesRequest, self.search),
            "PreviewContext": calls.unary(pb.AskRequest, self.preview),
        }

    async def ask(self, caller: Caller, asked: pb.AskRequest) -> Events:
        question = _question(asked, caller.idempotency_key)
        on_leave = _word(OnDisconnect, asked.on_disconnect, "on_disconnect")
        turn = await self._conversations.ask(
            caller.owner, asked.conversation_id, question, on_leave=on_leave
        )
        return self._follow(caller, turn.id, 0, on_leave, progress=asked.progress)

    async def regenerate(self, caller: Caller, asked: pb.RegenerateRequest) -> Events:
        _named(asked.conversation_id, "conversation_id")
        again = Regenerate(message_id=_given(asked, "message_id"), **_how(asked))
        on_leave = _word(OnDisconnect, asked.on_disconnect, "on_disconnect")
        turn = await self._conversations.regenerate(
            caller.owner, asked.conversation_id, again, on_leave=on_leave
        )
        return self._follow(caller, turn.id, 0, on_leave, progress=asked.progress)

    async def follow(self, caller: Caller, asked: pb.FollowTurnRequest) -> Events:
        turn_id, after = _named(asked.turn_id, "turn_id"), _cursor(asked.after)
        on_leave = OnDisconnect.CONTINUE
        return self._follow(caller, turn_id, after, on_leave, progress=asked.progress)

    async def watch(self, caller: Caller, asked: pb.WatchConversationRequest) -> Events:
        conversation_id = _named(asked.conversation_id, "conversation_id")
        after_turn, cursor = _given(asked, "after_turn_id"), _cursor(asked.after)
        await self._conversations.get(caller.owner, conversation_id)
        after = (after_turn, cursor) if after_turn else None
        watching = self._conversations.watch(
            caller.owner, conversation_id, after=after, queue=False, progress=asked.progress
        )
        return cast("Events", watching)  # without the queue there are turns alone

    async def watch_all(self, caller: Caller, _: pb.WatchAllRequest) -> AsyncGenerator[News, None]:
        return self._conversations.watch_all(caller.owner)

    async def withdraw(
        self, caller: Caller, asked: pb.WithdrawAskRequest
    ) -> pb.WithdrawAskResponse:
        conversation_id = _named(asked.conversation_id, "conversation_id")
        waiting_id = _named(asked.waiting_id, "waiting_id")
        await self._conversations.withdraw(caller.owner, conversation_id, waiting_id)
        return pb.WithdrawAskResponse()

    def _follow(
        self, caller: Caller, turn_id: str, after: int, on_leave: OnDisconnect, *, progress: bool
    ) -> Events:
        return self._conversations.follow(
            caller.owner, turn_id, after=after, on_leave=on_leave, progress=progress
        )

    async def turn(self, caller: Caller, asked: pb.GetTurnRequest) -> pb.Turn:
        turn_id = _named(asked.turn_id, "turn_id")
        return messages.turn(await self._conversations.turn(caller.owner, turn_id))

    async def cancel(self, caller: Caller, asked: pb.CancelTurnRequest) -> pb.Turn:
        turn_id = _named(asked.turn_id, "turn_id")
        return messages.turn(await self._conversations.cancel(caller.owner, turn_id))

    async def create(self, caller: Caller, asked: pb.CreateConversationRequest) -> pb.Conversation:
        made = await self._conversations.create(
            caller.owner,
            id=asked.id or None,
            title=asked.title,
            system_prompt=_given(asked, "system_prompt"),
            model=_given(asked, "model"),
            metadata=messages.plain(asked.metadata),
        )
        return messages.conversation(made)

    async def get(self, caller: Caller, asked: pb.GetConversationRequest) -> pb.Conversation:
        conversation_id = _named(asked.conversation_id, "conversation_id")
        return messages.conversation(await self._conversations.get(caller.owner, conversation_id))

    async def page(
        self, caller: Caller, asked: pb.ListConversationsRequest
    ) -> pb.ListConversationsResponse:
        found = await self._conversations.page(
            caller.owner,
            limit=asked.limit or 20,
            after=asked.after or None,
            q=asked.q or None,
            order=_word(Order, asked.order, "order"),
        )
        return messages.conversations(found)

    async def update(self, caller: Caller, asked: pb.UpdateConversationRequest) -> pb.Conversation:
        conversation_id = _named(asked.conversation_id, "conversation_id")
        fields = ("title", "system_prompt", "model", "head_id", "truncation", "pinned")
        changes = {name: getattr(asked, name) for name in fields if asked.HasField(name)}
        if asked.HasField("metadata"):
            changes["metadata"] = messages.plain(asked.metadata)
        changed = await self._conversations.update(caller.owner, conversation_id, changes)
        return messages.conversation(changed)

    async def delete(
        self, caller: Caller, asked: pb.DeleteConversationRequest
    ) -> pb.DeleteConversationResponse:
        conversation_id = _named(asked.conversation_id, "conversation_id")
        await self._conversations.delete(caller.owner, conversation_id)
        return pb.DeleteConversationResponse()

    async def messages(
        self, caller: Caller, asked: pb.ListMessagesRequest
    ) -> pb.ListMessagesResponse:
        found = await self._conversations.messages(
            caller.owner,
            _named(asked.conversation_id, "conversation_id"),
            leaf=asked.leaf or None,
            limit=asked.limit or 100,
            before=asked.before or None,
        )
        return messages.messages(found)

    async def search(
        self, caller: Caller, asked: pb.SearchMessagesRequest
    ) -> pb.SearchMessagesResponse:
        query = Query(
            asked.q,
            _role(asked.role),
            asked.conversation_id or None,
            _moment(asked, "created_after"),
            _moment(asked, "created_before"),
        )
        found = await self._conversations.search(
            caller.owner, query, limit=asked.limit or 20, after=asked.after or None
        )
        return messages.hits(found)

    async def preview(self, caller: Caller, asked: pb.AskRequest) -> pb.PreviewContextResponse:
        conversation_id = _named(asked.conversation_id, "conversation_id")
        question = _question(asked, None)
        found = await self._conversations.preview(caller.owner, conversation_id, question)
        return messages.preview(found)


def _role(given: str) -> Role | None:
    try:
        return Role(given) if given else None
    except ValueError:
        raise InvalidRequestError(f"role must be one of {', '.join(Role)}.", "role") from None


def _moment(asked: pb.SearchMessagesRequest, field: str) -> int | None:
    """Return a time in microseconds since 1970, or None where it is not set."""
    given: Timestamp | None = _given(asked, field)
    if given is None:
        return None
    if not (_YEAR_1 <= given.seconds < _YEAR_10000 and 0 <= given.nanos < 1_000_000_000):
        raise InvalidRequestError(f"{field} must be from year 1 to year 9999.", field)
    return messages.micros(given)


def _question(asked: pb.AskRequest, idempotency_key: str | None) -> Ask:
    return Ask(
        _content(asked),
        parent_id=_given(asked, "parent_id"),
        system_prompt=_given(asked, "system_prompt"),
        idempotency_key=idempotency_key,
        options=_options(asked),
        tool_results=tuple(ToolResult(one.tool_call_id, one.content) for one in asked.tool_results),
        **_how(asked),
    )


def _options(asked: pb.AskRequest) -> dict[str, Any]:
    given: dict[str, Any] = {"reasoning_effort": _given(asked, "reasoning_effort")}
    if asked.HasField("tools"):
        given["tools"] = messages.plain_list(asked.tools)
    if asked.HasField("tool_choice"):
        given["tool_choice"] = messages.plain_value(asked.tool_choice)
    if asked.HasField("response_format"):
        given["response_format"] = messages.plain(asked.response_format)
    return checked_options(given)


def _content(asked: pb.AskRequest) -> Content:
    if asked.HasField("content"):
        if asked.prompt:
            raise InvalidRequestError("Give either prompt or content.", "content")
        return messages.plain_list(asked.content)
    return asked.prompt if asked.tool_results else _named(asked.prompt, "prompt")


def _how(asked: pb.AskRequest | pb.RegenerateRequest) -> dict[str, Any]:
    """Return what both ways to ask say about the answer."""
    names = ("model", "max_tokens", "temperature", "top_p", "seed")
    shape = ("character", "instruction_template", "prompt_template")
    how: dict[str, Any] = {name: _given(asked, name) for name in (*names, *shape)}
    extra = messages.plain(asked.extra) if asked.HasField("extra") else None
    return how | {
        "extra": beside({name: _given(asked, name) for name in KNOWN}, extra),
        "mode": _word(Mode, asked.mode, "mode") if asked.mode else None,
        "stop": tuple(asked.stop),
        "if_busy": _word(IfBusy, asked.if_busy, "if_busy"),
    }


def _given(asked: Any, field: str) -> Any:
    """Return an optional field, or None where it is not set."""
    return getattr(asked, field) if asked.HasField(field) else None


def _named(value: str, field: str) -> str:
    if not value:
        raise InvalidRequestError(f"{field} is missing.", field)
    return value


def _cursor(value: int) -> int:
    if value < 0:
        raise InvalidRequestError("after must not be negative.", "after")
    return value


def _word(kind: type[Word], given: str, field: str) -> Word:
    """Return a word of this vocabulary; none is its first."""
    try:
        return kind(given) if given else next(iter(kind))
    except ValueError:
        raise InvalidRequestError(f"{field} must be one of {', '.join(kind)}.", field) from None
