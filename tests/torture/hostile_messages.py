"""Messages that are too large, too deep, packed too well, or without any sense."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import string
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import grpc
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.live import Process
from tests.support.raw_websocket import CLOSE, CONTINUATION, TEXT, frame, raw_peer

MIB = 1 << 20

DEPTH = 100_000
_HEAD = b"POST /ask/hostile HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
#: Types that there are, and one that there is not; fields that some of them have.
_KINDS = (
    *("ask", "follow", "watch", "unwatch", "cancel", "regenerate", "ping", "authenticate"),
    *("messages", "conversations", "update", "delete", "create", "search", "nothing"),
)
_FIELDS = (
    *("conversation_id", "prompt", "content", "turn_id", "after", "request_id", "parent_id"),
    *("model", "stop", "seed", "max_tokens", "if_busy", "limit", "message_id", "q", "metadata"),
)


async def huge_messages(server: Process, megabytes: int) -> list[str]:
    """Send one message of so many MiB on every wire, declared or not, packed or not."""
    seen = {
        "a declared body": (await _declared(server, megabytes), 413),
        "a chunked body": (await _chunked(server, megabytes), 413),
        "a frame": (await _framed(server, megabytes, pieces=1), 1009),
        "a frame in pieces": (await _framed(server, megabytes, pieces=megabytes), 1009),
        "a gRPC message": (
            await _called(server, megabytes, grpc.Compression.NoCompression),
            "RESOURCE_EXHAUSTED",
        ),
        "a packed gRPC message": (
            await _called(server, megabytes, grpc.Compression.Gzip),
            "RESOURCE_EXHAUSTED",
        ),
    }
    return [
        f"{name} of {megabytes} MiB: {got}, not {due}"
        for name, (got, due) in seen.items()
        if got != due
    ]


async def gzip_bomb(server: Process, megabytes: int) -> list[str]:
    """Send bodies that would become so many MiB, a valid ask too; nothing here unpacks one."""
    broken = []
    bombs = {"a gzip bomb": b" ", "a gzip bomb that asks": b'{"prompt": "x"}'}
    for name, body in bombs.items():
        packed = gzip.compress(body.ljust(megabytes * MIB))
        status = await _posted(server, "/ask/hostile", packed, b"Content-Encoding: gzip\r\n")
        if status not in (400, 415):
            broken.append(f"{name} was answered with {status}")
    head = b"GET /conversations/hostile HTTP/1.1\r\nHost: localhost\r\n\r\n"
    if (status := await _answered(server, head, [])) != 404:
        broken.append(f"its conversation was answered with {status}")
    return broken


async def nested_json(server: Process) -> list[str]:
    """Send lists in lists and objects in objects, wherever JSON is read."""
    deep = "[" * DEPTH + "]" * DEPTH
    objects = '{"a":' * DEPTH + "1" + "}" * DEPTH
    bodies = {
        "/ask/hostile": [f'{{"prompt": {deep}}}', objects],
        "/conversations": [f'{{"metadata": {objects}}}', deep],
        "/conversations/import": [deep, objects, f'{{"conversations": {deep}}}'],
        "/v1/chat/completions": [f'{{"model": "eliza", "messages": {deep}}}', objects],
        "/v1/embeddings": [f'{{"input": {deep}}}'],
    }
    broken = []
    for path, nested in bodies.items():
        statuses = [await _posted(server, path, body.encode()) for body in nested]
        if set(statuses) != {400}:
            broken.append(f"{path} answered nested JSON with {statuses}")
    async with connect(server.websocket, proxy=None) as peer:
        await peer.recv()
        for nested_frame in (f'{{"type": "ask", "prompt": {deep}}}', objects):
            await peer.send(nested_frame)
            told = json.loads(await peer.recv())
            if told.get("error", {}).get("code") != "invalid_request":
                broken.append(f"a websocket answered nested JSON with {told['type']}")
    return broken


async def random_messages(server: Process, count: int, dice: random.Random) -> list[str]:
    """Say so many things without sense, on one websocket after another where one is closed."""
    broken: dict[str, None] = {}
    said = 0
    while said < count:
        async with connect(server.websocket, proxy=None, max_size=None) as peer:
            hearing = asyncio.create_task(_faults(peer))
            with suppress(ConnectionClosed):
                while said < count:
                    said += 1
                    await peer.send(_senseless(dice))
                await peer.send('{"type": "ping", "request_id": "last"}')
                async with asyncio.timeout(60):
                    await asyncio.wait([hearing])
            broken |= dict.fromkeys(await hearing)
        if peer.close_code == 1011:
            broken["a websocket was closed with 1011"] = None
    return list(broken)


async def _faults(peer: ClientConnection) -> list[str]:
    """Listen until the last pong, or the close; return what is the server's fault."""
    faults = []
    async for heard in peer:
        with suppress(ValueError):
            told = json.loads(heard)
            if told.get("request_id") == "last":
                break
            if told.get("error", {}).get("code") == "internal":
                faults.append("a websocket frame was answered with `internal`")
    return faults


