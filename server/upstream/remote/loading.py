"""Waits for a server that still loads its model, which it says by 503 to whoever asks meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from server.upstream.errors import loads
from server.upstream.port import Call, Reply

#: how long until it is asked again
PAUSE: Final = 0.5
#: when who asked is told to come again, where we wait no longer, in seconds
_RETRY_AFTER: Final = "5"


class Loading:
    """Lets who asks a server that loads wait, for `seconds` at most.

    However many wait, one of them asks it each time; once it is ready all do.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loads = False
        self._one_at_a_time = asyncio.Lock()

    def end(self, call: Call) -> float:
        """Return the moment of the loop's clock until which a call waits."""
        end = asyncio.get_running_loop().time() + self._seconds
        return end if call.deadline is None else min(end, call.deadline)

    def says_so(self, call: Call, reply: Reply) -> bool:
        """Say whether a reply says that the model still loads, and the call can be made again."""
        self._loads = bool(reply.complaints) and loads(reply.status, reply.complaints[-1])
        return self._loads and call.waits and isinstance(call.body, bytes)

    async def pause(self, end: float) -> bool:
        """Return once it can be asked again; False where it would be too late for that."""
        try:
            async with asyncio.timeout_at(end - PAUSE), self._one_at_a_time:
                if self._loads:
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            return False
        return True


def told_later(reply: Reply) -> Reply:
    """Return a refusal that says when to come again."""
    return replace(reply, headers={"retry-after": _RETRY_AFTER, **reply.headers})
