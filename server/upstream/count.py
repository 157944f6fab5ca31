"""Has an upstream count the tokens of a chat, template and all, where it does that for us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.openai_protocol import codec
from server.openai_protocol.codec import MalformedError
from server.openai_protocol.messages import message_of
from server.upstream.bodies import JSON, whole
from server.upstream.model_info import Counter
from server.upstream.port import Call, OpenAISpeaker, UpstreamError
from storage.model import PromptMessage

#: A count is waited for so long, and one that could not be had is not asked for again so soon.
SECONDS = 10.0
REST_SECONDS = 30.0
_ANSWER_BYTES = 16 << 20
#: no template adds more tokens
_TEMPLATE = 1 << 16
_PATHS = {Counter.LLAMA_CPP: "/chat/completions/input_tokens", Counter.VLLM: "/tokenize"}
_ANSWERS = {Counter.LLAMA_CPP: "input_tokens", Counter.VLLM: "count"}


class TokenCounter:
    """Asks one upstream; after a failure not again for a while. `now` is in seconds."""

    def __init__(self, speaker: OpenAISpeaker, now: Callable[[], float]) -> None:
        self._speaker = speaker
        self._now = now
        self._rests_until = float("-inf")

    async def count(
        self, how: Counter, model: str, messages: Sequence[PromptMessage]
    ) -> int | None:
        """Return the tokens of a whole chat; None where it cannot be had now."""
        if self._now() < self._rests_until:
            return None
        body = {"model": model, "messages": [message_of(one) for one in messages]}
        try:
            async with asyncio.timeout(SECONDS):
                status, said = await self._asked(how, body)
        except (UpstreamError, MalformedError, TimeoutError):
            status, said = 0, {}
        found = said.get(_ANSWERS[how])
        if status == 200 and type(found) is int and 0 < found <= _most(body):
            return found
        # 400: these messages it will not take; that says nothing of others
        if status != 400:
            self._rests_until = self._now() + REST_SECONDS
        return None

    async def _asked(self, how: Counter, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        call = Call(
            "POST",
            _PATHS[how],
            headers={"content-type": JSON},
            body=codec.encode(body),
            beside=how is Counter.VLLM,
        )
        async with self._speaker.call(call) as reply:
            data = await whole(reply.body, _ANSWER_BYTES)
            return reply.status, codec.parse(data)[0] if reply.status == 200 else {}


def _most(body: Mapping[str, Any]) -> int:
    """Return how many tokens a chat may have: no more than bytes, and what a template adds."""
    return len(codec.encode(body)) + _TEMPLATE