def _senseless(dice: random.Random) -> str | bytes:
    text = "".join(dice.choices(string.printable + '{}[]"$|<>日🐈\x00', k=dice.randrange(200)))
    match dice.randrange(6):
        case 0:
            return text
        case 1:
            return dice.randbytes(dice.randrange(300))
        case 2:
            return f"<|ask|>${text}${text[:5]}"
        case 3:
            return "{" + text
        case _:
            chosen = dice.sample(_FIELDS, dice.randrange(6))
            fields = {name: _value(dice, text) for name in chosen}
            return json.dumps({"type": dice.choice(_KINDS), **fields})


def _value(dice: random.Random, text: str) -> Any:
    numbers = (dice.randrange(-(1 << 70), 1 << 70), -1, 0, 1.5e308, True, None)
    objects: tuple[Any, ...] = ([], [text], {}, {"a": {text: text}})
    return dice.choice((text, text[:8], "turn_1", "hostile", "\ud800", *numbers, *objects))


async def _declared(server: Process, megabytes: int) -> int | None:
    length = b"Content-Length: %d\r\n\r\n" % (megabytes * MIB)
    return await _answered(server, _HEAD + length, [b"x" * MIB] * megabytes)


async def _chunked(server: Process, megabytes: int) -> int | None:
    chunk = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
    return await _answered(
        server, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", [chunk] * megabytes
    )


async def _posted(server: Process, path: str, body: bytes, more: bytes = b"") -> int | None:
    head = _HEAD.replace(b"/ask/hostile", path.encode()) + more
    return await _answered(server, head + b"Content-Length: %d\r\n\r\n" % len(body), [body])


async def _answered(server: Process, head: bytes, pieces: list[bytes]) -> int | None:
    """Send a request as far as the server takes it; return the status of the answer."""
    at = urlsplit(server.http)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)

    async def send() -> None:
        with suppress(ConnectionError):
            for piece in (head, *pieces):
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(60):
            line = await reader.readline()
    except ConnectionError:
        line = b""
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        writer.transport.abort()
    return int(line.split()[1]) if line else None


async def _framed(server: Process, megabytes: int, *, pieces: int) -> int | None:
    """Send a text message, in fragments where there are pieces; return the close code."""
    payload = b"x" * (megabytes * MIB // pieces)
    async with raw_peer(server.websocket) as peer, asyncio.timeout(60):
        hearing = asyncio.create_task(peer.until_closed())
        with suppress(ConnectionError):
            for number in range(pieces):
                kind = CONTINUATION if number else TEXT
                await peer.send(frame(kind, payload, fin=number == pieces - 1))
        heard = await hearing
    return heard[-1].close_code if heard and heard[-1].opcode == CLOSE else None


async def _called(server: Process, megabytes: int, packing: grpc.Compression) -> str:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        stub = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        asked = pb.AskRequest(conversation_id="hostile", prompt="x" * (megabytes * MIB))
        try:
            async for _ in stub.Ask(asked, compression=packing, timeout=60):
                pass
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"
