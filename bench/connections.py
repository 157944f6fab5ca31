"""Many who sit still, and many who never read: what each costs the server, and who waits for them.

    python -m bench.connections                                       5,000 websockets, 200 deaf
    python -m bench.connections --websockets 500 --deaf 30 --megabytes 2      a quicker look

Idle websockets are opened against a server in a process of its own; its memory, once it stands
still again, has grown by so much a connection (BOUND). Then followers that never read, on all wires
alike and with the smallest of receive buffers, hang on a long answer while it is written, half of
them from its middle on: the server's memory stays, and an ordinary asker beside them is served at
once. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import ClientConnection, connect

from tests.support import http2
from tests.support.footprint import footprint, forget_peak, raise_descriptors, settled
from tests.support.live import Process
from tests.support.upstream_script import Exchange, event
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import Event, Rest, Websocket

KIB = 1 << 10
MIB = 1 << 20
#: Bytes of server memory that an idle websocket may cost.
BOUND = 40 * KIB
#: Bytes that one who never reads may cost, over what the same answer takes without any such; and
#: the length of the answer: the turn's end has all of it, sent where the kernel took all before.
DEAF = 512 * KIB
#: Seconds that an ordinary asker may wait for a whole answer, at the worst.
AT_ONCE = 2.0
#: Seconds in which a long answer is written.
SECONDS = 20
#: Connections that are opened at the same time.
AT_A_TIME = 50
PIECE = "All work and no play makes Jack a dull boy. " * 25


@dataclass(frozen=True)
class Wanted:
    websockets: int
    deaf: int
    megabytes: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--websockets", type=int, default=5_000)
    parser.add_argument("--deaf", type=int, default=200, help="followers that never read")
    parser.add_argument("--megabytes", type=float, default=8, help="of answer that they follow")
    wanted = Wanted(**vars(parser.parse_args()))
    # The server takes half of its descriptors for websockets.
    may = raise_descriptors(2 * wanted.websockets + 2_000)
    if may < 2 * wanted.websockets + 200:
        parser.error(f"only {may} descriptors may be open here: try fewer --websockets")
    return asyncio.run(_measured(wanted))


async def _measured(wanted: Wanted) -> int:
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Process(Path(folder)) as server:
            broken += await _idle(server, wanted.websockets)
    with tempfile.TemporaryDirectory() as folder:
        async with ScriptedUpstream() as upstream:
            env = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": upstream.base_url}
            async with Process(Path(folder), env=env) as server:
                broken += await _followed(server, upstream, wanted)
    print("\n".join(f"BROKEN: {one}" for one in broken) or "every promise was kept")
    return 1 if broken else 0


async def _idle(server: Process, count: int) -> list[str]:
    """Open websockets that say nothing, and see what each of them costs."""
    async with _concurrency(server, 100):  # whatever the first of them cost is no connection's
        await _asked(server, 5)
    rest = (await settled(server.pid)).memory
    began = time.monotonic()
    async with _concurrency(server, count):
        seconds = time.monotonic() - began
        each = ((await settled(server.pid)).memory - rest) / count
        print(f"{count:,} idle websockets, {count / seconds:,.0f} opened a second")
        print(f"  {each / KIB:.1f} KiB each, over {rest / MIB:.1f} MiB at rest", flush=True)
        broken = _late("among idle websockets", await _asked(server, 20))
    if each > BOUND:
        broken.append(f"an idle websocket costs {each / KIB:.1f} KiB, the bound is {BOUND // KIB}")
    return broken


@asynccontextmanager
async def _concurrency(server: Process, count: int) -> AsyncIterator[None]:
    """Hold so many websockets open."""
    room = asyncio.Semaphore(AT_A_TIME)

    async def enter() -> ClientConnection:
        async with room:
            socket_ = await connect(
                server.websocket, proxy=None, compression=None, ping_interval=None
            )
            assert json.loads(await socket_.recv())["type"] == "welcome"
            return socket_

    sockets = await asyncio.gather(*(enter() for _ in range(count)))
    try:
        yield
    finally:
        await asyncio.gather(*(one.close() for one in sockets))


class _Reply:
    """A long answer that a scripted upstream writes, piece by piece, at its own pace."""

    def __init__(self, megabytes: float, seconds: float) -> None:
        self._pieces = round(megabytes * MIB / len(PIECE))
        self._pause = seconds / self._pieces
        self.half = asyncio.Event()
        self.size = self._pieces * len(PIECE)

    async def behave(self, exchange: Exchange) -> None:
        await exchange.open_stream()
        for number in range(self._pieces):
            await exchange.play(PIECE)
            await asyncio.sleep(self._pause)
            if 2 * number > self._pieces:
                self.half.set()
        await exchange.chunk(event(exchange.piece(None, "stop")))
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.chunk(b"")


async def _followed(server: Process, upstream: ScriptedUpstream, wanted: Wanted) -> list[str]:
    """Write a long answer for one who reads, then again before many who never do."""
    await _asked(server, 5)
    broken: list[str] = []
    for _ in range(2):  # the first of its size costs what none after it does
        alone = await _written(server, upstream, 0, wanted.megabytes, broken)
    beside = await _written(server, upstream, wanted.deaf, wanted.megabytes, broken)
    each, bound = (beside - alone) / wanted.deaf, DEAF + wanted.megabytes * MIB
    print(f"{wanted.deaf} who never read: {each / KIB:.0f} KiB each, bound {bound / KIB:.0f}")
    if each > bound:
        broken.append(f"one who never reads costs {each / KIB:.0f} KiB")
    return broken


async def _written(
    server: Process, upstream: ScriptedUpstream, deaf: int, megabytes: float, broken: list[str]
) -> int:
    """Write a long answer; return how much more the server took of memory at the most."""
    answer = _Reply(megabytes, SECONDS)
    upstream.script(answer.behave)
    rest = (await settled(server.pid)).memory
    forget_peak(server.pid)
    async with AsyncExitStack() as stack:
        events = Rest(server).ask(f"long-{deaf}", "Tell me everything")
        turn_id = (await anext(events)).turn_id
        reading = asyncio.create_task(_length(events))
        silent = await _deafen(server, turn_id, deaf // 2, stack)
        await answer.half.wait()
        silent += await _deafen(server, turn_id, deaf - deaf // 2, stack)
        broken += _late(f"beside {deaf} deaf followers", await _asked(server, 30))
        length = await reading
        over = footprint(server.pid).peak - rest
        untold = [await _was_told(one) for one in silent].count(False)
    if untold:
        broken.append(f"{untold} of {deaf} deaf followers were sent nothing, or cut off too soon")
    print(f"an answer of {answer.size / MIB:.1f} MiB before {deaf} who never read it:")
    print(f"  {over / MIB:.1f} MiB at most over {rest / MIB:.1f} at rest", flush=True)
    if length != answer.size:
        broken.append(f"one who reads got {length:,} characters of {answer.size:,}")
    return over


async def _length(events: AsyncIterator[Event]) -> int:
    return sum([len(event.text) async for event in events])


async def _deafen(
    server: Process, turn_id: str, count: int, stack: AsyncExitStack
) -> list[socket.socket]:
    """Let so many follow a turn, by turns on each wire, who never read a byte of it."""
    all_of_them = []
    for number in range(count):
        deaf = stack.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        deaf.setblocking(False)
        url, words = DEAF_FOLLOWERS[number % len(DEAF_FOLLOWERS)](server, turn_id)
        at = urlsplit(url if "//" in url else f"//{url}")
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, (at.hostname or "", at.port or 0))
        await loop.sock_sendall(deaf, words)
        all_of_them.append(deaf)
    return all_of_them


async def _was_told(deaf: socket.socket) -> bool:
    """Read what waits for one who never read, and tell whether it is the answer."""
    waiting = b""
    try:
        async with asyncio.timeout(5):
            while PIECE[:20].encode() not in waiting:
                if not (read := await asyncio.get_running_loop().sock_recv(deaf, 4096)):
                    return False
                waiting += read
    except (TimeoutError, ConnectionError):
        return False
    return True


def _by_sse(server: Process, turn_id: str) -> tuple[str, bytes]:
    return (
        server.http,
        b"GET /turns/%b/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % turn_id.encode(),
    )


def _by_websocket(server: Process, turn_id: str) -> tuple[str, bytes]:
    """Write the handshake, and at once the frame behind it, masked with zeros."""
    handshake = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    text = json.dumps({"type": "follow", "turn_id": turn_id}).encode()
    return server.websocket, handshake + bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


def _by_grpc(server: Process, turn_id: str) -> tuple[str, bytes]:
    asked = pb.FollowTurnRequest(turn_id=turn_id).SerializeToString()
    path = b"/trialogue.v1.ConversationService/FollowTurn"
    return server.grpc, http2.greeting() + http2.call(path, asked)


DEAF_FOLLOWERS = (_by_sse, _by_websocket, _by_grpc)


async def _asked(server: Process, times: int) -> list[float]:
    """Ask so many times, on two wires by turns; return how long each whole answer took."""
    taken = []
    for number in range(times):
        wire = (Rest, Websocket)[number % 2](server)
        began = time.monotonic()
        async for _ in wire.ask(f"beside-{number % 3}", "Hello, who is there?"):
            pass
        taken.append(time.monotonic() - began)
    return taken


def _late(where: str, taken: list[float]) -> list[str]:
    median, worst = statistics.median(taken), max(taken)
    print(f"  an asker {where}: {1000 * median:.0f} ms, worst {1000 * worst:.0f} ms", flush=True)
    return [] if worst <= AT_ONCE else [f"an asker {where} waited {worst:.1f} s"]


if __name__ == "__main__":
    sys.exit(main())
