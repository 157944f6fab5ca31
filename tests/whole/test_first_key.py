"""An open server needs keys as soon as there is one, on every wire, and for those who stay too."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from trialogue.v1 import conversation_pb2 as pb

from server.config.limits import HttpLimits, RpcLimits, WebsocketLimits
from server.core.access.auth import EVERYONE
from server.core.conversations import Conversations
from tests.server.transports.grpc import grpc_client
from tests.server.transports.openai import openai_client
from tests.server.transports.rest import http_client
from tests.server.transports.websocket import websocket_client
from tests.support.access import EAGER
from tests.support.fakes import Puppet
from tests.support.upstream_script import MODEL, stall
from tests.support.upstream_server import ScriptedUpstream
from tests.whole.closable import Closable


@pytest.fixture
def house(tmp_path: Path) -> Closable:
    return Closable(tmp_path)


@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer anything"}])
async def test_over_rest(
    house: Closable, conversations: Conversations, shown: dict[str, str]
) -> None:
    await conversations.create(EVERYONE, id="c")
    limits = HttpLimits(check_keys_every=EAGER)
    async with http_client.serving(conversations, house.auth, limits=limits) as served:
        watching = served.client.stream("GET", "/conversations/c/events", headers=shown)
        async with watching as response:
            assert response.status_code == 200
            key = house.close()
            *_, data = [line async for line in response.aiter_lines() if line]
        assert json.loads(data.removeprefix("data: "))["error"]["code"] == "invalid_api_key"
        refused = await served.client.get("/conversations", headers=shown)
        http_client.refused(refused, 401, "invalid_api_key")
        bearing = {"authorization": f"Bearer {key}"}
        assert (await served.client.get("/conversations/c", headers=bearing)).status_code == 200


async def test_over_v1(house: Closable, tmp_path: Path) -> None:
    limits = HttpLimits(check_keys_every=EAGER)
    async with ScriptedUpstream(models=(MODEL,)) as upstream:
        members = [openai_client.member(openai_client.passage(upstream))]
        upstream.script(stall("Well"))
        async with openai_client.serving(tmp_path, members, house.auth, limits=limits) as served:
            body = {**openai_client.CHAT, "stream": True}
            async with served.client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.aiter_lines()
                assert "delta" in await anext(lines)
                house.close()
                *_, last = [line async for line in lines if line]
            error = json.loads(last.removeprefix("data: "))["error"]
            assert error["code"] == "invalid_api_key"
            refused = await served.client.get("/v1/models")
            http_client.refused(refused, 401, "invalid_api_key")


async def test_over_grpc(house: Closable, tmp_path: Path) -> None:
    puppet, limits = Puppet(), RpcLimits(check_keys_every=EAGER)
    async with (
        grpc_client.serving(tmp_path, puppet, house.auth, limits=limits) as server,
        server.channel() as channel,
    ):
        client = grpc_client.stub(channel)
        await server.conversations.create(EVERYONE, id="c")
        events = client.WatchConversation(pb.WatchConversationRequest(conversation_id="c"))
        await events.initial_metadata()
        key = house.close()
        for call in (events.read(), client.ListConversations(pb.ListConversationsRequest())):
            refused = await grpc_client.refusal(call)
            assert refused.code is grpc.StatusCode.UNAUTHENTICATED
        asked = pb.GetConversationRequest(conversation_id="c")
        found = await client.GetConversation(asked, metadata=grpc_client.bearing(key))
        assert found.id == "c"


async def test_over_the_websocket(house: Closable, conversations: Conversations) -> None:
    eager, never = WebsocketLimits(check_keys_every=EAGER), WebsocketLimits(check_keys_every=3600)
    async with (
        websocket_client.serving(conversations, house.auth, limits=eager) as watched,
        websocket_client.serving(conversations, house.auth, limits=never) as unwatched,
        watched.peer() as idle,
        unwatched.peer() as asking,
    ):
        house.close()
        await asking.say("ask", prompt="x")
        for peer in (idle, asking):
            assert (await peer.refusal())["code"] == "invalid_api_key"
            assert await peer.close_code() == 1008
        async with watched.stranger() as late:
            await late.say("ping")
            assert (await late.refusal())["code"] == "invalid_api_key"
