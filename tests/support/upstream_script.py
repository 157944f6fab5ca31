"""Behaviours for a scripted upstream: what the server says to one request, exact to the byte."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SSE = "text/event-stream"
#: the key that is shown to an upstream, and the model that is asked for
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
MODEL = "gpt-4o-mini"
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
#: tokens of the prompt and of the answer, or all that is told of them
Usage = tuple[int, int] | Mapping[str, Any]
#: A piece of an answer: text becomes a chunk of it, bytes go out so, an event is waited for.
Step = str | bytes | asyncio.Event


@dataclass(eq=False)
class Request:
    """One request as it came; `gone` is set if the client hangs up before its answer is whole."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any
    #: counts the connections of the server: equal for requests that shared one
    connection: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)


Behaviour = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """The server's side of one request: what a behaviour answers with."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._writer = writer

    @property
    def chat(self) -> bool:
        return self.request.path.endswith("/chat/completions")

    async def head(self, status: int, headers: Mapping[str, object]) -> None:
        """Send the status line and exactly these headers."""
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """Send bytes without any framing."""
        self._writer.write(data)
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Send one HTTP chunk; an empty one ends the body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def open_stream(self, *, role: bool = True) -> None:
        """Send the headers of a stream and, as OpenAI does, a first chunk without text."""
        await self.head(200, {"content-type": SSE, "transfer-encoding": "chunked"})
        if role and self.chat:
            first = self.piece("")
            first["choices"][0]["delta"]["role"] = "assistant"
            await self.chunk(event(first))

    async def play(self, *steps: Step) -> None:
        """Send text as chunks of the answer and bytes as they are; wait for events."""
        for step in steps:
            match step:
                case asyncio.Event():
                    await step.wait()
                case str():
                    await self.chunk(event(self.piece(step)))
                case bytes():
                    await self.chunk(step)

    def piece(self, text: str | None, finish: str | None = None) -> dict[str, Any]:
        """Return a chunk of the answer in the shape of this request's route."""
        delta = {} if text is None else {"content": text}
        said: dict[str, Any] = {"delta": delta} if self.chat else {"text": text or ""}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
        return self.envelope([choice], chunk=True)

    def envelope(self, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        kind = "chat.completion" + (".chunk" if chunk else "") if self.chat else "text_completion"
        model = (self.request.body or {}).get("model", "")
        return {"id": "cmpl-1", "object": kind, "created": 1, "model": model, "choices": choices}

    def hang_up(self) -> None:
        """Close the connection once what was sent has left."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def event(payload: object) -> bytes:
    """Return one event of a stream with this JSON."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def say(
    *steps: Step,
    finish: str | None = "stop",
    usage: Usage | None = (11, 7),
    done: bool = True,
) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        if not (exchange.request.body or {}).get("stream"):
            return await _say_at_once(exchange, steps, finish, usage)
        await exchange.open_stream()
        await exchange.play(*steps)
        if finish is not None:
            await exchange.chunk(event(exchange.piece(None, finish)))
        options = exchange.request.body.get("stream_options") or {}
        if usage is not None and options.get("include_usage"):
            await exchange.chunk(event(exchange.envelope([], chunk=True) | _usage(usage)))
        if done:
            await exchange.chunk(b"data: [DONE]\n\n")
        return await exchange.chunk(b"")

    return behave


def cut(*steps: Step) -> Behaviour:
    return say(*steps, finish=None, usage=None, done=False)


def reset(*steps: Step) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.play(*steps)
        exchange.reset()

    return behave


def truncated(*steps: Step) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.play(*steps)
        await exchange.send(b'100\r\ndata: {"choices": [{"delta": {"content": "los')
        exchange.hang_up()

    return behave


def stall(*steps: Step) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.play(*steps)
        await asyncio.Event().wait()

    return behave


async def _hang(exchange: Exchange) -> None:
    await asyncio.Event().wait()


def hang() -> Behaviour:
    return _hang


def garbled(*steps: Step) -> Behaviour:
    return say(*steps, b"data: {not json\n\n")


def complain(*steps: Step, error: object) -> Behaviour:
    return say(*steps, event({"error": error}), finish=None, usage=None)


def fail(
    status: int,
    message: str = "scripted failure",
    *,
    code: str | None = None,
    type: str = "invalid_request_error",  # noqa: A002
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> Behaviour:
    error = {"message": message, "type": type, "param": param, "code": code}
    return document({"error": error} if body is None else body, status=status, headers=headers)


def document(
    body: object,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Behaviour:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def behave(exchange: Exchange) -> None:
        own = {"content-type": content_type, "content-length": len(data)}
        await exchange.head(status, {**own, **(headers or {})})
        await exchange.send(data)

    return behave


#: what llama.cpp says to whoever asks before its model is there
LOADING: Final = fail(503, "Loading model", type="unavailable_error", code="503")


def comments(*steps: Step, every: float = 0.01) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.open_stream(role=False)
        await exchange.play(*steps)
        while True:
            await exchange.chunk(b": still here\n\n")
            await asyncio.sleep(every)

    return behave


def drip(data: bytes, *, every: float = 0.01) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.open_stream(role=False)
        for byte in data:
            await exchange.chunk(bytes([byte]))
            await asyncio.sleep(every)
        await exchange.chunk(b"")

    return behave


def flood(data: bytes, *, status: int = 200, content_type: str = SSE) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        headers = {"content-type": content_type, "transfer-encoding": "chunked"}
        await exchange.head(status, headers)
        while True:
            await exchange.chunk(data)

    return behave


def wire(*steps: bytes | asyncio.Event) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await exchange.send(step)
            else:
                await step.wait()
        exchange.hang_up()

    return behave


async def echo(exchange: Exchange) -> None:
    """Answer with the last thing said, word by word."""
    body = exchange.request.body or {}
    messages = body.get("messages") or [{"content": str(body.get("prompt", ""))}]
    words = re.findall(r"\s*\S+", f"You said: {messages[-1]['content']}")
    await say(*words)(exchange)


async def _say_at_once(
    exchange: Exchange, steps: tuple[Step, ...], finish: str | None, usage: Usage | None
) -> None:
    for step in steps:
        if isinstance(step, asyncio.Event):
            await step.wait()
    text = "".join(step for step in steps if isinstance(step, str))
    said: dict[str, Any] = {"text": text}
    if exchange.chat:
        said = {"message": {"role": "assistant", "content": text, "refusal": None}}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
    spent = {} if usage is None else _usage(usage)
    await document(exchange.envelope([choice], chunk=False) | spent)(exchange)


def _usage(usage: Usage) -> dict[str, Any]:
    if not isinstance(usage, tuple):
        return {"usage": usage}
    prompt, completion = usage
    total = prompt + completion
    spent = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return {"usage": spent}
