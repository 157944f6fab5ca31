"""An upstream that costs next to nothing: raw HTTP/1.1, answers made before they are asked.

    python -m bench.peers.upstream        prints its port, and serves until it is killed

The model's name says how an answer comes: `fast` in one piece, `paced` a token each 20 ms, and
`long` so for 20 s, in chat completions. It speaks chat completions and Responses, streamed and not,
and lists its models.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any, Final, cast

TOKENS: Final = 50
#: seconds from one token to the next of a paced answer
PACE: Final = 0.02
MODELS: Final = ("fast", "paced", "long")
#: the item of a response, whose id is another with each: who keeps them could not keep one twice
_ITEM: Final = "msg_00000000"
_COUNT: Final = itertools.count()
_WORDS: Final = [f" word{number:02}" for number in range(TOKENS)]
_USAGE: Final = {"prompt_tokens": 20, "completion_tokens": TOKENS, "total_tokens": 20 + TOKENS}
_SPENT: Final = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": TOKENS,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 20 + TOKENS,
}


class Upstream(asyncio.Protocol):
    """One connection; requests on it come one behind the other."""

    def __init__(self) -> None:
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, rest = self._came.partition(b"\r\n\r\n")
        if not end:
            return
        length = _length(head.lower())
        if len(rest) < length:
            return
        body, self._came = rest[:length], rest[length:]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"GET"):
            self._transport.write(_LIST)
            return
        kind = b"responses" if b"/responses" in head.partition(b"\r\n")[0] else b"chat"
        own = b"msg_%08d" % next(_COUNT)
        if b'"stream":true' not in body.replace(b": ", b":"):
            self._transport.write(_WHOLE[kind].replace(_ITEM.encode(), own))
        elif b'"long"' in body:
            self._tell(list(_LONG))
        elif b'"paced"' in body:
            self._tell([piece.replace(_ITEM.encode(), own) for piece in _PIECES[kind]])
        else:
            self._transport.write(_STREAM[kind].replace(_ITEM.encode(), own))

    def _tell(self, pieces: list[bytes]) -> None:
        if self._transport is None:
            return
        self._transport.write(pieces.pop(0))
        if pieces:
            asyncio.get_running_loop().call_later(PACE, self._tell, pieces)


def _length(head: bytes) -> int:
    _, found, behind = head.partition(b"content-length:")
    return int(behind.partition(b"\r\n")[0]) if found else 0


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _json(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


def _plain(said: object) -> bytes:
    body = _json(said)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _chats(times: int = 1) -> Sequence[bytes]:
    """Return a streamed chat completion, an event a piece."""

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
        return b"data: " + _json({**said, "model": "fast", "choices": [choice]}) + b"\n\n"

    usage = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fast"}
    return [
        event({"role": "assistant", "content": ""}),
        *(event({"content": word}) for word in _WORDS * times),
        event({}, "stop"),
        b"data: " + _json({**usage, "choices": [], "usage": _USAGE}) + b"\n\ndata: [DONE]\n\n",
    ]


def _response(*, ended: bool) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(_WORDS), "annotations": []}
    message = {"id": _ITEM, "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "fast",
        "status": "completed" if ended else "in_progress",
        "output": [{**message, "content": [text]}] if ended else [],
        "usage": _SPENT if ended else None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
    }


def _responses() -> Sequence[bytes]:
    """Return a streamed response, an event a piece."""
    number = 0

    def event(kind: str, **said: Any) -> bytes:
        nonlocal number
        data = _json({"type": kind, "sequence_number": number, **said})
        number += 1
        return f"event: {kind}\ndata: ".encode() + data + b"\n\n"

    at = {"item_id": _ITEM, "output_index": 0, "content_index": 0}
    message = {"id": _ITEM, "type": "message", "role": "assistant"}
    text = {"type": "output_text", "text": "", "annotations": []}
    whole = _response(ended=True)
    begun = {**message, "status": "in_progress", "content": []}
    return [
        event("response.created", response=_response(ended=False)),
        event("response.output_item.added", output_index=0, item=begun),
        event("response.content_part.added", **at, part=text),
        *(event("response.output_text.delta", **at, delta=word, logprobs=[]) for word in _WORDS),
        event("response.output_text.done", **at, text="".join(_WORDS), logprobs=[]),
        event("response.content_part.done", **at, part=whole["output"][0]["content"][0]),
        event("response.output_item.done", output_index=0, item=whole["output"][0]),
        event("response.completed", response=whole),
    ]


def _stream(pieces: Sequence[bytes]) -> Sequence[bytes]:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    first, *middle, last = map(_chunk, pieces)
    return [head + first, *middle, last + b"0\r\n\r\n"]


_LIST: Final = _plain(
    {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
)
_WHOLE: Final = {
    b"chat": _plain(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "fast",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(_WORDS)},
                    "finish_reason": "stop",
                }
            ],
            "usage": _USAGE,
        }
    ),
    b"responses": _plain(_response(ended=True)),
}
_PIECES: Final = {b"chat": _stream(_chats()), b"responses": _stream(_responses())}
_LONG: Final = _stream(_chats(20))
_STREAM: Final = {kind: b"".join(pieces) for kind, pieces in _PIECES.items()}


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
