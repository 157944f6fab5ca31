"""REST, gRPC and websocket as one: ask, follow, watch, cancel, regenerate, read.

Each stream has a connection of its own; closing it is leaving.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import grpc
import httpx2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

Turn = Mapping[str, Any]
#: What is compared of a turn: all that every wire tells.
TURN = (
    *("id", "conversation_id", "status", "model", "parent_id", "question_id", "answer_id"),
    *("answer", "finish_reason", "usage", "error", "created_at", "ended_at"),
)


class RefusedError(Exception):
    """A refusal, by the code that is the same on every wire."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Event:
    """A turn event, the same whichever wire told it."""

    kind: str
    conversation_id: str
    turn_id: str
    cursor: int
    text: str = ""
    turn: Turn | None = None


Events = AsyncGenerator[Event, None]


class Address(Protocol):
    """Where a server listens."""

    @property
    def http(self) -> str: ...

    @property
    def grpc(self) -> str: ...

    @property
    def websocket(self) -> str: ...


class Wire(Protocol):
    """What can be done on every wire. Each call may raise RefusedError."""

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events: ...

    def follow(self, turn_id: str, after: int = 0) -> Events: ...

    def watch(self, conversation_id: str) -> Events: ...

    def regenerate(self, conversation_id: str) -> Events: ...

    async def cancel(self, turn_id: str) -> Turn: ...

    async def messages(self, conversation_id: str) -> list[tuple[str, str]]:
        """Return role and content of the branch that ends in the head."""
        ...


class Rest:
    """REST, its streams by server-sent events."""

    def __init__(self, at: Address, key: str | None = None) -> None:
        self._url = at.http
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events:
        body = {"prompt": prompt, "stream": True, **fields}
        return self._events("POST", f"/ask/{conversation_id}", json=body)

    def follow(self, turn_id: str, after: int = 0) -> Events:
        return self._events("GET", f"/turns/{turn_id}/events", params={"after": after})

    def watch(self, conversation_id: str) -> Events:
        return self._events("GET", f"/conversations/{conversation_id}/events")

    def regenerate(self, conversation_id: str) -> Events:
        path = f"/conversations/{conversation_id}/regenerate"
        return self._events("POST", path, json={"stream": True})

    async def cancel(self, turn_id: str) -> Turn:
        return _turn(await self._call("POST", f"/turns/{turn_id}/cancel"))

    async def messages(self, conversation_id: str) -> list[tuple[str, str]]:
        found = await self._call("GET", f"/conversations/{conversation_id}/messages")
        return [(message["role"], message["content"]) for message in found["data"]]

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[httpx2.AsyncClient, None]:
        async with httpx2.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=60, verify=False
        ) as client:
            yield client

    async def _call(self, method: str, path: str) -> Any:
        async with self._client() as client:
            response = await client.request(method, path)
        return _body(response)

    async def _events(self, method: str, path: str, **options: Any) -> Events:
        async with self._client() as client, client.stream(method, path, **options) as response:
            if response.status_code != 200:
                await response.aread()
                _body(response)
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield _event(json.loads(line.removeprefix("data: ")))


class Websocket:
    """JSON frames. History is not told on this wire, so it is read as browsers do, by REST."""

    def __init__(self, at: Address, key: str | None = None) -> None:
        self._url = at.websocket
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._rest = Rest(at, key)

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events:
        return self._events("ask", conversation_id=conversation_id, prompt=prompt, **fields)

    def follow(self, turn_id: str, after: int = 0) -> Events:
        return self._events("follow", turn_id=turn_id, after=after)

    def watch(self, conversation_id: str) -> Events:
        return self._events("watch", conversation_id=conversation_id)

    def regenerate(self, conversation_id: str) -> Events:
        return self._events("regenerate", conversation_id=conversation_id)

    async def cancel(self, turn_id: str) -> Turn:
        async for event in self._events("cancel", turn_id=turn_id):
            assert event.kind == "turn.ended"
            assert event.turn is not None
            return event.turn
        raise AssertionError("nothing was said of the end")

    async def messages(self, conversation_id: str) -> list[tuple[str, str]]:
        return await self._rest.messages(conversation_id)

    async def _events(self, kind: str, **fields: Any) -> Events:
        async with connect(
            self._url, additional_headers=self._headers, proxy=None, max_size=None
        ) as socket:
            try:
                await socket.send(json.dumps({"type": kind, "request_id": "r", **fields}))
                async for frame in socket:
                    body = json.loads(frame)
                    if body["type"] == "error":
                        raise RefusedError(body["error"]["code"])
                    if body["type"] == "welcome":
                        continue
                    assert body["request_id"] == "r"
                    yield _event(body)
                    if body["type"] == "turn.ended" and kind != "watch":
                        return
            except ConnectionClosed as closed:
                raise _cut(closed) from closed


