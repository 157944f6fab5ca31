"""gRPC from peers that garble it: frames, headers, paths, messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
from easybackend import chat_pb2
from trialogue.v1 import conversation_pb2

from tests.support import http2
from tests.support.live import Process

#: Seconds for which a server that says nothing to a garbled frame is listened to.
HEARING = 0.2
AT_A_TIME = 20
#: How often a port is tried again while its server is built anew.
REFUSALS = 200
#: Ways to end a call that anybody's bytes may cause; any other is a fault of the server.
FAIR = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
#: Groups within groups: a parser without a bound runs out of stack.
_NESTED = b"\x0b" * 100_000
_METHODS = (
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


async def broken_frames(server: Process, count: int, dice: random.Random) -> list[str]:
    """Send random bytes and frames behind a good preface, each on a connection of its own."""
    room = asyncio.Semaphore(AT_A_TIME)

    async def send(data: bytes) -> None:
        async with room:
            await _said(server, data)

    await asyncio.gather(*(send(_garbled(dice, number)) for number in range(count)))
    return []


async def broken_paths(server: Process, count: int) -> list[str]:
    """Call paths that are not UTF-8: grpc.aio ends its accept loop over each."""
    for _ in range(count):
        await _said(server, http2.greeting() + http2.call(b"/a\xbe\xff/x", b""))
        # Each breaks another server: the one before it has its place taken first.
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
    return []


async def random_protobuf(server: Process, count: int, dice: random.Random) -> list[str]:
    """Send bytes that are no messages, or not the right ones, to each method."""
    broken: dict[str, None] = {}
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        for path in _paths():
            for message in (b"", _NESTED, *(_message(dice) for _ in range(count))):
                status = await _status(channel, path, message)
                if status not in FAIR:
                    broken[f"{path} answered {len(message)} random bytes with {status.name}"] = None
    return list(broken)


def _garbled(dice: random.Random, number: int) -> bytes:
    """Return a beginning that is right, and what follows it, which is not."""
    noise = dice.randbytes(dice.randrange(1, 2_000))
    stream = dice.choice((0, 1, 2, 3, 1 << 30))
    match number % 6:
        case 0:
            return http2.PREFACE + noise
        case 1:
            return http2.greeting() + http2.frame(
                dice.randrange(256), noise, flags=dice.randrange(256), stream=stream
            )
        case 2:  # a header block of noise
            return http2.greeting() + http2.frame(
                http2.HEADERS, noise, flags=http2.END_HEADERS, stream=1
            )
        case 3:  # data that no headers announced
            return http2.greeting() + http2.frame(http2.DATA, noise, stream=stream)
        case 4:  # a length that never comes, or is beyond all bounds
            return http2.greeting() + dice.randbytes(9) + noise
        case _:
            path = dice.choice(_paths()).encode()
            good = bytearray(http2.greeting() + http2.call(path, noise))
            good[dice.randrange(len(http2.PREFACE), len(good))] ^= 1 << dice.randrange(8)
            return bytes(good)


def _paths() -> tuple[str, ...]:
    """Return the path of every method that is served."""

    def found() -> Iterator[str]:
        for file in (conversation_pb2.DESCRIPTOR, chat_pb2.DESCRIPTOR):
            for service in file.services_by_name.values():
                for method in service.methods:
                    yield f"/{service.full_name}/{method.name}"

    return (*found(), *_METHODS)


def _message(dice: random.Random) -> bytes:
    """Return noise, or noise that looks like fields of a message."""
    if dice.random() < 0.3:
        return dice.randbytes(dice.randrange(1, 300))
    fields = []
    for _ in range(dice.randrange(1, 8)):
        content = dice.randbytes(dice.randrange(20))
        fields.append(bytes([dice.randrange(1, 15) << 3 | 2, len(content)]) + content)
    return b"".join(fields)


async def _status(channel: grpc.aio.Channel, path: str, message: bytes) -> grpc.StatusCode:
    method: Any = channel.unary_stream(path)  # without a serializer: bytes as they are
    call = method(message, timeout=1)
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def _connected(server: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; while a server that broke is built anew its port is nobody's, for a moment."""
    host, _, port = server.grpc.rpartition(":")
    for _ in range(REFUSALS):
        with suppress(ConnectionError):
            return await asyncio.open_connection(host, int(port))
        await asyncio.sleep(0.05)
    return await asyncio.open_connection(host, int(port))


async def _said(server: Process, data: bytes) -> None:
    """Say something to the gRPC port, and listen to what it says for a moment."""
    reader, writer = await _connected(server)
    try:
        writer.write(data)
        async with asyncio.timeout(HEARING):
            while await reader.read(4096):
                pass
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
