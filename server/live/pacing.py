"""Sends large events one at a time, so that many who catch up do not starve the event loop."""

from __future__ import annotations

import asyncio

from server.live.news import ConversationEvent, News
from server.live.turn import Delta, Ended
from server.live.waiting import QueueChanged

#: Characters; writing an event of more takes a wire longer than a pass of the loop should.
LARGE = 1 << 15


class Pacer:
    """Lets one large event through at a time, in the order in which they came.

    Two hundred followers that begin to read in the middle of a long answer are megabytes each. A
    kernel that has room takes them without a wait, and whoever asks meanwhile would come after all
    of it; as it is, everybody has a pass of the loop in between.
    """

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def wait(self, event: News) -> None:
        """Return once it is this event's turn; at once for one that is small."""
        if size(event) >= LARGE:
            async with self._one_at_a_time:
                await asyncio.sleep(0)


def size(event: News) -> int:
    """Return how many characters an event has of what may be long."""
    match event:
        case Delta():
            return len(event.text) + len(event.delta)
        case Ended():
            return event.cursor
        case ConversationEvent():
            return len(event.conversation.system_prompt or "")
        case QueueChanged():
            return sum(len(one.prompt) for one in event.line.waiting)
    return 0