class Grpc:
    """trialogue.v1."""

    def __init__(self, at: Address, key: str | None = None) -> None:
        self._address = at.grpc
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events:
        asked = pb.AskRequest(conversation_id=conversation_id, prompt=prompt, **fields)
        return self._events("Ask", asked)

    def follow(self, turn_id: str, after: int = 0) -> Events:
        return self._events("FollowTurn", pb.FollowTurnRequest(turn_id=turn_id, after=after))

    def watch(self, conversation_id: str) -> Events:
        asked = pb.WatchConversationRequest(conversation_id=conversation_id)
        return self._events("WatchConversation", asked)

    def regenerate(self, conversation_id: str) -> Events:
        return self._events("Regenerate", pb.RegenerateRequest(conversation_id=conversation_id))

    async def cancel(self, turn_id: str) -> Turn:
        async with self._stub() as stub:
            asked = pb.CancelTurnRequest(turn_id=turn_id)
            return _turn_of(await _explained(stub.CancelTurn(asked, metadata=self._metadata)))

    async def messages(self, conversation_id: str) -> list[tuple[str, str]]:
        async with self._stub() as stub:
            asked = pb.ListMessagesRequest(conversation_id=conversation_id)
            found = await _explained(stub.ListMessages(asked, metadata=self._metadata))
        return [(message.role, message.content) for message in found.messages]

    @asynccontextmanager
    async def _stub(self) -> AsyncGenerator[Any, None]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            yield ConversationServiceStub(channel)  # type: ignore[no-untyped-call]

    async def _events(self, method: str, asked: Any) -> Events:
        async with self._stub() as stub:
            call = getattr(stub, method)(asked, metadata=self._metadata)
            while (event := await _explained(call.read())) is not grpc.aio.EOF:
                yield _event_of(event)


WIRES: Mapping[str, type[Rest] | type[Grpc] | type[Websocket]] = {
    "rest": Rest,
    "grpc": Grpc,
    "websocket": Websocket,
}


def _body(response: httpx2.Response) -> Any:
    body = response.json()
    if response.status_code != 200:
        raise RefusedError(body["error"]["code"])
    return body


def _cut(closed: ConnectionClosed) -> RefusedError:
    """Name a connection that was closed by its close code, as a refusal."""
    code = closed.rcvd.code if closed.rcvd else None
    return RefusedError("invalid_api_key" if code == 1008 else f"closed with {code}")


async def _explained(call: Awaitable[Any]) -> Any:
    """Wait for an answer; name a status by what its details say."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
        info = ErrorInfo()
        for detail in Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
            detail.Unpack(info)
        raise RefusedError(info.reason.lower() or str(error.code())) from error


def _event(body: Mapping[str, Any]) -> Event:
    turn = body.get("turn")
    return Event(
        body["type"],
        body["conversation_id"],
        body["turn_id"],
        body["cursor"],
        body.get("text", ""),
        turn and _turn(turn),
    )


def _turn(body: Mapping[str, Any]) -> Turn:
    return {name: body[name] for name in TURN}


def _event_of(event: pb.TurnEvent) -> Event:
    said = event.WhichOneof("event")
    return Event(
        f"turn.{said}",
        event.conversation_id,
        event.turn_id,
        event.cursor,
        event.delta.text,
        None if said == "delta" else _turn_of(getattr(event, said).turn),
    )


def _turn_of(turn: pb.Turn) -> Turn:
    """Return a turn as JSON shows it."""
    told = {name: _plain(getattr(turn, name)) for name in TURN}
    for name in ("parent_id", "answer_id", "finish_reason", "usage", "error", "ended_at"):
        if not turn.HasField(name):
            told[name] = None
    return told


def _plain(value: Any) -> Any:
    match value:
        case Timestamp():
            moment: datetime = value.ToDatetime()
            return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
        case pb.Usage() | pb.TurnError():
            return {field.name: getattr(value, field.name) for field in value.DESCRIPTOR.fields}
        case _:
            return value
