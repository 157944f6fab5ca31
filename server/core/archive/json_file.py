"""Our own export: everything, so that an import restores it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from server.core import rendering
from server.core.archive import pages
from server.core.archive.trialogue_json import FORMAT, VERSION
from storage.model import Conversation, Message, Turn
from storage.port import Store


async def write(
    store: Store, owner: str, conversations: AsyncIterator[Conversation]
) -> AsyncIterator[bytes]:
    """Yield one JSON object; memory is bounded by a page of messages.

    Turns stand, and are read, before messages: a message that a turn names is then there too,
    even where somebody asks meanwhile.
    """
    yield f'{{"format":"{FORMAT}","version":{VERSION},"conversations":['.encode()
    comma = b""
    async for conversation in conversations:
        told = _json(rendering.conversation(conversation))
        yield comma + told[:-1] + b',"turns":['
        comma = b",\n"
        between = b""
        async for turns in pages.turns(store, owner, conversation.id):
            yield between + b",\n".join(_json(_turn(turn)) for turn in turns)
            between = b",\n"
        yield b'],"messages":['
        between = b""
        async for messages in pages.messages(store, owner, conversation.id):
            yield between + b",\n".join(_json(_message(message)) for message in messages)
            between = b",\n"
        yield b"]}"
    yield b"]}\n"


def _message(of: Message) -> dict[str, Any]:
    """Return a message with what only an import asks for."""
    item = {} if of.item is None else {"item": dict(of.item)}
    return {**rendering.message(of), "encoding": of.encoding, **item}


def _turn(of: Turn) -> dict[str, Any]:
    """Return a turn with what only an import asks for."""
    told = rendering.turn(of)
    if of.error is not None:
        told["error"]["status"] = of.error.status
    if of.record is not None:
        told["record"] = dict(of.record)
    if of.options:
        told["options"] = dict(of.options)
    return told


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
