"""Whose a thing is, is kept before it is told, and while keys come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.core.access.auth import Auth, new_key
from server.core.clock import microseconds
from server.upstream.port import Call, Reply
from server.upstream.remote.client import UpstreamClient
from storage.keys import KeyFile
from tests.server.transports.openai.openai_client import (
    HANDED_ON,
    Served,
    connected,
    error_of,
    member,
    passing,
    serving,
)
from tests.server.transports.openai.stored_objects.shared_house import House, speaker
from tests.support.access import ANN, BOB, locked, two_keys
from tests.support.storing_upstream import StoringUpstream
from tests.support.upstream_script import KEY, SSE, Behaviour, Exchange, Step, document
from tests.support.upstream_script import wire as wire_of
from tests.support.upstream_server import ScriptedUpstream


@dataclass
class Wired:
    """A server over a scripted upstream, for what comes in the middle of an answer."""

    served: Served
    upstream: ScriptedUpstream

    async def own(self, owner: str, *ids: str) -> set[str]:
        return set(await self.served.objects.own(owner, ids))


@pytest.fixture
async def wired(tmp_path: Path) -> AsyncIterator[Wired]:
    async with passing(tmp_path, two_keys()) as (served, upstream):
        yield Wired(served, upstream)


def told_by(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def stream(*steps: Step) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": SSE, "transfer-encoding": "chunked"})
        await exchange.play(*steps)
        await exchange.chunk(b"")

    return behave


class TestStreams:
    async def test_it_is_kept_whose_it_is_before_it_is_told(self, wired: Wired) -> None:
        created = told_by("response.created", response={"id": "resp_1", "output": []})
        added = told_by("response.output_item.added", item={"id": "msg_1"})
        box = told_by("response.output_item.done", item={"id": "ci_1", "container_id": "cntr_1"})
        gates = [asyncio.Event() for _ in range(3)]
        wired.upstream.script(
            stream(created[:30], created[30:], gates[0], added, gates[1], box, gates[2])
        )
        async with connected(wired.served.port) as wire:
            await wire.post("/v1/responses", {**HANDED_ON, "stream": True}, headers=ANN)
            assert b" 200 " in await wire.head()
            for event, ids, gate in zip(
                (created, added, box),
                ({"resp_1"}, {"msg_1"}, {"ci_1", "cntr_1"}),
                gates,
                strict=True,
            ):
                assert await wire.chunk() == event
                assert await wired.own("ann", *ids) == ids
                assert await wired.own("bob", *ids) == set()
                gate.set()
            assert await wire.chunk() == b""

    async def test_one_that_tells_of_anothers_is_cut(self, wired: Wired) -> None:
        wired.upstream.script(document({"id": "resp_1"}))
        await wired.served.client.post("/v1/responses", json=HANDED_ON, headers=ANN)
        wired.upstream.script(stream(told_by("response.created", response={"id": "resp_1"})))
        async with connected(wired.served.port) as wire:
            await wire.post("/v1/responses", {**HANDED_ON, "stream": True}, headers=BOB)
            await wire.head()
            assert await wire.reader.read() == b""
        assert await wired.own("bob", "resp_1") == set()

    async def test_a_thread_that_is_made_with_its_run_is_kept(self, wired: Wired) -> None:
        thread = b'event: thread.created\ndata: {"id": "thread_1", "object": "thread"}\n\n'
        run = b'event: thread.run.created\ndata: {"id": "run_1", "object": "thread.run"}\n\n'
        wired.upstream.script(stream(thread, run))
        await wired.served.client.post("/v1/threads/runs", json={"stream": True}, headers=ANN)
        assert await wired.own("ann", "thread_1", "run_1") == {"thread_1"}

    async def test_who_hangs_up_keeps_what_the_upstream_has_answered(self, tmp_path: Path) -> None:
        gate, body = asyncio.Event(), b'{"id": "resp_1"}'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        async with ScriptedUpstream() as upstream:
            heard = Heard(api_key=KEY, base_url=upstream.base_url)
            upstream.script(wire_of(head % len(body) + body[:5], gate, body[5:]))
            async with serving(tmp_path, [member(heard)], two_keys()) as served:
                async with connected(served.port) as wire:
                    await wire.post("/v1/responses", HANDED_ON, headers=ANN)
                    await heard.head.wait()
                    (task,) = served.facade.exchanges
                while not (task.cancelling() or task.done()):  # until it is seen that nobody waits
                    await asyncio.sleep(0)
                gate.set()
                await asyncio.wait([task])
                assert set(await served.objects.own("ann", {"resp_1"})) == {"resp_1"}


class Heard(UpstreamClient):
    """A passage that says when the head of an answer is there."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.head = asyncio.Event()

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        async with super().call(call) as reply:
            self.head.set()
            yield reply


