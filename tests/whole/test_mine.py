"""All that is an owner's, live, on every wire: one tells what another did, and takes it back."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import aclosing
from typing import Any

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect

from storage.sqlite.store import SQLiteStore
from tests.support.access import ANN, BOB, two_keys
from tests.support.all_mine import MINE
from tests.support.fakes import Puppet
from tests.support.live import Served, serve
from tests.support.wires import RefusedError
from tests.whole.listening import Listener
from tests.whole.watching import refusal, watching

PAIRS = list(itertools.permutations(MINE, 2))


@pytest.mark.parametrize(("watcher", "doer"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def test_one_wire_tells_what_another_did(
    served: Served, upstream: Puppet, watcher: str, doer: str
) -> None:
    watch = await watching(MINE[watcher](served), served.http)
    wire = MINE[doer](served)
    asker = Listener(wire.ask("demo", "Are you there?"))
    told = [await watch.next() for _ in range(2)]
    assert [one["type"] for one in told] == ["conversation.created", "turn.started"]
    assert told[0]["conversation"]["title"] == "Are you there?"
    assert told[1]["turn"]["status"] == "running"

    second = asyncio.create_task(refusal(wire.ask("demo", "And now?")))
    queued = await watch.until("queue.changed")
    (waiting,) = queued["waiting"]
    assert (waiting["prompt"], waiting["wire"], queued["count"]) == ("And now?", doer, 1)
    await MINE[watcher](served).withdraw("demo", waiting["id"])
    assert await watch.until("queue.changed") == {**queued, "waiting": [], "count": 0}
    assert await second == "conversation_busy"
    with pytest.raises(RefusedError, match="not_found"):
        await MINE[watcher](served).withdraw("demo", waiting["id"])

    upstream.answer("Yes.")
    await asker.ends()
    updated, ended = await watch.next(), await watch.next()
    assert (updated["type"], ended["type"]) == ("conversation.updated", "turn.ended")
    assert int(updated["conversation"]["message_count"]) == 2
    assert ended["turn"]["answer"] == "Yes."
    assert updated["conversation"]["last_message_at"] == ended["turn"]["ended_at"]
    await watch.leave()


@pytest.mark.parametrize("name", MINE)
async def test_who_watches_one_conversation_is_told_of_its_queue_except_over_grpc(
    served: Served, name: str
) -> None:
    wire = MINE[name](served)
    asker = Listener(wire.ask("demo", "First"))
    await asker.started()
    async with aclosing(wire.watch("demo")) as events:
        assert (await anext(events)).kind == "turn.started"
        second = asyncio.create_task(refusal(wire.ask("demo", "Second")))
        if name == "grpc":
            await wire.cancel(asker.turn_id)
            assert (await anext(events)).kind == "turn.ended"
        else:
            assert (await anext(events)).kind == "queue.changed"
    second.cancel()


async def test_an_event_stream_has_positions_of_turns_alone(served: Served) -> None:
    async with httpx2.AsyncClient(base_url=served.http, timeout=20) as client:
        await client.post("/conversations", json={"id": "c"})
        first = asyncio.create_task(client.post("/ask/c", json={"prompt": "First"}))
        async with client.stream("GET", "/conversations/c/events") as response:
            lines = response.aiter_lines()
            while not (await anext(lines)).startswith("data: "):
                pass
            second = asyncio.create_task(client.post("/ask/c", json={"prompt": "Second"}))
            line = ""
            while not line.startswith("event: "):
                line = await anext(lines)
            assert line == "event: queue.changed"
            told = await anext(lines)
            assert told.startswith("data: ")
            (waiting,) = json.loads(told.removeprefix("data: "))["waiting"]
            gone = await client.delete(f"/conversations/c/queue/{waiting['id']}")
            assert gone.status_code == 204
            refused = await second
            assert refused.status_code == 409
            assert "taken back" in refused.json()["error"]["message"]
            assert refused.headers["x-should-retry"] == "false"
            assert "retry-after" not in refused.headers
        first.cancel()


@pytest.mark.parametrize("name", MINE)
async def test_nobody_hears_or_takes_back_what_is_anothers(
    store: SQLiteStore, upstream: Puppet, name: str
) -> None:
    async with serve(store, upstream, auth=two_keys()) as served:
        anns, bobs = (
            MINE[name](served, key["authorization"].removeprefix("Bearer ")) for key in (ANN, BOB)
        )
        his = await watching(bobs, served.http, BOB)
        hers = await watching(anns, served.http, ANN)
        asker = Listener(anns.ask("demo", "First"))
        await asker.started()  # each asks on a connection of its own: either could come first
        second = asyncio.create_task(refusal(anns.ask("demo", "Second")))
        (waiting,) = (await hers.until("queue.changed"))["waiting"]
        with pytest.raises(RefusedError, match="not_found"):
            await bobs.withdraw("demo", waiting["id"])
        assert not second.done()
        await anns.withdraw("demo", waiting["id"])
        assert await second == "conversation_busy"
        upstream.answer("Yes.").answer("Yes.")
        await asker.ends()
        await Listener(bobs.ask("his", "I am Bob")).ends()
        heard = [await his.next() for _ in range(4)]
        assert {one["conversation_id"] for one in heard} == {"his"}
        assert heard[-1]["type"] == "turn.ended"
        await asyncio.gather(his.leave(), hers.leave())


async def test_a_websocket_watches_all_beside_one_and_stops_each_alone(served: Served) -> None:
    async with connect(served.websocket, proxy=None) as socket:

        async def said(**frame: Any) -> None:
            await socket.send(json.dumps(frame))

        async def heard(kind: str) -> dict[str, Any]:
            while (told := json.loads(await asyncio.wait_for(socket.recv(), 20)))["type"] != kind:
                pass
            return dict(told)

        await said(type="watch", all=True, request_id="all")
        await said(type="create", id="c")
        assert (await heard("conversation.created"))["request_id"] == "all"
        await said(type="watch", conversation_id="c", request_id="one")
        await said(type="unwatch", all=True)
        await said(type="update", conversation_id="c", pinned=True, request_id="u")
        assert (await heard("conversation"))["pinned"] is True
        await said(type="ask", conversation_id="c", prompt="Hello", request_id="ask")
        started = [await heard("turn.started") for _ in range(2)]
        assert {one["request_id"] for one in started} == {"one", "ask"}
        for frame in (
            {"type": "watch"},
            {"type": "watch", "all": False},
            {"type": "unwatch"},
            {"type": "watch", "all": True, "conversation_id": "c"},
            {"type": "watch", "all": True, "after": "turn_1:0"},
        ):
            await said(**frame)
            assert (await heard("error"))["error"]["code"] == "invalid_request"


async def test_every_wire_pins_and_lists_by_activity(served: Served) -> None:
    async with (
        httpx2.AsyncClient(base_url=served.http) as client,
        grpc.aio.insecure_channel(served.grpc) as channel,
        connect(served.websocket, proxy=None) as socket,
    ):
        stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        await socket.recv()

        async def called(**frame: Any) -> dict[str, Any]:
            await socket.send(json.dumps(frame))
            return dict(json.loads(await socket.recv()))

        for name in ("a", "b", "c", "d"):
            await client.post("/conversations", json={"id": name})
        assert (await client.patch("/conversations/a", json={"pinned": True})).json()["pinned"]
        pinned = await stub.UpdateConversation(
            pb.UpdateConversationRequest(conversation_id="b", pinned=True)
        )
        assert pinned.pinned
        assert not pinned.HasField("last_message_at")
        assert (await called(type="update", conversation_id="c", pinned=True))["pinned"]
        assert not (await called(type="update", conversation_id="c", pinned=False))["pinned"]

        lists = [
            (await client.get("/conversations", params={"order": "activity"})).json(),
            await called(type="conversations", order="activity"),
        ]
        told = [[one["id"] for one in page["data"]] for page in lists]
        page = await stub.ListConversations(pb.ListConversationsRequest(order="activity"))
        told.append([one.id for one in page.conversations])
        assert told == [["b", "a", "d", "c"]] * 3

        asked = {"order": "activity", "q": "x"}
        assert (await client.get("/conversations", params=asked)).status_code == 400
        assert (await client.get("/conversations", params={"order": "size"})).status_code == 400
        assert (await client.patch("/conversations/a", json={"pinned": "yes"})).status_code == 400
        assert (await called(type="conversations", **asked))["type"] == "error"
        with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
            await stub.ListConversations(pb.ListConversationsRequest(order="size"))
