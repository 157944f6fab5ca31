"""REST, gRPC and websocket as one: ask, follow, watch, cancel, regenerate, read, move the head.

Each stream has a connection of its own; closing it is leaving.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import grpc
import httpx2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import ListValue
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

Turn = Mapping[str, Any]
Message = Mapping[str, Any]
#: What is compared of a turn: all that every wire tells.
TURN = (
    *("id", "conversation_id", "status", "model", "parent_id", "question_id", "answer_id"),
    *("answer", "finish_reason", "usage", "error", "created_at", "ended_at", "wire", "parts"),
)

#: And of a message.
MESSAGE = (
    *("id", "conversation_id", "parent_id", "role", "content", "tokens", "model", "turn_id"),
    *("created_at", "sibling_ids", "sibling_index"),
)


_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = (
    ("prompt_tokens_details", "cached_tokens"),
    ("completion_tokens_details", "reasoning_tokens"),
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
    part: Mapping[str, Any] | None = None
    delta: str = ""
    #: tokens of the prompt that were read, of how many
    read: tuple[int, int] | None = None


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

    def follow(self, turn_id: str, after: int = 0, **fields: Any) -> Events: ...

    def watch(self, conversation_id: str, **fields: Any) -> Events: ...

    def regenerate(self, conversation_id: str, **fields: Any) -> Events: ...

    async def cancel(self, turn_id: str) -> Turn: ...

    async def branch(self, conversation_id: str, leaf: str | None = None) -> list[Message]:
        """Return the messages of the branch that ends in `leaf`, or in the head."""
        ...

    async def move_head(self, conversation_id: str, head_id: str) -> str:
        """Let the conversation go on from a message; return where its head is now."""
        ...

    async def messages(self, conversation_id: str) -> list[tuple[str, str]]:
        """Return role and content of the branch that ends in the head."""
        return [(one["role"], one["content"]) for one in await self.branch(conversation_id)]


class Rest(Wire):
    """REST, its streams by server-sent events."""

    def __init__(self, at: Address, key: str | None = None, once: str | None = None) -> None:
        """`once` is an idempotency key, for what is asked."""
        self._url = at.http
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._headers |= {"idempotency-key": once} if once else {}

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events:
        body = {"prompt": prompt, "stream": True, **fields}
        return self._events("POST", f"/ask/{conversation_id}", json=body)

    def follow(self, turn_id: str, after: int = 0, **fields: Any) -> Events:
        return self._events("GET", f"/turns/{turn_id}/events", params={"after": after, **fields})

    def watch(self, conversation_id: str, **fields: Any) -> Events:
        return self._events("GET", f"/conversations/{conversation_id}/events", params=fields)

    def regenerate(self, conversation_id: str, **fields: Any) -> Events:
        path = f"/conversations/{conversation_id}/regenerate"
        return self._events("POST", path, json={"stream": True, **fields})

    async def cancel(self, turn_id: str) -> Turn:
        return _turn(await self._call("POST", f"/turns/{turn_id}/cancel"))

    async def branch(self, conversation_id: str, leaf: str | None = None) -> list[Message]:
        named = {"leaf": leaf} if leaf else {}
        path = f"/conversations/{conversation_id}/messages"
        found = await self._call("GET", path, params=named)
        return [_message(one) for one in found["data"]]

    async def move_head(self, conversation_id: str, head_id: str) -> str:
        path = f"/conversations/{conversation_id}"
        moved = await self._call("PATCH", path, json={"head_id": head_id})
        return str(moved["head_id"])

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[httpx2.AsyncClient, None]:
        async with httpx2.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=60, verify=False
        ) as client:
            yield client

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        async with self._client() as client:
            response = await client.request(method, path, **options)
        return _body(response)

    async def _events(self, method: str, path: str, **options: Any) -> Events:
        async with self._client() as client, client.stream(method, path, **options) as response:
            if response.status_code != 200:
                await response.aread()
                _body(response)
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield _event(json.loads(line.removeprefix("data: ")))


class Websocket(Wire):
    """JSON frames."""

    def __init__(self, at: Address, key: str | None = None, once: str | None = None) -> None:
        self._url = at.websocket
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._asked = {"idempotency_key": once} if once else {}

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events:
        asked = {"conversation_id": conversation_id, "prompt": prompt, **self._asked, **fields}
        return self._events("ask", **asked)

    def follow(self, turn_id: str, after: int = 0, **fields: Any) -> Events:
        return self._events("follow", turn_id=turn_id, after=after, **fields)

    def watch(self, conversation_id: str, **fields: Any) -> Events:
        return self._events("watch", conversation_id=conversation_id, **fields)

    def regenerate(self, conversation_id: str, **fields: Any) -> Events:
        return self._events("regenerate", conversation_id=conversation_id, **fields)

    async def cancel(self, turn_id: str) -> Turn:
        async for event in self._events("cancel", turn_id=turn_id):
            assert event.kind == "turn.ended"
            assert event.turn is not None
            return event.turn
        raise AssertionError("nothing was said of the end")

    async def branch(self, conversation_id: str, leaf: str | None = None) -> list[Message]:
        found = await self._call("messages", conversation_id=conversation_id, leaf=leaf)
        return [_message(one) for one in found["data"]]

    async def move_head(self, conversation_id: str, head_id: str) -> str:
        moved = await self._call("update", conversation_id=conversation_id, head_id=head_id)
        return str(moved["head_id"])

    async def _call(self, kind: str, **fields: Any) -> Any:
        async with aclosing(self._answers(kind, **fields)) as answers:
            return await anext(answers)

    async def _events(self, kind: str, **fields: Any) -> Events:
        async with aclosing(self._answers(kind, **fields)) as answers:
            async for body in answers:
                yield _event(body)
                if body["type"] == "turn.ended" and kind != "watch":
                    return

    async def _answers(self, kind: str, **fields: Any) -> AsyncGenerator[Any, None]:
        """Yield the frames that answer one, all that come."""
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
                    yield body
            except ConnectionClosed as closed:
                raise _cut(closed) from closed


class UpgradedWebsocket(Websocket):
    """The same on the HTTP port."""

    def __init__(self, at: Address, key: str | None = None, once: str | None = None) -> None:
        super().__init__(at, key, once)
        self._url = upgraded(at)


class Grpc(Wire):
    """trialogue.v1."""

    def __init__(self, at: Address, key: str | None = None, once: str | None = None) -> None:
        self._address = at.grpc
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._metadata += (("authorization", f"Bearer {key}"),) if key else ()
        self._metadata += (("idempotency-key", once),) if once else ()

    def ask(self, conversation_id: str, prompt: str, **fields: Any) -> Events:
        asked = pb.AskRequest(conversation_id=conversation_id, prompt=prompt, **fields)
        return self._events("Ask", asked)

    def follow(self, turn_id: str, after: int = 0, **fields: Any) -> Events:
        return self._events(
            "FollowTurn", pb.FollowTurnRequest(turn_id=turn_id, after=after, **fields)
        )

    def watch(self, conversation_id: str, **fields: Any) -> Events:
        asked = pb.WatchConversationRequest(conversation_id=conversation_id, **fields)
        return self._events("WatchConversation", asked)

    def regenerate(self, conversation_id: str, **fields: Any) -> Events:
        asked = pb.RegenerateRequest(conversation_id=conversation_id, **fields)
        return self._events("Regenerate", asked)

    async def cancel(self, turn_id: str) -> Turn:
        async with self._stub() as stub:
            asked = pb.CancelTurnRequest(turn_id=turn_id)
            return _turn_of(await explained(stub.CancelTurn(asked, metadata=self._metadata)))

    async def branch(self, conversation_id: str, leaf: str | None = None) -> list[Message]:
        asked = pb.ListMessagesRequest(conversation_id=conversation_id, leaf=leaf or "")
        async with self._stub() as stub:
            found = await explained(stub.ListMessages(asked, metadata=self._metadata))
        return [_message_of(one) for one in found.messages]

    async def move_head(self, conversation_id: str, head_id: str) -> str:
        asked = pb.UpdateConversationRequest(conversation_id=conversation_id, head_id=head_id)
        async with self._stub() as stub:
            moved = await explained(stub.UpdateConversation(asked, metadata=self._metadata))
        return str(moved.head_id)

    @asynccontextmanager
    async def _stub(self) -> AsyncGenerator[Any, None]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            yield ConversationServiceStub(channel)  # type: ignore[no-untyped-call]

    async def _events(self, method: str, asked: Any) -> Events:
        async with self._stub() as stub:
            call = getattr(stub, method)(asked, metadata=self._metadata)
            while (event := await explained(call.read())) is not grpc.aio.EOF:
                yield _event_of(event)


WIRES: Mapping[str, type[Rest] | type[Grpc] | type[Websocket]] = {
    "rest": Rest,
    "grpc": Grpc,
    "websocket": Websocket,
}


def upgraded(at: Address) -> str:
    """Return the URL of the websocket on the HTTP port."""
    return f"{at.http.replace('http', 'ws', 1)}/ws"


def _body(response: httpx2.Response) -> Any:
    body = response.json()
    if response.status_code != 200:
        raise RefusedError(body["error"]["code"])
    return body


def _cut(closed: ConnectionClosed) -> RefusedError:
    """Name a connection that was closed by its close code, as a refusal."""
    code = closed.rcvd.code if closed.rcvd else None
    return RefusedError("invalid_api_key" if code == 1008 else f"closed with {code}")


async def explained(call: Awaitable[Any]) -> Any:
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
        body.get("turn_id", ""),  # of the queue there is none
        body.get("cursor", 0),
        body.get("text", ""),
        turn and _turn(turn),
        body.get("part"),
        body.get("delta", ""),
        (body["read"], body["total"]) if "read" in body else None,
    )


def _turn(body: Mapping[str, Any]) -> Turn:
    return {name: body.get(name) for name in TURN}


def _message(body: Mapping[str, Any]) -> Message:
    return {name: body[name] for name in MESSAGE}


def _message_of(message: pb.Message) -> Message:
    """Return a message as JSON shows it."""
    told = {name: _plain(getattr(message, name)) for name in MESSAGE}
    for name in ("parent_id", "model", "turn_id"):
        if not message.HasField(name):
            told[name] = None
    return {**told, "sibling_ids": list(message.sibling_ids)}


def _event_of(event: pb.TurnEvent) -> Event:
    said = event.WhichOneof("event")
    progress = event.progress if said == "progress" else None
    return Event(
        f"turn.{said}",
        event.conversation_id,
        event.turn_id,
        event.cursor,
        event.delta.text,
        None if said in ("delta", "progress") else _turn_of(getattr(event, said).turn),
        _part(event.delta.part) if event.delta.HasField("part") else None,
        event.delta.delta,
        (progress.read, progress.total) if progress else None,
    )


def _part(part: pb.Part) -> Mapping[str, Any]:
    named = {name: getattr(part, name) for name in ("id", "name") if getattr(part, name)}
    return {"index": part.index, "type": part.type, **named}


def _turn_of(turn: pb.Turn) -> Turn:
    """Return a turn as JSON shows it."""
    told = {name: _plain(getattr(turn, name)) for name in TURN}
    for name in (
        *("parent_id", "answer_id", "finish_reason", "usage", "error", "ended_at", "wire"),
        "parts",
    ):
        if not turn.HasField(name):
            told[name] = None
    return told


def _plain(value: Any) -> Any:
    match value:
        case Timestamp():
            moment: datetime = value.ToDatetime()
            return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
        case pb.Usage():
            told = {name: getattr(value, name) for name in _TOKENS}
            for group, name in _DETAILS:
                if value.HasField(name):
                    told[group] = {name: getattr(value, name)}
            return told
        case ListValue():
            return MessageToDict(value)
        case pb.TurnError():
            return {field.name: getattr(value, field.name) for field in value.DESCRIPTOR.fields}
        case _:
            return value
