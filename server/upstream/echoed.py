"""Asks an upstream for the texts of tokens that it was to echo, where it passes over that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from server.openai_protocol import codec
from server.openai_protocol.codec import MalformedError
from server.openai_protocol.expectations import TEXTS, echoed_tokens
from server.upstream.bodies import JSON, whole
from server.upstream.port import Call, OpenAISpeaker, UpstreamError

#: Of more prompts than that no text is asked for.
_MOST_PROMPTS = 128
_ANSWER_BYTES = 16 << 20


def tokens_of(call: Call) -> Sequence[Sequence[int]]:
    """Return the prompts of a call that are tokens and to be echoed; none where they are many."""
    if call.path != TEXTS or not isinstance(call.body, bytes) or b'"echo"' not in call.body:
        return ()
    prompts = echoed_tokens(call.body)
    return prompts if len(prompts) <= _MOST_PROMPTS else ()


async def with_texts(call: Call, prompts: Sequence[Sequence[int]], speaker: OpenAISpeaker) -> Call:
    """Return a call with the texts of its tokens; as it is where llama.cpp does not tell them."""
    try:
        texts = [await _text(tokens, speaker) for tokens in prompts]
    except (UpstreamError, MalformedError):
        return call
    known = [text for text in texts if text is not None]
    return replace(call, echoed=tuple(known)) if len(known) == len(prompts) else call


async def _text(tokens: Sequence[int], speaker: OpenAISpeaker) -> str | None:
    body = codec.encode({"tokens": tokens})
    headers = {"content-type": JSON}
    call = Call("POST", "/detokenize", "", headers, body, beside=True, waits=True)
    async with speaker.call(call) as reply:
        data = await whole(reply.body, _ANSWER_BYTES)
        told: dict[str, Any] = codec.parse(data)[0] if reply.status == 200 else {}
    text = told.get("content")
    return text if isinstance(text, str) else None
