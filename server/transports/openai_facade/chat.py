"""Chat completions: the straight path from a client to an upstream and back."""

from __future__ import annotations

from server.transports.openai_facade import checks
from server.transports.openai_facade.visit import Visit, read_json
from server.upstream.upstreams import Upstreams


class Chat:
    """The routes of chat completions."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def create(self, visit: Visit) -> None:
        """Pass a chat completion through; what was sent is what the upstream gets."""
        body = await visit.read()
        asked = read_json(body)
        model = checks.chat(asked)
        call = visit.call("/chat/completions", body, model=model, stream=asked.flag("stream"))
        async with self._upstreams.call(call) as reply:
            await visit.relay(reply, spoken=True)
