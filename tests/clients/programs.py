"""The clients as programs: where they are, and what they print."""

from __future__ import annotations

from asyncio.subprocess import Process
from pathlib import Path

from server.core.conversations import Conversations
from storage.model import Turn
from tests.server.transports.websocket.websocket_client import OWNER

CHECKOUT = Path(__file__).resolve().parents[2]


async def read(process: Process, expected: str) -> None:
    """Read exactly this from a client's standard output."""
    assert process.stdout is not None
    assert (await process.stdout.readexactly(len(expected.encode()))).decode() == expected


def port(url: str) -> int:
    """Return the port of a websocket's URL."""
    return int(url.strip("/").rpartition(":")[2])


async def last_turn(conversations: Conversations, conversation_id: str) -> Turn:
    page = await conversations.messages(OWNER, conversation_id)
    turn_id = page.items[-1].turn_id
    assert turn_id is not None
    return await conversations.turn(OWNER, turn_id)
