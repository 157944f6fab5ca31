"""A live gRPC listener over a real store, and what gRPC tests say again and again."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub

from server.app.core import core_of
from server.config.limits import RpcLimits
from server.config.settings import load
from server.core.access.auth import Auth
from server.core.conversations import Conversations
from server.core.turns.plan import Defaults
from server.transports.grpc.listener import RpcListener
from server.upstream.port import Upstream
from storage.sqlite.store import SQLiteStore
from tests.support.access import OPEN_ACCESS
from tests.support.fakes import Parrot


@dataclass(frozen=True)
class Served:
    """A server that a test talks to."""

    conversations: Conversations
    listener: RpcListener

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.port}"

    def channel(self) -> grpc.aio.Channel:
        """Open a channel with a connection of its own."""
        return grpc.aio.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )


@asynccontextmanager
async def serving(
    folder: Path,
    upstream: Upstream,
    auth: Auth = OPEN_ACCESS,
    *,
    limits: RpcLimits | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    read = load({"grpc_port": 0, **settings})
    async with (
        SQLiteStore(folder / "history.db") as store,
        core_of(store, upstream, Defaults(model="eliza")) as conversations,
        RpcListener(conversations, auth, read, limits=limits) as listener,
    ):
        yield Served(conversations, listener)


def stub(channel: grpc.aio.Channel) -> Any:
    return ConversationServiceStub(channel)  # type: ignore[no-untyped-call]


def bearing(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def text(events: list[pb.TurnEvent]) -> str:
    return "".join(event.delta.text for event in events if event.HasField("delta"))


@dataclass(frozen=True)
class Refused:
    """What a caller is told by a status."""

    code: grpc.StatusCode
    message: str
    reason: str | None
    param: str | None
    retry_after: float | None
    trailers: Mapping[str, Any]


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """Read a status and its google.rpc details."""
    trailers = dict(error.trailing_metadata() or ())
    info, retry = ErrorInfo(), RetryInfo()
    for detail in Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
        if not detail.Unpack(info):
            assert detail.Unpack(retry), f"nobody knows {detail.type_url}"
    return Refused(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason or None,
        param=info.metadata.get("param"),
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() or None,
        trailers=trailers,
    )


async def refusal(call: Awaitable[Any]) -> Refused:
    """Return what a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refused(caught.value)


async def heard(call: Any) -> list[pb.TurnEvent]:
    """Return all events of a stream, to its end."""
    return [event async for event in call]


class RawPeer:
    """A peer that writes HTTP/2 by hand, as no client library would (RFC 9113, RFC 7541)."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(30)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))

    def call(self, path: bytes, metadata: Mapping[bytes, bytes] = MappingProxyType({})) -> None:
        """Send a call with an empty message."""
        fields = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": path,
            b":authority": b"localhost",
            b"content-type": b"application/grpc",
            b"te": b"trailers",
            **metadata,
        }
        # "Literal header field without indexing", neither name nor value compressed.
        block = b"".join(
            b"\x00" + bytes([len(one)]) + one + bytes([len(other)]) + other
            for one, other in fields.items()
        )
        headers = _frame(_HEADERS, _END_HEADERS, 1, block)
        self._socket.sendall(headers + _frame(_DATA, _END_STREAM, 1, bytes(5)))

    def read_status(self) -> int:
        """Read on until the trailers say how the call ended."""
        read = b""
        while (found := re.search(rb"grpc-status[\x01\x02](\d+)", read)) is None:
            more = self._socket.recv(4096)
            assert more, "the server closed the connection"
            read += more
        return int(found[1])

    def read_goaway(self) -> None:
        """Read on until the server says that it goes (a GOAWAY frame) or is gone."""
        read, goaway = b"", bytes([_GOAWAY, 0, 0, 0, 0, 0])
        while goaway not in read and (more := self._socket.recv(4096)):
            read += more

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS = 1, 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


@asynccontextmanager
async def parrot(folder: Path, **settings: Any) -> AsyncIterator[Any]:
    """Serve a parrot to one client."""
    async with serving(folder, Parrot(), **settings) as server, server.channel() as channel:
        yield stub(channel)
