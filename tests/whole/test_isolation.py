"""Nobody reaches what is another key's, on any wire, by any route that there is.

What is tried is taken from the route tables: the OpenAPI description, the table of `/v1`, the
gRPC service's descriptor, the websocket's frames. A new route is tried too, and fails here where
nobody has said what Bob could name in it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from trialogue.v1 import conversation_pb2 as pb
from websockets.asyncio.client import connect

from server.config.settings import load
from server.transports.grpc.listener import RpcListener
from server.transports.openai.app import Facade
from server.transports.websocket import calls, frames
from server.transports.websocket.listener import WebsocketListener
from server.upstream.pool import PoolMember
from tests.server.transports.openai.openai_client import passage, serving
from tests.server.transports.openai.stored_objects.shared_house import SECRET
from tests.support.access import ANN, BOB, two_keys
from tests.support.fakes import Parrot
from tests.support.live import FREE
from tests.support.upstream_script import MODEL
from tests.support.upstream_server import ScriptedUpstream
from tests.support.wires import WIRES, RefusedError, Wire

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]


@dataclass
class House:
    """A server with everything of Ann's that Bob could want, and what it is called."""

    http: str
    grpc: str
    websocket: str
    client: httpx2.AsyncClient
    facade: Facade
    ids: dict[str, Any]

    async def ann(self, method: str, path: str, **body: Any) -> Any:
        response = await self.client.request(method, path, json=body or None, headers=ANN)
        assert response.status_code < 300, response.text
        return response.json()

    def clean(self, text: str, tried: object) -> None:
        """Check that an answer shows nothing of Ann's but what Bob himself named."""
        assert SECRET not in text, tried
        for name in ("turn_id", "message_id", "completion_id"):
            assert self.ids[name] not in text or self.ids[name] in str(tried), tried


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    auth = two_keys()
    async with ScriptedUpstream() as upstream:
        member = PoolMember("scripted", Parrot(), passage(upstream))
        async with serving(tmp_path, [member], auth) as served:
            settings = load(FREE)
            core = served.conversations
            rpc = RpcListener(core, auth, settings)
            websocket = WebsocketListener(core, auth, settings, page_port=served.port)
            async with rpc, websocket:
                url = f"http://127.0.0.1:{served.port}"
                house = House(
                    url,
                    f"127.0.0.1:{rpc.port}",
                    f"ws://127.0.0.1:{websocket.port}/",
                    served.client,
                    served.facade,
                    {},
                )
                await furnish(house)
                yield house


async def furnish(house: House) -> None:
    """Let Ann have one of everything."""
    turn = await house.ann("POST", "/ask/anns", prompt=f"My {SECRET}")
    await house.ann("PATCH", "/conversations/anns", title=f"On a {SECRET}")
    kept = await house.ann(
        "POST",
        "/v1/chat/completions",
        model=MODEL,
        messages=[{"role": "user", "content": f"A {SECRET}"}],
        store=True,
    )
    house.ids |= {
        "conversation_id": "anns",
        "turn_id": turn["id"],
        "message_id": turn["answer_id"],
        "completion_id": kept["id"],
    }


async def anns(house: House) -> list[Any]:
    """Return all that is Ann's."""
    export = await house.client.get("/export", headers=ANN)
    kept = await house.client.get("/v1/chat/completions", headers=ANN)
    return [export.text, kept.text]


def named(house: House, name: str) -> Any:
    """Return what Bob puts into a field or a place of a path: Ann's, where it can be Ann's."""
    ids = house.ids
    values = {
        "conversation_id": ids["conversation_id"],
        **dict.fromkeys(("turn_id", "after_turn_id"), ids["turn_id"]),
        "id": "bobs",
        **dict.fromkeys(
            ("message_id", "parent_id", "leaf", "before", "head_id"), ids["message_id"]
        ),
        "prompt": "Give it to me",
        "q": SECRET[:6],
        "title": "Bob's",
        "waiting_id": "wait_1",
    }
    return values[name]


#: What is not about whose something is: left out of what Bob says.
NEUTRAL = {
    *("limit", "model", "max_tokens", "temperature", "top_p", "seed", "stop", "if_busy", "mode"),
    *("on_disconnect", "stream", "character", "instruction_template", "prompt_template"),
    *("system_prompt", "metadata", "truncation", "content", "content_json", "role", "roles"),
    *("created_after", "created_before", "idempotency_key", "api_key", "parts", "clear"),
    *("format", "verbose", "order", "api-version", "extra", "prompt_batch_size", "progress"),
    *("pinned", "all", "reasoning_effort", "tools", "tool_choice", "tool_results"),
    *("response_format", "parallel_tool_calls"),
    *("top_k", "min_p", "repeat_penalty", "repeat_penality", "repeat_last_n"),
}

#: The bodies of REST's calls; a new call needs one.
BODIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/ask/{conversation_id}"): ("prompt", "parent_id"),
    ("POST", "/turns/{turn_id}/cancel"): (),
    ("POST", "/conversations"): ("title",),
    ("PATCH", "/conversations/{conversation_id}"): ("title",),
    ("POST", "/conversations/{conversation_id}/regenerate"): ("message_id",),
    ("POST", "/conversations/{conversation_id}/context"): ("prompt", "parent_id"),
    ("POST", "/conversations/import"): (),
}


