"""Finds the responses, conversations and items that a request names: its caller's own, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.core.conversations import Conversations
from server.core.errors import InvalidRequestError, RequestTooLargeError
from server.core.turns.tools import decision
from server.openai_protocol.codec import encode
from server.openai_protocol.errors import ApiError, quote
from server.openai_protocol.fields import Fields
from server.transports.openai.request import Caller
from server.transports.openai.responses.ids import part_id, places, turn_id
from server.transports.openai.responses.input import APPROVAL, REFERENCE, kind_of
from server.transports.openai.responses.items import items_of
from server.transports.openai.stored_objects.ownership import Ownership
from storage.model import Conversation, Message, Turn
from storage.parts import parts_of
from storage.port import NotFoundError


class Finding:
    """What is another's is refused as what is not there."""

    def __init__(
        self, conversations: Conversations, ownership: Ownership, whole_bytes: int
    ) -> None:
        """`whole_bytes`: how much the items that a request only names may be, all copies told."""
        self._whole_bytes = whole_bytes
        self._conversations = conversations
        self._responses = conversations.responses
        self._ownership = ownership

    async def turn(self, caller: Caller, response: str) -> Turn:
        """Return the turn that a response is. Raises ApiError."""
        try:
            return await self._responses.turn(caller.owner, _turn_id(response))
        except (NotFoundError, InvalidRequestError):
            raise no_response(response) from None

    async def previous(self, caller: Caller, response: str) -> Turn:
        """Return the turn to go on from, once it has ended. Raises ApiError."""
        try:
            return await self._responses.ended(caller.owner, _turn_id(response))
        except (NotFoundError, InvalidRequestError):
            raise no_previous(response) from None

    async def conversation(self, caller: Caller, id_: str) -> Conversation:
        """Return a conversation, in whatever list or none. Raises ApiError."""
        try:
            return await self._conversations.get(caller.owner, id_)
        except (NotFoundError, InvalidRequestError):
            raise no_conversation(id_) from None

    async def item(self, caller: Caller, id_: str) -> tuple[Message, dict[str, Any]]:
        """Return the message that an item is of, and the item. Raises ApiError."""
        for message_id, _ in places(id_):
            try:
                message = await self._responses.message(caller.owner, message_id)
            except (NotFoundError, InvalidRequestError):
                continue
            for item in items_of(message):
                if item["id"] == id_:
                    return message, item
        raise no_item(id_)

    async def _decided(self, caller: Caller, item: Fields, items: Sequence[Fields]) -> Fields:
        """Return a decision about a call as the call's result. Raises ApiError."""
        request = str(item.required("approval_request_id"))
        item.required("approve")
        said = decision(bool(item.flag("approve")), item.text("reason"))
        # Of a response that was not stored, the request is sent along, and its id is the call's.
        call: str | None = request
        if all(one.raw("id") != request for one in items):
            message, _ = await self.item(caller, request)
            parts = enumerate(parts_of(message.content))
            named = {part_id(message.id, part, place): part.id for place, (part, _) in parts}
            call = named.get(request)
        result = {"type": "function_call_output", "call_id": call, "output": said}
        return Fields(result, item.where)

    async def resolved(self, caller: Caller, items: Sequence[Fields]) -> list[Fields]:
        """Return items with a copy in the place of each that is only named.

        Files that they name have to be the caller's own at the upstream, too.
        """
        found, copies = [], 0
        for item in items:
            if kind_of(item) == APPROVAL:
                item = await self._decided(caller, item, items)
            elif kind_of(item) == REFERENCE:
                _, copy = await self.item(caller, str(item.required("id")))
                copies += len(encode(copy))
                if copies > self._whole_bytes:
                    raise _too_much(self._whole_bytes, item.where)
                item = Fields(copy, item.where)
            found.append(item)
        files = {id_: "file_id" for item in found for id_ in _files(item.values)}
        if files and await self._ownership.shared(caller):
            await self._ownership.own(caller, files)
        return found


def _too_much(most: int, where: str) -> RequestTooLargeError:
    # A few bytes name an item, and name it again and again: each copy is held, counted and kept.
    return RequestTooLargeError(f"The items that are named are more than {most} bytes.", where)


def no_response(id_: str) -> ApiError:
    return ApiError(f"Response with id '{quote(id_)}' not found.", status=404)


def no_previous(id_: str) -> ApiError:
    return ApiError(
        f"Previous response with id '{quote(id_)}' not found.",
        "previous_response_id",
        "previous_response_not_found",
        404,
    )


def no_conversation(id_: str) -> ApiError:
    return ApiError(f"Conversation with id '{quote(id_)}' not found.", status=404)


def no_item(id_: str) -> ApiError:
    return ApiError(f"Item with id '{quote(id_)}' not found.", status=404)


def _turn_id(response: str) -> str:
    if (found := turn_id(response)) is None:
        raise NotFoundError(f"There is no response {response!r}.")
    return found


def _files(value: Any) -> list[str]:
    """Return the files that are named in an item."""
    match value:
        case dict():
            own = [value["file_id"]] if isinstance(value.get("file_id"), str) else []
            return own + [id_ for inner in value.values() for id_ in _files(inner)]
        case list():
            return [id_ for inner in value for id_ in _files(inner)]
        case _:
            return []
