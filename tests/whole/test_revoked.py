"""A key that is revoked ends what is read with it, on every wire, though nothing more may come.

The websocket's own test is in test_websocket_doors.py: there a whole connection is one key's.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from trialogue.v1 import conversation_pb2 as pb

from server.config.limits import HttpLimits, RpcLimits
from server.core.conversations import Conversations
from server.core.turns.questions import Ask
from storage.model import Status
from tests.server.transports.grpc import grpc_client
from tests.server.transports.openai import openai_client
from tests.server.transports.rest import http_client
from tests.support.access import EAGER, Revocable
from tests.support.fakes import Puppet
from tests.support.upstream_script import MODEL, hang, stall
from tests.support.upstream_server import ScriptedUpstream


@pytest.fixture
def ann(tmp_path: Path) -> Revocable:
    return Revocable(tmp_path)


@pytest.mark.parametrize("watched", [False, True])
async def test_over_sse(
    ann: Revocable, conversations: Conversations, upstream: Puppet, *, watched: bool
) -> None:
    limits = HttpLimits(check_keys_every=EAGER)
    async with http_client.serving(conversations, ann.auth, limits=limits) as served:
        asked: dict[str, Any] = {"json": {"prompt": "Hello", "stream": True}}
        upstream.say("Well")
        url, how = ("/conversations/c/events", {}) if watched else ("/ask/c", asked)
        method = "GET" if watched else "POST"
        if watched:
            await conversations.create("ann", id="c")
        async with served.client.stream(method, url, headers=ann.headers, **how) as response:
            assert response.status_code == 200
            ann.revoke()
            *_, kind, data = [line async for line in response.aiter_lines() if line]
        assert kind == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["code"] == "invalid_api_key"
        refused = await served.client.get("/conversations", headers=ann.headers)
        assert refused.status_code == 401


async def test_over_v1(ann: Revocable, tmp_path: Path) -> None:
    limits = HttpLimits(check_keys_every=EAGER)
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        members = [openai_client.member(openai_client.passage(upstream))]
        upstream.script(stall("Well"))
        async with openai_client.serving(tmp_path, members, ann.auth, limits=limits) as served:
            body = {**openai_client.CHAT, "stream": True}
            post = served.client.stream(
                "POST", "/v1/chat/completions", json=body, headers=ann.headers
            )
            async with post as response:
                lines = response.aiter_lines()
                assert "delta" in await anext(lines)
                ann.revoke()
                *_, last = [line async for line in lines if line]
            error = json.loads(last.removeprefix("data: "))["error"]
            assert error["code"] == "invalid_api_key"
            await upstream.requests[-1].gone.wait()


@pytest.mark.parametrize("watched", [False, True])
async def test_over_grpc(ann: Revocable, tmp_path: Path, *, watched: bool) -> None:
    puppet, limits = Puppet(), RpcLimits(check_keys_every=EAGER)
    async with (
        grpc_client.serving(tmp_path, puppet, ann.auth, limits=limits) as server,
        server.channel() as channel,
    ):
        client, told = grpc_client.stub(channel), grpc_client.bearing(ann.key)
        if watched:
            await server.conversations.create("ann", id="c")
            asked = pb.WatchConversationRequest(conversation_id="c")
            events = client.WatchConversation(asked, metadata=told)
            await events.initial_metadata()
        else:
            puppet.say("Well")
            events = client.Ask(pb.AskRequest(prompt="x"), metadata=told)
            await events.read()
        ann.revoke()
        refused = await grpc_client.refusal(to_the_end(events))
        assert refused.code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_plain_ask_is_refused_and_its_turn_goes_on(
    ann: Revocable, conversations: Conversations, upstream: Puppet
) -> None:
    limits = HttpLimits(check_keys_every=EAGER)
    async with http_client.serving(conversations, ann.auth, limits=limits) as served:
        post = served.client.post("/ask/c", json={"prompt": "Hello"}, headers=ann.headers)
        asked = asyncio.create_task(post)
        await upstream.asked(1)
        ann.revoke()
        http_client.refused(await asked, 401, "invalid_api_key")
        upstream.answer("Well")
        while conversations.running:
            await asyncio.sleep(0.01)
        *_, last = (await conversations.messages("ann", "c")).items
        turn = await conversations.turn("ann", last.turn_id or "")
        assert (turn.status, turn.answer) == (Status.COMPLETED, "Well")


async def test_an_ask_in_line_is_refused_over_grpc(ann: Revocable, tmp_path: Path) -> None:
    puppet, limits = Puppet(), RpcLimits(check_keys_every=EAGER)
    async with (
        grpc_client.serving(tmp_path, puppet, ann.auth, limits=limits) as server,
        server.channel() as channel,
    ):
        await server.conversations.ask("ann", "c", Ask("First"))
        asked = pb.AskRequest(conversation_id="c", prompt="Second")
        waiting = grpc_client.stub(channel).Ask(asked, metadata=grpc_client.bearing(ann.key))
        await queued(server.conversations)
        ann.revoke()
        refused = await grpc_client.refusal(to_the_end(waiting))
        assert refused.code is grpc.StatusCode.UNAUTHENTICATED
        puppet.answer("Well")


async def test_a_unary_call_is_refused_over_grpc(tmp_path: Path) -> None:
    puppet, limits = Puppet(), RpcLimits(check_keys_every=EAGER)
    ann = Revocable(tmp_path, most_by_key=1)
    async with (
        grpc_client.serving(tmp_path, puppet, ann.auth, limits=limits) as server,
        server.channel() as channel,
    ):
        with closing(sqlite3.connect(tmp_path / "history.db")) as another:
            another.execute("BEGIN IMMEDIATE")  # the database lets nobody write
            making = await let_in(grpc_client.stub(channel), grpc_client.bearing(ann.key))
            ann.revoke()
            refused = await grpc_client.refusal(making)
            assert refused.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("joined", [False, True])
async def test_a_whole_answer_is_refused_over_v1(
    ann: Revocable, tmp_path: Path, *, joined: bool
) -> None:
    limits = HttpLimits(check_keys_every=EAGER)
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        members = [openai_client.member(openai_client.passage(upstream))]
        upstream.script(hang())
        headers = {**ann.headers, **({"x-conversation-id": "c"} if joined else {})}
        async with openai_client.serving(tmp_path, members, ann.auth, limits=limits) as served:
            post = served.client.post(
                "/v1/chat/completions", json=openai_client.CHAT, headers=headers
            )
            asked = asyncio.create_task(post)
            request = await upstream.request()
            ann.revoke()
            http_client.refused(await asked, 401, "invalid_api_key")
            if not joined:  # that is a turn, and outlives its asker
                await request.gone.wait()


async def test_an_export_is_cut(ann: Revocable, conversations: Conversations) -> None:
    """It is larger than what lies in sockets, and nothing is read before the key is refused."""
    limits = HttpLimits(check_keys_every=EAGER)
    for number in range(12):
        await conversations.create("ann", id=f"c{number}", system_prompt="word " * 200_000)
    async with http_client.serving(conversations, ann.auth, limits=limits) as served:
        beside = served.client.stream("GET", "/conversations/c1/events", headers=ann.headers)
        export = served.client.stream("GET", "/export", headers=ann.headers)
        async with beside as watched, export as response:
            assert (watched.status_code, response.status_code) == (200, 200)
            ann.revoke()
            await watched.aread()  # to its end, at which all who have that key are told to leave
            with pytest.raises(httpx2.RemoteProtocolError):
                await response.aread()


async def let_in(client: Any, told: Any) -> Any:
    """Return a call that makes a conversation, once it is the one that a key may have at once."""
    making = code = None
    while code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        if making is None or making.done():  # the other came first, and it was one too many
            asked = pb.CreateConversationRequest(id="c")
            making = client.CreateConversation(asked, metadata=told)
        looked = pb.GetConversationRequest(conversation_id="none")
        code = (await grpc_client.refusal(client.GetConversation(looked, metadata=told))).code
    return making


async def queued(conversations: Conversations) -> None:
    """Wait until a question is in line."""
    while b"trialogue_turns_waiting 1" not in conversations.metrics.render():
        await asyncio.sleep(EAGER)


async def to_the_end(events: Any) -> None:
    while await events.read() is not grpc.aio.EOF:
        pass
