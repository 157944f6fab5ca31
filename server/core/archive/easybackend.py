"""ChatGPT EasyBackend's histories: chats as text, one after another, without ids or times."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

from server.core import validation
from server.core.archive.json_splitter import JsonSlice
from server.core.archive.new_ids import derived, fits
from server.core.archive.reassemble import gathered
from server.core.archive.records import At, Found
from server.core.errors import InvalidRequestError
from storage.model import Conversation, Message, Role

_BEGINNING = re.compile(rb'\s*"(?:User|ChatGPT): ')
_CHAT = re.compile(
    r"(?:User: (?P<question>.*?)(?:\n\n\n|\Z))?(?:ChatGPT: (?P<answer>.*))?", re.DOTALL
)
_END = "<|im_end|>"


def claims(cut: JsonSlice) -> bool:
    """Say whether an object with this member has a conversation under each of its keys."""
    begins = cut.raw.startswith(b"[") and _BEGINNING.match(cut.raw, 1)
    return cut.key is not None and bool(begins)


def claims_alone(cut: JsonSlice) -> bool:
    """Say whether a list with this in it is one conversation."""
    return cut.key is None and _BEGINNING.match(cut.raw) is not None


async def items(cuts: AsyncIterator[JsonSlice]) -> AsyncIterator[JsonSlice]:
    async for cut in cuts:
        yield cut


async def alone(cuts: AsyncIterator[JsonSlice]) -> AsyncIterator[JsonSlice]:
    """Yield the one conversation whose chats these are."""
    yield await gathered(cuts, b"[]")


def interpret(value: Any, at: At) -> Found:
    """Read a conversation; the ids of its messages follow from what was said so far."""
    if not isinstance(value, list):
        raise InvalidRequestError("A conversation must be a list of chats.")
    dropped: Counter[str] = Counter()
    id_ = at.key if at.key is not None and fits(at.key) else None
    if id_ is None:
        dropped["conversation_id"] += at.key is not None
        id_ = derived("conv", at.key or "", *map(str, value if at.key is None else ()))
    messages: list[Message] = []
    for role, text in _said(value, dropped):
        messages.append(_message(id_, messages[-1] if messages else None, role, text, at.now))
    asked = (message.content for message in messages if message.role is Role.USER)
    conversation = Conversation(
        id=id_,
        title=validation.title_of(next(asked, "")),
        system_prompt=None,
        model=None,
        metadata={},
        created_at=at.now,
        updated_at=at.now,
        message_count=len(messages),
        head_id=messages[-1].id if messages else None,
    )
    return Found(at.index, conversation, messages, (), +dropped, foreign=True)


def _said(chats: list[Any], dropped: Counter[str]) -> Iterator[tuple[Role, str]]:
    for chat in chats:
        if not isinstance(chat, str):
            dropped["chat"] += 1
            continue
        match = _CHAT.fullmatch(chat)
        told = match.groupdict() if match and chat else {"question": chat, "answer": None}
        if question := told["question"]:
            yield Role.USER, question
        if answer := (told["answer"] or "").rstrip().removesuffix(_END).strip():
            yield Role.ASSISTANT, answer


def _message(
    conversation_id: str, above: Message | None, role: Role, text: str, now: int
) -> Message:
    return Message(
        id=derived("msg", above.id if above else conversation_id, role, text),
        conversation_id=conversation_id,
        parent_id=above.id if above else None,
        role=role,
        content=text,
        tokens=0,
        encoding="",
        model=None,
        turn_id=None,
        created_at=now,
    )
