"""What is said of a stream of events in `/openapi.json` is what its reader meets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.config.limits import HttpLimits
from server.core.conversations import Conversations
from tests.server.transports.rest import http_client
from tests.support.access import EAGER
from tests.support.fakes import Puppet
from tests.whole.closable import Closable

STREAMS = ["/turns/{turn_id}/events", "/conversations/{conversation_id}/events"]


def at(described: dict[str, Any], reference: str) -> Any:
    """Return what a reference within the description leads to."""
    found: Any = described
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


@pytest.mark.parametrize("path", STREAMS)
async def test_where_to_go_on_is_described_and_so_is_its_refusal(
    conversations: Conversations, upstream: Puppet, path: str
) -> None:
    async with http_client.serving(conversations) as served:
        upstream.answer("Well")
        turn = await http_client.ask(served.client, "c")
        described = (await served.client.get("/openapi.json")).json()["paths"][path]["get"]
        (header,) = [one for one in described["parameters"] if one["in"] == "header"]
        assert (header["name"], header["required"]) == ("Last-Event-ID", False)
        assert "TURN_ID:CURSOR" in header["description"]
        assert "Last-Event-ID" in described["responses"]["400"]["description"]
        url = path.format(turn_id=turn["id"], conversation_id="c")
        refused = await served.client.get(url, headers={header["name"]: "no position"})
        http_client.refused(refused, 400, "invalid_request")


async def test_the_event_of_an_error_is_described(
    conversations: Conversations, tmp_path: Path
) -> None:
    await conversations.create("default", id="c")
    house, limits = Closable(tmp_path), HttpLimits(check_keys_every=EAGER)
    async with http_client.serving(conversations, house.auth, limits=limits) as served:
        described = (await served.client.get("/openapi.json")).json()
        async with served.client.stream("GET", "/conversations/c/events") as response:
            house.close()
            kind, data = [line async for line in response.aiter_lines() if line]
    gets, posts = [(path, "get") for path in STREAMS], [("/ask/{conversation_id}", "post")]
    for path, method in gets + posts:
        answer = described["paths"][path][method]["responses"]["200"]
        events = answer["content"]["text/event-stream"]["itemSchema"]["oneOf"]
        (error,) = [one for one in events if "const" in one["properties"]["event"]]
        assert kind == f"event: {error['properties']['event']['const']}"
        schema = error["properties"]["data"]["contentSchema"]
        told = json.loads(data.removeprefix("data: "))
        assert sorted(told) == sorted(schema["required"])
        assert told["type"] == schema["properties"]["type"]["const"]
        fields = at(described, schema["properties"]["error"]["$ref"])["properties"]
        assert told["error"].keys() <= fields.keys()
