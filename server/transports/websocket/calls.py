"""The frames of a websocket client that are one call on the core, and one frame that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.core import rendering
from server.core.conversations import Conversations
from server.transports import lists
from server.transports.websocket import fields
from server.transports.websocket.fields import Check
from storage.model import Order, Query, Role

#: What REST's PATCH takes.
_CHANGES: Mapping[str, Check] = {
    "title": fields.text,
    "system_prompt": fields.text,
    "model": fields.text,
    "metadata": fields.members,
    "head_id": fields.text,
    "truncation": fields.text,
    "pinned": fields.flag,
}


@dataclass(frozen=True, slots=True)
class CallFrame:
    """A call by its name; `given` has its fields, all of which were understood."""

    kind: str
    given: Mapping[str, Any]

    async def answer(self, core: Conversations, owner: str, own: str) -> dict[str, Any]:
        """Make the call and return the answering frame; `own` is the connection's conversation."""
        call = CALLS[self.kind]
        named = {"conversation_id": own} if call.own else {}
        told = await call.make(core, owner, {**named, **self.given})
        return {"type": call.answers, **told}


def names(kind: str) -> bool:
    """Say whether there is a call of this name."""
    return kind in CALLS


def parse(kind: str, given: Mapping[str, Any]) -> CallFrame:
    """Return the call that a frame's fields say. Raises InvalidRequestError."""
    call = CALLS[kind]
    read = fields.checked(kind, given, call.fields, call.required, call.clearable)
    return CallFrame(kind, call.form(read))


Given = dict[str, Any]


async def _conversations(core: Conversations, owner: str, given: Given) -> Given:
    return lists.conversations(await core.page(owner, **given))


async def _create(core: Conversations, owner: str, given: Given) -> Given:
    return rendering.conversation(await core.create(owner, **given))


async def _conversation(core: Conversations, owner: str, given: Given) -> Given:
    return rendering.conversation(await core.get(owner, given["conversation_id"]))


async def _update(core: Conversations, owner: str, given: Given) -> Given:
    conversation_id = given.pop("conversation_id")
    return rendering.conversation(await core.update(owner, conversation_id, given))


async def _delete(core: Conversations, owner: str, given: Given) -> Given:
    await core.delete(owner, given["conversation_id"])
    return given


async def _withdraw(core: Conversations, owner: str, given: Given) -> Given:
    await core.withdraw(owner, **given)
    return given


async def _messages(core: Conversations, owner: str, given: Given) -> Given:
    return lists.messages(await core.messages(owner, given.pop("conversation_id"), **given))


def _asked(given: Given) -> Given:
    """Keep the question of an ask's fields, and where it would be asked."""
    there = {n: given.pop(n) for n in ("conversation_id",) if n in given}
    return {**there, "question": fields.question(given)}


async def _context(core: Conversations, owner: str, given: Given) -> Given:
    return rendering.preview(await core.preview(owner, given["conversation_id"], given["question"]))


async def _search(core: Conversations, owner: str, given: Given) -> Given:
    query = Query(
        given["q"],
        given.get("role"),
        given.get("conversation_id"),
        given.get("created_after"),
        given.get("created_before"),
    )
    page = {name: given[name] for name in ("limit", "after") if name in given}
    return lists.hits(await core.search(owner, query, **page))


@dataclass(frozen=True, slots=True)
class _Call:
    """How a call is read, made and answered.

    `own`: it is about the connection's own conversation where the frame names none.
    """

    make: Callable[[Conversations, str, Given], Awaitable[Given]]
    answers: str
    fields: Mapping[str, Check]
    required: tuple[str, ...] = ()
    own: bool = False
    clearable: tuple[str, ...] = ()
    form: Callable[[Given], Given] = dict


_CONVERSATION: Mapping[str, Check] = {"conversation_id": fields.text}
_PAGE: Mapping[str, Check] = {"limit": fields.integer, "after": fields.text}

CALLS: Mapping[str, _Call] = {
    "conversations": _Call(
        _conversations,
        "conversations",
        {**_PAGE, "q": fields.text, "order": fields.OneOf(Order)},
    ),
    "create": _Call(
        _create,
        "conversation",
        {
            "id": fields.text,
            **{n: _CHANGES[n] for n in ("title", "system_prompt", "model", "metadata")},
        },
    ),
    "conversation": _Call(_conversation, "conversation", _CONVERSATION, own=True),
    "update": _Call(
        _update,
        "conversation",
        {**_CONVERSATION, **_CHANGES},
        own=True,
        clearable=tuple(_CHANGES),
    ),
    "delete": _Call(_delete, "deleted", _CONVERSATION, ("conversation_id",)),
    "withdraw": _Call(
        _withdraw,
        "withdrawn",
        {**_CONVERSATION, "waiting_id": fields.text},
        ("waiting_id",),
        own=True,
    ),
    "messages": _Call(
        _messages,
        "messages",
        {**_CONVERSATION, "leaf": fields.text, "limit": fields.integer, "before": fields.text},
        own=True,
    ),
    "context": _Call(_context, "context", fields.ASK, own=True, form=_asked),
    "search": _Call(
        _search,
        "search",
        {
            **_CONVERSATION,
            **_PAGE,
            "q": fields.text,
            "role": fields.OneOf(Role),
            "created_after": fields.moment,
            "created_before": fields.moment,
        },
        ("q",),
    ),
}
