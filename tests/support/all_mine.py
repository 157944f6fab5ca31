"""All that is an owner's, watched over each wire as the same objects, and questions taken back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict
from trialogue.v1 import conversation_pb2 as pb

from tests.support.wires import Grpc, RefusedError, Rest, Websocket, Wire, explained

#: What an event is, and what it tells; the same on every wire.
News = AsyncGenerator[dict[str, Any], None]


class MineWire(Wire, Protocol):
    """A wire on which all can be watched; the stream is there once `anext` was asked of it."""

    def news(self) -> News: ...

    async def withdraw(self, conversation_id: str, waiting_id: str) -> None: ...


class MineRest(Rest):
    async def news(self) -> News:
        async with self._client() as client, client.stream("GET", "/events") as response:
            async for line in response.aiter_lines():
                assert not line.startswith("id:"), "there is no position to go on from"
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    async def withdraw(self, conversation_id: str, waiting_id: str) -> None:
        path = f"/conversations/{conversation_id}/queue/{waiting_id}"
        async with self._client() as client:
            response = await client.delete(path)
        if response.status_code != 204:
            raise RefusedError(response.json()["error"]["code"])


class MineWebsocket(Websocket):
    async def news(self) -> News:
        async with aclosing(self._answers("watch", all=True)) as answers:
            async for body in answers:
                yield {name: value for name, value in body.items() if name != "request_id"}

    async def withdraw(self, conversation_id: str, waiting_id: str) -> None:
        told = await self._call("withdraw", conversation_id=conversation_id, waiting_id=waiting_id)
        assert (told["type"], told["waiting_id"]) == ("withdrawn", waiting_id)


class MineGrpc(Grpc):
    async def news(self) -> News:
        async with self._stub() as stub:
            call = stub.WatchAll(pb.WatchAllRequest(), metadata=self._metadata)
            async for event in call:
                told = MessageToDict(event, preserving_proto_field_name=True)
                if event.type == "queue.changed":
                    told.setdefault("waiting", [])
                    told["count"] = int(told.pop("waiting_count", 0))
                yield told

    async def withdraw(self, conversation_id: str, waiting_id: str) -> None:
        asked = pb.WithdrawAskRequest(conversation_id=conversation_id, waiting_id=waiting_id)
        async with self._stub() as stub:
            await explained(stub.WithdrawAsk(asked, metadata=self._metadata))


MINE: Mapping[str, type[MineRest] | type[MineWebsocket] | type[MineGrpc]] = {
    "rest": MineRest,
    "grpc": MineGrpc,
    "websocket": MineWebsocket,
}