async def test_rest(house: House) -> None:
    described = (await house.client.get("/openapi.json", headers=BOB)).json()
    before = await anns(house)
    tried = 0
    # It ends never and names nothing of Ann's: tests/whole/test_mine.py hears what comes.
    assert described["paths"].pop("/events")
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            places = re.findall(r"\{(\w+)\}", path)
            url = path.format(**{place: named(house, place) for place in places})
            query = {
                one["name"]: named(house, one["name"])
                for one in operation.get("parameters", ())
                if one["in"] == "query" and one["name"] not in NEUTRAL | {"after"}
            }
            fields = () if method in ("get", "delete") else BODIES[method.upper(), path]
            body = {field: named(house, field) for field in fields}
            response = await house.client.request(
                method, url, params=query, json=body if fields else None, headers=BOB
            )
            said = (method, url, query, body)
            house.clean(response.text, said)
            if places:
                assert response.status_code == 404, (said, response.text)
                assert response.json()["error"]["code"] == "not_found"
            tried += 1
    assert tried > 15
    assert await anns(house) == before


async def test_openais_api(house: House) -> None:
    before = await anns(house)
    for route in house.facade.routes:
        url = route.path.replace("{id}", house.ids["completion_id"])
        for method in route.endpoints:
            body: dict[str, Any] = {"model": MODEL, "input": "x", "metadata": {}}
            json_body = None if method == "GET" else body
            response = await house.client.request(method, url, json=json_body, headers=BOB)
            house.clean(response.text, (method, url))
            if route.path.startswith("/v1/chat/completions/{id}"):
                assert response.status_code == 404, (method, url, response.text)
    assert await anns(house) == before


async def test_joining_a_conversation_of_that_name_joins_ones_own(house: House) -> None:
    before = await anns(house)
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "What do you know?"}]}
    response = await house.client.post(
        "/v1/chat/completions", json=asked, headers={**BOB, "x-conversation-id": "anns"}
    )
    assert response.status_code == 200
    house.clean(response.text, asked)
    assert await anns(house) == before


def fill(house: House, method: MethodDescriptor) -> Any:
    """Return a request of this method that names what is Ann's."""
    request = GetMessageClass(method.input_type)()
    for field in method.input_type.fields:
        if field.name in NEUTRAL or field.type == FieldDescriptor.TYPE_MESSAGE:
            continue
        if field.name == "after":
            continue
        setattr(request, field.name, named(house, field.name))
    return request


#: What makes or lists one's own: nothing of Ann's may be in it, and it need not be refused.
OWN = {"CreateConversation", "ListConversations", "SearchMessages"}


async def test_grpc(house: House) -> None:
    before = await anns(house)
    async with grpc.aio.insecure_channel(house.grpc) as channel:
        for method in SERVICE.methods:
            if method.name == "WatchAll":
                continue  # it names nothing of Ann's: see tests/whole/test_mine.py
            request = fill(house, method)
            call: Any = channel.unary_stream(
                f"/{SERVICE.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            metadata = (("authorization", BOB["authorization"]),)
            try:
                told = [str(one) async for one in call(request, metadata=metadata, timeout=20)]
                status = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                told, status = [str(error.details())], error.code()
            house.clean(str(told), str(request))
            expected = grpc.StatusCode.OK if method.name in OWN else grpc.StatusCode.NOT_FOUND
            assert status is expected, (method.name, told)
    assert await anns(house) == before


async def test_websocket(house: House) -> None:
    before = await anns(house)
    tables = {**frames.FIELDS, **{k: c.fields for k, c in calls.CALLS.items()}}
    harmless = {"ping", "create", "conversations", "search"}
    async with connect(house.websocket, additional_headers=BOB) as socket:
        await socket.recv()
        for kind, fields in tables.items():
            asked = [name for name in fields if name not in NEUTRAL | {"after"}]
            frame = {"type": kind, **{name: named(house, name) for name in asked}}
            if kind in ("authenticate", "unwatch"):
                continue  # the first is no more than a key, the second has no answer
            await socket.send(json.dumps({**frame, "request_id": "x"}))
            told: list[Any] = []
            while True:
                answer = json.loads(await asyncio.wait_for(socket.recv(), 20))
                if answer.get("request_id") == "x":
                    told.append(answer)
                    break
            house.clean(str(told), frame)
            if kind not in harmless:
                assert told[0].get("error", {}).get("code") == "not_found", (frame, told)
    assert await anns(house) == before


async def test_an_idempotency_key_is_its_owners(house: House) -> None:
    key = {"idempotency-key": "k"}
    body = {"prompt": f"My {SECRET} again"}
    first = await house.client.post("/ask/anns", json=body, headers={**ANN, **key})
    second = await house.client.post("/ask/anns", json=body, headers={**BOB, **key})
    assert first.json()["id"] != second.json()["id"]
    assert len(second.json()["context"]) == len(first.json()["context"])
    assert second.json()["parent_id"] is None


@pytest.mark.parametrize("name", WIRES)
async def test_a_live_feed_is_its_owners(house: House, name: str) -> None:
    ann, bob = (WIRES[name](house, key) for key in ("one", "two"))
    with pytest.raises(RefusedError) as refused:
        await anext(bob.watch("anns"))
    assert refused.value.code == "not_found"
    await asked(bob, "Bob's own")
    feed = bob.watch("anns")
    heard = asyncio.create_task(anext(feed))
    await asked(ann, f"Another {SECRET}")
    await asked(bob, "Bob's next")
    event = await asyncio.wait_for(heard, 20)
    assert event.turn is not None
    assert event.turn["parent_id"] is not None
    rest = [await asyncio.wait_for(anext(feed), 20) for _ in range(2)]
    assert SECRET not in "".join(one.text for one in rest)
    await feed.aclose()


async def asked(wire: Wire, prompt: str) -> None:
    async for _ in wire.ask("anns", prompt):
        pass