class TestKeys:
    async def test_alone_all_goes_by_as_it_is_and_stays_ones_own(self, tmp_path: Path) -> None:
        file = KeyFile(tmp_path / "keys")
        ann, kept = new_key("ann", 1)
        file.add(kept)
        auth = Auth((), file, microseconds, open_to_all=False, public=False)
        async with (
            StoringUpstream() as upstream,
            serving(tmp_path, [member(speaker(upstream))], auth) as served,
        ):
            house = House(served, upstream)
            me = {"authorization": f"Bearer {ann}"}
            read, listed = upstream.make("files", "old"), upstream.make("vector_stores", "old")
            never = upstream.make("files", "never seen")
            body = b'{"file_id":  "x", "file_id": "y"}'
            for path in ("/evals", f"/files/{read}", "/vector_stores", "/skills/a%2Fb"):
                assert (await house.send(me, "GET", path)).status_code == 200
                assert upstream.seen[-1].path == f"/v1{path}"
            await house.send(me, "POST", "/threads", content=body)
            assert upstream.seen[-1].raw == body

            bob, kept = new_key("bob", 1)
            file.add(kept)
            error_of(await house.send(me, "GET", "/evals"), 403, "shared_upstream")
            for path in (f"/files/{read}", f"/vector_stores/{listed}"):
                assert (await house.send(me, "GET", path)).status_code == 200
                error_of(await house.send({"authorization": f"Bearer {bob}"}, "GET", path), 404)
            error_of(await house.send(me, "GET", f"/files/{never}"), 404)

    async def test_without_a_database_nothing_new_is_acknowledged(self, tmp_path: Path) -> None:
        async with (
            StoringUpstream() as upstream,
            serving(tmp_path, [member(speaker(upstream))]) as served,
        ):
            house = House(served, upstream)
            file = (await house.send({}, "POST", "/files", json={})).json()["id"]
            await served.store.close()
            for path in (f"/files/{file}", "/files", "/files/other"):
                assert (await house.send({}, "GET", path)).status_code == 200
            error_of(await house.send({}, "POST", "/files", json={}), 503)

    async def test_what_a_key_had_stays_its_own_when_it_is_gone(self, tmp_path: Path) -> None:
        async with StoringUpstream() as upstream:
            members = [member(speaker(upstream))]
            async with serving(tmp_path, members, two_keys()) as served:
                file = (await House(served, upstream).send(ANN, "POST", "/files", json={})).json()
            bob = locked("bob:two")
            async with serving(tmp_path, [member(speaker(upstream))], bob) as served:
                house = House(served, upstream)
                error_of(await house.send(BOB, "GET", f"/files/{file['id']}"), 404)
                assert (await house.send(BOB, "GET", "/files")).json()["data"] == []

    async def test_each_thing_is_asked_for_where_it_is(self, tmp_path: Path) -> None:
        async with StoringUpstream() as here, StoringUpstream() as there:
            members = [
                member(speaker(here), "here", models=("a",)),
                member(speaker(there), "there", models=("b",)),
            ]
            async with serving(tmp_path, members, two_keys()) as served:
                house = House(served, there)
                made = await house.send(ANN, "POST", "/threads", json={"model": "b"})
                id_ = made.json()["id"]
                assert (await house.send(ANN, "GET", f"/threads/{id_}")).status_code == 200
                assert [one.path for one in here.seen] == []
                body = {"model": "a", "thread_id": id_}
                answer = await house.send(ANN, "POST", "/threads/runs", json=body)
                error_of(answer, 404, "model_not_found")
                assert here.seen == []

    async def test_the_same_id_at_another_upstream_is_another_thing(self, tmp_path: Path) -> None:
        async with StoringUpstream() as here, StoringUpstream() as there:
            members = [
                member(speaker(here), "here", models=("*",)),
                member(speaker(there), "there", models=("b",)),
            ]
            async with serving(tmp_path, members[::-1], two_keys()) as served:
                house = House(served, here)
                for upstream in (here, there):
                    upstream.next_ids.append("file-1")
                assert (await house.send(ANN, "POST", "/files", json={})).is_success
                assert (await house.send(BOB, "POST", "/files", json={})).is_success
                made = await house.send(BOB, "POST", "/videos", json={"model": "b"})
                assert made.json()["id"] == "file-1"
                start = len(here.seen)
                listed = await house.send(BOB, "GET", "/files")
                assert "file-1" not in [one["id"] for one in listed.json()["data"]]
                form = {"file_id": (None, "file-1")}
                error_of(await house.send(BOB, "POST", "/videos/edits", files=form), 404)
                assert (await house.send(BOB, "GET", "/videos/file-1")).is_success
                assert there.seen[-1].path == "/v1/videos/file-1"
                assert [one.method for one in here.seen[start:]] in (["GET"], ["GET", "POST"])
                assert b"file-1" not in b"".join(one.raw for one in here.seen[start:])
